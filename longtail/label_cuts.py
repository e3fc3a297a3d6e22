"""One cut per label by cross-validation, as far as the label's own validation positives carry it.

The smoothed F-measure and per-fold cuts are those of Lin & Lin, "On the Thresholding Strategy for
Infrequent Labels in Multi-label Classification", CIKM 2023. Ours is what a fold contributes in
which the label has no cut of its own: the cut of the label's group.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import expit, logit

from longtail.cuts import Known, Probabilities, Scores

SMOOTHING = 1.0
"""Pseudo-count a of the smoothed F1, (2·TP + a) / (given + positives + a)."""

_FOLDS_SEED = 0
_NEAREST = 1e-12
"""Cuts are averaged as log-odds, no nearer to 0 or 1 than this."""


def cuts_of_labels(
    y: sp.csr_array,
    probabilities: Probabilities,
    group_cuts: NDArray[np.float64],
    known: Known,
    folds: int,
) -> NDArray[np.float64]:
    """A cut for each label: the mean log-odds of its cuts in the folds.

    The folds are stratified for each label by itself: its positives, then its negatives are dealt
    out in one random order of the texts, the same in every call. A fold's cut maximises the
    smoothed F1 there. A fold without a positive has the group's cut, and so has one where the
    optimum lies outside (0, 1), giving nothing or everything; so the fewer positives a label has,
    the nearer it stays to its group.

    Args:
        y: labels (n, L).
        probabilities: (n, L), in [0, 1] where known.
        group_cuts: (L,), the cut of each label's group.
        known: bool (n, L) or None.
        folds: at least 2.

    Returns:
        (L,), exactly ``group_cuts`` where no fold has a cut of its own.
    """
    columns = y.tocsc()
    order = np.random.default_rng(_FOLDS_SEED).permutation(y.shape[0])
    cuts = group_cuts.copy()
    for j in range(y.shape[1]):
        stored = slice(columns.indptr[j], columns.indptr[j + 1])
        truth = np.zeros(y.shape[0], dtype=bool)
        truth[columns.indices[stored]] = columns.data[stored]
        rows = order if known is None else order[known[order, j]]
        own = _fold_cuts(truth[rows], probabilities[rows, j], folds)
        if len(own):
            cuts[j] = _mean_cut(own, folds - len(own), group_cuts[j])
    return cuts


def _fold_cuts(
    truth: NDArray[np.bool_], probabilities: Probabilities, folds: int
) -> NDArray[np.float64]:
    """The label's own cuts, of the folds that have one."""
    dealt = np.argsort(~truth, kind="stable")
    found = []
    for fold in range(min(folds, int(truth.sum()))):
        rows = dealt[fold::folds]
        scores = Scores.of(truth[rows, None], probabilities[rows, None])
        found.append(scores.cuts().best(SMOOTHING)[0])
    cuts = np.asarray(found, dtype=np.float64)
    return cuts[(cuts > 0.0) & (cuts < 1.0)]


def _mean_cut(own: NDArray[np.float64], others: int, group_cut: float) -> float:
    """Mean log-odds of some folds' own cuts, and of the group's cut for the other folds."""
    every = np.append(own, np.full(others, group_cut))
    return float(expit(logit(np.clip(every, _NEAREST, 1.0 - _NEAREST)).mean()))
