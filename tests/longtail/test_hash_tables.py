"""Hashes are found and compared as the strings themselves would be."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from longtail import hash_tables
from longtail.hash_tables import NOWHERE, number_distinct, places_of, ranges, repeated

# Few values, so that hashes share their first half, or their second, and are not the same.
HALVES = st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1])
HASHES = st.lists(st.tuples(HALVES, HALVES), max_size=30)


def hashes(pairs):
    return np.array(pairs, dtype=np.uint64).reshape(-1, 2)


@given(HASHES, HASHES)
def test_each_hash_is_found_where_it_stands_first(asked, known):
    expected = [known.index(pair) if pair in known else NOWHERE for pair in asked]
    assert places_of(hashes(asked), hashes(known)).tolist() == expected


@given(HASHES)
def test_hashes_that_stand_more_than_once(pairs):
    assert repeated(hashes(pairs)).tolist() == [pairs.count(pair) > 1 for pair in pairs]


@given(HASHES)
def test_distinct_hashes_are_numbered(pairs):
    numbers, n = number_distinct(hashes(pairs))
    assert n == len(set(pairs))
    assert sorted(set(numbers.tolist())) == list(range(n))
    assert len(set(zip(numbers.tolist(), pairs, strict=True))) == n


@given(HASHES, HASHES)
def test_long_arrays_are_searched_in_parts(asked, known):
    before = hash_tables._SORTED_AT_ONCE
    hash_tables._SORTED_AT_ONCE = 3
    try:
        parts = list(ranges(hashes(asked), len(asked)))
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(asked)))
        assert len(parts) > 1 or len(asked) < 3
        highs = [asked[row][0] for part in parts for row in sorted(part, key=lambda at: asked[at])]
        assert highs == sorted(highs)
        expected = [known.index(pair) if pair in known else NOWHERE for pair in asked]
        assert places_of(hashes(asked), hashes(known)).tolist() == expected
        assert repeated(hashes(asked)).tolist() == [asked.count(pair) > 1 for pair in asked]
    finally:
        hash_tables._SORTED_AT_ONCE = before
