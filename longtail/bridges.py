"""New texts that would bind old texts of different splits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from longtail.ledger import SPLITS, LedgerEntries


def bridging_rows(
    ids: Sequence[str], units: NDArray[np.int64], entries: LedgerEntries
) -> NDArray[np.bool_]:
    """Rows the ledger does not know, in a unit with rows that stand in more than one split.

    Args:
        ids: id of each row.
        units: unit of each row, numbered from 0 (:func:`longtail.near_duplicates.find_units`).
        entries: the ledger as read.

    Returns:
        Shape (rows,).
    """
    found = [entries.by_id.get(name) for name in ids]
    new = np.array([entry is None for entry in found], dtype=bool)
    splits_of_unit = np.zeros(int(units.max(initial=-1)) + 1, dtype=np.int64)
    for code, split in enumerate(SPLITS):
        here = np.array([entry is not None and entry.split == split for entry in found], dtype=bool)
        splits_of_unit[np.unique(units[here])] |= 1 << code
    several = np.isin(splits_of_unit, [3, 5, 6, 7])
    rows: NDArray[np.bool_] = new & several[units]
    return rows
