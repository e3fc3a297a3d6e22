"""The files of an inbox, in a folder or an object store: what is there, and copies of it."""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from longtail import storage
from longtail.annotations.directory import is_export
from longtail.errors import DataError, StoreError

logger = logging.getLogger(__name__)
_UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", "~")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Landed:
    """A file that lies in the inbox.

    Attributes:
        url: where it is, as text that can be written down.
        size: bytes.
        modified: when it was last written, where the file system says so.
        token: size and date or etag: another one means that it was written again.
        path: of a file of this machine, whose name need be no text; None for one elsewhere.
    """

    url: str
    size: int
    modified: datetime | None
    token: str
    path: Path | None = None

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return _name(self.url)


def landed_files(inbox: str, pattern: str) -> tuple[Landed, ...]:
    """The files of an inbox, those written first before the others.

    Hidden and unfinished ones (``*.part``, ``*.tmp``) are passed over.

    Args:
        inbox: directory or fsspec URL.
        pattern: of file names, such as ``*.jsonl``.

    Raises:
        StoreError: the inbox cannot be listed.
    """
    try:
        found = list(_local(Path(inbox)) if "://" not in inbox else _remote(inbox))
    except (OSError, ValueError, ImportError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise StoreError(
            f"{inbox}: the inbox cannot be listed ({why}); create it, or mend watch.inbox"
        ) from error
    chosen = [one for one in found if _is_wanted(one.name, pattern)]
    earliest = datetime.min.replace(tzinfo=UTC)
    return tuple(sorted(chosen, key=lambda one: (one.modified or earliest, one.url)))


def _local(inbox: Path) -> Iterator[Landed]:
    for path in inbox.absolute().iterdir():
        try:
            about = path.stat()
        except OSError as error:  # taken away meanwhile, or a link that leads nowhere
            if not isinstance(error, FileNotFoundError):
                logger.warning("%r in the inbox is passed over: %s", path.name, error.strerror)
            continue
        if stat.S_ISREG(about.st_mode):
            modified = datetime.fromtimestamp(about.st_mtime, UTC)
            token = f"{about.st_size}:{about.st_mtime_ns}:{about.st_ino}"
            url = os.fsencode(path).decode(errors="backslashreplace")
            yield Landed(url, about.st_size, modified, token, path)


def _remote(inbox: str) -> Iterator[Landed]:
    filesystem, inside = fsspec.core.url_to_fs(inbox)
    filesystem.invalidate_cache()
    for entry in filesystem.ls(inside, detail=True):
        if entry["type"] != "file":
            continue
        size, modified = int(entry.get("size") or 0), _moment(entry)
        tag = next((str(entry[key]) for key in ("ETag", "etag", "md5Hash") if key in entry), "")
        yield Landed(
            filesystem.unstrip_protocol(entry["name"]), size, modified, f"{size}:{modified}:{tag}"
        )


def _moment(entry: dict[str, Any]) -> datetime | None:
    for key in ("LastModified", "last_modified", "updated", "mtime", "created"):
        value = entry.get(key)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
    return None


def is_of(url: str, inbox: str, pattern: str) -> bool:
    """Whether a file, by its URL, would be listed if it lay in this inbox still."""
    if "://" in inbox:
        filesystem, inside = fsspec.core.url_to_fs(inbox)
        folder = str(filesystem.unstrip_protocol(inside))
    else:
        folder = os.fsencode(Path(inbox).absolute()).decode(errors="backslashreplace")
    lies = url.rpartition("/")[0] == folder.rstrip("/")
    return lies and _is_wanted(_name(url), pattern)


def _name(url: str) -> str:
    return PurePosixPath(url.replace("\\", "/")).name


def _is_wanted(name: str, pattern: str) -> bool:
    fits = fnmatch.fnmatchcase(name, pattern) and is_export(name)
    return fits and not name.endswith(_UNFINISHED)


def copy_file(landed: Landed, target: Path, max_bytes: int) -> str:
    """Copy a file and return the SHA-256 of its content.

    Args:
        landed: the file.
        target: where to; its directory is made.
        max_bytes: more than so many are refused.

    Raises:
        DataError: it is longer.
        OSError: it cannot be read or written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    opened = storage.open_input(landed.url) if landed.path is None else landed.path.open("rb")
    with opened as source, target.open("wb") as copy:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > max_bytes:
                raise DataError(
                    f"{landed.url}: more than {max_bytes / 1e9:g} GB; raise "
                    "watch.max_file_gigabytes, or split the export"
                )
            digest.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest()
