"""Whether ids only count the rows of the export: next week they would name other texts."""

from __future__ import annotations

from collections.abc import Iterable

_FEWEST = 3


class RowNumbers:
    """Watches ids go by, in the order of the export and in any number of portions.

    Ids are row numbers when they are 0, 1, 2, … or 1, 2, 3, … without a gap, a repetition or a
    missing one. An export sorted by a database's own counter looks the same as long as nothing was
    ever deleted; so this is worth a warning, and no more.
    """

    def __init__(self) -> None:
        self._first: int | None = None
        self._count = 0
        self._broken = False

    def add(self, ids: Iterable[str | int | None]) -> None:
        """Take the next ids; after the first that is no row number nothing is looked at."""
        if self._broken:
            return
        for found in ids:
            if self._first is None:
                self._first = {"0": 0, "1": 1}.get(str(found))
            if self._first is None or str(found) != str(self._first + self._count):
                self._broken = True
                return
            self._count += 1

    @property
    def likely(self) -> bool:
        """Whether all ids so far are row numbers; never said of fewer than three."""
        return not self._broken and self._count >= _FEWEST
