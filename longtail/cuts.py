"""The search for cuts: counts at every score by one sort, and the best cuts by micro-F1.

Micro-F1 is 2·TP / (given + positives); a 0/0 is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from longtail.errors import DataError

Probabilities = NDArray[np.floating[Any]]
Labels: TypeAlias = "sp.csr_array | NDArray[Any]"
Known = NDArray[np.bool_] | None
Counts = NDArray[np.int64]

NOTHING = 1.0
"""The cut that gives no label: no probability is above 1."""


@dataclass(frozen=True)
class Cuts:
    """Every cut worth considering, the highest first; the first one gives nothing.

    Lowering a cut over negatives alone only adds false positives, so the candidates are the cuts
    just below a positive's score.

    Attributes:
        thresholds: k cuts, descending.
        true_positives: positives above each cut.
        given: cells above each cut.
        positives: all positives.
    """

    thresholds: NDArray[np.float64]
    true_positives: Counts
    given: Counts
    positives: int

    def best(self, smoothing: float = 0.0) -> tuple[float, float]:
        """The cut with the highest micro-F1, of equals the highest cut, and that F1.

        Args:
            smoothing: pseudo-count a of (2·TP + a) / (given + positives + a). With any a > 0, few
                positives that are far down the ranking are given up and the cut is the one that
                gives nothing.
        """
        scores = (2 * self.true_positives + smoothing) / np.maximum(
            self.given + self.positives + smoothing, 1.0
        )
        best = int(np.argmax(scores))
        return float(self.thresholds[best]), float(scores[best])


@dataclass(frozen=True)
class Scores:
    """The scores of the known cells and, of these, those of the positives; both ascending."""

    of_all: Probabilities
    of_positives: Probabilities

    @classmethod
    def of(cls, y: Labels, probabilities: Probabilities, known: Known = None) -> Scores:
        """Sort the scores of a matrix.

        Args:
            y: labels (n, L).
            probabilities: (n, L), in [0, 1].
            known: bool (n, L), False where it is not known whether the label holds.

        Raises:
            DataError: a probability is NaN or outside [0, 1].
            ValueError: the shapes do not fit.
        """
        shapes = [y.shape, probabilities.shape, known.shape if known is not None else y.shape]
        if len(set(shapes)) > 1 or probabilities.ndim != 2:
            raise ValueError(f"labels, probabilities and mask must have one shape, found {shapes}")
        rows, columns = y.nonzero()
        cells = probabilities.reshape(-1)
        if known is not None:
            kept = known[rows, columns]
            rows, columns, cells = rows[kept], columns[kept], probabilities[known]
        of_all = np.sort(cells)
        _check_range(of_all)
        return cls(of_all, np.sort(probabilities[rows, columns]))

    def at(self, cut: ArrayLike) -> tuple[Counts, Counts]:
        """True positives, and cells given, at p > cut; for one cut or for each of several."""
        cuts = np.asarray(cut, dtype=np.float64)
        return (
            len(self.of_positives) - np.searchsorted(self.of_positives, cuts, "right"),
            len(self.of_all) - np.searchsorted(self.of_all, cuts, "right"),
        )

    def f1_at(self, cut: ArrayLike) -> NDArray[np.float64]:
        """Micro-F1 at p > cut."""
        return f1(*self.at(cut), len(self.of_positives))

    def cuts(self) -> Cuts:
        """All candidates, midway between each positive's score and the next lower score."""
        above, first = np.unique(self.of_positives, return_index=True)
        below = np.searchsorted(self.of_all, above, "left")
        neighbour = np.where(below > 0, self.of_all[np.maximum(below - 1, 0)], 0.0)
        thresholds = _midway(neighbour.astype(np.float64), above.astype(np.float64))
        return Cuts(
            np.append(thresholds, NOTHING)[::-1],
            np.append(len(self.of_positives) - first, 0)[::-1],
            np.append(len(self.of_all) - below, 0)[::-1],
            len(self.of_positives),
        )


def jointly_best(parts: Sequence[Cuts], given_elsewhere: int = 0) -> list[float]:
    """Cuts of several parts that together maximise micro-F1, exactly.

    F1 is a ratio N/D of sums over the parts, so Dinkelbach's iteration finds its maximum: the cuts
    that maximise N' − (N/D)·D' for the N and D in hand can be chosen part by part, and they have a
    higher ratio unless N/D is the maximum already. Multiplied by D everything is an integer, so no
    rounding ends it early.

    Args:
        parts: candidates of each part.
        given_elsewhere: cells given outside these parts, all of them wrong.

    Returns:
        One cut per part.
    """
    constant = given_elsewhere + sum(part.positives for part in parts)
    numerator, denominator, chosen = 0, max(constant, 1), [0] * len(parts)
    while True:
        better = [
            int(np.argmax(2 * part.true_positives * denominator - numerator * part.given))
            for part in parts
        ]
        pairs = list(zip(parts, better, strict=True))
        n = sum(2 * int(part.true_positives[k]) for part, k in pairs)
        d = constant + sum(int(part.given[k]) for part, k in pairs)
        if n * denominator <= numerator * d:
            return [float(part.thresholds[k]) for part, k in zip(parts, chosen, strict=True)]
        numerator, denominator, chosen = n, d, better


def f1(true_positives: Counts, given: Counts, positives: int) -> NDArray[np.float64]:
    """Micro-F1 from counts."""
    return ratio(2 * true_positives, given + positives)


def ratio(numerator: Counts, denominator: Counts) -> NDArray[np.float64]:
    """Quotient of counts; 0/0 is 0."""
    quotient: NDArray[np.float64] = numerator / np.maximum(denominator, 1)
    return quotient


def _midway(below: NDArray[np.float64], above: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cuts t with below <= t < above, halfway where the numbers leave room."""
    below = np.where(below < above, below, -1.0)  # equal only where the lowest score is 0
    middle = (below + above) / 2
    return np.where(middle < above, middle, below)


def _check_range(ascending: Probabilities) -> None:
    if len(ascending) == 0:
        return
    if np.isnan(ascending[-1]):  # a sort puts NaN last
        raise DataError(
            f"{int(np.isnan(ascending).sum())} of {len(ascending)} probabilities are NaN, so no "
            "threshold can be fitted; the training diverged: lower the learning rate"
        )
    if ascending[0] < 0 or ascending[-1] > 1:
        raise DataError(
            f"probabilities must lie in [0, 1], found {ascending[0]:g} to {ascending[-1]:g}; "
            "pass probabilities, not logits or decision values"
        )
