"""doccano's exports: JSON Lines, JSON and CSV, alone or as a zip archive with one file per user."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from longtail.annotations.objects import Parsed, keys_of, peek
from longtail.annotations.schema import Record
from longtail.annotations.tool_rows import (
    UNREAD,
    Request,
    broken,
    cells,
    choose_key,
    repeated_key,
    require_keys,
    skipped,
    unreadable,
)

SEPARATOR = "#"
LABEL_KEYS = ("label", "labels", "cats", "categories")
TEXT_KEYS = ("text", "data")
_NO_USER = frozenset({"all", "unknown"})
_JOINED = re.compile(r"\S#\S")
_UNLABELLED = (
    "no label: doccano does not tell a text that nobody has annotated yet from one that has no "
    "label; to take them for texts without labels, read the file with data.format: {} and "
    "data.columns.labels: {}"
)


def is_example(value: Mapping[str, object]) -> bool:
    """Whether an object is plainly a line of doccano's: a list of label names under ``label``."""
    label = value.get("label")
    return (
        "id" in value
        and any(key in value for key in TEXT_KEYS)
        and isinstance(label, list)
        and "labels" not in value
    )


def may_be_header(names: Iterable[str]) -> bool:
    """Whether a CSV has the columns of doccano's."""
    found = set(names)
    return {"id", "label"} <= found and bool(found & set(TEXT_KEYS))


def is_header(names: Iterable[str]) -> bool:
    """Whether a CSV is plainly doccano's by its header."""
    found = set(names)
    return may_be_header(found) and ("Comments" in found or "text" not in found)


def are_joined(cells_of_labels: Iterable[object]) -> bool:
    """Whether cells of labels are joined as doccano joins them: ``C#`` is one label."""
    return any(isinstance(cell, str) and _JOINED.search(cell) for cell in cells_of_labels)


def user_of(stem: str) -> str | None:
    """The annotator that a file of an archive belongs to, by its name without extension.

    ``all`` is what a project writes whose members annotate together; ``unknown`` what nobody did.
    """
    return None if stem.casefold() in _NO_USER else stem


def example_records(
    objects: Iterator[Parsed],
    request: Request,
    *,
    separator: str | None = None,
    user: str | None = None,
) -> Iterator[Record]:
    """Rows of doccano: one per example.

    Args:
        objects: the lines, items or CSV rows.
        request: what is asked for.
        separator: what joins the labels, in CSV; None where they are lists.
        user: whose file of an archive it is, or None.

    Raises:
        DataError: no example has a wanted key.
    """
    peeked, objects = peek(objects)
    keys = keys_of(peeked)
    del peeked
    wanted = request.looked_up()
    if wanted["text"] not in keys and request.reads("text"):
        wanted["text"] = next((key for key in TEXT_KEYS if key in keys), "text")
    require_keys(request, keys, wanted)
    key = None
    if request.labels_required:
        there = [key for key in LABEL_KEYS if key in keys]
        named = [request.columns.labels] if request.columns.labels in keys else []
        key = choose_key(request, named or there[:1], "key")
    for item in objects:
        yield _example(item, request, wanted, key, separator, user)


def _example(
    item: Parsed,
    request: Request,
    wanted: Mapping[str, str],
    key: str | None,
    separator: str | None,
    user: str | None,
) -> Record:
    row = item.value
    if row is None:
        return unreadable(item)
    if why := repeated_key(row):
        return broken(item.raw, why)
    values = cells([row], wanted)
    if user is not None and request.reads("annotator"):
        values.setdefault("annotator", user)
    if not request.labels_required:
        return Record(UNREAD, values, item.raw)
    labels = row.get(key) if key is not None else None
    if separator is not None and isinstance(labels, str):
        labels = [part for part in labels.split(separator) if part.strip()]
    if labels in (None, "", []):
        kind = "jsonl" if separator is None else "csv"
        return skipped(values, item.raw, _UNLABELLED.format(kind, key))
    return Record(UNREAD, {**values, "labels": labels}, item.raw)
