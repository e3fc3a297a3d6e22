"""The fingerprint sees content and nothing else."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtail.annotations.schema import ANNOTATIONS
from longtail.content import canonical, content_fingerprint, same_rows

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


@given(ROWS, st.randoms(), st.integers(1, 4))
def test_order_and_chunks_do_not_matter(rows, random, size):
    shuffled = table(random.sample(rows, len(rows)))
    chunks = [shuffled.slice(start, size) for start in range(0, len(rows), size)]
    assert content_fingerprint(pa.concat_tables(chunks)) == content_fingerprint(table(rows))


@given(ROWS, ROWS)
def test_equal_fingerprints_are_equal_content(one, other):
    equal = table(one).sort_by("id").to_pylist() == table(other).sort_by("id").to_pylist()
    assert (content_fingerprint(table(one)) == content_fingerprint(table(other))) == equal


@pytest.mark.parametrize(
    "change",
    [{"id": "z"}, {"text": None}, {"text": ""}, {"labels": None}, {"labels": ["x"]},
     {"labels": ["x", "y", ""]}, {"labels": ["xy"]}, {"group": "g"}, {"annotator": "g"},
     {"annotated_at": None}, {"split": "test"}, {"source": ""}],
)  # fmt: skip
def test_every_cell_counts(change):
    base = {"id": "a", "text": "t", "labels": ["x", "y"], "annotated_at": WHEN}
    before = content_fingerprint(table([base]))
    assert content_fingerprint(table([{**base, **change}])) != before


def test_a_fingerprint_is_the_same_tomorrow():
    rows = [{"id": "b", "text": "é", "labels": ["x"]}, {"id": "a", "text": "t", "labels": []}]
    expected = "141eb21e22b3f586e75245b1d98dba47d3abe411c4b780a0a2b374ebd27358d4"
    assert content_fingerprint(table(rows)) == expected


def test_same_rows_treats_null_as_equal_to_null():
    rows = [{"id": "a", "text": "t", "labels": None}, {"id": "b", "text": "t", "labels": ["x"]}]
    other = [rows[0], {**rows[1], "labels": ["x", "y"]}]
    assert same_rows(table(rows), table(other)).tolist() == [True, False]
    assert same_rows(table(rows), table([{**rows[0], "labels": []}, rows[1]])).tolist() == [0, 1]


@pytest.mark.parametrize("ids", [["a", "a"], ["a", None]])
def test_ids_must_be_present_and_unique(ids):
    with pytest.raises(ValueError, match="unique"):
        canonical(table([{"id": name, "text": "t", "labels": []} for name in ids]))
