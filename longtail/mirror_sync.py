"""One part of a store, here and in the object store: a manifest, and the objects that it names.

    URL/objects/SHA256-NONCE        content; written once, never over another
    URL/NAME/SCOPE/manifest.json    path → object, SHA-256, size; written last, and so the commit

An object is named anew by every upload and taken over only from the manifest that it replaces.
So one that no manifest names, and that is older than any upload lasts, will never be named again,
and can be deleted without asking anybody.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from longtail import storage
from longtail.bucket import Bucket, OutrunError
from longtail.errors import StoreError

OBJECTS = "objects"
UPLOAD_SECONDS = 12 * 3600.0
_FORMAT = 1
_AT_ONCE = 8
_PULLS = 3

Entry = dict[str, Any]
"""Of one file in a manifest: object, sha256, bytes."""


@dataclass(frozen=True)
class Committed:
    """The state of a part that the object store holds.

    Attributes:
        etag: of its manifest; None before the first.
        generation: how often it was written.
        files: by path below the part's base.
    """

    etag: str | None = None
    generation: int = 0
    files: Mapping[str, Entry] | None = None


@dataclass(frozen=True)
class Part:
    """Files of a mirror that are committed together.

    Attributes:
        bucket: where the store is.
        key: of the part below the URL, such as ``tickets/dataset``.
        base: local directory that the paths of its manifest start from.
        notes: local directory for what the mirror remembers of it.
        paths: lists the local files that belong to it.
    """

    bucket: Bucket
    key: str
    base: Path
    notes: Path
    paths: Callable[[], Iterable[Path]]

    @property
    def manifest(self) -> str:
        """Key of its manifest."""
        return f"{self.key}/{storage.MANIFEST}"

    def pull(self) -> Committed:
        """Make the local files what the manifest says.

        Returns:
            What was committed; the base of a later :meth:`push`.

        Raises:
            StoreError: an object is missing or damaged, or the store cannot be reached.
        """
        for _ in range(_PULLS):
            committed = self._read()
            try:
                return self._make(committed)
            except StoreError:
                # Its objects may go once it is replaced; then the new one is to be fetched.
                if self._read().etag == committed.etag:
                    raise
        raise self._outrun()

    def push(self, before: Committed, check: Callable[[], None] = lambda: None) -> Committed:
        """Commit the local files: what is new as objects, and last the manifest.

        Args:
            before: what they were made from.
            check: called right before the manifest is written; raises to prevent it.

        Returns:
            What is committed now.

        Raises:
            StoreError: somebody else has committed since ``before``, or the store cannot be
                reached; it is as it was.
        """
        old = before.files or {}
        here = self._digests()
        if before.etag is not None and here == {path: old[path]["sha256"] for path in old}:
            return before
        started = time.monotonic()
        known = {path: old[path] for path in here if old.get(path, {}).get("sha256") == here[path]}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            new = here.keys() - known.keys()
            files = dict(zip(new, pool.map(self._upload, new), strict=True)) | known
        if time.monotonic() - started > UPLOAD_SECONDS:
            raise StoreError(f"{self.bucket.url}: the upload took too long; start again")
        manifest = {
            "format": _FORMAT,
            "generation": before.generation + 1,
            "nonce": uuid.uuid4().hex,
            "by": {"host": socket.gethostname(), "pid": os.getpid()},
            "files": {path: files[path] for path in sorted(files)},
        }
        check()
        try:
            etag = self.bucket.write(self.manifest, json.dumps(manifest).encode(), before.etag)
        except OutrunError as error:
            raise self._outrun() from error
        self._remember(etag)
        return Committed(etag, before.generation + 1, files)

    def committed(self) -> bool:
        """Whether the object store holds it, and anything else than what is here."""
        found = self.bucket.read(self.manifest)
        return found is not None and found.etag != self._known().get("etag")

    def head(self) -> Committed:
        """What is committed, whatever is here."""
        return self._read()

    def last_seen(self) -> Committed:
        """What is committed, if the local files were made from it.

        Raises:
            StoreError: another worker has committed since.
        """
        committed = self._read()
        if committed.etag not in {None, self._known().get("etag")}:
            raise self._outrun()
        return committed

    def _make(self, committed: Committed) -> Committed:
        """Make the local files so."""
        if committed.etag is None and self._known().get("etag") is not None:
            raise StoreError(
                f"{self.bucket.url}/{self.manifest}: is gone, though it was there; restore it. "
                f"What was committed last is still in {self.base}; to give it up, delete "
                f"{self._index}"
            )
        wanted = committed.files or {}
        here = self._digests()
        self._fetch({path: entry for path, entry in wanted.items()
                     if here.get(path) != entry["sha256"]})  # fmt: skip
        for path in here.keys() - wanted.keys():
            self._remove(path)
        self._remember(committed.etag)
        return committed

    def _outrun(self) -> StoreError:
        return StoreError(
            f"{self.bucket.url}/{self.key}: another worker has committed since this one read it; "
            "nothing of this one was written, start again"
        )

    def _read(self) -> Committed:
        found = self.bucket.read(self.manifest)
        if found is None:
            return Committed()
        try:
            content = json.loads(found.data)
            files = {_safe(path): dict(entry) for path, entry in content["files"].items()}
            generation = {_FORMAT: content["generation"]}[content["format"]]
            return Committed(found.etag, int(generation), files)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{self.bucket.url}/{self.manifest}: cannot be read ({error}); written by a later "
                "version of Longtail, or damaged: then restore it"
            ) from error

    def _fetch(self, entries: Mapping[str, Entry]) -> None:
        """Everything is here and checked before the first file appears."""
        staging = self.notes / f"{self._label}.fetched"
        shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
        if not entries:
            return
        staging.mkdir(parents=True)
        try:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for _ in pool.map(
                    lambda path: self._download(path, entries[path], staging), entries
                ):
                    pass
            # A pointer comes after what it points to, and a manifest after its directory.
            for path in sorted(entries, key=_late):
                target = self.base / path
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(staging / _staged(path), target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _download(self, path: str, entry: Entry, staging: Path) -> None:
        target = staging / _staged(path)
        key = f"{OBJECTS}/{entry['object']}"
        self.bucket.download(key, target)
        if storage.sha256_file(target) != entry["sha256"]:
            raise StoreError(
                f"{self.bucket.url}/{key}: damaged, it is not what {self.manifest} says of {path}; "
                "restore it from a backup or an earlier version of the object"
            )
        with target.open("rb+") as handle:  # the index trusts size and time from now on
            os.fsync(handle.fileno())

    def _upload(self, path: str) -> Entry:
        source = self.base / path
        before = _stat(source)
        digest = storage.sha256_file(source)
        name = f"{digest}-{uuid.uuid4().hex[:8]}"
        self.bucket.upload(source, f"{OBJECTS}/{name}")
        if _stat(source) != before:
            raise StoreError(f"{source}: was written to while it was uploaded; start again")
        return {"object": name, "sha256": digest, "bytes": before[0]}

    def _remove(self, path: str) -> None:
        target = self.base / path
        target.unlink(missing_ok=True)
        for folder in target.parents:
            if folder == self.base or any(folder.iterdir()):
                return
            folder.rmdir()

    def _digests(self) -> dict[str, str]:
        """SHA-256 of every local file; read anew only where its size, time or inode changed."""
        known = self._known().get("files", {})
        digests = {}
        for source in self.paths():
            path = source.relative_to(self.base).as_posix()
            entry = known.get(path)
            same = entry is not None and entry["stat"] == [*_stat(source)]
            digests[path] = entry["sha256"] if same else storage.sha256_file(source)
        return digests

    def _remember(self, etag: str | None) -> None:
        digests = self._digests()
        files = {
            path: {"sha256": digest, "stat": [*_stat(self.base / path)]}
            for path, digest in digests.items()
        }
        storage.write_json(self._index, {"etag": etag, "files": files})

    def _known(self) -> dict[str, Any]:
        try:
            return dict(storage.read_json(self._index))
        except (FileNotFoundError, StoreError):
            return {}

    @property
    def _label(self) -> str:
        return self.key.replace("/", "--")

    @property
    def _index(self) -> Path:
        return self.notes / f"{self._label}.json"


def _stat(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _staged(path: str) -> str:
    return storage.fingerprint(path)


def _late(path: str) -> tuple[int, bool, str]:
    parts = path.split("/")
    return -len(parts), parts[-1] == storage.MANIFEST, path


def _safe(path: str) -> str:
    """A manifest is data from elsewhere: it must not write outside of the mirror."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path:
        raise ValueError(f"path {path!r}")
    return path
