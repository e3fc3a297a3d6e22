"""Cells of the label matrix that are likely wrong: confident learning on held-out probabilities.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR
70 (2021); per label as a problem of its own, as Thyagarajan, Snorrason, Northcutt and Mueller,
"Identifying Incorrect Annotations in Multi-Label Classification Data" (2022) do. Written from the
papers: docs/decisions/0066-confident-learning-from-the-papers.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.baselines import LinearBaseline
from longtail.config import LinearSettings
from longtail.splitting import stratify

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

LINEAR = LinearSettings(ngram_max=1)
"""What the cross-validation trains: single words, measured in docs/reference/audit.md."""

EMA_WEIGHT = 0.8
_NEWTON_STEPS = 30
_LARGEST_STEP = 4.0
_BINS = 1 << 14


@dataclass(frozen=True)
class Joint:
    """The confident joint of every label with itself: what is given, and what seems true.

    Attributes:
        thresholds: float64 (L, 2), the mean probability of "absent" over the texts without the
            label, and of "present" over those with it.
        counts: int64 (L, 2, 2), texts by what is given and what they confidently are.
    """

    thresholds: NDArray[np.float64]
    counts: Ints


@dataclass(frozen=True)
class Suspects:
    """Cells that confident learning takes for errors, the likeliest first.

    Attributes:
        rows: int64 (k,), rows of the matrix.
        labels: int64 (k,), its columns.
        given: bool (k,), True: the label is there and likely wrong; False: likely missing.
        confidence: float32 (k,), probability of what is given; the lower, the likelier an error.
    """

    rows: Ints
    labels: Ints
    given: Bools
    confidence: Floats

    def __len__(self) -> int:
        return len(self.rows)


def held_out_decisions(
    texts: Sequence[str],
    y: sp.csr_array,
    *,
    ids: Sequence[str],
    units: Ints,
    folds: int,
    known: Bools | None = None,
    settings: LinearSettings = LINEAR,
    seed: int = 0,
) -> Floats:
    """Decision values of the linear arm for every text, from a fit that has not seen its unit.

    Args:
        texts: n texts.
        y: bool CSR (n, L); every label should stand in several units.
        ids: unique id of each text.
        units: int64 (n,); a unit is never divided between folds.
        folds: number of folds, at least 2.
        known: bool (n, L); unknown cells are left out of the fits.
        settings: of the linear arm.
        seed: of the folds and of the fits.

    Returns:
        float32 (n, L).

    Raises:
        DataError: fewer units than folds, or no word in the texts.
    """
    made = stratify(y, [1 / folds] * folds, ids=ids, units=units, seed=seed)
    decisions = np.empty(y.shape, dtype=np.float32)
    started = time.monotonic()
    for fold in range(folds):
        inside = made.assignment == fold
        rest, held_out = np.flatnonzero(~inside), np.flatnonzero(inside)
        model = LinearBaseline(settings, seed=seed).fit(
            [texts[row] for row in rest.tolist()],
            sp.csr_array(y[rest]),
            None if known is None else known[rest],
        )
        decisions[held_out] = model.decisions([texts[row] for row in held_out.tolist()])
        logger.info(
            "audit: fold %d of %d, %d labels, %.0f s",
            fold + 1, folds, y.shape[1], time.monotonic() - started,
        )  # fmt: skip
    return decisions


def calibrate(decisions: Floats, y: sp.csr_array, known: Bools | None = None) -> Floats:
    """Probabilities σ(a·d + b) with one slope and offset for all cells.

    Platt (1999), with the targets (n₊ + 1)/(n₊ + 2) and 1/(n₋ + 2) that he gives against
    overfitting, on the held-out decision values. A decision value of a support vector machine is
    no probability, but its margin is ±1 for every label, so one curve fits them all; a curve per
    label follows the errors that it should find, and ranks them worse.

    Args:
        decisions: float32 (n, L).
        y: bool CSR (n, L).
        known: bool (n, L); unknown cells do not count.

    Returns:
        float32 (n, L), in (0, 1).
    """
    given, counted = _dense(y, known)
    low, high = float(decisions.min(initial=0.0)), float(decisions.max(initial=0.0)) + 1e-6
    histograms = [
        np.histogram(decisions[cells], bins=_BINS, range=(low, high))[0]
        for cells in (~given & counted, given & counted)
    ]
    middles = low + (np.arange(_BINS) + 0.5) * (high - low) / _BINS
    slope, offset = _platt(middles, histograms[0].astype(float), histograms[1].astype(float))
    probabilities: Floats = _sigmoid(slope * decisions + offset).astype(np.float32)
    return probabilities


def confident_joint(probabilities: Floats, y: sp.csr_array, known: Bools | None = None) -> Joint:
    """Count, per label, what texts are given and what they confidently are.

    A text confidently has a label where its probability is at least the mean probability over
    the texts that are given it (eq. 2 of Northcutt et al.), and likewise without; where both
    hold, the likelier counts, where neither does, the text does not.
    """
    given, weights = _dense(y, known)
    thresholds = _thresholds(probabilities, given, weights)
    present, absent = _confident(probabilities, thresholds)
    counts = np.empty((y.shape[1], 2, 2), dtype=np.int64)
    for was, cells in ((0, ~given & weights), (1, given & weights)):
        counts[:, was, 0] = (cells & absent).sum(axis=0)
        counts[:, was, 1] = (cells & present).sum(axis=0)
    return Joint(thresholds, counts)


def suspects(
    probabilities: Floats, y: sp.csr_array, joint: Joint, known: Bools | None = None
) -> Suspects:
    """The off-diagonal cells of the confident joint, lowest self-confidence first.

    Self-confidence is the probability of what is given (Thyagarajan et al.); calibrated, it can
    be compared between labels. It has to be below ½: the mean probability of a label that the
    model cannot learn is next to nothing, and half of all texts would pass it. Ties stand in the
    order of the rows and labels.
    """
    given, weights = _dense(y, known)
    present, absent = _confident(probabilities, joint.thresholds)
    found = weights & ((given & absent) | (~given & present))
    rows, labels = np.nonzero(found)
    was = given[rows, labels]
    chance = probabilities[rows, labels]
    confidence = np.where(was, chance, 1 - chance).astype(np.float32)
    order = np.argsort(confidence, kind="stable")
    order = order[confidence[order] < 0.5]
    return Suspects(rows[order], labels[order], was[order], confidence[order])


def text_scores(probabilities: Floats, y: sp.csr_array, known: Bools | None = None) -> Floats:
    """Label quality of each text, float32 (n,) in [0, 1]; the lower, the likelier it is wrong.

    The exponential moving average of its labels' self-confidences from the highest to the lowest,
    S ← 0.8·s + 0.2·S (Thyagarajan et al., §3): the worst label weighs most, a second bad one
    still counts. An unknown cell has nothing to say and counts as 1.
    """
    given, weights = _dense(y, known)
    confidence = np.where(given, probabilities, 1 - probabilities)
    confidence = np.sort(np.where(weights, confidence, 1.0), axis=1)[:, ::-1]
    # Further than some places from the end nothing is left of a score's weight.
    tail = confidence[:, -32:]
    score = tail[:, 0].copy() if tail.shape[1] else np.ones(len(tail))
    for place in range(1, tail.shape[1]):
        score = EMA_WEIGHT * tail[:, place] + (1 - EMA_WEIGHT) * score
    result: Floats = score.astype(np.float32)
    return result


def _platt(
    values: NDArray[np.float64], negatives: NDArray[np.float64], positives: NDArray[np.float64]
) -> tuple[float, float]:
    """Slope and offset by a damped Newton iteration on weighted points; the slope is positive."""
    n, n_positive = (negatives + positives), float(positives.sum())
    n_negative = float(negatives.sum())
    high, low = (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2)
    wanted = high * positives + low * negatives
    slope, offset = 1.0, float(np.log((n_positive + 1) / (n_negative + 1))) + 1.0
    for _ in range(_NEWTON_STEPS):
        chance = _sigmoid(slope * values + offset)
        error, curve = n * chance - wanted, n * chance * (1 - chance)
        aa, ab, bb = (float((curve * values**power).sum()) for power in (2, 1, 0))
        gradient_a, gradient_b = float((error * values).sum()), float(error.sum())
        determinant = max(aa * bb - ab * ab, 1e-12)
        move_a = (bb * gradient_a - ab * gradient_b) / determinant
        move_b = (aa * gradient_b - ab * gradient_a) / determinant
        scale = min(1.0, _LARGEST_STEP / max(float(np.hypot(move_a, move_b)), 1e-12))
        slope, offset = max(slope - scale * move_a, 1e-3), offset - scale * move_b
        if max(abs(move_a), abs(move_b)) < 1e-6:
            break
    return slope, offset


def _sigmoid(values: NDArray[np.floating]) -> NDArray[np.floating]:
    result: NDArray[np.floating] = 1.0 / (1.0 + np.exp(-np.clip(values, -60.0, 60.0)))
    return result


def _dense(y: sp.csr_array, known: Bools | None) -> tuple[Bools, Bools]:
    given = y.toarray().astype(bool)
    return given, np.ones_like(given) if known is None else np.asarray(known, dtype=bool)


def _thresholds(probabilities: Floats, given: Bools, weights: Bools) -> NDArray[np.float64]:
    """Mean self-confidence of the given class, (L, 2); 1 where nobody is given it."""
    present, absent = given & weights, ~given & weights
    sums = (
        np.where(absent, 1 - probabilities, 0).sum(axis=0, dtype=np.float64),
        np.where(present, probabilities, 0).sum(axis=0, dtype=np.float64),
    )
    counts = absent.sum(axis=0), present.sum(axis=0)
    means = [np.where(n > 0, total / np.maximum(n, 1), 1.0)
             for total, n in zip(sums, counts, strict=True)]  # fmt: skip
    return np.stack(means, axis=1)


def _confident(probabilities: Floats, thresholds: NDArray[np.float64]) -> tuple[Bools, Bools]:
    present = probabilities >= thresholds[:, 1]
    absent = 1 - probabilities >= thresholds[:, 0]
    likelier = probabilities >= 0.5
    return present & (~absent | likelier), absent & (~present | ~likelier)
