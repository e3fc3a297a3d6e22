"""Argilla 2: flattened and nested records as JSON, and Parquet."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from export_case import (
    ARGILLA,
    ARGILLA_NESTED,
    EXPORTS,
    argilla_flat,
    as_array,
    as_lines,
    as_parquet,
    read,
    reasons,
    used,
)

from longtail.errors import DataError


@pytest.mark.parametrize("data", [as_array(ARGILLA), as_lines(ARGILLA), as_parquet(ARGILLA)])
def test_every_submitted_response_is_a_row(tmp_path, data):
    rows = read(tmp_path, data)
    assert used(rows) == [
        ("r1", "one", ["a", "b"], "u1"),
        ("r1", "one", ["a"], "u2"),
        ("r2", "two", [], "u1"),
    ]
    assert reasons(rows) == [
        ("r2", "the response is 'discarded'; only submitted ones count"),
        ("r3", "the response is 'draft'; only submitted ones count"),
        ("r4", "no response: nobody has answered the question"),
    ]


def test_nested_records_and_what_their_status_says(tmp_path):
    rows = read(tmp_path, EXPORTS["argilla-nested.json"])
    assert used(rows) == [("r1", "one", ["a"], "u1"), ("r2", "two", ["b"], "u1")]
    assert rows[0]["group"] == "g"
    said = dict(reasons(rows))
    assert "draft" in said["r1"]
    assert "flatten=True" in said["r3"]
    assert "no response" in said["r4"]


def test_a_single_label_question_is_a_list_of_one(tmp_path):
    rows = read(tmp_path, as_array([argilla_flat(1, "one", ("a", "u1", "submitted"))]))
    assert used(rows) == [("r1", "one", ["a"], "u1")]


def test_several_questions_need_a_name_but_ratings_are_none(tmp_path):
    rated = argilla_flat(1, "one", (["a"], "u1", "submitted"))
    rated |= {"stars.responses": [4], "stars.responses.users": ["u1"],
              "stars.responses.status": ["submitted"]}  # fmt: skip
    assert used(read(tmp_path, as_array([rated])))[0][2] == ["a"]
    both = rated | {"tone.responses": ["kind"], "tone.responses.users": ["u1"],
                    "tone.responses.status": ["submitted"]}  # fmt: skip
    with pytest.raises(DataError, match=r"'topic', 'tone'.*data\.columns\.labels"):
        read(tmp_path, as_array([both]))
    named = read(tmp_path, as_array([both]), columns={"labels": "tone"})
    assert used(named)[0][2] == ["kind"]


def test_columns_that_do_not_fit_each_other_cost_the_record(tmp_path):
    uneven = argilla_flat(1, "one", (["a"], "u1", "submitted")) | {"topic.responses.users": []}
    nested = {**ARGILLA_NESTED[0], "responses": {"topic": {"value": ["a"]}}}
    rows = read(tmp_path, as_array([*ARGILLA, uneven]))
    assert "1 responses to 'topic', but 0 users" in rows[-1]["problems"][0]
    rows = read(tmp_path, as_array([*ARGILLA_NESTED, nested]))
    assert "not a list of objects" in rows[-1]["problems"][0]


def test_the_text_must_be_among_the_fields(tmp_path):
    with pytest.raises(DataError, match=r"no column 'body'.*data\.columns\.text: text"):
        read(tmp_path, EXPORTS["argilla.json"], columns={"text": "body"})


def test_a_damaged_parquet_file_is_refused(tmp_path):
    data = as_parquet(ARGILLA * 100)
    middle = len(data) // 3
    broken = data[:middle] + bytes(200) + data[middle + 200 :]
    with pytest.raises(DataError):
        read(tmp_path, broken, format="argilla")


def test_bytes_of_parquet_that_are_not_utf8_cost_the_row(tmp_path):
    names = pa.array([b"a\xff", b"b"]).view(pa.string())
    table = pa.Table.from_pylist(ARGILLA[:2]).set_column(3, "text", names)
    pq.write_table(table, tmp_path / "t.parquet")
    rows = read(tmp_path, (tmp_path / "t.parquet").read_bytes())
    assert "a value cannot be read" in rows[0]["problems"][0]
    assert used(rows)[0][0] == "r2"


def test_texts_to_be_labelled(tmp_path):
    rows = read(tmp_path, EXPORTS["argilla.parquet"], labels_required=False)
    assert [(row["id"], row["text"]) for row in rows] == [
        ("r1", "one"), ("r2", "two"), ("r3", "three"), ("r4", "four")]  # fmt: skip
