"""Objects under an s3:// URL, with writes that happen only if nobody else wrote meanwhile.

What makes a shared store safe is the conditional write (``If-None-Match: *`` and ``If-Match``),
which S3 and what speaks its protocol decide in one place. Every failure becomes a sentence.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import importlib.util
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.asyn import sync

from longtail.errors import ConfigError, StoreError

_PROTOCOLS = ("s3", "s3a")
_DELETED_AT_ONCE = 1000
_OPTIONS: dict[str, Any] = {
    # A worker must hear within minutes that a store is away, not within the hour.
    "config_kwargs": {
        "connect_timeout": 10,
        "read_timeout": 60,
        "retries": {"max_attempts": 3, "mode": "standard"},
    },
    "use_listings_cache": False,
}
_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role"
)
_REFUSED = {
    "NoSuchBucket": "there is no such bucket; create it, or correct --store",
    "AccessDenied": "access denied; the credentials need s3:GetObject, s3:PutObject, "
    "s3:DeleteObject and s3:ListBucket there",
    "InvalidAccessKeyId": f"the credentials are not known there; {_CREDENTIALS}",
    "SignatureDoesNotMatch": f"the secret key is wrong; {_CREDENTIALS}",
    "ExpiredToken": f"the credentials have expired; {_CREDENTIALS}",
    "InvalidToken": f"the session token is not valid; {_CREDENTIALS}",
    "RequestTimeTooSkewed": "this machine's clock is wrong by more than the object store allows; "
    "set it (NTP) and start again",
}
_REFUSED["403"] = _REFUSED["Forbidden"] = _REFUSED["AccessDenied"]


class OutrunError(StoreError):
    """Somebody else has written the object since it was read."""


@dataclass(frozen=True)
class Found:
    """An object as it was read.

    Attributes:
        data: its content.
        etag: names this state of it, for a conditional write.
        age: seconds since it was written; both times are of the object store's clock.
    """

    data: bytes
    etag: str
    age: float


@dataclass(frozen=True)
class Listed:
    """An object in a listing: its key below the URL, and its age in seconds."""

    key: str
    age: float


class Bucket:
    """The objects under one URL.

    Args:
        url: such as ``s3://bucket/prefix``.

    Raises:
        ConfigError: workers cannot share a store there, or the package for it is missing.
    """

    def __init__(self, url: str) -> None:
        protocol, _, path = url.partition("://")
        if protocol not in _PROTOCOLS:
            raise ConfigError(
                f"{url}: a store is shared by workers in a directory, or in an object store with "
                f"S3's protocol (s3://BUCKET/PREFIX); {protocol}:// has no conditional writes that "
                "could be relied on"
            )
        if importlib.util.find_spec("s3fs") is None:
            raise ConfigError(f"{url}: needs a package more; pip install 'longtail[s3]'")
        self.url = f"s3://{path}".rstrip("/")
        self._bucket, _, prefix = path.strip("/").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        if not self._bucket:
            raise ConfigError(f"{url}: names no bucket; expected s3://BUCKET/PREFIX")
        self._files = fsspec.filesystem("s3", **_OPTIONS)

    def read(self, key: str) -> Found | None:
        """An object's content, None where there is none."""

        async def get() -> Found:
            answer = await self._files.s3.get_object(Bucket=self._bucket, Key=self._prefix + key)
            async with answer["Body"] as body:
                data = await body.read()
            return Found(data, answer["ETag"], _age(answer, answer["LastModified"]))

        with self._in_words():
            try:
                found: Found = self._wait(get)
            except Exception as error:
                if _code(error) in {"NoSuchKey", "404"}:
                    return None
                raise
        return found

    def write(self, key: str, data: bytes, over: str | None) -> str:
        """Write an object only if it is still what it was.

        Args:
            key: below the URL.
            data: the content; different from every earlier one.
            over: etag of the state that it replaces; None: there must be no such object.

        Returns:
            The new etag.

        Raises:
            OutrunError: it is not; nothing was written.
        """
        condition = {"IfNoneMatch": "*"} if over is None else {"IfMatch": over}

        async def put() -> Any:
            answer = await self._files.s3.put_object(
                Bucket=self._bucket, Key=self._prefix + key, Body=data, **condition
            )
            return answer["ETag"]

        with self._in_words():
            try:
                return str(self._wait(put))
            except Exception as error:
                # 404: what was to be replaced is gone; 409: somebody writes at this moment.
                if _code(error) not in {
                    "PreconditionFailed", "412", "NoSuchKey", "404",
                    "ConditionalRequestConflict", "409",
                }:  # fmt: skip
                    raise
        found = self.read(key)
        if found is not None and found.data == data:
            return found.etag  # the answer to a first attempt was lost, and the second one failed
        raise OutrunError(f"{self.url}/{key}: another worker has written it meanwhile")

    def upload(self, path: Path, key: str) -> None:
        """Write a file as a new object; in parts where it is large."""
        with self._in_words():
            self._files.put_file(str(path), f"{self._bucket}/{self._prefix}{key}")

    def download(self, key: str, path: Path) -> None:
        """Write an object into a file."""
        with self._in_words(f"{self.url}/{key}"):
            self._files.get_file(f"{self._bucket}/{self._prefix}{key}", str(path))

    def list(self, prefix: str = "") -> Iterator[Listed]:
        """All objects whose key begins so."""
        more: dict[str, str] = {}
        while True:
            answer = self._page(prefix, more)
            for entry in answer.get("Contents", ()):
                key = entry["Key"].removeprefix(self._prefix)
                yield Listed(key, _age(answer, entry["LastModified"]))
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def folders(self) -> Iterator[str]:
        """The first parts of all keys that have more than one."""
        more: dict[str, str] = {"Delimiter": "/"}
        while True:
            answer = self._page("", more)
            for entry in answer.get("CommonPrefixes", ()):
                yield entry["Prefix"].removeprefix(self._prefix).rstrip("/")
            if not answer.get("IsTruncated"):
                return
            more["ContinuationToken"] = answer["NextContinuationToken"]

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are not there are none of its business.

        Raises:
            StoreError: some could not be deleted.
        """
        kept: dict[str, str] = {}
        for first in range(0, len(keys), _DELETED_AT_ONCE):
            named = [self._prefix + key for key in keys[first : first + _DELETED_AT_ONCE]]
            with self._in_words():
                answer = self._files.call_s3(
                    "delete_objects",
                    Bucket=self._bucket,
                    Delete={"Objects": [{"Key": key} for key in named], "Quiet": True},
                )
            kept |= {one["Key"]: one.get("Code", "") for one in answer.get("Errors", ())
                     if one.get("Code") != "NoSuchKey"}  # fmt: skip
        if kept:
            key, code = next(iter(kept.items()))
            why = _REFUSED.get(code, f"the object store refused ({code or 'no reason given'})")
            raise StoreError(
                f"{self.url}: {len(kept)} of {len(keys)} objects stay, such as {key}: {why}"
            )

    def check(self) -> None:
        """Prove by trying that the store keeps its word about conditional writes.

        Raises:
            ConfigError: it writes over what it was told not to write over.
            StoreError: it cannot be reached or used.
        """
        key = f"check-{uuid.uuid4().hex}"
        try:
            self.write(key, b"1", None)
            for over in (None, '"00000000000000000000000000000000"'):
                with contextlib.suppress(OutrunError):
                    self.write(key, b"2", over)
                    raise ConfigError(
                        f"{self.url}: the object store takes no notice of If-Match and "
                        "If-None-Match, so two workers would overwrite each other; use one that "
                        "has conditional writes, or update it"
                    )
        finally:
            with contextlib.suppress(StoreError):
                self.delete([key])

    def _page(self, prefix: str, more: dict[str, str]) -> dict[str, Any]:
        with self._in_words():
            answer: dict[str, Any] = self._files.call_s3(
                "list_objects_v2", Bucket=self._bucket, Prefix=self._prefix + prefix, **more
            )
            return answer

    def _wait(self, coroutine: Any) -> Any:
        self._files.connect()
        return sync(self._files.loop, coroutine)

    @contextlib.contextmanager
    def _in_words(self, where: str | None = None) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except StoreError:
            raise
        except (BotoCoreError, ClientError, OSError) as error:
            raise StoreError(f"{where or self.url}: {_said(error)}") from error


def _code(error: BaseException | None) -> str:
    """S3's own name of what went wrong; s3fs wraps some of them."""
    while error is not None:
        answer = getattr(error, "response", None)
        if isinstance(answer, dict):
            return str(answer.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""


def _said(error: BaseException) -> str:
    from botocore import exceptions as known

    if (sentence := _REFUSED.get(_code(error))) is not None:
        return sentence
    missing = (
        known.NoCredentialsError,
        known.PartialCredentialsError,
        known.CredentialRetrievalError,
        known.ProfileNotFound,
    )
    if isinstance(error, missing):
        return f"no credentials ({error}); {_CREDENTIALS}"
    if isinstance(error, known.HTTPClientError | known.ConnectionError | TimeoutError):
        return (
            f"the object store cannot be reached ({error}); check the network and AWS_ENDPOINT_URL"
        )
    if isinstance(error, FileNotFoundError):
        return f"not there ({error})"
    cause = str(error).strip().partition("\n")[0] or type(error).__name__
    return f"the object store refused ({cause})"


def _age(answer: dict[str, Any], written: dt.datetime) -> float:
    """Seconds between two times of the object store's own clock."""
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    now = email.utils.parsedate_to_datetime(headers["date"])
    return (now - written).total_seconds()
