"""Duplicates are counted as texts, and a conflict says who said what, and when."""

import datetime as dt

import pyarrow as pa
from audit_case import annotations
from hypothesis import given
from hypothesis import strategies as st

from longtail.audit.conflicts import as_json, conflict_candidates, excerpt, find_duplicates

WHEN = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)


def rows():
    return annotations(
        [
            {"id": "a", "text": "The  Printer JAMS", "labels": ["printing"], "split": "train",
             "annotator": "ann", "annotated_at": WHEN},
            {"id": "b", "text": "the printer jams", "labels": ["printing", "urgent"],
             "split": "test", "annotator": "bob"},
            {"id": "c", "text": "the printer jams ", "labels": ["printing"], "split": "train"},
            {"id": "d", "text": "refund please", "labels": ["billing"], "split": "test"},
            {"id": "e", "text": "Refund please", "labels": ["billing"], "split": "test"},
            {"id": "f", "text": "alone", "labels": [], "split": "train"},
        ]
    )  # fmt: skip


def test_duplicates_are_counted_beyond_the_first_and_conflicts_as_sets():
    found = find_duplicates(rows())

    assert (found.texts, found.sets, found.beyond_first) == (6, 2, 3)
    assert len(found.conflicts) == 1
    assert found.texts_in_conflict == 3
    assert found.test_in_train == 1  # b repeats a and c; d and e repeat each other within test


def test_a_conflict_names_its_rows_with_annotator_and_date():
    (conflict,) = find_duplicates(rows()).conflicts

    assert conflict.disputed == ("urgent",)
    assert [saying.id for saying in conflict.sayings] == ["a", "b", "c"]
    assert (conflict.sayings[0].annotator, conflict.sayings[0].annotated_at) == (
        "ann",
        WHEN.isoformat(),
    )
    assert conflict.sayings[1].labels == ("printing", "urgent")


def test_rows_that_were_merged_count_as_duplicates():
    merged = pa.table({"id": ["x", "y", "z"], "merged_into": ["f", "f", "d"]})

    found = find_duplicates(rows(), merged)

    assert (found.texts, found.sets, found.beyond_first) == (9, 3, 6)


def test_without_a_split_nothing_is_said_of_one():
    table = rows().set_column(7, "split", pa.nulls(6, pa.string()))

    assert find_duplicates(table).test_in_train is None


def test_the_majority_is_proposed_to_the_others():
    (one,) = conflict_candidates(find_duplicates(rows()).conflicts)

    assert (one.id, one.label, one.action) == ("b", "urgent", "remove")
    assert one.score == 2 / 3


def test_an_even_conflict_is_proposed_both_ways_at_one_half():
    pair = annotations(
        [
            {"id": "a", "text": "x y", "labels": ["p"]},
            {"id": "b", "text": "X Y", "labels": []},
        ]
    )

    found = conflict_candidates(find_duplicates(pair).conflicts)

    assert {(one.id, one.action, one.score) for one in found} == {
        ("a", "remove", 0.5),
        ("b", "add", 0.5),
    }


def test_the_list_may_be_cut_while_the_counts_are_of_all():
    section = as_json(find_duplicates(rows()), 0)

    assert section["listed"] == []
    assert section["conflicting_sets"] == 1


def test_no_text_has_no_duplicates():
    found = find_duplicates(annotations([]))

    assert (found.texts, found.sets, found.beyond_first, found.conflicts) == (0, 0, 0, ())


@given(st.text(max_size=2000))
def test_an_excerpt_is_one_short_line(text):
    shown = excerpt(text)

    assert len(shown) <= 161
    assert "\n" not in shown
