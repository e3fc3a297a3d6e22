"""Rows of a CSV export; one damaged row costs that row and no other."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO

from longtail.annotations.columns import require_columns, required_columns
from longtail.annotations.limits import MAX_RECORD_BYTES, SHOWN_CHARACTERS, too_long
from longtail.annotations.schema import Record
from longtail.errors import DataError
from longtail.spreadsheet import unguarded

DELIMITERS = (",", ";", "\t", "|")
_FIELD_LIMIT = 2**31 - 1
_ADVICE = 'close it, and write a quote within a text as ""'
_NEVER_CLOSED = f"the quote opened in line {{}} is never closed; {_ADVICE}"
_SUSPICIOUS_LINES = 3
_SKIPPED = 1 << 20
_FREE_GIVEN_BACK = 16 << 20
_MOST_GIVEN_BACK = 4
"""Characters that may be read again, besides the free ones, per character of the file."""


class _TooLong(Exception):  # noqa: N818 - ends in the quarantine
    """A line, or a row over several lines, is longer than is kept in memory."""


class _Overlong(str):
    """The beginning of a line that is longer than is kept in memory."""

    __slots__ = ()


class _Lines:
    """The physical lines of a file, with what the record in hand took of them.

    A quote that is never closed makes the parser swallow line after line. When it fails, all but
    the first line are given back, so that one stray quote costs one row. A file made to swallow
    and give back over and over again soon may not have rows of several lines any more.
    """

    def __init__(self, handle: IO[bytes]) -> None:
        # What is not UTF-8 becomes lone surrogates, which nothing else does in decoded UTF-8.
        self._source = io.TextIOWrapper(
            handle, encoding="utf-8-sig", errors="surrogateescape", newline=""
        )
        self._pending: deque[str] = deque()
        self._characters = 0
        self._read = 0
        self._given_back = 0
        self.taken: list[str] = []
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._pending.popleft() if self._pending else self._next_line()
        self._characters += len(line)
        if self.taken and (isinstance(line, _Overlong) or self._characters > self._limit()):
            self._pending.appendleft(line)
            raise _TooLong
        self.taken.append(line)
        self.number += 1
        if isinstance(line, _Overlong):
            raise _TooLong
        return line

    def _limit(self) -> int:
        may_give_back = _FREE_GIVEN_BACK + _MOST_GIVEN_BACK * self._read
        return MAX_RECORD_BYTES if self._given_back <= may_give_back else 0

    def _next_line(self) -> str:
        line = self._source.readline(MAX_RECORD_BYTES + 1)
        if not line:
            raise StopIteration
        self._read += len(line)
        if len(line) <= MAX_RECORD_BYTES or line.endswith(("\n", "\r")):
            return line
        while (more := self._source.readline(_SKIPPED)) and not more.endswith(("\n", "\r")):
            pass
        return _Overlong(line[:SHOWN_CHARACTERS])

    def close(self) -> None:
        """Let go of the bytes below, which are their opener's to close."""
        self._source.detach()

    def begin(self) -> None:
        """Begin a record."""
        self.taken.clear()
        self._characters = 0

    def first(self) -> str:
        """The first line that is not blank, put back to be read again."""
        for line in self:
            self.begin()
            if line.strip():
                self._pending.appendleft(line)
                self.number -= 1
                return line
        return ""

    def keep_only_first(self) -> None:
        """Give back what was taken beyond the first line."""
        self._given_back += sum(map(len, self.taken[1:]))
        self._pending.extendleft(reversed(self.taken[1:]))
        self.number -= max(len(self.taken) - 1, 0)
        del self.taken[1:]


def csv_records(handle: IO[bytes], file: str, wanted: Mapping[str, str]) -> Iterator[Record]:
    """Read a CSV file (RFC 4180, UTF-8 with or without BOM, any line end) row by row.

    The delimiter is the first of comma, semicolon, tab and bar under which the header holds every
    required column. An id that a CSV of ours guards against spreadsheets is read as it was.

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
        try:
            delimiter = _delimiter(lines.first(), wanted)
            header, reader = _header(lines, file, delimiter)
        except _TooLong as error:
            raise DataError(f"{file}: the header cannot be read: {too_long('line')}") from error
        require_columns(file, header, wanted)
        for record in _records(lines, reader, header, delimiter):
            yield _with_own_id(record, wanted.get("id", ""))


def _records(
    lines: _Lines, reader: Iterator[list[str]], header: list[str], delimiter: str
) -> Iterator[Record]:
    position = 0
    while True:
        lines.begin()
        start = lines.number + 1
        cells, why = None, ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except _TooLong:
            overlong = isinstance(lines.taken[0], _Overlong)
            why = too_long("line") if overlong else _NEVER_CLOSED.format(start)
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
    for delimiter in DELIMITERS:
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


def _with_own_id(record: Record, column: str) -> Record:
    cell = (record.values or {}).get(column)
    if not isinstance(cell, str) or (plain := unguarded(cell)) == cell:
        return record
    return replace(record, values={**(record.values or {}), column: plain})


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
