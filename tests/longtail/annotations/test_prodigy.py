"""Prodigy: choice, and textcat with one label per line."""

from __future__ import annotations

import datetime as dt

import pytest
from export_case import (
    EXPORTS,
    OPTIONS,
    as_lines,
    prodigy,
    read,
    reasons,
    used,
)

from longtail.errors import DataError


@pytest.mark.parametrize("name", ["prodigy.jsonl", "prodigy.json"])
def test_accepted_choices_count_and_none_chosen_is_a_text_without_labels(tmp_path, name):
    rows = read(tmp_path, EXPORTS[name])
    assert used(rows) == [("1", "one", ["a", "b"], "set-ann"), ("2", "two", [], "set-ann")]
    assert reasons(rows) == [
        ("3", "the answer is 'reject'; only accepted ones count"),
        ("4", "the answer is 'ignore'; only accepted ones count"),
    ]
    assert rows[0]["annotated_at"] == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def test_choices_may_be_missing_and_numbered(tmp_path):
    numbered = [{"id": 1, "text": "Good"}, {"id": 2}]
    rows = [prodigy(1, "one", "accept", options=OPTIONS),
            prodigy(2, "two", "accept", options=numbered, accept=[1, 2])]  # fmt: skip
    assert [row[2] for row in used(read(tmp_path, as_lines(rows)))] == [[], ["Good", "2"]]


def test_lines_of_one_input_and_annotator_become_the_same_row(tmp_path):
    rows = read(tmp_path, EXPORTS["prodigy-teach.jsonl"])
    assert used(rows) == [
        ("1", "one", ["a", "c"], "set-ann"),
        ("1", "one", ["a", "c"], "set-ann"),
        ("1", "one", ["a", "c"], "set-ann"),
        ("1", "one", ["b"], "set-bob"),
    ]
    said = dict(reasons(rows))
    assert "only rejected labels" in said["2"]
    assert "'ignore'" in said["3"]
    assert len(rows) == 6


def test_what_was_said_last_of_a_label_counts(tmp_path):
    lines = [prodigy(1, "one", "accept", label="a"), prodigy(1, "one", "accept", label="b"),
             prodigy(1, "one", "reject", label="a")]  # fmt: skip
    assert {tuple(row[2]) for row in used(read(tmp_path, as_lines(lines)))} == {("b",)}


def test_own_ids_and_who_and_when(tmp_path):
    line = prodigy(1, "one", "accept", accept=["a"], meta={"doc": "D-1"}, seen="2026-02-01")
    line |= {"_annotator_id": None, "_timestamp": 1e300}
    row = read(tmp_path, as_lines([line]), columns={"id": "doc", "annotated_at": "seen"})[0]
    assert (row["id"], row["annotator"]) == ("D-1", "set-ann")
    assert row["annotated_at"] == dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
    assert "annotated_at: " in read(tmp_path, as_lines([line]))[0]["problems"][0]
    with pytest.raises(DataError, match="no column 'ticket'"):
        read(tmp_path, as_lines([line]), columns={"id": "ticket"})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (prodigy(1, "t", "accept", spans=[]), "neither options nor a label"),
        (prodigy(1, "t", "accept", accept="a"), "labels: "),
        (prodigy(1, "t", "accept", accept=[["a"]]), "labels: label 1 is a list"),
        (prodigy([1], "t", "accept", label="a"), "id: "),
    ],
)
def test_other_tasks_are_problems(tmp_path, line, said):
    rows = read(tmp_path, EXPORTS["prodigy.jsonl"] + as_lines([line]))
    assert said in rows[-1]["problems"][0]


def test_texts_to_be_labelled(tmp_path):
    rows = read(tmp_path, EXPORTS["prodigy-teach.jsonl"], labels_required=False)
    assert len(used(rows)) == 6
