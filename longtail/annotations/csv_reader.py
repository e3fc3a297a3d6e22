"""Rows of a CSV export; one damaged row costs that row and no other."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from longtail.annotations.columns import require_columns, required_columns
from longtail.annotations.schema import Record
from longtail.errors import DataError

_DELIMITERS = (",", ";", "\t", "|")
_FIELD_LIMIT = 2**31 - 1
_ADVICE = 'close it, and write a quote within a text as ""'
_NEVER_CLOSED = f"the quote opened in line {{}} is never closed; {_ADVICE}"
_SUSPICIOUS_LINES = 3


class _Lines:
    """The physical lines of a file, with what the record in hand took of them.

    A quote that is never closed makes the parser swallow line after line. When it fails, all but
    the first line are given back, so that one stray quote costs one row.
    """

    def __init__(self, handle: IO[bytes]) -> None:
        # What is not UTF-8 becomes lone surrogates, which nothing else does in decoded UTF-8.
        self._source = io.TextIOWrapper(
            handle, encoding="utf-8-sig", errors="surrogateescape", newline=""
        )
        self._pending: deque[str] = deque()
        self.taken: list[str] = []
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._pending.popleft() if self._pending else next(self._source)
        self.taken.append(line)
        self.number += 1
        return line

    def close(self) -> None:
        """Let go of the bytes below, which are their opener's to close."""
        self._source.detach()

    def first(self) -> str:
        """The first line that is not blank, put back to be read again."""
        line = next((line for line in self if line.strip()), "")
        self._pending.appendleft(line)
        self.number -= 1
        self.taken.clear()
        return line

    def keep_only_first(self) -> None:
        """Give back what was taken beyond the first line."""
        self._pending.extendleft(reversed(self.taken[1:]))
        self.number -= len(self.taken) - 1
        del self.taken[1:]


def csv_records(handle: IO[bytes], file: str, wanted: Mapping[str, str]) -> Iterator[Record]:
    """Read a CSV file (RFC 4180, UTF-8 with or without BOM, any line end) row by row.

    The delimiter is the first of comma, semicolon, tab and bar under which the header holds every
    required column.

    Args:
        handle: the file's bytes.
        file: its name for messages.
        wanted: column name by canonical field.

    Raises:
        DataError: the header cannot be read or lacks a wanted column.
    """
    # The limit belongs to the whole process; it is only ever raised, because lowering it again
    # would pull the rug from under a reader in another thread.
    if csv.field_size_limit() < _FIELD_LIMIT:
        csv.field_size_limit(_FIELD_LIMIT)
    with contextlib.closing(_Lines(handle)) as lines:
        delimiter = _delimiter(lines.first(), wanted)
        header, reader = _header(lines, file, delimiter)
        require_columns(file, header, wanted)
        yield from _records(lines, reader, header, delimiter)


def _records(
    lines: _Lines, reader: Iterator[list[str]], header: list[str], delimiter: str
) -> Iterator[Record]:
    position = 0
    while True:
        lines.taken.clear()
        start = lines.number + 1
        cells, why = None, ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            why = _why(error, start, len(lines.taken))
        if cells and _swallowed_rows(cells, lines.taken, delimiter, len(header)):
            cells, why = None, _NEVER_CLOSED.format(start)
        if cells == []:
            continue
        position += 1
        if cells is None:
            lines.keep_only_first()
            yield Record(position, None, _escaped(lines.taken), (f"row: {why}",))
        else:
            yield _record(position, start, cells, header, lines.taken)


def _delimiter(line: str, wanted: Mapping[str, str]) -> str:
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:
            continue
        if set(required_columns(wanted).values()) <= {name.strip() for name in names}:
            return delimiter
    return ","


def _header(lines: _Lines, file: str, delimiter: str) -> tuple[list[str], Iterator[list[str]]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = next((cells for cells in reader if cells), [])
    except csv.Error as error:
        raise DataError(
            f"{file}: the header in line 1 cannot be read ({error}); is a quote left open in it?"
        ) from error
    if not header:
        raise DataError(f"{file}: holds nothing but blank lines; was the export finished?")
    if not _is_utf8(lines.taken):
        raise DataError(
            f"{file}: the header is not UTF-8; save the file as UTF-8 (from Windows-1252: iconv "
            "-f WINDOWS-1252 -t UTF-8 FILE > NEW)"
        )
    return [name.strip() for name in header], reader


def _record(
    position: int, line: int, cells: list[str], header: list[str], taken: Sequence[str]
) -> Record:
    if not _is_utf8(taken):
        why = (
            f"line {line} is not UTF-8; save the file as UTF-8 (from Windows-1252: iconv -f "
            "WINDOWS-1252 -t UTF-8 FILE > NEW)"
        )
        return Record(position, None, _escaped(taken), (f"row: {why}",))
    if len(cells) != len(header):
        why = (
            f"line {line} has {len(cells)} fields, the header has {len(header)}; put quotes around "
            "a text that holds the separator or a line break"
        )
        return Record(position, None, _escaped(taken), (f"row: {why}",))
    values = dict(zip(header, cells, strict=True))
    return Record(position, values, json.dumps(values, ensure_ascii=False))


def _swallowed_rows(
    cells: Sequence[str], taken: Sequence[str], delimiter: str, n_columns: int
) -> bool:
    """Whether a record of several lines is rather an open quote that met a later stray one.

    A text may well have line breaks; but when several of its lines in succession are whole rows
    by themselves (or one is, and the record does not even fit the header), then taking it for one
    row would lose those rows.
    """
    inner = taken[1:-1]
    fewest = _SUSPICIOUS_LINES if len(cells) == n_columns else 1
    return len(inner) >= fewest and all(
        len(next(csv.reader([line], delimiter=delimiter), [])) == n_columns for line in inner
    )


def _why(error: csv.Error, line: int, n_lines: int) -> str:
    if "unexpected end of data" in str(error):
        return _NEVER_CLOSED.format(line)
    span = f"line {line}" if n_lines == 1 else f"lines {line} to {line + n_lines - 1}"
    return f"{span} cannot be read as CSV ({error}); is a quote left open? If so, {_ADVICE}"


def _is_utf8(taken: Sequence[str]) -> bool:
    try:
        "".join(taken).encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(taken: Sequence[str]) -> str:
    data = "".join(taken).encode("utf-8", "surrogateescape")
    return data.decode("utf-8", "backslashreplace").rstrip("\r\n")
