"""Label lists under other names, against the same thing done row by row."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.label_view import view_labels

NAMES = "abcdef"
LISTS = st.lists(
    st.one_of(st.none(), st.lists(st.sampled_from(NAMES), max_size=4)), min_size=1, max_size=12
)


def column(rows, cut=None):
    parts = [rows] if cut is None else [rows[:cut], rows[cut:]]
    return pa.chunked_array(
        [pa.array(part, pa.list_(pa.string())) for part in parts], pa.list_(pa.string())
    )


def view(rows, *, canonical=(), ancestors=(), retired=(), cut=None):
    found, counts = view_labels(
        column(rows, cut),
        canonical=dict(canonical),
        ancestors=dict(ancestors),
        retired=set(retired),
    )
    return found.to_pylist(), counts


def by_hand(row, canonical, ancestors, retired):
    if row is None:
        return None
    own = {canonical.get(name, name) for name in row}
    return sorted(own.union(*(ancestors.get(name, ()) for name in own)) - retired)


def test_an_alias_becomes_the_label_once():
    rows, counts = view([["old", "new"], ["old"], ["x"]], canonical={"old": "new"})
    assert rows == [["new"], ["new"], ["x"]]
    assert counts == {"renamed": {"old": 2}, "retired": {}, "added": {}, "emptied": 0}


def test_a_retired_label_drops_out_and_its_text_stays():
    rows, counts = view([["a", "b"], ["a"], None, []], retired=["a"])
    assert rows == [["b"], [], None, []]
    assert counts["retired"] == {"a": 2}
    assert counts["emptied"] == 1


def test_parents_are_added_even_by_a_label_that_then_drops_out():
    rows, counts = view(
        [["corn"], ["corn", "grain"], ["x"]],
        ancestors={"corn": ["crop", "grain"]}, retired=["corn", "crop"],
    )  # fmt: skip
    assert rows == [["grain"], ["grain"], ["x"]]
    assert counts["added"] == {"grain": 1}
    assert counts["retired"] == {"corn": 2}
    assert counts["emptied"] == 0


def test_an_alias_of_a_retired_label_is_retired_with_it():
    rows, counts = view([["old"]], canonical={"old": "new"}, retired=["new"])
    assert rows == [[]]
    assert (counts["renamed"], counts["retired"]) == ({"old": 1}, {"new": 1})


def test_where_nothing_changes_the_lists_are_those_that_were_given():
    given_lists = column([["b", "a"], None])
    found, _ = view_labels(given_lists, canonical={"c": "d"}, ancestors={"c": ["a"]}, retired=["e"])
    assert found is given_lists


@pytest.mark.parametrize("rows", [[], [None], [[]]])
def test_lists_without_a_label_are_fine(rows):
    assert view(rows, canonical={"a": "b"}, retired=["b"])[0] == rows


@given(
    rows=LISTS,
    canonical=st.dictionaries(st.sampled_from("abc"), st.sampled_from("def"), max_size=3),
    ancestors=st.dictionaries(
        st.sampled_from("def"), st.lists(st.sampled_from("xyz"), min_size=1, unique=True)
    ),
    retired=st.sets(st.sampled_from("defxyz"), max_size=3),
    cut=st.integers(0, 12),
)
@settings(max_examples=150, deadline=None)
def test_it_is_the_same_as_row_by_row(rows, canonical, ancestors, retired, cut):
    found, counts = view(
        rows, canonical=canonical, ancestors=ancestors, retired=retired, cut=min(cut, len(rows))
    )
    expected = [by_hand(row, canonical, ancestors, retired) for row in rows]
    assert [row if row is None else sorted(set(row)) for row in found] == expected
    emptied = sum(bool(old) and not new for old, new in zip(rows, expected, strict=True))
    assert counts["emptied"] == emptied
    own = [{canonical.get(name, name) for name in row or ()} for row in rows]
    for name in "defxyz":
        assert counts["retired"].get(name, 0) == (
            sum(name in row for row in own) if name in retired else 0
        )
        gains = sum(name in (new or ()) and name not in row
                    for new, row in zip(expected, own, strict=True))  # fmt: skip
        assert counts["added"].get(name, 0) == gains
