"""Ids that only count the rows."""

from __future__ import annotations

import pytest

from longtail.annotations.row_numbers import RowNumbers


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["0", "1", "2"], True),
        ([1, 2, 3, 4], True),
        (["1", "2", "3", "3"], False),
        (["1", "2", "4"], False),
        (["2", "3", "4"], False),
        (["1", "3", "2"], False),
        (["0", None, "2"], False),
        (["01", "02", "03"], False),
        (["a1", "a2", "a3"], False),
        (["1", "2"], False),
        ([], False),
    ],
)
def test_only_a_count_without_gaps_is_one(ids, expected):
    watch = RowNumbers()
    watch.add(ids)
    assert watch.likely is expected


def test_portions_are_one_count():
    watch = RowNumbers()
    watch.add(["1", "2"])
    watch.add(["3", "4"])
    assert watch.likely
    watch.add(["6"])
    watch.add(["5", "6"])
    assert not watch.likely


def test_nothing_is_looked_at_once_it_is_decided():
    def ids():
        yield "x"
        raise AssertionError("asked for more")

    watch = RowNumbers()
    watch.add(ids())
    assert not watch.likely
