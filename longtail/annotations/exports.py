"""From the bytes of an export to its records: what it is made of, who wrote it, who reads it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import PurePosixPath
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from longtail.annotations import argilla, doccano, label_studio, prodigy
from longtail.annotations.archives import members
from longtail.annotations.columns import wanted_columns
from longtail.annotations.csv_reader import DELIMITERS, csv_records
from longtail.annotations.json_array import array_items
from longtail.annotations.jsonl_reader import object_records, refuse_one_document
from longtail.annotations.objects import Parsed, json_lines, peek
from longtail.annotations.recognise import (
    Tool,
    check_csv_tool,
    choose_tool,
    header_of,
    tool_of_header,
)
from longtail.annotations.schema import Record
from longtail.annotations.sources import HEAD_BYTES, Container, detect_container
from longtail.annotations.tool_rows import CANONICAL, Request
from longtail.config import DataSettings
from longtail.errors import DataError

_Objects = Callable[[], Iterator[Parsed]]
_PEEKED_ROWS = 100
_LOOKED_AT = 1_000


@dataclass(frozen=True)
class Rows:
    """The records of an export and how their cells are to be read.

    Attributes:
        records: one per row, in the order of the export.
        wanted: name of the cell by canonical field.
        separator: what separates labels within one string, or None.
    """

    records: Iterator[Record]
    wanted: Mapping[str, str]
    separator: str | None


def is_plain_parquet(handle: IO[bytes], found: Container, settings: DataSettings) -> bool:
    """Whether a file is Parquet that no annotation tool wrote; what is damaged counts as plain."""
    if found != "parquet" or settings.format == "argilla":
        return False
    if settings.format == "parquet":
        return True
    try:
        return not argilla.are_columns(pq.read_schema(handle).names)
    except (pa.ArrowException, OSError, ValueError):
        return True
    finally:
        handle.seek(0)


def open_rows(
    handle: IO[bytes],
    file: str,
    found: Container,
    settings: DataSettings,
    *,
    labels_required: bool,
) -> Rows:
    """The records of an export that is not plain Parquet.

    Args:
        handle: the file's bytes, seekable, at the beginning.
        file: its path for messages.
        found: what the file is made of.
        settings: format, columns and label separator.
        labels_required: False where only texts are asked for.

    Raises:
        DataError: the export cannot be read at all, or is not from the tool that was named.
    """
    request = Request(file, settings.columns, labels_required)
    if found == "zip":
        return _tool_rows(_archive(handle, request, settings), request)
    if found == "parquet":
        objects = argilla.parquet_objects(handle, file)
        return _tool_rows(argilla.record_records(objects, request), request)
    if found == "csv":
        return _csv_rows(handle, request, settings)
    return _json_rows(_again(handle, found, file), request, settings)


def _plain(records: Iterator[Record], request: Request, settings: DataSettings) -> Rows:
    wanted = wanted_columns(request.columns, labels_required=request.labels_required)
    return Rows(records, wanted, settings.label_separator)


def _tool_rows(records: Iterator[Record], request: Request) -> Rows:
    wanted = {name: name for name in CANONICAL if request.labels_required or name != "labels"}
    return Rows(_numbered(records), wanted, None)


def _numbered(records: Iterator[Record]) -> Iterator[Record]:
    for position, record in enumerate(records, 1):
        yield Record(position, record.values, record.raw, record.problems, record.skipped)


def _again(handle: IO[bytes], found: Container, file: str) -> _Objects:
    """Reads the objects of a file from its beginning, as often as it is called."""

    def objects() -> Iterator[Parsed]:
        handle.seek(0)
        return array_items(handle, file) if found == "array" else json_lines(handle)

    return objects


def _json_rows(again: _Objects, request: Request, settings: DataSettings) -> Rows:
    peeked, objects = peek(again())
    refuse_one_document(peeked, request.file)
    if not peeked:
        return _plain(iter(()), request, settings)
    tool = choose_tool(settings.format, peeked, request.columns, request.file)
    if tool is None:
        wanted = wanted_columns(request.columns, labels_required=request.labels_required)
        return _plain(object_records(objects, request.file, wanted), request, settings)
    return _tool_rows(_tool_records(tool, peeked, objects, again, request), request)


def _tool_records(
    tool: Tool, peeked: list[Parsed], objects: Iterator[Parsed], again: _Objects, request: Request
) -> Iterator[Record]:
    if tool == "prodigy":
        return prodigy.task_records(again, request)
    if tool == "argilla":
        return argilla.record_records(objects, request)
    if tool == "doccano":
        return doccano.example_records(objects, request)
    if any(label_studio.is_task(item.value) for item in peeked if item.value):
        return label_studio.task_records(objects, request)
    return label_studio.min_records(objects, request)


def _csv_rows(handle: IO[bytes], request: Request, settings: DataSettings) -> Rows:
    tool, names = _csv_tool(handle, request, settings)
    if tool is None:
        wanted = wanted_columns(request.columns, labels_required=request.labels_required)
        return _plain(csv_records(handle, request.file, wanted), request, settings)
    return _tool_rows(_csv_tool_records(tool, handle, names, request, settings), request)


def _csv_tool(
    handle: IO[bytes], request: Request, settings: DataSettings
) -> tuple[Tool | None, list[str]]:
    """The tool that a CSV is from and its column names."""
    head = handle.read(HEAD_BYTES)
    handle.seek(0)
    if settings.format == "csv":
        return None, []
    most: list[str] = []
    for delimiter in DELIMITERS:
        names = header_of(head, delimiter)
        if tool := tool_of_header(names, request.columns, lambda: _first_labels(handle, request)):
            return check_csv_tool(settings.format, tool, names, request.file), names
        most = max(most, names, key=len)
    return check_csv_tool(settings.format, None, most, request.file), most


def _first_labels(handle: IO[bytes], request: Request) -> list[object]:
    """The first cells of the column ``label``; the handle is at the beginning afterwards."""
    try:
        rows = csv_records(handle, request.file, {"labels": "label"})
        few = itertools.islice(rows, _PEEKED_ROWS)
        return [str((row.values or {}).get("label"))[:_LOOKED_AT] for row in few]
    except DataError:
        return []
    finally:
        handle.seek(0)


def _csv_tool_records(
    tool: Tool, handle: IO[bytes], names: list[str], request: Request, settings: DataSettings
) -> Iterator[Record]:
    wanted = request.looked_up("annotator", "annotated_at")
    if tool == "label-studio":
        return label_studio.min_records(_csv_objects(handle, request.file, wanted), request)
    if wanted["text"] not in names and request.reads("text"):
        wanted["text"] = next((key for key in doccano.TEXT_KEYS if key in names), "text")
    objects = _csv_objects(handle, request.file, wanted)
    separator = settings.label_separator or doccano.SEPARATOR
    return doccano.example_records(objects, request, separator=separator)


def _csv_objects(handle: IO[bytes], file: str, wanted: Mapping[str, str]) -> Iterator[Parsed]:
    for record in csv_records(handle, file, wanted):
        why = record.problems[0].removeprefix("row: ") if record.values is None else None
        yield Parsed(record.position, record.values, record.raw, why)


def _archive(handle: IO[bytes], request: Request, settings: DataSettings) -> Iterator[Record]:
    for name, member in members(handle, request.file):
        inner = Request(f"{request.file}: {name}", request.columns, request.labels_required)
        head = member.peek(HEAD_BYTES)
        if head.strip():
            yield from _member(name, member, head, inner, settings)


def _member(
    name: str, member: BufferedReader, head: bytes, request: Request, settings: DataSettings
) -> Iterator[Record]:
    found = detect_container(request.file, head, "doccano")
    if found not in {"csv", "jsonl", "array"}:
        raise DataError(f"{request.file}: is {found}, a file of CSV or JSON is expected")
    user = doccano.user_of(PurePosixPath(name).stem)
    if found == "csv":
        names = header_of(head, ",")
        if not any(key in names for key in doccano.LABEL_KEYS):
            raise DataError(f"{request.file}: is not a CSV of doccano's; it has no column label")
        wanted = {"id": request.columns.id}
        objects = _csv_objects(member, request.file, wanted)
        separator = settings.label_separator or doccano.SEPARATOR
        yield from doccano.example_records(objects, request, separator=separator, user=user)
        return
    objects = array_items(member, request.file) if found == "array" else json_lines(member)
    peeked, objects = peek(objects)
    refuse_one_document(peeked, request.file)
    if peeked:
        choose_tool("doccano", peeked, request.columns, request.file)
    yield from doccano.example_records(objects, request, user=user)
