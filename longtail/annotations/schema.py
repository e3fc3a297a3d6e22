"""The canonical annotation row, and what a reader makes of a row of an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

MAX_ID_CHARACTERS = 512
MAX_LABEL_CHARACTERS = 200

ANNOTATIONS = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("group", pa.string()),
        ("annotator", pa.string()),
        ("annotated_at", pa.timestamp("us", tz="UTC")),
        ("source", pa.string()),
        ("split", pa.string()),
    ]
)
"""One annotated text; the last five columns may be null."""

RAW = pa.schema(
    [
        *ANNOTATIONS,
        pa.field("position", pa.int64()),
        pa.field("problems", pa.list_(pa.string())),
        pa.field("skipped", pa.string()),
        pa.field("raw", pa.string()),
    ]
)
"""One row of an export as a reader saw it. ``position`` counts data rows from 1 (CSV, Parquet),
lines from 1 (JSON Lines) or annotations from 1 (a tool's export). Each problem is ``field: what was
found; what to do``, where the field is a column of ANNOTATIONS or ``row`` when the row as a whole
could not be read. ``skipped`` says why the export itself marks the row as not to be used (a
cancelled annotation, an answer "ignore"), and is null for every other row. ``raw`` is the row's
content as text; it may be null in a row of a Parquet file that the reader found no problem in."""

QUARANTINE = pa.schema(
    [
        ("file", pa.string()),
        ("position", pa.int64()),
        ("id", pa.string()),
        ("reasons", pa.list_(pa.string())),
        ("raw", pa.string()),
    ]
)
"""One row that was set aside, with every reason."""

SKIPPED = pa.schema(
    [
        ("file", pa.string()),
        ("position", pa.int64()),
        ("id", pa.string()),
        ("reason", pa.string()),
        ("raw", pa.string()),
    ]
)
"""One row that the export itself marks as not to be used, with what it says of it."""


@dataclass(frozen=True)
class Record:
    """A row of an export before anything in it is believed.

    Attributes:
        position: where it stands; see RAW.
        values: cell by column name; None when the row could not be read as a row.
        raw: the content as text, always valid Unicode.
        problems: what is wrong with the row itself, each starting with its field.
        skipped: why the export marks the row as not to be used; None: it is to be used.
    """

    position: int
    values: Mapping[str, object] | None
    raw: str
    problems: tuple[str, ...] = ()
    skipped: str | None = None


@dataclass(frozen=True)
class Unreadable:
    """Stands for a cell whose bytes cannot be decoded.

    Attributes:
        reason: what is wrong with it.
        shown: its content with everything undecodable escaped.
    """

    reason: str
    shown: str

    def __str__(self) -> str:
        return self.shown
