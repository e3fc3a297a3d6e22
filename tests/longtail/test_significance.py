import time
import tracemalloc

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from longtail.metrics import f1
from longtail.significance import (
    gain_of,
    loss_p_value,
    paired_bootstrap,
    resample,
    sign_test,
    sum_by_unit,
)


def arm(rng, units, quality):
    """Counts per unit of an arm that finds each of three positives with the given chance."""
    hits = rng.binomial(3, quality, units)
    return np.stack([hits, rng.binomial(2, 1 - quality, units), 3 - hits], axis=1)


def test_sum_by_unit_adds_texts_of_one_unit():
    counts = np.arange(12).reshape(4, 3)
    found = sum_by_unit(counts, np.array([7, 2, 7, 9]))
    assert found.tolist() == [[3, 4, 5], [6, 8, 10], [9, 10, 11]]
    stacked = np.stack([counts, 10 * counts], axis=1)
    assert sum_by_unit(stacked, np.array([0, 0, 0, 0])).shape == (1, 2, 3)


def test_resample_equals_drawing_one_by_one():
    counts = np.random.default_rng(1).integers(0, 9, (5, 2))
    generator = np.random.Generator(np.random.PCG64(42))
    expected = [counts[generator.integers(0, 5, 5)].sum(axis=0) for _ in range(20)]
    np.testing.assert_array_equal(resample(counts, 20, 42), np.array(expected))


@pytest.mark.parametrize("cells", [1, 7, 100, 1 << 20])
def test_resample_does_not_depend_on_the_memory_it_may_use(cells):
    counts = np.random.default_rng(0).integers(0, 9, (11, 3))
    np.testing.assert_array_equal(
        resample(counts, 50, 5, chunk_cells=cells), resample(counts, 50, 5)
    )


def test_resample_depends_on_the_seed():
    counts = np.random.default_rng(0).integers(0, 9, (11, 3))
    assert not np.array_equal(resample(counts, 50, 5), resample(counts, 50, 6))


def test_all_columns_share_the_draws():
    counts = np.random.default_rng(0).integers(0, 9, (30, 1))
    sums = resample(np.concatenate([counts, 2 * counts], axis=1), 100, 3)
    np.testing.assert_array_equal(2 * sums[:, 0], sums[:, 1])


def test_no_units_is_an_error():
    with pytest.raises(ValueError, match="no units"):
        resample(np.zeros((0, 3), dtype=np.int64), 100, 0)


def test_unpaired_counts_are_an_error():
    with pytest.raises(ValueError, match="not paired"):
        paired_bootstrap(np.zeros((3, 3), int), np.zeros((4, 3), int), 100, 0, 0.95)


def test_an_arm_against_itself_gains_exactly_nothing():
    counts = arm(np.random.default_rng(0), 200, 0.5)
    found = paired_bootstrap(counts, counts, 500, 1, 0.95)
    assert (found.gain, found.lower, found.interval) == (0.0, 0.0, (0.0, 0.0))


def test_the_gain_is_that_of_the_data_and_lies_in_its_interval():
    rng = np.random.default_rng(0)
    a, b = arm(rng, 400, 0.7), arm(rng, 400, 0.5)
    found = paired_bootstrap(a, b, 2000, 1, 0.95)
    assert found.value_a == pytest.approx(float(f1(a.sum(axis=0))))
    assert found.gain == pytest.approx(found.value_a - found.value_b)
    assert 0 < found.interval[0] <= found.lower < found.gain < found.interval[1]


def test_exchanging_the_arms_mirrors_the_interval():
    rng = np.random.default_rng(0)
    a, b = arm(rng, 100, 0.7), arm(rng, 100, 0.6)
    one, two = (paired_bootstrap(*pair, 999, 1, 0.9) for pair in ((a, b), (b, a)))
    assert one.gain == -two.gain
    assert one.interval[0] == pytest.approx(-two.interval[1], abs=2e-3)


def test_higher_confidence_gives_a_lower_bound():
    rng = np.random.default_rng(0)
    a, b = arm(rng, 100, 0.7), arm(rng, 100, 0.6)
    bounds = [paired_bootstrap(a, b, 1000, 1, c).lower for c in (0.5, 0.8, 0.95, 0.99)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1]


def test_texts_bound_into_few_units_make_a_wider_interval():
    rng = np.random.default_rng(0)
    sources, copies = 40, 25
    a, b = (np.repeat(arm(rng, sources, q), copies, axis=0) for q in (0.62, 0.6))
    units = np.repeat(np.arange(sources), copies)
    naive = paired_bootstrap(a, b, 1000, 1, 0.95)
    honest = paired_bootstrap(sum_by_unit(a, units), sum_by_unit(b, units), 1000, 1, 0.95)
    widths = [i.interval[1] - i.interval[0] for i in (naive, honest)]
    assert widths[1] > 3 * widths[0]


def test_false_alarms_are_as_rare_as_the_confidence_says():
    """Two equally good arms: the lower bound is above 0 in about 5 % of the data sets."""
    alarms = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        a, b = arm(rng, 150, 0.6), arm(rng, 150, 0.6)
        alarms += paired_bootstrap(a, b, 300, seed, 0.95).lower > 0
    assert 0.02 < alarms / 400 < 0.09


def gain_with(a, b, deviation, confidence=0.95, draws=300):
    sums = resample(np.concatenate([a, b], axis=1), draws, 1)
    return gain_of(a.sum(axis=0), b.sum(axis=0), sums[:, :3], sums[:, 3:], confidence, deviation)


def test_the_deviation_of_training_adds_as_an_independent_error():
    rng = np.random.default_rng(0)
    a, b = arm(rng, 400, 0.7), arm(rng, 400, 0.6)
    plain, wide = gain_with(a, b, 0.0), gain_with(a, b, 0.02)
    assert plain == paired_bootstrap(a, b, 300, 1, 0.95)
    assert wide.gain == plain.gain
    one, two = norm.ppf(0.95), norm.ppf(0.975)
    assert wide.gain - wide.lower == pytest.approx(
        np.sqrt((plain.gain - plain.lower) ** 2 + (one * 0.02) ** 2)
    )
    for end in (0, 1):
        far = abs(plain.gain - plain.interval[end])
        assert abs(wide.gain - wide.interval[end]) == pytest.approx(np.hypot(far, two * 0.02))


def test_equal_recipes_are_rarely_better_once_the_deviation_is_known():
    """Two trainings differ a little in quality; many texts make that difference certain."""
    deviation, alarms = 0.01, np.zeros(2)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        qualities = rng.normal(0.6, deviation, 2)
        a, b = (arm(rng, 2000, quality) for quality in qualities)
        gains = f1(a.sum(axis=0)) - f1(b.sum(axis=0))
        of_f1 = 1.05 * deviation * np.sqrt(2)  # the slope of F1 in the quality is 1.05 here
        alarms += [gain_with(a, b, d, draws=100).lower > 0 for d in (0.0, of_f1)]
        assert abs(gains) < 0.1
    assert alarms[0] / 200 > 0.15
    assert alarms[1] / 200 < 0.1


def test_ten_thousand_draws_of_six_thousand_units_in_seconds_and_bounded_memory():
    counts = np.random.default_rng(0).integers(0, 5, (6000, 60))
    start = time.perf_counter()
    resample(counts, 10_000, 1)
    assert time.perf_counter() - start < 20.0  # about 1.5 s alone on one core
    tracemalloc.start()
    resample(counts[:, :3], 3000, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6  # the weights of all draws at once would be 144 MB several times over


@pytest.mark.parametrize(
    ("won", "lost", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (5, 0, 2 / 32), (0, 5, 2 / 32), (9, 1, 22 / 1024)],
)
def test_sign_test_is_the_exact_binomial(won, lost, p):
    assert sign_test(won, lost) == pytest.approx(p)


def test_sign_test_matches_scipy():
    for won in range(12):
        for lost in range(12):
            expected = binomtest(won, max(won + lost, 1), 0.5).pvalue if won + lost else 1.0
            assert sign_test(won, lost) == pytest.approx(expected)


@pytest.mark.parametrize(("won", "lost"), [(0, 1), (0, 5), (3, 3), (7, 2), (2, 7), (0, 0)])
def test_losses_have_the_upper_tail_of_the_binomial(won, lost):
    n = won + lost
    expected = binomtest(lost, n, alternative="greater").pvalue if n else 1.0
    assert loss_p_value(won, lost) == pytest.approx(expected)
