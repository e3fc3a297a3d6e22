"""Label Studio: tasks as JSON, JSON-MIN, CSV and TSV."""

from __future__ import annotations

import datetime as dt

import pytest
from export_case import (
    EXPORTS,
    LABEL_STUDIO,
    LABEL_STUDIO_CSV,
    LABEL_STUDIO_MIN,
    annotation,
    as_array,
    choice,
    min_row,
    read,
    reasons,
    task,
    used,
)

from longtail.errors import DataError


def test_every_annotation_of_a_task_is_a_row(tmp_path):
    rows = read(tmp_path, EXPORTS["label-studio.json"])
    assert used(rows) == [
        ("1", "one", ["a", "b"], "7"),
        ("2", "two", ["a"], "7"),
        ("2", "two", [], "eva@x.org"),
    ]
    assert [row["position"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0]["annotated_at"] == dt.datetime(2026, 1, 2, 10, 0, 0, 500_000, dt.UTC)


def test_cancelled_annotations_and_tasks_without_any_are_skipped(tmp_path):
    rows = read(tmp_path, EXPORTS["label-studio.json"])
    assert reasons(rows) == [
        ("3", "cancelled: the annotator skipped the task"),
        ("4", "not annotated"),
    ]


def test_predictions_and_drafts_never_count(tmp_path):
    drafted = task(1, "one", predictions=[{"result": [choice("p")]}], drafts=[annotation(9, "d")])
    rows = read(tmp_path, as_array([drafted, task(2, "two", annotation(21, "a"))]))
    assert used(rows) == [("2", "two", ["a"], "7")]


def test_an_annotation_without_choices_is_a_text_without_labels(tmp_path):
    rows = read(tmp_path, as_array([task(1, "one", annotation(11)), LABEL_STUDIO[0]]))
    assert rows[0]["labels"] == []


def test_the_content_of_one_annotation_among_several_is_its_own(tmp_path):
    rows = read(tmp_path, EXPORTS["label-studio.json"])
    assert '"id": 22' in rows[2]["raw"]
    assert '"id": 21' not in rows[2]["raw"]


def test_old_exports_call_annotations_completions(tmp_path):
    old = {"id": 5, "data": {"text": "t"}, "completions": [
        {"id": 1, "result": [choice("a")], "created_at": "2026-01-01T00:00:00Z"},
        {"id": 2, "result": [choice("b")], "skipped": True}]}  # fmt: skip
    rows = read(tmp_path, as_array([old]))
    assert used(rows) == [("5", "t", ["a"], None)]
    assert rows[0]["annotated_at"] == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def test_a_node_of_a_taxonomy_goes_by_its_path(tmp_path):
    value = {"taxonomy": [["Sport", "Ball"], ["News"]]}
    result = {"from_name": "topic", "type": "taxonomy", "value": value}
    rows = read(tmp_path, as_array([task(1, "one", {"id": 1, "result": [result]})]))
    assert rows[0]["labels"] == ["Sport/Ball", "News"]


def test_two_tags_need_a_name(tmp_path):
    both = task(1, "one", {"id": 1, "result": [choice("a"), choice("good", tag="mood")]})
    with pytest.raises(DataError, match=r"'topic', 'mood'.*data\.columns\.labels"):
        read(tmp_path, as_array([both]))
    rows = read(tmp_path, as_array([both]), columns={"labels": "mood"})
    assert rows[0]["labels"] == ["good"]
    with pytest.raises(DataError, match="no choices tag 'tone'"):
        read(tmp_path, as_array([both]), columns={"labels": "tone"})


def test_keys_of_the_data_may_be_named(tmp_path):
    one = task(1, "x", annotation(11, "a"))
    one["data"] = {"body": "t", "ticket": "T-1", "group": "g", "who": "ann"}
    columns = {"text": "body", "id": "ticket", "annotator": "who"}
    row = read(tmp_path, as_array([one]), columns=columns)[0]
    assert (row["id"], row["text"], row["group"], row["annotator"]) == ("T-1", "t", "g", "ann")
    with pytest.raises(DataError, match=r"no column 'text'.*data\.columns\.text: body"):
        read(tmp_path, as_array([one]))
    unread = read(tmp_path, as_array([one]), columns={**columns, "annotator": None})
    assert unread[0]["annotator"] is None


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"id": 1, "data": {"text": "t"}, "annotations": None}, "annotations are not a list"),
        ({"id": 1, "data": {"text": "t"}, "annotations": ["x"]}, "not an object"),
        ({"id": 1, "data": [], "annotations": []}, "without data"),
        (task(1, "t", {"result": None}), "result is not a list"),
        (task(1, "t", {"result": [1]}), "a result of an annotation"),
    ],
)
def test_what_is_not_a_task_costs_one_row(tmp_path, broken, said):
    rows = read(tmp_path, as_array([LABEL_STUDIO[0], broken]))
    assert used(rows) == [("1", "one", ["a", "b"], "7")]
    assert said in rows[1]["problems"][0]


def test_a_label_that_is_no_name_is_a_problem_of_the_labels(tmp_path):
    rows = read(tmp_path, as_array([task(1, "t", annotation(1, 5, None))]))
    assert "labels: label 1 is the number 5" in rows[0]["problems"][0]


def test_a_task_that_would_become_too_much_text_is_set_aside(tmp_path, monkeypatch):
    monkeypatch.setattr("longtail.annotations.tool_rows.MAX_EXPANDED_CHARACTERS", 1_000)
    rows = read(tmp_path, as_array([task(1, "t", *[annotation(n, "a") for n in range(9)])]))
    assert len(rows) == 1
    assert "9 annotations of one text" in rows[0]["problems"][0]


def test_json_min(tmp_path):
    rows = read(tmp_path, EXPORTS["label-studio-min.json"])
    assert used(rows) == [
        ("1", "one", ["a"], "7"),
        ("2", "two", ["a", "b"], "7"),
        ("3", "three", [], "7"),
    ]
    assert reasons(rows) == [("4", "not annotated")]
    assert rows[0]["annotated_at"] == dt.datetime(2026, 1, 2, 10, tzinfo=dt.UTC)


def test_json_min_with_several_keys_that_may_hold_labels(tmp_path):
    rows = [min_row(1, "one", topic="a", mood="good")]
    with pytest.raises(DataError, match=r"2 keys may hold the labels: 'topic', 'mood'"):
        read(tmp_path, as_array(rows))
    assert read(tmp_path, as_array(rows), columns={"labels": "mood"})[0]["labels"] == ["good"]
    # One that surely holds choices is chosen before strings that may be anything.
    rows.append(min_row(2, "two", topic={"choices": ["a", "b"]}, mood="bad"))
    assert read(tmp_path, as_array(rows))[1]["labels"] == ["a", "b"]


def test_json_min_of_choices_for_each_region_and_of_a_taxonomy(tmp_path):
    rows = [min_row(1, "one", topic=["a", {"choices": ["b", "c"]}]),
            min_row(2, "two", topic=[{"taxonomy": [["x", "y"], ["z"]]}])]  # fmt: skip
    assert [row["labels"] for row in read(tmp_path, as_array(rows))] == [
        ["a", "b", "c"],
        ["x/y", "z"],
    ]


def test_csv_and_tsv(tmp_path):
    rows = read(tmp_path, EXPORTS["label-studio.csv"], name="a.csv")
    assert used(rows) == [
        ("1", "one", ["a"], "7"),
        ("2", "two", ["a", "b"], "7"),
        ("3", "three", ["c", "d"], "7"),
        ("4", "four", [], "7"),
    ]
    assert reasons(rows) == [("5", "not annotated")]
    assert used(read(tmp_path, EXPORTS["label-studio.tsv"])) == [("1", "t", ["a"], "7")]


def test_a_damaged_row_of_csv_costs_that_row(tmp_path):
    data = LABEL_STUDIO_CSV.replace("one,1,a,7", 'one,1,"a,7', 1).encode()
    rows = read(tmp_path, data)
    assert "row: " in rows[0]["problems"][0]
    assert [row[0] for row in used(rows)] == ["2", "3", "4"]


@pytest.mark.parametrize("objects", [LABEL_STUDIO, LABEL_STUDIO_MIN])
def test_texts_to_be_labelled_are_one_row_each(tmp_path, objects):
    rows = read(tmp_path, as_array(objects), labels_required=False)
    assert [row["id"] for row in rows] == ["1", "2", "3", "4"]
    assert all(row["skipped"] is None and row["labels"] is None for row in rows)
