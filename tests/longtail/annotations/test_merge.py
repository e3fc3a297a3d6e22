"""One id twice: who wins, what contradicts, and that no row gets lost."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtail.annotations.merge import merge_annotations, normalise_text, resolve_voices
from longtail.annotations.schema import ANNOTATIONS


def row(name="a", labels=("x",), day=None, by=None, text="t", **more):
    when = None if day is None else dt.datetime(2026, 3, day, tzinfo=dt.UTC)
    return {"id": name, "text": text, "labels": list(labels), "annotated_at": when,
            "annotator": by, **more}  # fmt: skip


def merge(*rows, policy="latest", at_least=2):
    return merge_annotations(table_of(rows), policy, at_least=at_least)


def resolve(*rows, policy="latest", at_least=2):
    return resolve_voices(table_of(rows), policy, at_least=at_least).to_pylist()


def table_of(rows):
    return pa.Table.from_pylist(list(rows), schema=ANNOTATIONS)


def labels(merged):
    return {found["id"]: found["labels"] for found in merged.table.to_pylist()}


def test_nothing_twice_is_passed_through():
    merged = merge(row("b"), row("a", day=1, by="ann", group="g"))
    assert merged.table.to_pylist()[1] == row("a", day=1, by="ann", group="g", source=None,
                                              split=None)  # fmt: skip
    assert (merged.quarantined, merged.n_merged) == ([], 0)


@pytest.mark.parametrize("table", [ANNOTATIONS.empty_table(), table_of([])])
def test_no_rows(table):
    merged = merge_annotations(table, "majority")
    assert (merged.table.num_rows, merged.voices.num_rows, merged.n_merged) == (0, 0, 0)
    assert resolve_voices(table, "majority").schema == ANNOTATIONS


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


POLICIES = st.sampled_from(["latest", "union", "majority", "at_least"])


@given(ROWS, POLICIES)
def test_every_row_is_accounted_for_once(rows, policy):
    merged = merge(*rows, policy=policy)
    assert merged.table.num_rows + len(merged.quarantined) + merged.n_merged == len(rows)
    ids = merged.table["id"].to_pylist()
    assert len(ids) == len(set(ids))
    indices = [index for index, reasons in merged.quarantined if reasons]
    assert indices == sorted(set(indices))
    assert len(indices) == len(merged.quarantined)


@given(ROWS, POLICIES, st.randoms())
def test_the_outcome_does_not_depend_on_the_order(rows, policy, random):
    def outcome(these):
        found = merge(*these, policy=policy).table.select(["id", "text", "labels"]).to_pylist()
        return sorted(found, key=lambda one: one["id"])

    shuffled = random.sample(rows, len(rows))
    assert outcome(rows) == outcome(shuffled)


@pytest.mark.parametrize(
    ("k", "expected"), [(1, ["x", "y", "z"]), (2, ["x", "y"]), (3, ["y"]), (9, ["y"])]
)
def test_at_least_so_many_or_all_where_they_are_fewer(k, expected):
    said = [["x", "y"], ["x", "y", "z"], ["y"]]
    rows = [row(labels=labels, by=f"r{i}") for i, labels in enumerate(said)]
    assert labels(merge(*rows, policy="at_least", at_least=k)) == {"a": expected}


def test_a_text_that_nobody_labelled_casts_no_ballot():
    rows = [row(labels=["x"], by="ann"), {**row(by="bob"), "labels": None}]
    assert labels(merge(*rows, policy="majority")) == {"a": ["x"]}


def test_contradicting_labels_do_not_hide_which_text_is_current():
    rows = [row(labels=["x"], day=1, by="ann", text="old"), row(labels=["y"], day=2, by="bob"),
            row(labels=["z"], day=2, by="cem")]  # fmt: skip
    assert labels(merge(*rows, policy="union")) == {"a": ["y", "z"]}


def test_voices_are_what_each_of_several_annotators_said_last():
    rows = [row(labels=["x"], day=1, by="ann"), row("b", by="ann"), row(labels=["y"], by="bob"),
            row(labels=["z", "y"], day=2, by="ann"), row("b", by="ann")]  # fmt: skip
    merged = merge(*rows, policy="union")
    voices = merged.voices.to_pylist()
    assert [(one["id"], one["annotator"], one["labels"]) for one in voices] == [
        ("a", "bob", ["y"]), ("a", "ann", ["y", "z"])
    ]  # fmt: skip
    assert merged.voices.schema == ANNOTATIONS


def test_no_annotator_is_a_voice_of_its_own():
    assert len(merge(row(), row(labels=["y"], by="ann"), policy="union").voices) == 2


def test_what_was_set_aside_is_no_voice():
    rows = [row(by="ann"), row(labels=["y"], by="ann"), row(labels=["z"], by="bob")]
    assert merge(*rows, policy="union").voices.num_rows == 0
    assert merge(row(by="ann"), row(labels=["y"], by="bob")).voices.num_rows == 0


@given(ROWS, POLICIES)
def test_voices_resolve_to_the_row_that_the_merge_made(rows, policy):
    merged = merge(*rows, policy=policy)
    by_id = {found["id"]: found for found in merged.table.to_pylist()}
    for found in resolve_voices(merged.voices, policy).to_pylist():
        assert found == by_id[found["id"]]


@given(ROWS, POLICIES)
def test_resolving_never_raises_and_keeps_every_id(rows, policy):
    resolved = resolve(*rows, policy=policy)
    assert [one["id"] for one in resolved] == list(dict.fromkeys(one["id"] for one in rows))


@pytest.mark.parametrize(
    ("days", "expected"),
    [((None, None), "y"), ((2, None), "y"), ((2, 2), "y"), ((1, 2), "y"), ((2, 1), "x"),
     ((None, 1), "y")],
)  # fmt: skip
def test_where_dates_do_not_decide_the_later_row_does(days, expected):
    rows = [row(labels=["x"], day=days[0], by="ann"), row(labels=["y"], day=days[1], by="bob")]
    (resolved,) = resolve(*rows)
    assert resolved["labels"] == [expected]


def test_an_undated_row_ends_the_turn_of_all_before_it():
    rows = [row(labels=["x"], day=9, by="ann"), row(labels=["y"], by="bob"),
            row(labels=["z"], day=1, by="cem")]  # fmt: skip
    assert resolve(*rows)[0]["labels"] == ["z"]


def test_a_voice_about_another_group_is_outdated():
    rows = [row(labels=["x"], by="ann", group="g"), row(labels=["y"], by="bob", group="h")]
    (resolved,) = resolve(*rows, policy="union")
    assert (resolved["labels"], resolved["group"], resolved["annotator"]) == (["y"], "h", "bob")


def fold(rows):
    """What ``resolve_voices`` says of the latest row, told one row at a time."""
    contents = {(one["text"], tuple(one["labels"])) for one in rows}
    if len(contents) == 1:
        dated = [one for one in rows if one["annotated_at"]]
        return max(reversed(dated), key=lambda one: one["annotated_at"]) if dated else rows[-1]
    left = rows[0]
    for one in rows[1:]:
        dates = left["annotated_at"], one["annotated_at"]
        if not (all(dates) and dates[1] < dates[0]):
            left = one
    return left


@given(ROWS)
def test_latest_is_the_fold_over_the_voices(rows):
    rows = [{**one, "labels": sorted(one["labels"])} for one in rows]
    for found in resolve(*rows):
        mine = [one for one in rows if one["id"] == found["id"]]
        voices = [fold([one for one in mine if one["annotator"] == who])
                  for who in dict.fromkeys(one["annotator"] for one in mine)]  # fmt: skip
        expected = fold(sorted(voices, key=lambda one: [o is one for o in mine].index(True)))
        assert {name: found[name] for name in expected} == expected


def test_rows_in_many_chunks_keep_their_places():
    rows = [row(f"{i % 90_000}", labels=[f"{i % 7}"], by=f"r{i // 90_000}") for i in range(91_000)]
    table = table_of(rows)
    pieces = pa.concat_tables([table.slice(i, 10_000) for i in range(0, 91_000, 10_000)])
    merged = merge_annotations(pieces, "union")
    assert merged.table["id"].to_pylist() == [f"{i}" for i in range(90_000)]
    assert merged.table["labels"][999].as_py() == sorted({f"{999 % 7}", f"{90_999 % 7}"})
    assert merged.table["labels"][1000].as_py() == [f"{1000 % 7}"]
    assert (merged.n_merged, merged.voices.num_rows) == (1000, 2000)
