import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtail.config import GROUPS, GroupSettings
from longtail.labels import LabelGroups, LabelSpace, group_labels, support

label_lists = st.lists(st.lists(st.text(max_size=4), max_size=5), max_size=12)


@given(label_lists)
def test_encode_and_decode_are_inverse(lists):
    space = LabelSpace.of(lists)
    encoded = space.encode(lists)
    assert encoded.shape == (len(lists), len(space))
    assert space.decode(encoded.toarray()) == [sorted(set(row)) for row in lists]


@given(label_lists, st.randoms())
def test_the_space_does_not_depend_on_the_order_of_the_data(lists, random):
    shuffled = [random.sample(row, len(row)) for row in random.sample(lists, len(lists))]
    assert LabelSpace.of(shuffled) == LabelSpace.of(lists)


@given(label_lists, st.integers(1, 4))
def test_a_column_of_lists_is_encoded_like_the_lists(lists, size):
    parts = [lists[start : start + size] for start in range(0, len(lists), size)]
    column = pa.chunked_array([pa.array(part, pa.list_(pa.string())) for part in parts],
                              pa.list_(pa.string()))  # fmt: skip
    space = LabelSpace.of(lists)
    assert LabelSpace.of(column) == space
    assert (space.encode(column) != space.encode(lists)).nnz == 0
    tail = column.slice(1)
    assert space.decode(space.encode(tail).toarray()) == [sorted(set(row)) for row in lists[1:]]


def test_null_is_a_text_without_labels():
    column = pa.array([["b"], None, ["a", "b"]], pa.list_(pa.string()))
    assert LabelSpace.of(column).encode(column).toarray().tolist() == [[0, 1], [0, 0], [1, 1]]


def test_a_large_column_is_encoded_quickly():
    names = pa.array([f"label {n:04d}" for n in range(1000)])
    values = names.take(pa.array(np.random.default_rng(0).integers(0, 1000, 400_000)))
    column = pa.ListArray.from_arrays(pa.array(np.arange(0, 400_001, 2, dtype=np.int32)), values)
    start = time.process_time()
    encoded = LabelSpace.of(column).encode(column)
    assert time.process_time() - start < 2
    assert encoded.shape == (200_000, 1000)


def test_labels_outside_the_space_are_left_out_and_repeats_count_once():
    space = LabelSpace(("a", "b"))
    encoded = space.encode([["b", "z", "b"], [], ["a", "b"]])
    assert encoded.toarray().tolist() == [[False, True], [False, False], [True, True]]
    assert encoded.dtype == bool
    assert encoded.nnz == 3
    assert support(encoded).tolist() == [1, 2]


def test_support_counts_labels_without_positives_too():
    assert support(LabelSpace(("a", "b", "c")).encode([["b"], ["b"]])).tolist() == [0, 2, 0]
    assert support(LabelSpace(()).encode([[], []])).tolist() == []


def test_index_and_length():
    space = LabelSpace(("a", "b"))
    assert len(space) == 2
    assert space.index == {"a": 0, "b": 1}


def test_cutoffs_are_the_smallest_support_of_medium_and_head():
    groups = group_labels(np.array([0, 9, 10, 49, 50, 99]), GroupSettings(cutoffs=(10, 50)))
    assert groups.of_label == ("TAIL", "TAIL", "MEDIUM", "MEDIUM", "HEAD", "HEAD")
    assert groups.cutoffs == (10, 50)
    assert groups.support == (0, 9, 10, 49, 50, 99)
    assert groups.columns("MEDIUM").tolist() == [2, 3]


def test_quantiles_divide_the_labels_into_thirds():
    groups = group_labels(np.arange(1, 10), GroupSettings())
    assert [groups.of_label.count(name) for name in GROUPS] == [3, 3, 3]
    assert groups.columns("TAIL").tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([1] * 8 + [5, 9], ["TAIL"] * 8 + ["MEDIUM", "HEAD"]),
        ([1] * 5 + [2, 3, 4, 5, 9], ["TAIL"] * 5 + ["MEDIUM"] * 1 + ["HEAD"] * 4),
        ([1] * 8 + [5], ["TAIL"] * 8 + ["HEAD"]),
        ([3, 3, 3], ["HEAD"] * 3),
    ],
)
def test_a_long_tail_of_equal_supports_is_the_tail(counts, expected):
    assert list(group_labels(np.array(counts), GroupSettings()).of_label) == expected


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40))
def test_groups_follow_support_and_never_part_equals(counts):
    groups = group_labels(np.array(counts), GroupSettings())
    rank = {"TAIL": 0, "MEDIUM": 1, "HEAD": 2}
    by_support = {}
    for count, name in zip(counts, groups.of_label, strict=True):
        assert by_support.setdefault(count, name) == name
    ranks = [rank[by_support[count]] for count in sorted(by_support)]
    assert ranks == sorted(ranks)
    columns = np.concatenate([groups.columns(name) for name in GROUPS])
    assert sorted(columns.tolist()) == list(range(len(counts)))


@pytest.mark.parametrize("settings", [GroupSettings(), GroupSettings(cutoffs=(5, 9))])
def test_no_labels_make_empty_groups(settings):
    groups = group_labels(np.array([], dtype=np.int64), settings)
    assert groups.of_label == ()
    assert groups.columns("HEAD").tolist() == []
    assert isinstance(groups, LabelGroups)
