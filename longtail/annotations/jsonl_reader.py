"""Rows of a plain JSON export: one flat object per line, or the items of one array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO

from longtail.annotations.columns import require_columns
from longtail.annotations.objects import Parsed, json_lines, keys_of, peek, repeated_keys
from longtail.annotations.schema import Record
from longtail.errors import DataError


def jsonl_records(handle: IO[bytes], file: str, wanted: Mapping[str, str]) -> Iterator[Record]:
    """Read a JSON Lines file (UTF-8 with or without BOM) line by line; blank lines are passed over.

    Args:
        handle: the file's bytes.
        file: its name for messages.
        wanted: key by canonical field.

    Raises:
        DataError: the file is one JSON object over many lines, or no object among the first
            10,000 has a wanted key.
    """
    return object_records(json_lines(handle), file, wanted)


def object_records(
    objects: Iterator[Parsed], file: str, wanted: Mapping[str, str]
) -> Iterator[Record]:
    """Rows of objects whose keys are the columns.

    Args:
        objects: lines or items of an export.
        file: its name for messages.
        wanted: key by canonical field.

    Raises:
        DataError: see :func:`jsonl_records`.
    """
    peeked, objects = peek(objects)
    refuse_one_document(peeked, file)
    if keys := keys_of(peeked):
        require_columns(file, keys, wanted)
    del peeked
    for item in objects:
        yield _record(item, wanted)


def refuse_one_document(peeked: list[Parsed], file: str) -> None:
    """Refuse one JSON object that is written over many lines.

    Raises:
        DataError: the first line is an opening brace.
    """
    if peeked and peeked[0].raw == "{":
        raise DataError(
            f"{file}: is JSON over several lines, not JSON Lines; write one object per line: "
            "jq -c . FILE > NEW"
        )


def _record(item: Parsed, wanted: Mapping[str, str]) -> Record:
    if item.value is None:
        return Record(item.position, None, item.raw, (f"row: {item.why}",))
    repeated = repeated_keys(item.value)
    problems = tuple(
        f"{field}: the key {key!r} stands more than once in the object; keep one"
        for field, key in wanted.items()
        if key in repeated
    )
    return Record(item.position, item.value, item.raw, problems)
