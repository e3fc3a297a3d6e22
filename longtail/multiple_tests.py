"""Many tests at once: tails of sums of counts, and which of many p-values are findings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincc, ndtr

Floats = NDArray[np.float64]
_SYMMETRIC = 1e-4


def benjamini_hochberg(p: Floats) -> Floats:
    """The false discovery rate at which each test is just a finding, in [0, 1].

    Y. Benjamini and Y. Hochberg, Controlling the False Discovery Rate, 1995.

    Args:
        p: p-values, shape (n,).
    """
    if not len(p):
        return p
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.minimum(q, 1.0)


def upper_tail(z: Floats, skewness: Floats) -> Floats:
    """P(Z ≥ z) of the Pearson type III distribution with mean 0 and variance 1.

    The normal tail of a sum of rare events is too thin: at 5 expected and 15 found it says
    1 in 100,000 where the truth is 1 in 5,000. The third moment mends that.

    Args:
        z: standardised values, any shape.
        skewness: third standardised moment, of the same shape; near 0 is the normal distribution.
    """
    mirrored = skewness < 0
    flat = np.abs(skewness) < _SYMMETRIC
    size = np.where(flat, 1.0, np.abs(skewness))
    shape = 4.0 / size**2
    at = np.maximum(shape + np.where(mirrored, -z, z) * 2.0 / size, 0.0)
    skewed = np.where(mirrored, gammainc(shape, at), gammaincc(shape, at))
    tail: Floats = np.where(flat, ndtr(-z), skewed)
    return tail


def two_sided(found: Floats, mean: Floats, variance: Floats, third: Floats) -> Floats:
    """Two-sided p-values of whole numbers, twice the smaller tail.

    Args:
        found: sums of counts, any shape.
        mean: their expectation.
        variance: their variance, above 0.
        third: their third central moment.
    """
    deviation = np.sqrt(variance)
    skewness = third / deviation**3
    over = upper_tail((found - 0.5 - mean) / deviation, skewness)
    under = upper_tail((mean - found - 0.5) / deviation, -skewness)
    return np.minimum(1.0, 2.0 * np.minimum(over, under))
