"""Unknown is not absent: only a label that could not be given yet leaves a cell unknown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.known import known_cells, known_texts, stacked

START = datetime(2026, 3, 1, tzinfo=UTC)
MOMENTS = st.one_of(st.none(), st.integers(-3, 3).map(lambda days: START + timedelta(days=days)))


def dates(*values):
    return pa.chunked_array([pa.array(values, pa.timestamp("us", tz="UTC"))])


def matrix(*rows):
    return sp.csr_array(np.array(rows, dtype=bool))


def test_a_text_from_before_the_label_is_unknown_and_one_from_its_first_moment_is_known():
    known = known_cells(
        dates(START - timedelta(microseconds=1), START, START + timedelta(days=9)),
        [None, START],
        matrix([0, 0], [0, 0], [0, 0]),
    )
    np.testing.assert_array_equal(known, [[True, False], [True, True], [True, True]])


def test_a_label_that_a_text_has_is_known_whatever_the_dates_say():
    known = known_cells(
        dates(START - timedelta(days=1), None), [START, START], matrix([1, 0], [0, 1])
    )
    np.testing.assert_array_equal(known, [[True, False], [False, True]])


def test_without_a_date_nothing_is_known_of_labels_that_began():
    known = known_cells(dates(None), [START, None], matrix([0, 0]))
    np.testing.assert_array_equal(known, [[False, True]])


@pytest.mark.parametrize("since", [[None, None], [START, None]])
def test_where_all_is_known_there_is_no_mask(since):
    assert known_cells(dates(START, START), since, matrix([0, 0], [0, 1])) is None


def test_dates_of_another_resolution_are_compared_as_moments():
    seconds = pa.chunked_array([pa.array([START, None], pa.timestamp("s", tz="UTC"))])
    known = known_cells(seconds, [START], matrix([0], [0]))
    np.testing.assert_array_equal(known, [[True], [False]])


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 dates and 1 labels do not fit y of shape"):
        known_cells(dates(START, START), [START], matrix([0, 0]))


@given(
    moments=st.lists(MOMENTS, max_size=12),
    since=st.lists(MOMENTS, min_size=1, max_size=5),
    seed=st.integers(0, 9),
)
@settings(max_examples=80, deadline=None)
def test_the_counts_are_those_of_the_cells(moments, since, seed):
    shape = (len(moments), len(since))
    y = sp.csr_array(np.random.default_rng(seed).random(shape) < 0.4)
    cells = known_cells(dates(*moments), since, y)
    every = np.ones(shape, dtype=bool) if cells is None else cells
    np.testing.assert_array_equal(known_texts(dates(*moments), since, y), every.sum(axis=0))


def test_sets_of_texts_are_stacked():
    some = np.array([[True, False]])
    assert stacked([(1, 2), (2, 2)], [None, None]) is None
    np.testing.assert_array_equal(
        stacked([(1, 2), (2, 2)], [some, None]), [[True, False], [True, True], [True, True]]
    )
