"""What an export says, as digests: of its file, or of all files of a directory."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO, Any

import fsspec

from longtail.annotations.sources import open_export
from longtail.errors import DataError


def content_digests(path: str | Path) -> dict[str, str]:
    """SHA-256 of an export's content, in hexadecimal, by the name below ``path``.

    Args:
        path: local path or fsspec URL of a file, whose name is then empty, or of a directory.

    Raises:
        DataError: it cannot be read.
    """
    try:
        filesystem, root = fsspec.core.url_to_fs(str(path))
        files = sorted(filesystem.find(root)) if filesystem.isdir(root) else None
    except (OSError, ValueError, ImportError):
        files = None  # opening it says what is wrong
    if files is None:
        with open_export(path) as handle:
            return {"": _sha256(handle, path)}
    found: dict[str, str] = {}
    for file in files:
        with filesystem.open(file, "rb") as handle:
            found[file.removeprefix(root).lstrip("/")] = _sha256(handle, file)
    return found


def _sha256(handle: IO[bytes] | Any, path: str | Path) -> str:
    digest = hashlib.sha256()
    try:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    return digest.hexdigest()
