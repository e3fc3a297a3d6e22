"""Rows of a JSON Lines export: one object per line."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import IO

from longtail.annotations.columns import require_columns
from longtail.annotations.fields import describe, shorten
from longtail.annotations.schema import Record
from longtail.errors import DataError

_PEEK_ROWS = 10_000
_PEEK_CHARACTERS = 64 << 20
_BOM = b"\xef\xbb\xbf"


class _Repeated(dict[str, object]):
    """An object that named a key more than once; which one was meant cannot be known."""

    keys_repeated: frozenset[str] = frozenset()


def jsonl_records(handle: IO[bytes], file: str, wanted: Mapping[str, str]) -> Iterator[Record]:
    """Read a JSON Lines file (UTF-8 with or without BOM) line by line; blank lines are passed over.

    Args:
        handle: the file's bytes.
        file: its name for messages.
        wanted: key by canonical field.

    Raises:
        DataError: the file is one JSON array or object over many lines, or no object among the
            first 10,000 has a wanted key.
    """
    lines = _not_blank(handle)
    first = next(lines, None)
    if first is None:
        return
    _refuse_one_document(file, first[1])
    every = itertools.chain([first], lines)
    records = (_record(position, line, wanted) for position, line in every)
    peeked = _peek(records)
    keys = {key: None for record in peeked for key in record.values or ()}
    if keys:
        require_columns(file, list(keys), wanted)
    yield from peeked
    peeked.clear()
    yield from records


def _peek(records: Iterator[Record]) -> list[Record]:
    peeked: list[Record] = []
    characters = 0
    for record in itertools.islice(records, _PEEK_ROWS):
        peeked.append(record)
        characters += len(record.raw)
        if characters >= _PEEK_CHARACTERS:
            break
    return peeked


def _not_blank(handle: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    for position, line in enumerate(handle, 1):
        content = line.removeprefix(_BOM) if position == 1 else line
        if stripped := content.strip():
            yield position, stripped


def _refuse_one_document(file: str, line: bytes) -> None:
    if re.match(rb"\[\s*(\{|$)", line):
        raise DataError(
            f"{file}: is one JSON array, not JSON Lines; write one object per line: "
            "jq -c '.[]' FILE > NEW"
        )
    if line == b"{":
        raise DataError(
            f"{file}: is JSON over several lines, not JSON Lines; write one object per line: "
            "jq -c . FILE > NEW"
        )


def _record(position: int, line: bytes, wanted: Mapping[str, str]) -> Record:
    raw = line.decode("utf-8", "backslashreplace")
    value, why = _parse(line)
    if why is None and not isinstance(value, dict):
        why = f"{describe(value)} was found, an object {{...}} is expected"
    if why is not None or not isinstance(value, dict):
        return Record(position, None, raw, (f"row: {why}",))
    repeated = value.keys_repeated if isinstance(value, _Repeated) else ()
    problems = tuple(
        f"{field}: the key {key!r} stands more than once in the object; keep one"
        for field, key in wanted.items()
        if key in repeated
    )
    return Record(position, value, raw, problems)


def _parse(line: bytes) -> tuple[object, str | None]:
    try:
        return json.loads(line.decode(), object_pairs_hook=_object), None
    except UnicodeDecodeError as error:
        return None, (
            f"byte {error.start + 1} of the line is not UTF-8 (0x{line[error.start]:02x}); save "
            "the file as UTF-8 (from Windows-1252: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW)"
        )
    except RecursionError:
        return None, "brackets are nested too deeply to be read; write one flat object per line"
    except json.JSONDecodeError as error:
        near = shorten(error.doc[max(error.pos - 10, 0) : error.pos + 20])
        return None, f"not valid JSON ({error.msg} at character {error.pos + 1}, near {near})"
    except ValueError:
        return None, "a number has more digits than can be read; write it as a text, in quotes"


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    repeated = _Repeated(value)
    names = [name for name, _ in pairs]
    repeated.keys_repeated = frozenset(name for name in names if names.count(name) > 1)
    return repeated
