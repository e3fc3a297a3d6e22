"""The objects of one JSON array, streamed: one damaged item costs that item and no other.

The array is cut into its items by their brackets and quotes, and each item is parsed by itself.
A streaming parser of the whole would do with less code, but the first stray character, and every
NaN that Python's own ``json`` writes, would cost all that follows it.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO

from longtail.annotations.limits import MAX_RECORD_BYTES, SHOWN_CHARACTERS, too_long
from longtail.annotations.objects import Parsed, as_object, keep_pairs, parse_json
from longtail.errors import DataError

_CHUNK = 1 << 16
_MOST_CHUNKS = 8
_SPACE = re.compile(r"[ \t\n\r]*")
_STRUCTURE = re.compile(r'\\.?|["\[\]{}]', re.DOTALL)
_SCALAR_END = re.compile(r"[,\]]")
_DECODER = json.JSONDecoder(object_pairs_hook=keep_pairs)


class _Window:
    """The characters of a file from the place in hand on; bytes that are not UTF-8 stay visible."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._spare = ""
        self._spare_at = 0
        self.text = ""
        self.place = 0
        self.ended = False

    def more(self, at_least: int = 0) -> None:
        """Read on, and let go of what is behind."""
        size = max(at_least, _CHUNK)
        new = self._spare[self._spare_at : self._spare_at + size]
        self._spare_at += len(new)
        if not new:
            self._spare, self._spare_at = "", 0
            data = self._handle.read(size)
            self.ended = not data
            new = self._decoder.decode(data, final=self.ended)
        self.text = self.text[self.place :] + new
        self.place = 0

    def begin_item(self) -> None:
        """After an item that took much reading, look at what follows in small pieces again.

        A failed parse costs time by the length of the text, be the item ever so small.
        """
        if len(self.text) - self.place > _MOST_CHUNKS * _CHUNK:
            cut = self.place + _CHUNK
            self._spare = self.text[cut:] + self._spare[self._spare_at :]
            self._spare_at = 0
            self.text = self.text[self.place : cut]
            self.place = 0

    def next_sign(self) -> str:
        """The next character that is no white space, or nothing at the end."""
        while True:
            self.place = _end_of_space(self.text, self.place)
            if self.place < len(self.text):
                return self.text[self.place]
            if self.ended:
                return ""
            self.more()


class _Scan:
    """Finds where the item in hand ends, however many pieces it comes in."""

    def __init__(self, first: str) -> None:
        self._bracketed = first in "{["
        self._quoted = first == '"'
        self._in_string = False
        self._depth = 0
        self.done = 0

    def end(self, text: str, start: int) -> int | None:
        """Where the item that begins at ``start`` ends; None: it goes on beyond the text."""
        if not (self._bracketed or self._quoted):
            found = _SCALAR_END.search(text, start + self.done)
            self.done = len(text) - start
            return found.start() if found else None
        for sign in _STRUCTURE.finditer(text, start + self.done):
            if sign[0] == "\\":  # the character that it escapes is yet to be read
                self.done = sign.start() - start
                return None
            if self._closes(sign[0]):
                return sign.end()
        self.done = len(text) - start
        return None

    def _closes(self, sign: str) -> bool:
        if sign == '"':
            self._in_string = not self._in_string
            return self._depth == 0 and not self._in_string
        if self._in_string or sign[0] == "\\":
            return False
        self._depth += 1 if sign in "{[" else -1
        return self._depth <= 0

    def forget(self, characters: int) -> None:
        """Count from a new beginning of the text."""
        self.done = max(self.done - characters, 0)


def array_items(handle: IO[bytes], file: str) -> Iterator[Parsed]:
    """The items of a JSON array (UTF-8 with or without BOM), in memory one at a time.

    An item longer than MAX_RECORD_BYTES is passed over without being kept in memory.

    Args:
        handle: the file's bytes.
        file: its name for messages.

    Raises:
        DataError: the file is no array, is cut off, or something else than a comma stands between
            two items.
    """
    window = _Window(handle)
    if window.next_sign() != "[":
        raise DataError(f"{file}: is not a JSON array; it does not start with [")
    window.place += 1
    position = 0
    while (sign := window.next_sign()) != "]":
        if not sign:
            raise _cut_off(file, position)
        position += 1
        yield _item(window, position, file)
        sign = window.next_sign()
        if sign == ",":
            window.place += 1
        elif sign not in {"]", ""}:
            raise DataError(
                f"{file}: after item {position} of the array {sign!r} stands, a comma is "
                "expected; the export is damaged there: export it again"
            )
    window.place += 1
    if sign := window.next_sign():
        raise DataError(
            f"{file}: {sign!r} stands after the end of the array (item {position}); an export is "
            "one array, or one object per line"
        )


def _item(window: _Window, position: int, file: str) -> Parsed:
    window.begin_item()
    first = window.text[window.place]
    scan = _Scan(first)
    while True:
        value, found = _decoded(window, scan) if first == "{" else (None, None)
        if found is None:
            found = scan.end(window.text, window.place)
        if found is not None:
            raw, window.place = window.text[window.place : found], found
            return _parsed(position, value, raw)
        if window.ended:
            raise _cut_off(file, position - 1)
        length = len(window.text) - window.place
        if length > MAX_RECORD_BYTES:
            return _passed_over(window, position, scan, file)
        window.more(length)


def _decoded(window: _Window, scan: _Scan) -> tuple[object, int | None]:
    """An object and where it ends, if it is whole and well formed."""
    if scan.done:  # its end was not in sight the last time, and now the scan goes on from there
        return None, None
    try:
        return _DECODER.raw_decode(window.text, window.place)
    except (ValueError, RecursionError):
        return None, None


def _parsed(position: int, value: object, raw: str) -> Parsed:
    if len(raw) > MAX_RECORD_BYTES:
        return _too_long(position, raw[:SHOWN_CHARACTERS])
    if not raw.isascii():
        try:
            raw.encode()
        except UnicodeEncodeError as error:
            shown = raw.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            why = (
                f"character {error.start + 1} of the item is not UTF-8; save the file as UTF-8 "
                "(from Windows-1252: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW)"
            )
            return Parsed(position, None, shown, why)
    if isinstance(value, dict):
        return Parsed(position, value, raw)
    return as_object(position, *parse_json(raw), raw=raw)


def _passed_over(window: _Window, position: int, scan: _Scan, file: str) -> Parsed:
    shown = window.text[window.place : window.place + SHOWN_CHARACTERS]
    while (end := scan.end(window.text, window.place)) is None:
        if window.ended:
            raise _cut_off(file, position - 1)
        before, window.place = window.place, window.place + scan.done
        scan.forget(window.place - before)
        window.more()
    window.place = end
    return _too_long(position, shown)


def _too_long(position: int, shown: str) -> Parsed:
    safe = shown.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return Parsed(position, None, safe + "…", too_long("item"))


def _end_of_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _cut_off(file: str, position: int) -> DataError:
    return DataError(
        f"{file}: the JSON array is cut off after item {position}; was the export finished? "
        "Export it again"
    )
