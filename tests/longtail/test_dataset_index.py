"""Hashes are found and compared as the strings themselves would be."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtail.annotations.schema import ANNOTATIONS
from longtail.dataset_index import (
    NOWHERE,
    RowIndex,
    concat,
    index_of,
    indexed,
    number_distinct,
    places_of,
    read_index,
    repeated,
    write_index,
)

# Few values, so that hashes share their first half, or their second, and are not the same.
HASHES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30)


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


def table(*rows):
    return pa.Table.from_pylist(list(rows), schema=ANNOTATIONS)


ROWS = table(
    {"id": "a", "text": "one", "labels": ["x"], "annotator": "ann"},
    {"id": "b", "text": " ONE", "labels": ["x"]},
    {"id": "c", "text": "two", "labels": None},
)


def test_an_index_is_written_and_read_back(tmp_path):
    whole = index_of(ROWS)
    parts = [whole.take(slice(0, 1)), whole.take(slice(1, 1)), whole.take(np.array([1, 2]))]
    write_index(tmp_path / "index.parquet", parts)
    found = read_index(tmp_path / "index.parquet")
    for name in RowIndex.__dataclass_fields__:
        assert np.array_equal(getattr(found, name), getattr(whole, name))
    assert len(found) == 3


def test_rows_that_say_the_same_share_a_key_and_nothing_else():
    index = index_of(ROWS)
    assert index.keys[0].tolist() == index.keys[1].tolist() != index.keys[2].tolist()
    assert not repeated(index.content).any()
    assert index.annotators.tolist()[1:] == [0, 0] != index.annotators.tolist()[:2]
    assert not index_of(ROWS, keys=False).keys.any()


def test_an_export_is_indexed_with_its_labels():
    index, labels = indexed(ROWS)
    assert (len(index), labels.to_pylist()) == (3, ["x"])
    assert len(concat([])) == 0
    with pytest.raises(ValueError, match="unique"):
        indexed(pa.concat_tables([ROWS, ROWS.slice(2)]))


def test_an_entry_has_sixty_four_bytes():
    index = index_of(ROWS)
    assert sum(getattr(index, name).nbytes for name in RowIndex.__dataclass_fields__) == 3 * 64
