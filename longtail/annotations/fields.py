"""From the cells of one row to the canonical fields, with every problem in words.

Each ``read_*`` function takes one cell and returns the canonical value and what is wrong with it;
a value with a problem is None. Absent values (None, an empty optional cell) are no problem here:
whether a field may be absent is for the contract to say.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal

from longtail.annotations.schema import Record, Unreadable

Problem = str | None
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SURROGATE = re.compile("[\ud800-\udfff]")
_LARGEST_EXACT_FLOAT = 2**53
_SHOWN_CHARACTERS = 60
_LABELS_ADVICE = 'write a JSON list such as ["a", "b"]'


def read_record(
    record: Record, wanted: Mapping[str, str], label_separator: str | None
) -> dict[str, object]:
    """Turn a record into a row of RAW.

    Args:
        record: the row as the file holds it.
        wanted: column name by canonical field.
        label_separator: what separates labels within one string, or None.

    Returns:
        Values for the columns of RAW; fields with a problem, or not wanted, are absent.
    """
    row: dict[str, object] = {
        "position": record.position,
        "raw": record.raw,
        "skipped": record.skipped,
    }
    problems = list(record.problems)
    for field, column in wanted.items() if record.values is not None else ():
        cell = (record.values or {}).get(column)
        value, problem = _read_field(field, cell, label_separator)
        row[field] = value
        if problem:
            problems.append(f"{field}: {problem}")
    row["problems"] = [] if record.skipped is not None else problems
    return row


def _read_field(field: str, cell: object, label_separator: str | None) -> tuple[object, Problem]:
    if isinstance(cell, Unreadable):
        return None, cell.reason
    if field == "labels":
        return read_labels(cell, label_separator)
    if field == "text":
        return read_text(cell)
    if field == "annotated_at":
        return read_date(cell)
    value, problem = read_name(cell)
    return read_split(value) if field == "split" and value is not None else (value, problem)


def read_text(cell: object) -> tuple[str | None, Problem]:
    """Text as it stands; a number is not taken for a text."""
    if cell is None:
        return None, None
    if not isinstance(cell, str):
        return None, f"{describe(cell)} was found, a text is expected; put it in quotes"
    return _checked(cell)


def read_name(cell: object) -> tuple[str | None, Problem]:
    """An id, a group or another short name: text without outer white space, or a whole number."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None, None
    if isinstance(cell, str):
        stripped = cell.strip()
        return _checked(stripped) if stripped else (None, None)
    if isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell), None
    if isinstance(cell, float | Decimal) and _is_whole(cell):
        return str(int(cell)), None
    return None, f"{describe(cell)} was found, a text or a whole number is expected"


def read_split(name: str) -> tuple[str | None, Problem]:
    """Train, validation or test, under any of their usual names."""
    split = _SPLITS.get(name.casefold())
    if split is None:
        return None, f"{shorten(name)} is not a split; write train, validation or test"
    return split, None


def read_date(cell: object) -> tuple[dt.datetime | None, Problem]:
    """A moment in UTC from ISO 8601 or a date; without a time zone it is taken for UTC."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None, None
    advice = "write ISO 8601, such as 2026-03-01T09:30:00Z"
    try:
        if isinstance(cell, str):
            cell = dt.datetime.fromisoformat(cell.strip())
        elif isinstance(cell, dt.date) and not isinstance(cell, dt.datetime):
            cell = dt.datetime.combine(cell, dt.time())
        if isinstance(cell, dt.datetime):
            aware = cell if cell.tzinfo else cell.replace(tzinfo=dt.UTC)
            return aware.astimezone(dt.UTC), None
    except (ValueError, OverflowError):
        return None, f"{describe(cell)} is not a date; {advice}"
    return None, f"{describe(cell)} was found, a date is expected; {advice}"


def read_labels(cell: object, separator: str | None) -> tuple[list[str] | None, Problem]:
    """A list of label names from a list, a JSON list in a string, or a separated string.

    White space around a label is taken off. A separated string of nothing is a text without
    labels; so is ``[]``. An absent cell is not: it may as well mean "not annotated yet".
    """
    if cell is None:
        return None, None
    if isinstance(cell, str):
        cell, problem = _split_labels(cell, separator)
        if problem or cell is None:
            return None, problem
    if not isinstance(cell, list):
        return None, f"{describe(cell)} was found, a list is expected; {_LABELS_ADVICE}"
    wrong = [text for n, item in enumerate(cell, 1) if (text := _label_problem(n, item))]
    if wrong:
        return None, "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" * (len(wrong) > 3))
    return [item.strip() for item in cell], None


def describe(cell: object) -> str:
    """What a cell holds, in words and cut short."""
    if cell is None or isinstance(cell, bool):
        return {None: "null", True: "true", False: "false"}[cell]
    if isinstance(cell, str):
        return shorten(cell)
    if isinstance(cell, int | float | Decimal):
        return f"the number {_cut(str(cell))}"
    names: dict[type, str] = {list: "a list", tuple: "a list", dict: "an object"}
    kind = next((name for of, name in names.items() if isinstance(cell, of)), type(cell).__name__)
    try:
        return f"{kind} ({_cut(repr(cell))})"
    except RecursionError:
        return f"{kind} (nested very deeply)"


def shorten(text: str) -> str:
    """A text in quotes, cut short, control characters and lone surrogates escaped."""
    return _cut(repr(text[: _SHOWN_CHARACTERS + 1]))


def _cut(text: str) -> str:
    safe = text.encode("utf-8", "backslashreplace").decode()
    return safe if len(safe) <= _SHOWN_CHARACTERS else safe[:_SHOWN_CHARACTERS] + "…"


def _checked(text: str) -> tuple[str | None, Problem]:
    if not text.isascii() and (found := _SURROGATE.search(text)):
        return None, (
            f"half of a character (\\u{ord(found[0]):04x}) at character {found.start() + 1}; "
            "the export cut an emoji or the like in two"
        )
    if "\x00" in text:
        return None, (
            f"a NUL character at character {text.index(chr(0)) + 1}; remove it, or check how the "
            "export was encoded"
        )
    return text, None


def _is_whole(number: float | Decimal) -> bool:
    value = float(number)
    return math.isfinite(value) and value.is_integer() and abs(value) <= _LARGEST_EXACT_FLOAT


def _split_labels(cell: str, separator: str | None) -> tuple[object, Problem]:
    text = cell.strip()
    if separator is not None:
        return _split_by(text, separator)
    if not text:
        return None, None
    if not text.startswith("["):
        return None, (
            f"{shorten(text)} is not a list; {_LABELS_ADVICE}, or name what separates the labels "
            "with data.label_separator"
        )
    try:
        return json.loads(text), None
    except RecursionError:
        return None, f"lists nested too deeply; {_LABELS_ADVICE}"
    except ValueError:
        python = "'" in text and " (it looks like a Python list; json.dumps writes JSON)"
        return None, f"{shorten(text)} is not valid JSON{python or ''}; {_LABELS_ADVICE}"


def _split_by(text: str, separator: str) -> tuple[list[str] | None, Problem]:
    if text.startswith('["') and text.endswith("]"):
        return None, (
            f"{shorten(text)} is a JSON list, but data.label_separator is {separator!r}; remove "
            "that setting"
        )
    return (text.split(separator) if text else []), None


def _label_problem(number: int, item: object) -> Problem:
    if not isinstance(item, str):
        found = item.reason if isinstance(item, Unreadable) else describe(item)
        return f"label {number} is {found}, a name in quotes is expected"
    _, problem = _checked(item)
    return f"label {number} has {problem}" if problem else None
