"""The fingerprint sees content and nothing else."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtail.annotations.moments import UNDATED, moments_of
from longtail.annotations.schema import ANNOTATIONS
from longtail.content import (
    annotator_codes,
    canonical,
    content_fingerprint,
    row_digests,
)

WHEN = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
TEXTS = st.none() | st.text("ab\x00é", max_size=3)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.text("abc", min_size=1, max_size=3),
            "text": TEXTS,
            "labels": st.none() | st.lists(st.text("xy", max_size=2), max_size=3),
            "group": TEXTS,
            "annotated_at": st.none() | st.just(WHEN),
        }
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda row: row["id"],
)


def table(rows):
    return pa.Table.from_pylist(rows, schema=ANNOTATIONS)


def fingerprint(rows):
    return content_fingerprint(row_digests(rows))


@given(ROWS, st.randoms(), st.integers(1, 4))
def test_order_and_chunks_do_not_matter(rows, random, size):
    shuffled = table(random.sample(rows, len(rows)))
    chunks = [shuffled.slice(start, size) for start in range(0, len(rows), size)]
    assert fingerprint(pa.concat_tables(chunks)) == fingerprint(table(rows))


@given(ROWS, ROWS)
def test_equal_fingerprints_are_equal_content(one, other):
    equal = table(one).sort_by("id").to_pylist() == table(other).sort_by("id").to_pylist()
    assert (fingerprint(table(one)) == fingerprint(table(other))) == equal


@pytest.mark.parametrize(
    "change",
    [{"id": "z"}, {"text": None}, {"text": ""}, {"labels": None}, {"labels": ["x"]},
     {"labels": ["x", "y", ""]}, {"labels": ["xy"]}, {"group": "g"}, {"annotator": "g"},
     {"annotated_at": None}, {"split": "test"}, {"source": ""}],
)  # fmt: skip
def test_every_cell_counts(change):
    base = {"id": "a", "text": "t", "labels": ["x", "y"], "annotated_at": WHEN}
    before = fingerprint(table([base]))
    assert fingerprint(table([{**base, **change}])) != before


def test_a_fingerprint_is_the_same_tomorrow():
    rows = [{"id": "b", "text": "é", "labels": ["x"]}, {"id": "a", "text": "t", "labels": []}]
    expected = "1b1613b34099ea69445ed530c9559bcde3b7e9e08c237e50bab7f1a0127c4a38"
    assert fingerprint(table(rows)) == expected


def test_rows_differ_wherever_their_bytes_could_be_cut_otherwise():
    cells = [
        {"id": "ab", "text": "c"}, {"id": "a", "text": "bc"}, {"id": "a", "text": "b"},
        {"id": "a", "text": "b", "labels": ["xy", "z"]},
        {"id": "a", "text": "b", "labels": ["x", "yz"]},
        {"id": "a", "text": "b", "labels": []}, {"id": "a", "text": "b", "labels": [""]},
        {"id": "a", "text": "b", "group": "g"}, {"id": "a", "text": "b", "annotator": "g"},
    ]  # fmt: skip
    assert len(np.unique(row_digests(table(cells)), axis=0)) == len(cells)


@given(ROWS)
def test_a_slice_has_the_digests_of_its_rows(rows):
    whole = table(rows)
    assert row_digests(whole)[1:].tolist() == row_digests(whole.slice(1)).tolist()


def test_canonical_labels_stand_once_and_sorted_and_rows_where_they_were():
    rows = [{"id": "b", "text": "t", "labels": ["y", "x", "y"]}, {"id": "a", "text": "t"},
            {"id": "c", "text": "t", "labels": []}]  # fmt: skip
    done = canonical(table(rows).append_column("position", pa.array([1, 2, 3])))
    assert done.schema == ANNOTATIONS
    assert done.select(["id", "labels"]).to_pylist() == [
        {"id": "b", "labels": ["x", "y"]}, {"id": "a", "labels": None}, {"id": "c", "labels": []}
    ]  # fmt: skip


def test_an_id_must_be_present():
    with pytest.raises(ValueError, match="id is null"):
        canonical(table([{"id": None, "text": "t", "labels": []}]))


def test_no_annotator_is_one_of_its_own():
    column = pa.chunked_array([["a", None], ["", "a"]], pa.string())
    codes = annotator_codes(column).tolist()
    assert codes[0] == codes[3]
    assert codes[1] == 0
    assert len(set(codes)) == 3


def test_moments_are_numbers():
    found = moments_of(pa.chunked_array([[WHEN, None]], pa.timestamp("us", tz="UTC")))
    assert found.tolist() == [int(WHEN.timestamp() * 1e6), UNDATED]
