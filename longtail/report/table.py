"""A table as data, rendered by one macro."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what is printed.
        css: class of the cell, such as ``best`` or ``good``.
        sort: value that the column is sorted by; None sorts by the text.
    """

    text: str
    css: str = ""
    sort: float | None = None


@dataclass(frozen=True)
class Table:
    """A table with its caption.

    Attributes:
        names: so many columns from the left are text, the others numbers.
        sortable: whether a click on a column's name sorts by it.
        stacked: whether the rows of a narrow screen stand as blocks: for cells of sentences.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    names: int = 1
    sortable: bool = False
    stacked: bool = False


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str | Cell]],
    *,
    names: int = 1,
    sortable: bool = False,
    stacked: bool = False,
) -> Table:
    """A table from rows of cells or plain text."""
    made = tuple(
        tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in row) for row in rows
    )
    return Table(caption, tuple(columns), made, names, sortable, stacked)
