"""Annotation tools' webhooks: who may call, what is kept of a call, and the export fetched for it.

A call says only that something has happened. Nothing of its content is believed: the export is
fetched from the address in the configuration.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

import fsspec
import httpx
from pydantic import AfterValidator, Field, model_validator

from longtail.config import Settings
from longtail.errors import ConfigError, DataError

TOLERANCE = 300.0
_TIMEOUT = httpx.Timeout(30.0, read=300.0)
_CHUNK = 1 << 20
_PAGE = 500
_PLAIN_HEADER = "X-Longtail-Signature"
_ENDINGS = frozenset({".json", ".jsonl", ".ndjson", ".csv", ".parquet", ".zip"})


def _check_url(url: str) -> str:
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).netloc:
        raise ValueError(f"{url!r} is no address; expected https://HOST/…")
    return url.rstrip("/")


class SourceSettings(Settings):
    """A tool that calls, and where its export is fetched."""

    kind: Literal["label-studio", "argilla", "json"] = Field(description="Which tool it is.")
    secret: str = Field(
        description="Environment variable with what the tool proves itself by: the token of its "
        "header, or the key of its signature."
    )
    header: str = Field(
        "Authorization",
        description="Header of the token, for label-studio and json; what follows Bearer or Token "
        "counts. argilla signs and needs none.",
    )
    url: Annotated[str, AfterValidator(_check_url)] = Field(
        description="Address of the tool; for json, of the export itself."
    )
    project: str | None = Field(
        None, description="Number of the project, or id of Argilla's data set."
    )
    api_token: str | None = Field(
        None, description="Environment variable with the token that the export is fetched with."
    )

    @model_validator(mode="after")
    def _complete(self) -> SourceSettings:
        if self.kind != "json" and (self.project is None or self.api_token is None):
            raise ValueError(f"{self.kind} needs project and api_token")
        return self

    def secret_value(self) -> bytes:
        """What the tool proves itself by.

        Raises:
            ConfigError: the environment variable is not set, or holds no key.
        """
        value = _variable(self.secret)
        if self.kind != "argilla":
            return value.encode()
        try:
            key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not key:  # anybody could sign with an empty one
            raise ConfigError(
                f"${self.secret}: is no secret of Argilla's; expected whsec_ and base64"
            )
        return key

    def token_value(self) -> str | None:
        """What the export is fetched with.

        Raises:
            ConfigError: the environment variable is not set.
        """
        return None if self.api_token is None else _variable(self.api_token)


def _variable(name: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise ConfigError(f"${name} is not set; the receiver needs what it holds")
    return value


def is_allowed(
    source: SourceSettings, secret: bytes, headers: Mapping[str, str], body: bytes, now: float
) -> bool:
    """Whether a call comes from who it says; every comparison takes the same time.

    Args:
        source: who it should be.
        secret: see :meth:`SourceSettings.secret_value`.
        headers: of the call, names in lower case.
        body: of the call.
        now: seconds since 1970.
    """
    if source.kind == "argilla":
        return _is_signed(secret, headers, body, now)
    signature = headers.get(_PLAIN_HEADER.lower())
    if source.kind == "json" and signature is not None:
        expected = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(signature.encode(), expected.encode())
    given = headers.get(source.header.lower(), "")
    scheme, _, rest = given.partition(" ")
    token = rest if scheme.lower() in {"bearer", "token"} else given
    return hmac.compare_digest(token.strip().encode(), secret)


def needs_body(source: SourceSettings, headers: Mapping[str, str]) -> bool:
    """Whether the call can be judged only with its content."""
    return source.kind == "argilla" or _PLAIN_HEADER.lower() in headers


def _is_signed(secret: bytes, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Standard Webhooks: base64 of HMAC-SHA256 over id.timestamp.body."""
    name, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "").split()
    if not name or not sent.isascii() or not sent.isdigit() or len(sent) > 12:
        return False
    moments = {int(sent)}
    # Argilla signs the moment of the event, and sends along that of the call.
    if (event := _event_moment(body)) is not None:
        moments.add(event)
    fits = False
    for moment in moments:
        signed = f"{name}.{moment}.".encode() + body
        expected = "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
        for one in given[:8]:
            same = hmac.compare_digest(one.encode(), expected.encode())
            fits |= same and abs(now - moment) <= TOLERANCE
    return fits and abs(now - int(sent)) <= TOLERANCE


def _event_moment(body: bytes) -> int | None:
    try:
        moment = datetime.fromisoformat(json.loads(body)["timestamp"])
        return int(moment.timestamp())
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, OSError):
        return None


def export_name(name: str, source: SourceSettings) -> str:
    """The file in the inbox: one per source, replaced by each fetch."""
    if source.kind == "argilla":
        return f"{name}.jsonl"
    ending = PurePosixPath(urlsplit(source.url).path).suffix.lower()
    known = source.kind == "json" and ending in _ENDINGS
    return f"{name}{ending if known else '.json'}"


def fetch_export(
    name: str, source: SourceSettings, token: str | None, inbox: str, max_bytes: int
) -> int:
    """Fetch a source's export into the inbox, where it appears whole or not at all.

    Args:
        name: of the source.
        source: where it is.
        token: what the tool asks for.
        inbox: directory or fsspec URL.
        max_bytes: a longer export is refused.

    Returns:
        Bytes written.

    Raises:
        DataError: the export is too long, or not what the tool's API gives.
        httpx.HTTPError: the tool cannot be reached, or refuses.
        OSError: the inbox cannot be written to.
    """
    target = f"{inbox.rstrip('/')}/{export_name(name, source)}"
    with httpx.Client(timeout=_TIMEOUT, headers=_authorised(source, token)) as client:
        chunks = _records(client, source) if source.kind == "argilla" else _stream(client, source)
        return _write(target, _limited(chunks, max_bytes, source.url))


def _authorised(source: SourceSettings, token: str | None) -> dict[str, str]:
    if token is None:
        return {}
    return {
        "label-studio": {"Authorization": f"Token {token}"},
        "argilla": {"X-Argilla-Api-Key": token},
        "json": {"Authorization": f"Bearer {token}"},
    }[source.kind]


def _stream(client: httpx.Client, source: SourceSettings) -> Iterator[bytes]:
    url, parameters = source.url, {}
    if source.kind == "label-studio":
        url = f"{source.url}/api/projects/{quote(str(source.project), safe='')}/export"
        parameters = {"exportType": "JSON"}
    with client.stream("GET", url, params=parameters or None) as answer:
        if answer.is_redirect:
            raise DataError(f"{url}: leads elsewhere; name the address itself")
        answer.raise_for_status()
        yield from answer.iter_bytes(_CHUNK)


def _records(client: httpx.Client, source: SourceSettings) -> Iterator[bytes]:
    """Argilla's records as JSON Lines of the form that its own export has."""
    url = f"{source.url}/api/v1/datasets/{quote(str(source.project), safe='')}/records"
    offset = 0
    while True:
        answer = client.get(
            url, params={"offset": offset, "limit": _PAGE, "include": "responses"}
        ).raise_for_status()
        try:
            items = answer.json()["items"]
            lines = [json.dumps(_record(one), ensure_ascii=False) + "\n" for one in items]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{url}: the answer is not a page of Argilla's records") from error
        if not items:
            return
        yield "".join(lines).encode()
        offset += len(items)


def _record(item: Mapping[str, Any]) -> dict[str, Any]:
    responses: dict[str, list[dict[str, Any]]] = {}
    for answer in item.get("responses") or ():
        for question, given in (answer.get("values") or {}).items():
            responses.setdefault(question, []).append(
                {
                    "value": given["value"],
                    "user_id": answer.get("user_id"),
                    "status": answer.get("status"),
                }
            )
    return {
        "id": item.get("external_id") or item["id"],
        "fields": item["fields"],
        "metadata": item.get("metadata") or {},
        "status": item.get("status"),
        "responses": responses,
    }


def _limited(chunks: Iterator[bytes], max_bytes: int, url: str) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise DataError(f"{url}: the export is longer than {max_bytes / 1e9:g} GB")
        yield chunk


def _write(target: str, chunks: Iterator[bytes]) -> int:
    """Write beside the target under a hidden name, then rename."""
    if "://" in target:
        return _upload(target, chunks)
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.part")
    try:
        with staging.open("wb") as out:
            size = sum(out.write(chunk) for chunk in chunks)
            out.flush()
            os.fsync(out.fileno())
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)
    return size


def _upload(target: str, chunks: Iterator[bytes]) -> int:
    """An object appears when it is closed; one that fails is not closed in the usual way."""
    filesystem, path = fsspec.core.url_to_fs(target)
    out = filesystem.open(path, "wb", autocommit=False)
    try:
        size = sum(out.write(chunk) for chunk in chunks)
        out.close()
    except BaseException:
        out.discard()
        raise
    out.commit()
    return int(size)


Fetch = Callable[[str, SourceSettings, str | None, str, int], int]
