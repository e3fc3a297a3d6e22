"""CSV that a spreadsheet shows and never calculates.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, and an id or
a label may be anything. Every CSV is written here: such a cell gets an apostrophe in front, and
``unguarded`` takes it off again. Source: OWASP, "CSV Injection".
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

# What begins a formula, its full-width forms, and what makes a spreadsheet look behind it.
_TRIGGER = r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b]"
_UNSEEN = r"[\s\0\u200b-\u200f\u2060\ufeff]"
# Where commas are decimal points, a spreadsheet divides the cells at semicolons.
_START = r"(\A|[;\t])"
_GUARD = re.compile(f"{_START}('*)(?={_UNSEEN}*{_TRIGGER})")
_GUARDED = re.compile(f"{_START}'('*)(?={_UNSEEN}*{_TRIGGER})")
_NUMBER = re.compile(r"'*-?[0-9]+(\.[0-9]+)?", re.ASCII)
_IN_JSON = re.compile(f"(;'*{_UNSEEN}*)({_TRIGGER})")

Cell = str | int | float | None


def guarded(cell: str) -> str:
    """The cell with an apostrophe where a spreadsheet would begin to calculate.

    A cell that is no more than a decimal number, such as ``-5``, stays one.
    """
    return cell if _NUMBER.fullmatch(cell) else _GUARD.sub(r"\1'\2", cell)


def unguarded(cell: str) -> str:
    """The cell as it was before ``guarded``."""
    return cell if _NUMBER.fullmatch(cell) else _GUARDED.sub(r"\1\2", cell)


def json_cell(value: Any) -> str:
    """JSON for a cell: safe by its own escapes, so that any JSON parser reads it back."""
    text = json.dumps(value, ensure_ascii=False)
    return _IN_JSON.sub(lambda found: f"{found[1]}\\u{ord(found[2]):04x}", text)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A CSV file (RFC 4180, every text in quotes) whose cells are all guarded.

    Args:
        header: names of the columns.
        rows: cells of each row; numbers stay numbers, None is an empty cell.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    for row in (header, *rows):
        writer.writerow([guarded(cell) if isinstance(cell, str) else cell for cell in row])
    return text.getvalue()
