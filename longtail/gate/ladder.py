"""Where the gain comes from: from the plainest arm to the candidate, one step after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from longtail.evaluation import ArmEvaluation, TestSet
from longtail.metrics import Floats, divide
from longtail.significance import drawn_weights

LADDER_DRAWS = 1000
_MICRO, _MACRO, _COVERAGE = range(3)
_BLOCK_BYTES = 1 << 28  # of one block of draws: 256 MiB, whatever the texts and labels


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(_Record):
    """A measure on the test set with its interval over other test sets like it; in [-1, 1]."""

    value: float
    low: float
    high: float


class LadderStep(_Record):
    """One step of the ladder.

    Attributes:
        key: short name for programs.
        name: for people: what this step adds to the one before.
        micro_f1: over all labels and texts.
        macro_f1: mean over the labels.
        label_coverage: share of the labels with test positives that are recognised.
        gain_micro_f1: over the step before; None for the first.
    """

    key: str = Field(min_length=1)
    name: str = Field(min_length=1)
    micro_f1: Estimate
    macro_f1: Estimate
    label_coverage: Estimate
    gain_micro_f1: Estimate | None


def climb(
    test: TestSet,
    steps: Sequence[tuple[str, str, ArmEvaluation]],
    *,
    draws: int,
    seed: int,
    confidence: float,
) -> tuple[LadderStep, ...]:
    """Measure every step and its gain over the one before, all on the same bootstrap draws.

    The intervals of micro-F1 are the percentiles of the draws. A draw lacks some of the texts, so
    that a label which few texts carry is missed more often than on the test set: drawn macro-F1
    and coverage lie below the value. Their percentiles are therefore moved by the distance of the
    draws' mean from the value, so that the interval says how far other texts would move it.

    Args:
        test: the texts with their units, which are resampled.
        steps: (key, name, evaluation) from the plainest arm to the candidate.
        draws: number of bootstrap draws.
        seed: of the draws.
        confidence: of the two-sided intervals, in (0, 1).

    Raises:
        ValueError: a step cannot be measured on this test set, or a number is out of range.
    """
    if not steps:
        return ()
    arms = [_measurable(test, name, arm) for _, name, arm in steps]
    if draws < 1 or not 0.0 < confidence < 1.0:
        raise ValueError(f"{draws} draws at a confidence of {confidence:g}")
    values = np.stack([_value(arm) for arm in arms])
    drawn = _drawn(test, arms, draws, seed)
    tail = (1.0 - confidence) / 2
    made = []
    for at, (key, name, _) in enumerate(steps):
        micro, macro, coverage = (
            _estimate(values[at, measure], drawn[:, at, measure], tail, moved=measure != _MICRO)
            for measure in (_MICRO, _MACRO, _COVERAGE)
        )
        made.append(
            LadderStep(
                key=key, name=name, micro_f1=micro, macro_f1=macro, label_coverage=coverage,
                gain_micro_f1=_gain(values[:, _MICRO], drawn[:, :, _MICRO], at, tail),
            )
        )  # fmt: skip
    return tuple(made)


def _measurable(test: TestSet, name: str, arm: ArmEvaluation) -> ArmEvaluation:
    if arm.test_fingerprint != test.fingerprint or arm.labels != test.labels:
        raise ValueError(f"{name} was scored on other test rows or labels")
    if not arm.finite:
        raise ValueError(f"{name} has a probability or threshold that is not a number")
    return arm


def _value(arm: ArmEvaluation) -> Floats:
    hits, false, missed = arm.label_counts.T.astype(np.float64)
    return _measures(hits, hits + false, hits + missed)


def _measures(hits: Floats, given: Floats, positives: Floats) -> Floats:
    """Micro-F1, macro-F1 and coverage from counts of shape (..., labels); shape (..., 3)."""
    both = given + positives
    micro = divide(2 * hits.sum(axis=-1), both.sum(axis=-1))
    macro = divide(2 * hits, both).mean(axis=-1)
    coverage = divide(
        np.count_nonzero(hits, axis=-1).astype(np.float64),
        np.count_nonzero(positives, axis=-1).astype(np.float64),
    )
    return np.stack([micro, macro, coverage], axis=-1)


def _drawn(test: TestSet, arms: Sequence[ArmEvaluation], draws: int, seed: int) -> Floats:
    """The measures of every arm in every draw, shape (draws, arms, 3)."""
    member = _member(test.units)
    truth = test.positives.astype(np.float64)
    decided = [arm.decided.astype(np.float64) for arm in arms]
    positives = member @ truth
    sides = [(member @ given.multiply(truth).tocsr(), member @ given) for given in decided]
    units, labels = positives.shape
    # A draw's weights exist as picks, counts, floats and transposed; its sums in several steps.
    rows = max(1, _BLOCK_BYTES // (8 * (4 * units + 8 * labels)))
    found = np.empty((draws, len(arms), 3))
    start = 0
    for weights in drawn_weights(units, draws, seed, chunk_cells=rows * units):
        block = slice(start, start + len(weights))
        start = block.stop
        drawn_positives = weights @ positives
        for at, (hits, given) in enumerate(sides):
            found[block, at] = _measures(weights @ hits, weights @ given, drawn_positives)
    return found


def _member(units: NDArray[np.int64]) -> sp.csr_array:
    """Which texts each unit has, shape (units, texts)."""
    if not len(units):
        raise ValueError("the test set has no texts")
    _, row = np.unique(units, return_inverse=True)
    entries = (np.ones(len(row)), (row, np.arange(len(row))))
    return sp.csr_array(entries, shape=(int(row.max()) + 1, len(row)))


def _gain(values: Floats, drawn: Floats, at: int, tail: float) -> Estimate | None:
    if at == 0:
        return None
    return _estimate(values[at] - values[at - 1], drawn[:, at] - drawn[:, at - 1], tail)


def _estimate(value: float, drawn: Floats, tail: float, *, moved: bool = False) -> Estimate:
    shift = value - float(drawn.mean()) if moved else 0.0
    low = float(np.quantile(drawn, tail, method="lower")) + shift
    high = float(np.quantile(drawn, 1.0 - tail, method="higher")) + shift
    if moved:  # a share stays one, and rounding must not push the interval off its value
        low, high = min(max(0.0, low), value), max(min(1.0, high), value)
    return Estimate(value=float(value), low=low, high=high)
