"""Tails of counts against exact ones, and the false discovery rate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from longtail.multiple_tests import benjamini_hochberg, two_sided, upper_tail


def test_benjamini_hochberg_is_scipys():
    p = np.random.default_rng(0).random(50) ** 3
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))
    assert len(benjamini_hochberg(np.empty(0))) == 0


def test_the_tail_is_that_of_pearson_iii():
    for skewness in (-1.2, -0.3, 0.0, 0.3, 1.2):
        z = np.linspace(-3, 6, 19)
        found = upper_tail(z, np.full(19, skewness))
        assert found == pytest.approx(stats.pearson3(skewness).sf(z), abs=1e-12)


@pytest.mark.parametrize(
    "law",
    [
        stats.hypergeom(1000, 50, 120), stats.hypergeom(200, 100, 90), stats.binom(24, 0.5),
        stats.poisson(5), stats.hypergeom(300, 280, 200),
    ],
)  # fmt: skip
def test_two_sided_tails_are_the_exact_ones_or_a_little_wider(law):
    mean, variance, skewness = (np.full(300, float(one)) for one in law.stats("mvs"))
    k = np.arange(300.0)
    exact = np.minimum(1.0, 2 * np.minimum(law.sf(k - 1), law.cdf(k)))
    ratio = two_sided(k, mean, variance, skewness * variance**1.5) / np.maximum(exact, 1e-300)
    assert np.abs(ratio[exact > 0.01] - 1).max() < 0.5
    assert ratio[exact > 1e-6].min() > 0.8
    assert ratio[exact > 1e-6].max() < 10
