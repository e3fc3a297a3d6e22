"""JSON objects of an export, one at a time, each of them perhaps broken."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

from longtail.annotations.fields import describe, shorten
from longtail.annotations.limits import MAX_RECORD_BYTES, SHOWN_CHARACTERS, too_long

_PEEK_OBJECTS = 10_000
_PEEK_CHARACTERS = 8 << 20
_SKIPPED_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
_TO_UTF8 = "save the file as UTF-8 (from Windows-1252: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW)"


class Repeated(dict[str, object]):
    """An object that named a key more than once; which one was meant cannot be known."""

    keys_repeated: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Parsed:
    """A place of an export where an object should stand.

    Attributes:
        position: line or item number, from 1.
        value: the object; None when there is none.
        raw: the place's content as text, always valid Unicode.
        why: why there is no object; None when there is one.
    """

    position: int
    value: Mapping[str, object] | None
    raw: str
    why: str | None = None


def repeated_keys(value: object) -> frozenset[str]:
    """The keys that an object of JSON named more than once."""
    return value.keys_repeated if isinstance(value, Repeated) else frozenset()


def keep_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An ``object_pairs_hook`` that remembers which keys stood more than once."""
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    times = Counter(name for name, _ in pairs)
    repeated = Repeated(value)
    repeated.keys_repeated = frozenset(name for name, count in times.items() if count > 1)
    return repeated


def parse_json(text: str) -> tuple[object, str | None]:
    """Parse one JSON value; what is wrong with it in words, or None."""
    try:
        return json.loads(text, object_pairs_hook=keep_pairs), None
    except RecursionError:
        return None, "brackets are nested too deeply to be read; write flat objects"
    except json.JSONDecodeError as error:
        near = shorten(error.doc[max(error.pos - 10, 0) : error.pos + 20])
        return None, f"not valid JSON ({error.msg} at character {error.pos + 1}, near {near})"
    except ValueError:
        return None, "a number has more digits than can be read; write it as a text, in quotes"


def as_object(position: int, value: object, why: str | None, *, raw: str) -> Parsed:
    """A parsed value, which is only good when it is an object."""
    if why is None and isinstance(value, dict):
        return Parsed(position, value, raw)
    return Parsed(
        position, None, raw, why or f"{describe(value)} was found, an object {{...}} is expected"
    )


def peek(objects: Iterator[Parsed]) -> tuple[list[Parsed], Iterator[Parsed]]:
    """The first objects (10,000, or 8 MB of them), and all of them."""
    peeked: list[Parsed] = []
    characters = 0
    for item in itertools.islice(objects, _PEEK_OBJECTS):
        peeked.append(item)
        characters += len(item.raw)
        if characters >= _PEEK_CHARACTERS:
            break
    return peeked, _chain_once(list(peeked), objects)


def _chain_once(peeked: list[Parsed], rest: Iterator[Parsed]) -> Iterator[Parsed]:
    peeked.reverse()
    while peeked:
        yield peeked.pop()
    yield from rest


def keys_of(objects: Iterable[Parsed]) -> list[str]:
    """Every key of the objects, in the order of first appearance."""
    return list({key: None for item in objects for key in item.value or ()})


def json_lines(handle: IO[bytes]) -> Iterator[Parsed]:
    """The objects of a JSON Lines file; blank lines are passed over.

    A line longer than MAX_RECORD_BYTES is passed over without being kept in memory.
    """
    for position in itertools.count(1):
        line = handle.readline(MAX_RECORD_BYTES + 1)
        if not line:
            return
        if len(line) > MAX_RECORD_BYTES and not line.endswith(b"\n"):
            _skip_line(handle)
            shown = line[:SHOWN_CHARACTERS].decode("utf-8", "backslashreplace")
            yield Parsed(position, None, shown + "…", too_long("line"))
            continue
        content = line.removeprefix(_BOM) if position == 1 else line
        if stripped := content.strip():
            yield _parse_line(position, stripped)


def _skip_line(handle: IO[bytes]) -> None:
    while (more := handle.readline(_SKIPPED_BYTES)) and not more.endswith(b"\n"):
        pass


def _parse_line(position: int, line: bytes) -> Parsed:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        why = (
            f"byte {error.start + 1} of the line is not UTF-8 (0x{line[error.start]:02x}); "
            f"{_TO_UTF8}"
        )
        return Parsed(position, None, line.decode("utf-8", "backslashreplace"), why)
    return as_object(position, *parse_json(text), raw=text)
