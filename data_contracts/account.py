"""Where every row of an export went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_MANY_REASONS = 100
_OTHER = "other reasons"


@dataclass(frozen=True)
class Account:
    """Where every row of an export went.

    Attributes:
        rows_read: rows of the export.
        accepted: rows that became an annotation of their own.
        quarantined: rows set aside with their reasons.
        merged: rows folded into another row of the same id.
        skipped: rows that the export itself marks as not to be used, such as a cancelled
            annotation; CSV, JSON Lines and Parquet have none.
        skipped_reasons: rows by what the export says of them, most frequent first; they add up
            to ``skipped``.
    """

    rows_read: int
    accepted: int
    quarantined: int
    merged: int
    skipped: int = 0
    skipped_reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def share_quarantined(self) -> float:
        """Quarantined rows among the rows read, in [0, 1]."""
        return self.quarantined / self.rows_read if self.rows_read else 0.0

    def check(self) -> None:
        """Raise if a row got lost or was counted twice.

        Raises:
            ArithmeticError: rows read ≠ accepted + quarantined + merged + skipped, or the
                reasons of the skipped rows do not add up.
        """
        accounted = self.accepted + self.quarantined + self.merged + self.skipped
        if self.rows_read != accounted:
            raise ArithmeticError(f"{self.rows_read} rows read, {accounted} accounted for: {self}")
        if sum(self.skipped_reasons.values()) != self.skipped:
            raise ArithmeticError(f"the reasons of the skipped rows do not add up: {self}")


class Tally:
    """Counts of reasons, of which there may be too many to list."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, reasons: Iterable[tuple[str, int]]) -> None:
        """Count reasons; the hundredth kind and later ones are counted together."""
        for reason, count in reasons:
            known = reason in self._counts or len(self._counts) < _MANY_REASONS
            key = reason if known else _OTHER
            self._counts[key] = self._counts.get(key, 0) + count

    def most_frequent(self) -> dict[str, int]:
        """Rows by reason, most frequent first."""
        return dict(sorted(self._counts.items(), key=lambda item: (-item[1], item[0])))
