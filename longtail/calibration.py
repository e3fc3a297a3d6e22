"""Whether probabilities are frequencies: reliability curves and expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtail.config import GROUPS
from longtail.cuts import Known
from longtail.labels import LabelGroups

FLOOR = 0.01
"""Cells with a lower probability are left out: nearly all cells, and nearly all rightly so."""
ALL = "all"


@dataclass(frozen=True)
class Reliability:
    """Probabilities in bins of equal width, against what is true.

    Attributes:
        probability: mean probability of each bin that has cells, ascending.
        share: share of the bin's cells that are positives.
        cells: number of cells in the bin.
        error: expected calibration error, the mean of |probability − share| over all cells in
            bins (Naeini, Cooper and Hauskrecht, AAAI 2015); NaN without a cell.
    """

    probability: tuple[float, ...]
    share: tuple[float, ...]
    cells: tuple[int, ...]
    error: float

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        error = None if np.isnan(self.error) else self.error
        return {
            "probability": list(self.probability), "share": list(self.share),
            "cells": list(self.cells), "error": error,
        }  # fmt: skip


def reliability(
    truth: NDArray[np.bool_], probabilities: NDArray[np.floating[Any]], bins: int = 10
) -> Reliability:
    """Reliability of probabilities, those below 0.01 left out.

    Args:
        truth: bool, any shape.
        probabilities: in [0, 1], the same shape.
        bins: of equal width.

    Example:
        >>> import numpy as np
        >>> found = reliability(np.array([True, False]), np.array([0.5, 0.5]))
        >>> found.share, found.cells, found.error
        ((0.5,), (2,), 0.0)
    """
    shown = probabilities >= FLOOR
    p, y = probabilities[shown].astype(np.float64), truth[shown]
    bin_of = np.minimum((p * bins).astype(np.int64), bins - 1)
    cells = np.bincount(bin_of, minlength=bins)
    filled = cells > 0
    count = np.maximum(cells, 1)
    mean = np.bincount(bin_of, weights=p, minlength=bins) / count
    share = np.bincount(bin_of, weights=y, minlength=bins) / count
    error = float((cells * np.abs(mean - share)).sum() / len(p)) if len(p) else float("nan")
    return Reliability(
        tuple(mean[filled].tolist()), tuple(share[filled].tolist()), tuple(cells[filled].tolist()),
        error,
    )  # fmt: skip


def reliability_by_group(
    truth: NDArray[np.bool_],
    probabilities: NDArray[np.floating[Any]],
    groups: LabelGroups,
    known: Known = None,
) -> dict[str, Reliability]:
    """Reliability over all labels and within HEAD, MEDIUM and TAIL.

    Args:
        truth: labels, bool (n, L).
        probabilities: (n, L), in [0, 1].
        groups: of the L labels.
        known: bool (n, L), False where it is not known whether the label holds.
    """
    columns: dict[str, NDArray[np.int64]] = {ALL: np.arange(truth.shape[1])}
    columns |= {name: groups.columns(name) for name in GROUPS}
    found = {}
    for name, at in columns.items():
        y, p = truth[:, at], probabilities[:, at]
        seen = np.ones(y.shape, dtype=bool) if known is None else known[:, at]
        found[name] = reliability(y[seen], p[seen])
    return found
