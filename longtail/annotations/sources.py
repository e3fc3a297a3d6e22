"""Opening an export: what kind of file it is, and which files cannot be read at all."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from longtail import storage
from longtail.errors import DataError, EmptyExportError

Container = Literal["csv", "jsonl", "array", "parquet", "zip"]
"""What a file is made of: rows of CSV, an object per line, one JSON array, Parquet, an archive."""

HEAD_BYTES = 1 << 16
_PARQUET_MAGIC = b"PAR1"
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_BOM = b"\xef\xbb\xbf"
_JSON_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
_PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})
_WRITTEN_AS: Mapping[str, tuple[Container, ...]] = {
    "csv": ("csv",),
    "jsonl": ("jsonl", "array"),
    "parquet": ("parquet",),
    "label-studio": ("array", "jsonl", "csv"),
    "doccano": ("jsonl", "zip", "csv", "array"),
    "argilla": ("array", "jsonl", "parquet"),
    "prodigy": ("jsonl", "array"),
}
_CALLED: Mapping[Container, str] = {
    "csv": "CSV",
    "jsonl": "JSON Lines",
    "array": "a JSON array",
    "parquet": "a Parquet file",
    "zip": "a zip archive",
}
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip-compressed; decompress it first: gunzip FILE"),
    (b"BZh", "bzip2-compressed; decompress it first: bunzip2 FILE"),
    (b"\xfd7zXZ", "xz-compressed; decompress it first: unxz FILE"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed; decompress it first: unzstd FILE"),
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


def detect_container(path: str | Path, head: bytes, named: str) -> Container:
    """Decide what a file is made of, or refuse it.

    Args:
        path: its name decides where its content does not.
        head: its first HEAD_BYTES bytes.
        named: the format the user named, or ``auto``.

    Raises:
        DataError: the file is empty, compressed, binary, not UTF-8 as a whole, or not of the
            format it was said to be.
    """
    if not head:
        raise EmptyExportError(f"{path}: the file is empty; was the export finished?")
    found = _by_content(path, head)
    allowed = _WRITTEN_AS.get(named, (found,))
    if found not in {"parquet", "zip"}:
        if allowed == ("parquet",):
            _refuse_foreign(path, head)
            raise DataError(_not_parquet(path))
        _refuse_foreign(path, head)
        # A damaged first line, or a name that misleads, makes one of these look like the other.
        if found not in allowed and (allowed == ("csv",) or "csv" not in allowed):
            found = _text_as_named(path, head, named, found, allowed)
    if found not in allowed:
        advice = "parquet" if found == "parquet" and named in {"csv", "jsonl"} else "auto"
        raise DataError(f"{path}: is {_CALLED[found]}, not {named}; set data.format: {advice}")
    return found


def _text_as_named(
    path: str | Path, head: bytes, named: str, found: Container, allowed: tuple[Container, ...]
) -> Container:
    """A text file that looks like another format than it was said to be."""
    certain = found == "array" or bool(re.match(rb'\{\s*["}]', _start(head)))
    if found != "csv" and certain:
        advice = "data.format: jsonl" if named == "csv" else "data.format: auto"
        raise DataError(f"{path}: looks like {_CALLED[found]}, not {named}; set {advice}")
    if found == "csv" and not re.search(rb"(?m)^[ \t]*[\[{]", head):
        raise DataError(
            f"{path}: looks like CSV or plain text, not {named}; no line of it begins with a "
            "brace. Set data.format: auto"
        )
    return "csv" if allowed == ("csv",) else "jsonl"


def _by_content(path: str | Path, head: bytes) -> Container:
    if head.startswith(_PARQUET_MAGIC):
        return "parquet"
    if head.startswith(_ZIP_MAGIC):
        return "zip"
    suffix = PurePosixPath(str(path)).suffix.lower()
    if suffix in _PARQUET_SUFFIXES:
        _refuse_foreign(path, head)
        raise DataError(_not_parquet(path))
    start = _start(head)
    if re.match(rb"\[\s*(\{|$|\]\s*$)", start):
        return "array"
    if suffix in _JSON_SUFFIXES or re.match(rb'\{\s*(["}]|$)', start):
        return "jsonl"
    return "csv"


def _start(head: bytes) -> bytes:
    return head.removeprefix(_BOM).lstrip()


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
