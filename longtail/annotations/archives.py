"""The files of a zip archive, read in place: nothing is ever written under a member's name."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO

from longtail.annotations.limits import (
    FREE_ARCHIVE_BYTES,
    MAX_ARCHIVE_BYTES,
    MAX_ARCHIVE_MEMBERS,
    MAX_ARCHIVE_RATIO,
)
from longtail.errors import DataError

_ENDINGS = (".jsonl", ".json", ".csv")
_END = b"PK\x05\x06"
_END_BYTES = 22
_LOCATOR = b"PK\x06\x07"
_LOCATOR_BYTES = 20
_MOST_COMMENT = 0xFFFF
_BUFFER_BYTES = 1 << 16
_DIRECTORY_BYTES = 16 << 20
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError,
           NotImplementedError, RuntimeError, struct.error)  # fmt: skip


class _Member(io.RawIOBase):
    """A member's bytes; a damage in the middle of it is a DataError."""

    def __init__(self, source: IO[bytes], name: str) -> None:
        self._source = source
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        try:
            data = self._source.read(len(buffer))
        except _DAMAGE as error:
            raise _damaged(self._name, error) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


def members(handle: IO[bytes], file: str) -> Iterator[tuple[str, io.BufferedReader]]:
    """The names and bytes of an archive's CSV and JSON files, one after the other.

    What a Mac adds to archives and empty files are passed over. Nothing is unpacked to the disk.

    Args:
        handle: the archive's bytes, seekable.
        file: its name for messages.

    Raises:
        DataError: the archive is damaged, encrypted, of another kind, names a place outside of
            itself, or would unpack to more than any export holds.
    """
    _refuse_many(handle, file)
    try:
        archive = zipfile.ZipFile(handle)
    except _DAMAGE as error:
        raise _damaged(file, error) from error
    with archive:
        entries = [entry for entry in archive.infolist() if not _is_noise(entry)]
        if any(entry.filename == "[Content_Types].xml" for entry in entries):
            raise DataError(
                f"{file}: is an Excel workbook or the like; save the sheet as CSV UTF-8"
            )
        _refuse_bombs(entries, _size(handle), file)
        for entry in entries:
            _refuse_entry(entry, file)
        for entry in entries:
            name = f"{file}: {entry.filename}"
            try:
                source = archive.open(entry)
            except _DAMAGE as error:
                raise _damaged(name, error) from error
            with _buffered(source, name) as member:
                yield entry.filename, member


def _refuse_many(handle: IO[bytes], file: str) -> None:
    """Look at the archive's end before zipfile reads a directory of any size into memory."""
    size = _size(handle)
    length = min(size, _END_BYTES + _MOST_COMMENT + _LOCATOR_BYTES)
    handle.seek(size - length)
    tail = handle.read(length)
    handle.seek(0)
    if _LOCATOR in tail:
        raise DataError(f"{file}: is a zip64 archive, made for more than 4 GiB; unzip it first")
    at = tail.rfind(_END)
    if at < 0 or at + _END_BYTES > len(tail):
        raise DataError(f"{file}: the zip archive is cut off; copy or export it again")
    count, directory = struct.unpack_from("<HI", tail, at + 10)
    if count > MAX_ARCHIVE_MEMBERS or directory > _DIRECTORY_BYTES:
        raise DataError(
            f"{file}: the archive has {count} members ({directory} bytes of directory), at most "
            f"{MAX_ARCHIVE_MEMBERS} are read; doccano writes one per user"
        )


def _size(handle: IO[bytes]) -> int:
    size = handle.seek(0, io.SEEK_END)
    handle.seek(0)
    return size


def _is_noise(entry: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(entry.filename)
    # ZipInfo.is_dir() of Python 3.11 fails on a member without a name.
    if entry.filename.endswith("/"):
        return True
    return "__MACOSX" in path.parts or path.name in {".DS_Store", "Thumbs.db"}


def _refuse_bombs(entries: list[zipfile.ZipInfo], size: int, file: str) -> None:
    if not entries:
        raise DataError(f"{file}: the zip archive is empty; was the export finished?")
    if len(entries) > MAX_ARCHIVE_MEMBERS:
        raise DataError(f"{file}: more than {MAX_ARCHIVE_MEMBERS} members in the archive")
    total = sum(entry.file_size for entry in entries)
    most = min(MAX_ARCHIVE_BYTES, max(FREE_ARCHIVE_BYTES, MAX_ARCHIVE_RATIO * size))
    if total > most:
        raise DataError(
            f"{file}: the archive of {size} bytes would unpack to {total}, more than any export "
            f"of texts (at most {most}); if it is a real one, unzip it and give its files"
        )


def _refuse_entry(entry: zipfile.ZipInfo, file: str) -> None:
    name = entry.filename
    shown = repr(name[:80])
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name:
        raise DataError(f"{file}: the member {shown} names a place outside of the archive")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise DataError(f"{file}: the member {shown} is a symbolic link, a file is expected")
    if entry.flag_bits & 1:
        raise DataError(f"{file}: the member {shown} is encrypted; unzip it with its password")
    if path.suffix.lower() not in _ENDINGS:
        raise DataError(
            f"{file}: the member {shown} is none of {', '.join(_ENDINGS)}; an archive is read "
            "when it is doccano's, with one such file per user; unzip others first"
        )
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise DataError(f"{file}: the member {shown} is packed in an unusual way; unzip it first")


def _damaged(name: str, error: Exception) -> DataError:
    first = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return DataError(f"{name}: the zip archive is damaged ({first}); copy or export it again")


def _buffered(source: IO[bytes], name: str) -> io.BufferedReader:
    return io.BufferedReader(_Member(source, name), _BUFFER_BYTES)  # type: ignore[arg-type]
