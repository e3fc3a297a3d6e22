"""Multi-label metrics as small functions on arrays; docs/reference/metrics.md defines each.

Truths and decisions are boolean arrays of shape (texts, labels), scores are probabilities of the
same shape. ``known`` marks the cells whose truth is known; the others are masked everywhere: they
are neither hits nor errors, and no positives. None means that every cell is known.

0/0 is 0 throughout: a label that is never given has precision 0, one without positives recall 0.
This is scikit-learn's ``zero_division=0``, and the tests compare with scikit-learn.

Counts are integer arrays whose last axis is (true positives, false positives, false negatives).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Scores = NDArray[np.float32] | NDArray[np.float64]


def divide(numerator: NDArray[np.number], denominator: NDArray[np.number]) -> Floats:
    """Elementwise quotient in float64 where 0/0, and anything over 0, is 0."""
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    result: Floats = np.divide(top, bottom, out=np.zeros_like(bottom), where=bottom != 0)
    return result


def label_counts(y: Bools, decided: Bools, known: Bools | None = None) -> Counts:
    """Counts of each label over the texts, shape (labels, 3)."""
    return _counts(y, decided, known, axis=0)


def text_counts(y: Bools, decided: Bools, known: Bools | None = None) -> Counts:
    """Counts of each text over the labels, shape (texts, 3)."""
    return _counts(y, decided, known, axis=1)


def precision(counts: Counts | Floats) -> Floats:
    """TP / (TP + FP) over the last axis."""
    return divide(counts[..., 0], counts[..., 0] + counts[..., 1])


def recall(counts: Counts | Floats) -> Floats:
    """TP / (TP + FN) over the last axis."""
    return divide(counts[..., 0], counts[..., 0] + counts[..., 2])


def f1(counts: Counts | Floats) -> Floats:
    """2 TP / (2 TP + FP + FN) over the last axis; the harmonic mean of precision and recall."""
    return divide(2 * counts[..., 0], 2 * counts[..., 0] + counts[..., 1] + counts[..., 2])


def weighted_f1(counts: Counts) -> float:
    """Mean of the labels' F1, weighted by their positives; counts has shape (labels, 3)."""
    positives = counts[:, 0] + counts[:, 2]
    return float(divide((f1(counts) * positives).sum(), positives.sum()))


def hamming_loss(counts: Counts, known_cells: int) -> float:
    """Share of the known cells that are decided wrongly.

    Args:
        counts: of shape (..., 3), over all known cells.
        known_cells: number of cells whose truth is known.
    """
    return float(divide(counts[..., 1:].sum(), np.asarray(known_cells)))


def recognised(counts: Counts, true_positives: int = 1) -> Bools:
    """Which labels are recognised: at least so many true positives. One means F1 > 0."""
    found: Bools = counts[:, 0] >= true_positives
    return found


def label_coverage(counts: Counts, true_positives: int = 1) -> float:
    """Share of the labels with known positives that are recognised; counts: (labels, 3)."""
    with_positives = np.count_nonzero(counts[:, 0] + counts[:, 2])
    found = np.count_nonzero(recognised(counts, true_positives))
    return float(divide(np.asarray(found), np.asarray(with_positives)))


def average_precision(y: Bools, probabilities: Scores, known: Bools | None = None) -> Floats:
    """Average precision of each label: the mean, over its positives, of the precision at each.

    Texts of equal probability are retrieved together, as in scikit-learn.

    Returns:
        Shape (labels,), in [0, 1]; NaN for a label without known positives.
    """
    positive = np.ascontiguousarray(_masked(y, known).T)
    scores = np.ascontiguousarray(_hidden(probabilities, known).T)
    result = np.full(len(scores), np.nan)
    for j in np.flatnonzero(positive.any(axis=1)):
        result[j] = _average_precision(scores[j], scores[j][positive[j]])
    return result


def micro_average_precision(y: Bools, probabilities: Scores, known: Bools | None = None) -> float:
    """Average precision over all known cells at once, in [0, 1]; 0 without positives."""
    positive = _masked(y, known)
    if not positive.any():
        return 0.0
    scores = probabilities.reshape(-1) if known is None else probabilities[known]
    return _average_precision(scores, probabilities[positive])


@dataclass(frozen=True)
class AtK:
    """Means over the texts of what the k most probable labels achieve, each in [0, 1]."""

    precision: float
    recall: float
    ndcg: float


def ranking_at(
    y: Bools, probabilities: Scores, ks: tuple[int, ...], known: Bools | None = None
) -> dict[int, AtK]:
    """Precision, recall and nDCG of the k most probable known labels, for several k.

    Precision divides by k, recall by the text's positives; nDCG discounts the hit at rank i
    (from 1) by 1/log2(i + 1) and divides by the best possible sum (Järvelin and Kekäläinen,
    2002). A text without positives counts as 0. Ties go to the label that comes first.
    """
    truth = _masked(y, known)
    hits = _top_hits(truth, _hidden(probabilities, known), max(ks))
    positives = truth.sum(axis=1)
    discount = 1.0 / np.log2(np.arange(2, max(ks) + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    result = {}
    for k in ks:
        found = hits[:, :k].sum(axis=1)
        best = ideal[np.minimum(positives, k)]
        result[k] = AtK(
            precision=_mean(found / k),
            recall=_mean(divide(found, positives)),
            ndcg=_mean(divide(hits[:, :k] @ discount[:k], best)),
        )
    return result


def _counts(y: Bools, decided: Bools, known: Bools | None, axis: int) -> Counts:
    positive, given = _masked(y, known), _masked(decided, known)
    hits = (positive & given).sum(axis=axis, dtype=np.int64)
    false = given.sum(axis=axis, dtype=np.int64) - hits
    missed = positive.sum(axis=axis, dtype=np.int64) - hits
    return np.stack([hits, false, missed], axis=-1)


def _masked(cells: Bools, known: Bools | None) -> Bools:
    return cells if known is None else cells & known


def _hidden(probabilities: Scores, known: Bools | None) -> Scores:
    """Scores with unknown cells below every other: they are ranked last and hit nothing."""
    if known is None:
        return probabilities
    return np.where(known, probabilities, probabilities.dtype.type(-np.inf))


def _average_precision(scores: Scores, positives: Scores) -> float:
    """Average precision of one ranking; ``positives`` are the scores of the positives in it."""
    ranked, found = np.sort(scores), np.sort(positives)
    retrieved = len(ranked) - np.searchsorted(ranked, found, side="left")
    hits = len(found) - np.searchsorted(found, found, side="left")
    return float(np.mean(hits / retrieved))


def _top_hits(truth: Bools, scores: Scores, k: int) -> Bools:
    """Whether the label at each of the first k ranks is a positive, shape (texts, k).

    k passes of argmax are faster than a sort at the few ranks asked for, and, unlike a partition,
    the order of ties does not depend on the machine.
    """
    left = scores.copy()
    rows = np.arange(len(left))
    hits = np.zeros((len(left), k), dtype=bool)
    for rank in range(min(k, left.shape[1])):
        best = left.argmax(axis=1)
        hits[:, rank] = truth[rows, best] & (left[rows, best] > -np.inf)
        left[rows, best] = -np.inf
    return hits


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0
