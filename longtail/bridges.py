"""New texts that would bind old texts of different splits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from longtail.ledger import SPLITS, Standing


def bridging_rows(standing: Standing, units: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Rows the ledger does not know, in a unit with rows that stand in more than one split.

    Args:
        standing: what the ledger says of each row's id.
        units: unit of each row, numbered from 0 (:func:`longtail.near_duplicates.find_units`).

    Returns:
        Shape (rows,).
    """
    n_units = int(units.max(initial=-1)) + 1
    splits = np.zeros(n_units, dtype=np.int64)
    for code in range(len(SPLITS)):
        splits += np.bincount(units[standing.splits == code], minlength=n_units) > 0
    rows: NDArray[np.bool_] = ~standing.known & (splits > 1)[units]
    return rows
