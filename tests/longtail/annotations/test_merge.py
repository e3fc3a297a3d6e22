"""One id twice: who wins, what contradicts, and that no row gets lost."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtail.annotations.merge import merge_annotations, normalise_text
from longtail.annotations.schema import ANNOTATIONS


def row(name="a", labels=("x",), day=None, by=None, text="t", **more):
    when = None if day is None else dt.datetime(2026, 3, day, tzinfo=dt.UTC)
    return {"id": name, "text": text, "labels": list(labels), "annotated_at": when,
            "annotator": by, **more}  # fmt: skip


def merge(*rows, policy="latest"):
    return merge_annotations(pa.Table.from_pylist(list(rows), schema=ANNOTATIONS), policy)


def labels(merged):
    return {found["id"]: found["labels"] for found in merged.table.to_pylist()}


def test_nothing_twice_is_passed_through():
    merged = merge(row("b"), row("a", day=1, by="ann", group="g"))
    assert merged.table.to_pylist()[1] == row("a", day=1, by="ann", group="g", source=None,
                                              split=None)  # fmt: skip
    assert (merged.quarantined, merged.n_merged) == ([], 0)


def test_identical_rows_are_one():
    merged = merge(row(labels=["x", "y"]), row("b"), row(labels=["y", "x"]))
    assert labels(merged) == {"a": ["x", "y"], "b": ["x"]}
    assert merged.n_merged == 1


def test_the_later_of_one_annotator_wins_whatever_the_order():
    for rows in ([row(day=1), row(labels=["y"], day=2)], [row(labels=["y"], day=2), row(day=1)]):
        merged = merge(*rows)
        assert labels(merged) == {"a": ["y"]}
        assert merged.n_merged == 1


@pytest.mark.parametrize(
    ("days", "why"),
    [((None, None), "not all of them are dated"), ((1, None), "not all of them are dated"),
     ((1, 1), "of the same moment")],
)  # fmt: skip
def test_without_a_deciding_date_both_are_quarantined(days, why):
    merged = merge(row(day=days[0]), row("b"), row(labels=["y"], day=days[1]))
    assert labels(merged) == {"b": ["x"]}
    assert [index for index, _ in merged.quarantined] == [0, 2]
    reason = merged.quarantined[0][1][0]
    assert "'a' stands in rows 1, 3 with different labels ('x' / 'y')" in reason
    assert why in reason


def test_dates_decide_which_text_is_current():
    merged = merge(row(day=1, text="old"), row(day=2, text="new"))
    assert merged.table["text"].to_pylist() == ["new"]
    assert "different text" in merge(row(text="old"), row(text="new")).quarantined[0][1][0]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("latest", ["y", "z"]), ("union", ["x", "y", "z"]), ("majority", ["y"])],
)
def test_policies_for_different_annotators(policy, expected):
    rows = [row(labels=["x"], day=1, by="ann"), row(labels=["y"], day=2, by="bob"),
            row(labels=["y", "z"], day=3, by="cem")]  # fmt: skip
    merged = merge(*rows, policy=policy)
    assert labels(merged) == {"a": expected}
    assert merged.n_merged == 2


def test_majority_of_two_is_what_both_say():
    rows = [row(labels=["x", "y"], by="ann"), row(labels=["y", "z"], by="bob")]
    assert labels(merge(*rows, policy="majority")) == {"a": ["y"]}


def test_latest_without_dates_contradicts_and_names_the_other_policies():
    merged = merge(row(by="ann"), row(labels=["y"], by="bob"))
    assert merged.table.num_rows == 0
    assert "by 2 annotators" in merged.quarantined[0][1][0]
    assert "union or majority" in merged.quarantined[0][1][0]


def test_an_annotator_who_contradicts_himself_does_not_silence_the_others():
    rows = [row(by="ann"), row(labels=["y"], by="ann"), row(labels=["z"], by="bob")]
    merged = merge(*rows, policy="union")
    assert labels(merged) == {"a": ["z"]}
    assert [index for index, _ in merged.quarantined] == [0, 1]


def test_annotations_of_an_outdated_text_do_not_vote():
    rows = [row(labels=["x"], day=1, by="ann", text="old"), row(labels=["y"], day=2, by="bob")]
    assert labels(merge(*rows, policy="union")) == {"a": ["y"]}


def test_positions_are_named_where_there_are_any():
    table = pa.Table.from_pylist([row(), row(labels=["y"])], schema=ANNOTATIONS)
    table = table.append_column("position", pa.array([17, 40]))
    assert "rows 17, 40" in merge_annotations(table, "latest").quarantined[0][1][0]


def test_texts_to_be_labelled_merge_too():
    merged = merge({**row(), "labels": None}, {**row(), "labels": None}, policy="union")
    assert merged.table["labels"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("text", "same"), [("  Ａ\tb\n\nC ", "a b c"), ("STRASSE", "strasse"), ("straße", "strasse")]
)
def test_normalised_text(text, same):
    assert normalise_text(text) == same


ROWS = st.lists(
    st.builds(
        row,
        st.sampled_from("ab"),
        st.sets(st.sampled_from("xyz")),
        st.none() | st.integers(1, 3),
        st.sampled_from([None, "ann", "bob"]),
        st.sampled_from(["t", "u"]),
    ),
    max_size=8,
)


@given(ROWS, st.sampled_from(["latest", "union", "majority"]))
def test_every_row_is_accounted_for_once(rows, policy):
    merged = merge(*rows, policy=policy)
    assert merged.table.num_rows + len(merged.quarantined) + merged.n_merged == len(rows)
    ids = merged.table["id"].to_pylist()
    assert len(ids) == len(set(ids))
    indices = [index for index, reasons in merged.quarantined if reasons]
    assert indices == sorted(set(indices))
    assert len(indices) == len(merged.quarantined)


@given(ROWS, st.sampled_from(["latest", "union", "majority"]), st.randoms())
def test_the_outcome_does_not_depend_on_the_order(rows, policy, random):
    def outcome(these):
        found = merge(*these, policy=policy).table.select(["id", "text", "labels"]).to_pylist()
        return sorted(found, key=lambda one: one["id"])

    shuffled = random.sample(rows, len(rows))
    assert outcome(rows) == outcome(shuffled)
