"""Rows added to a divided whole: what stands stays, and the whole stays as even as it can be."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.errors import DataError
from longtail.splitting import split_sizes, stratify

SIZES = (0.6, 0.2, 0.2)
TRAIN, VALIDATION, TEST = 0, 1, 2


def names(n):
    return [f"text-{row}" for row in range(n)]


@st.composite
def additions(draw):
    """Labels, units, and where the fixed ones of them stand."""
    n = draw(st.integers(6, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y = generator.random((n, draw(st.integers(0, 6)))) < 0.3
    units = generator.integers(0, n, n) if draw(st.booleans()) else np.arange(n)
    side_of_unit = generator.integers(-1, 3, n).astype(np.int8)
    side_of_unit[units[:3]] = [0, 1, 2]
    return sp.csr_array(y), units, side_of_unit[units], draw(st.integers(0, 99))


@given(additions(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_what_stands_stays_units_stay_whole_and_the_order_of_rows_does_not_matter(problem, random):
    y, units, fixed, seed = problem
    n, order = y.shape[0], list(range(y.shape[0]))
    result = stratify(y, SIZES, ids=names(n), units=units, seed=seed, fixed=fixed)
    stands = fixed >= 0
    assert np.array_equal(result.assignment[stands], fixed[stands])
    assert set(result.assignment.tolist()) <= {TRAIN, VALIDATION, TEST}
    for unit in np.unique(units[~stands]):
        assert len(set(result.assignment[units == unit].tolist())) == 1
    assert result.got == tuple(np.bincount(result.assignment, minlength=3).tolist())

    random.shuffle(order)
    shuffled = stratify(
        sp.csr_array(y[order]), SIZES, ids=[names(n)[row] for row in order],
        units=(1000 - 7 * units)[order], seed=seed, fixed=fixed[order],
    )  # fmt: skip
    assert np.array_equal(shuffled.assignment, result.assignment[order])


@given(additions())
@settings(max_examples=100, deadline=None)
def test_sizes_come_as_near_to_their_shares_as_the_new_rows_allow(problem):
    y, _, fixed, seed = problem
    result = stratify(y, SIZES, ids=names(y.shape[0]), seed=seed, fixed=fixed)
    stood = np.bincount(fixed[fixed >= 0], minlength=3)
    asked = split_sizes(y.shape[0], SIZES)
    over = np.maximum(stood - asked, 0)
    for split in range(3):
        assert result.got[split] - asked[split] <= max(over[split], 1)
    # What a split lacks is no more than what others have had too much of before.
    assert max(np.array(asked) - result.got) <= over.sum() + 1


def week_by_week(y, weeks):
    """Sides after rows were added in weeks of their own; ``weeks`` has one number per row."""
    side = np.full(y.shape[0], -1, dtype=np.int8)
    for week in np.unique(weeks):
        rows = np.flatnonzero(weeks <= week)
        before = side[rows]
        side[rows] = stratify(
            sp.csr_array(y[rows]), SIZES, ids=[f"text-{row}" for row in rows], fixed=before
        ).assignment
        assert np.array_equal(side[rows][before >= 0], before[before >= 0])
    return side


def test_deviations_of_earlier_weeks_are_made_good():
    y = sp.csr_array(np.ones((100, 1), dtype=bool))
    fixed = np.full(100, -1, dtype=np.int8)
    fixed[:30] = TRAIN  # a first week that went to train as a whole
    fixed[30:33] = [VALIDATION, VALIDATION, TEST]
    result = stratify(y, SIZES, ids=names(100), fixed=fixed)
    assert np.abs(np.array(result.got) - (60, 20, 20)).max() <= 1


def test_a_label_that_appears_goes_to_train_then_test_then_validation():
    """One row a week has the new label; nothing is moved for it."""
    y = np.zeros((130, 2), dtype=bool)
    y[:, 0] = True
    late = [101, 111, 121]
    y[late, 1] = True
    weeks = np.maximum(np.arange(130) - 99, 0) // 10
    side = week_by_week(sp.csr_array(y), weeks)
    assert side[late].tolist() == [TRAIN, TEST, VALIDATION]


def test_a_label_of_many_new_rows_stands_everywhere_at_once():
    y = np.zeros((110, 2), dtype=bool)
    y[:, 0] = True
    y[100:, 1] = True
    side = week_by_week(sp.csr_array(y), np.arange(110) // 100)
    assert np.abs(np.bincount(side[100:], minlength=3) - (6, 2, 2)).max() <= 1


def test_many_single_rows_end_where_one_split_of_all_would():
    generator = np.random.default_rng(4)
    y = sp.csr_array(generator.random((260, 12)) < 0.15)
    weeks = np.maximum(np.arange(260) - 199, 0)  # 200 rows, then one a week
    side = week_by_week(y, weeks)
    counts = np.array([y[side == split].sum(axis=0) for split in range(3)])
    off = np.abs(counts - np.array(SIZES)[:, None] * counts.sum(axis=0))
    assert off.max() <= 2.5
    assert off.mean() <= 1.0


def test_no_free_row_changes_nothing():
    fixed = np.array([0, 0, 1, 2], dtype=np.int8)
    y = sp.csr_array(np.eye(4, dtype=bool))
    result = stratify(y, SIZES, ids=pa.array(names(4)), fixed=fixed)
    assert result.assignment.tolist() == fixed.tolist()
    assert [(one.label, one.splits) for one in result.infeasible][:1] == [(0, (1, 2))]


def test_the_reference_needs_three_free_units():
    y = sp.csr_array(np.ones((5, 1), dtype=bool))
    fixed = np.array([0, 1, 2, -1, -1], dtype=np.int8)
    with pytest.raises(DataError, match=r"2 indivisible unit\(s\)"):
        stratify(y, SIZES, ids=names(5), fixed=fixed, method="skmultilearn")


def test_a_unit_cannot_be_half_fixed():
    y = sp.csr_array(np.ones((4, 1), dtype=bool))
    units, fixed = np.array([0, 0, 1, 2]), np.array([0, -1, 1, 2], dtype=np.int8)
    with pytest.raises(ValueError, match="must follow first"):
        stratify(y, SIZES, ids=names(4), units=units, fixed=fixed)


def test_a_split_that_does_not_exist_is_refused():
    y = sp.csr_array(np.ones((3, 1), dtype=bool))
    with pytest.raises(ValueError, match="fixed must be a split of 3"):
        stratify(y, SIZES, ids=names(3), fixed=np.array([0, 3, -1], dtype=np.int8))
