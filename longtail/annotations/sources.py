"""Opening an export: what kind of file it is, and which files cannot be read at all."""

from __future__ import annotations

import io
import re
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from longtail import storage
from longtail.errors import DataError

Format = Literal["csv", "jsonl", "parquet"]

HEAD_BYTES = 1 << 16
_PARQUET_MAGIC = b"PAR1"
_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip-compressed; decompress it first: gunzip FILE"),
    (b"BZh", "bzip2-compressed; decompress it first: bunzip2 FILE"),
    (b"\xfd7zXZ", "xz-compressed; decompress it first: unxz FILE"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed; decompress it first: unzstd FILE"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook; unzip it, or save the sheet as CSV UTF-8"),
    (b"%PDF", "a PDF; an export in CSV, JSON Lines or Parquet is needed"),
    (b"SQLite format 3", "an SQLite database; export the table as CSV"),
    (b"ARROW1", "an Arrow IPC file; write it as Parquet"),
)
_UTF16 = "UTF-16, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"
_UTF32 = "UTF-32, not UTF-8; convert it: iconv -f UTF-32 -t UTF-8 FILE > NEW"


def open_export(path: str | Path) -> IO[bytes]:
    """Open an export for reading.

    Raises:
        DataError: there is no such file, it is a directory, or it must not be read.
    """
    try:
        return storage.open_input(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; give the path of an export") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a directory; give the path of one file") from error
    except PermissionError as error:
        raise DataError(f"{path}: may not be read by this user; change its permissions") from error
    except io.UnsupportedOperation as error:
        raise DataError(
            f"{path}: is a pipe, which can be read only once; write the export to a file first"
        ) from error
    except (OSError, ValueError, ImportError) as error:
        raise DataError(f"{path}: cannot be opened ({error})") from error


def file_name(path: str | Path) -> str:
    """The last part of a path or URL, as messages and the quarantine name the file."""
    return PurePosixPath(str(path).replace("\\", "/")).name or str(path)


def detect_format(path: str | Path, head: bytes, named: str) -> Format:
    """Decide how to read a file, or refuse it.

    Args:
        path: its name decides where its content does not.
        head: its first HEAD_BYTES bytes.
        named: the format the user named, or ``auto``.

    Raises:
        DataError: the file is empty, compressed, binary, not UTF-8 as a whole, or not of the
            format it was said to be.
    """
    if not head:
        raise DataError(f"{path}: the file is empty; was the export finished?")
    found = _by_content(path, head) if named == "auto" else _as_named(path, head, named)
    if found != "parquet":
        _refuse_foreign(path, head)
    return found


def _as_named(path: str | Path, head: bytes, named: str) -> Format:
    is_parquet = head.startswith(_PARQUET_MAGIC)
    if named == "parquet":
        if not is_parquet:
            raise DataError(_not_parquet(path))
        return "parquet"
    if is_parquet:
        raise DataError(f"{path}: is a Parquet file, not {named}; set data.format: parquet")
    return "csv" if named == "csv" else "jsonl"


def _by_content(path: str | Path, head: bytes) -> Format:
    if head.startswith(_PARQUET_MAGIC):
        return "parquet"
    named = _SUFFIXES.get(PurePosixPath(str(path)).suffix.lower())
    if named == "parquet":
        _refuse_foreign(path, head)
        raise DataError(_not_parquet(path))
    if named == "jsonl":
        return "jsonl"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    looks_like_json = re.match(rb'\{\s*(["}]|$)', start) or (named is None and start[:1] == b"[")
    return "jsonl" if looks_like_json else "csv"


def _not_parquet(path: str | Path) -> str:
    return (
        f"{path}: is not a Parquet file (it does not start with PAR1); name its real format with "
        "data.format: csv or jsonl"
    )


def _refuse_foreign(path: str | Path, head: bytes) -> None:
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            raise DataError(f"{path}: is {what}")
    if head.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        raise DataError(f"{path}: is {_UTF32}")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _looks_like_utf16(head):
        raise DataError(f"{path}: is {_UTF16}")
    control = sum(head.count(bytes([byte])) for byte in range(32) if byte not in b"\t\n\r\f\x1b")
    if control > 0.05 * len(head):
        raise DataError(
            f"{path}: is a binary file ({control} control bytes among its first {len(head)}); an "
            "export in CSV, JSON Lines or Parquet is needed"
        )


def _looks_like_utf16(head: bytes) -> bool:
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = len(head) / 2
    return max(even, odd) > 0.3 * half and min(even, odd) < 0.05 * half
