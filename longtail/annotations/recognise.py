"""Which annotation tool wrote an export, told by what is in it.

The tools are asked in one order, and the first that knows an object as its own has written it:
Label Studio's tasks, Label Studio's rows, Prodigy, Argilla, doccano. An export that no tool knows
is read plainly, and so is what would be doccano's if it has the labels where
``data.columns.labels`` says.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from longtail.annotations import argilla, doccano, label_studio, prodigy
from longtail.annotations.fields import shorten
from longtail.annotations.objects import Parsed
from longtail.config import ColumnSettings
from longtail.errors import DataError

Tool = Literal["label-studio", "doccano", "argilla", "prodigy"]
TOOLS: tuple[Tool, ...] = ("label-studio", "prodigy", "argilla", "doccano")
_LOOKED_AT = 100
_SHOWN_KEYS = 12
_BOM = "\ufeff"


def tool_of(value: Mapping[str, object], columns: ColumnSettings) -> Tool | None:
    """The tool that an object of JSON is surely from, or None."""
    if label_studio.is_task(value) or _is_label_studio_row(value):
        return "label-studio"
    if prodigy.is_task(value):
        return "prodigy"
    if argilla.is_record(value):
        return "argilla"
    if columns.labels not in value and doccano.is_example(value):
        return "doccano"
    return None


def tool_of_header(
    names: Sequence[str], columns: ColumnSettings, first_labels: Callable[[], Iterable[object]]
) -> Tool | None:
    """The tool that a CSV is surely from by its header, or None.

    Args:
        names: the column names.
        columns: names that the user gave.
        first_labels: gives some cells of the column ``label``; asked only when they decide.
    """
    if _is_label_studio_row(dict.fromkeys(names)):
        return "label-studio"
    if columns.labels in names or not doccano.may_be_header(names):
        return None
    return "doccano" if doccano.is_header(names) or doccano.are_joined(first_labels()) else None


def choose_tool(
    named: str, objects: Iterable[Parsed], columns: ColumnSettings, file: str
) -> Tool | None:
    """Which tool's reader is to read the objects; None for a plain one.

    Raises:
        DataError: a tool was named, and nothing in the export looks like it.
    """
    if named == "jsonl":
        return None
    looked_at = (item.value for item in objects if item.value is not None)
    values = list(itertools.islice(looked_at, _LOOKED_AT))
    known = (tool_of(value, columns) for value in values)
    found = next((tool for tool in known if tool), None)
    if named == "auto":
        return found
    tool = next(tool for tool in TOOLS if tool == named)
    if found == tool or (found is None and any(could_be(tool, value) for value in values)):
        return tool
    raise DataError(_not_like(file, named, found, list(values[0]) if values else []))


def could_be(tool: Tool, value: Mapping[str, object]) -> bool:
    """Whether an object may be from a tool that the user says it is from."""
    keys = set(value)
    if tool == "label-studio":
        return bool(keys & label_studio.MIN_KEYS) or "data" in keys
    if tool == "prodigy":
        return "answer" in keys
    if tool == "argilla":
        return "fields" in keys or "responses" in keys or argilla.is_record(value)
    return bool(keys & set(doccano.LABEL_KEYS)) and bool(keys & set(doccano.TEXT_KEYS))


def check_csv_tool(named: str, found: Tool | None, names: Sequence[str], file: str) -> Tool | None:
    """Which tool's reader is to read a CSV; None for a plain one.

    Raises:
        DataError: a tool was named, and the header is not one of its.
    """
    if named == "csv":
        return None
    if named in {"auto", found}:
        return found
    tool = next(tool for tool in TOOLS if tool == named)
    if found is None and could_be(tool, dict.fromkeys(names)):
        return tool
    raise DataError(_not_like(file, named, found, names))


def header_of(head: bytes, delimiter: str) -> list[str]:
    """The column names that a CSV has under a delimiter; none when they cannot be read."""
    text = head.decode("utf-8", "replace").removeprefix(_BOM)
    line = next((line for line in text.splitlines() if line.strip()), "")
    try:
        return [name.strip() for name in next(_csv([line], delimiter), [])]
    except csv.Error:
        return []


def _csv(lines: list[str], delimiter: str) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=delimiter)


def _is_label_studio_row(value: Mapping[str, object]) -> bool:
    return "annotation_id" in value and ("annotator" in value or "lead_time" in value)


def _not_like(file: str, named: str, found: str | None, keys: Sequence[str]) -> str:
    shown = ", ".join(shorten(key) for key in keys[:_SHOWN_KEYS]) or "none"
    looks = f"it looks like an export of {found}" if found else "its keys are not those of the tool"
    return (
        f"{file}: does not look like an export of {named}: {looks}. The first keys found are "
        f"{shown}. Set data.format: {found or 'auto'}"
    )
