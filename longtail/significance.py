"""Whether a difference of two arms is more than chance: paired bootstrap and sign test.

The bootstrap resamples *units*: groups of texts that belong together (one case, one source, near
duplicates), because the texts within one are not independent evidence. All arms and label slices
see the same draws, which is what makes the comparison paired. The reasons are in
docs/decisions/0012-the-gates-bootstrap.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import bdtr, ndtri

from longtail.metrics import Counts, Floats, f1

_CHUNK_CELLS = 1 << 22  # weights held at once: 32 MiB as float64, whatever the draws


@dataclass(frozen=True)
class Gain:
    """How much better arm a is than arm b in F1, with its uncertainty; all in [-1, 1].

    Attributes:
        value_a: F1 of a on the data as they are.
        value_b: F1 of b.
        gain: value_a - value_b.
        lower: one-sided lower bound of the gain at the asked confidence.
        interval: two-sided interval of the gain at the same confidence.
    """

    value_a: float
    value_b: float
    gain: float
    lower: float
    interval: tuple[float, float]


def sum_by_unit(counts: NDArray[np.int64], units: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum rows of one unit; counts has shape (texts, ...), the result (units, ...).

    The units come in ascending order of their number.
    """
    _, row = np.unique(units, return_inverse=True)
    n_units = int(row.max()) + 1 if len(row) else 0
    member = sp.csr_array(
        (np.ones(len(row), np.int64), (row, np.arange(len(row)))), shape=(n_units, len(row))
    )
    flat = member @ counts.reshape(len(counts), -1)
    return np.asarray(flat, dtype=np.int64).reshape((n_units, *counts.shape[1:]))


def resample(
    counts: NDArray[np.int64], draws: int, seed: int, chunk_cells: int = _CHUNK_CELLS
) -> Floats:
    """Bootstrap sums: each draw picks as many units as there are, with replacement.

    Args:
        counts: shape (units, columns); everything that shall share the draws, side by side.
        draws: number of bootstrap draws.
        seed: of ``Generator(PCG64)``; the result does not depend on ``chunk_cells``.
        chunk_cells: weights (draws × units) held in memory at once.

    Returns:
        Shape (draws, columns). Whole numbers, exact in float64, so that the order in which a
        BLAS adds them up cannot change a verdict.

    Raises:
        ValueError: no units.
    """
    units = len(counts)
    if units == 0:
        raise ValueError("no units to resample: the test set is empty")
    columns = counts.astype(np.float64)
    chunks = drawn_weights(units, draws, seed, chunk_cells)
    return np.concatenate([np.empty((0, counts.shape[1])), *(w @ columns for w in chunks)])


def drawn_weights(
    units: int, draws: int, seed: int, chunk_cells: int = _CHUNK_CELLS
) -> Iterator[Floats]:
    """How often each bootstrap draw picks each unit, in chunks of draws, each (some, units)."""
    generator = np.random.Generator(np.random.PCG64(seed))
    step = max(1, chunk_cells // units)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        picked = generator.integers(0, units, size=(rows, units), dtype=np.int64)
        picked += units * np.arange(rows)[:, None]
        weights = np.bincount(picked.reshape(-1), minlength=rows * units)
        yield weights.reshape(rows, units).astype(np.float64)


def gain_of(
    total_a: Counts,
    total_b: Counts,
    sums_a: Floats,
    sums_b: Floats,
    confidence: float,
    deviation: float = 0.0,
) -> Gain:
    """The gain in F1 of arm a over arm b and its percentile bounds.

    The draws say how much other texts would change the gain. ``deviation`` says how much training
    both arms again would: as an independent normal error it widens each bound's distance from the
    gain, d, to sqrt(d² + (z · deviation)²) with z the normal quantile of that bound.

    Args:
        total_a: counts of a on the data as they are, shape (3,).
        total_b: counts of b, shape (3,).
        sums_a: counts of a in each draw, shape (draws, 3).
        sums_b: counts of b in the same draws, shape (draws, 3).
        confidence: of the one-sided bound and of the interval, in (0, 1).
        deviation: standard deviation of the gain over trainings of both arms, at least 0; 0 asks
            about these two models and not about how they were made.
    """
    a, b = float(f1(total_a)), float(f1(total_b))
    gains = f1(sums_a) - f1(sums_b)
    tail = 1.0 - confidence
    lower = float(np.quantile(gains, tail, method="lower"))
    low = float(np.quantile(gains, tail / 2, method="lower"))
    high = float(np.quantile(gains, 1 - tail / 2, method="higher"))
    gain = a - b
    if deviation != 0:  # not > 0: a NaN must make the bounds NaN, which no rule passes
        lower = gain - _widened(gain - lower, tail, deviation)
        low = gain - _widened(gain - low, tail / 2, deviation)
        high = gain + _widened(high - gain, tail / 2, deviation)
    return Gain(a, b, gain, lower, (low, high))


def paired_bootstrap(
    counts_a: Counts, counts_b: Counts, draws: int, seed: int, confidence: float
) -> Gain:
    """Micro-F1 of arm a against arm b by the paired bootstrap over units (percentile method).

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; paired use as in
    Berg-Kirkpatrick et al., EMNLP 2012.

    Args:
        counts_a: (true positives, false positives, false negatives) per unit, shape (units, 3).
        counts_b: the same of arm b, same units in the same order.
        draws: number of bootstrap draws.
        seed: of the draws; equal seeds and unit numbers mean equal draws.
        confidence: in (0, 1).

    Raises:
        ValueError: the shapes differ, or there are no units.
    """
    if counts_a.shape != counts_b.shape:
        raise ValueError(f"counts of shape {counts_a.shape} against {counts_b.shape}: not paired")
    sums = resample(np.concatenate([counts_a, counts_b], axis=1), draws, seed)
    return gain_of(counts_a.sum(axis=0), counts_b.sum(axis=0), sums[:, :3], sums[:, 3:], confidence)


def sign_test(won: int, lost: int) -> float:
    """Two-sided exact sign test: p-value of ``won`` against ``lost`` under even odds.

    Without a single win or loss the p-value is 1.
    """
    if won + lost == 0:
        return 1.0
    # At even odds the binomial is symmetric: both tails weigh what the smaller one does.
    return min(1.0, 2.0 * float(bdtr(min(won, lost), won + lost, 0.5)))


def loss_p_value(won: int, lost: int) -> float:
    """One-sided exact sign test: chance of so many or more losses under even odds.

    Without a single win or loss the p-value is 1.

    >>> loss_p_value(won=0, lost=5)
    0.03125
    """
    return float(bdtr(won, won + lost, 0.5)) if won + lost else 1.0


def _widened(distance: float, tail: float, deviation: float) -> float:
    """A bound's distance from the gain with an independent normal error added."""
    error = float(ndtri(1.0 - tail)) * deviation
    return math.sqrt(distance * distance + error * error)
