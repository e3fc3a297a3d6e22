"""Which tool an export is from: by its content, or by its name if that can be."""

from __future__ import annotations

import json

import pytest
from export_case import EXPORTS, as_array, as_lines, read, tool_of_name

from longtail.annotations.recognise import TOOLS, tool_of
from longtail.config import ColumnSettings
from longtail.errors import DataError


@pytest.mark.parametrize("file", ["export", "export.csv", "export.json", "export.txt"])
@pytest.mark.parametrize("name", EXPORTS)
def test_the_name_of_the_file_does_not_decide(tmp_path, name, file):
    if file == "export.json" and name.endswith((".csv", ".tsv")):
        file = "export.dat"
    named = read(tmp_path, EXPORTS[name], name=file, format=tool_of_name(name))
    assert read(tmp_path, EXPORTS[name], name=file) == named
    assert any(row["text"] is not None and row["skipped"] is None for row in named)


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", EXPORTS)
def test_a_wrong_name_says_what_the_export_looks_like(tmp_path, name, tool):
    right = tool_of_name(name)
    if tool == right:
        return
    with pytest.raises(DataError) as caught:
        read(tmp_path, EXPORTS[name], format=tool)
    said = str(caught.value)
    assert right in said or "data.format: auto" in said


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"id": 1, "text": "t", "labels": ["a"]}, None),
        ({"id": 1, "text": "t", "label": "a"}, None),
        ({"id": 1, "text": "t", "label": ["a"], "labels": []}, None),
        ({"text": "t", "label": "a", "answer": "accept"}, None),
        ({"answer": "accept", "_input_hash": 1}, "prodigy"),
        ({"answer": ["accept"], "_input_hash": 1}, None),
        ({"data": "text", "annotations": []}, None),
        ({"data": {}, "annotations": [], "answer": "accept", "_task_hash": 1}, "label-studio"),
        ({"fields": {}, "responses": {}}, "argilla"),
        ({"topic.responses": None}, "argilla"),
    ],
)
def test_tools_are_told_by_their_own_keys(value, expected):
    assert tool_of(value, ColumnSettings()) == expected


def test_a_plain_array_is_read_as_lines_are(tmp_path):
    rows = [{"id": n, "text": "t", "labels": ["a"], "extra": {"x": [1]}} for n in range(3)]
    array = read(tmp_path, as_array(rows, indent=2), name="a.json")
    lines = read(tmp_path, as_lines(rows), name="a.jsonl")
    for row in (*array, *lines):
        row["raw"] = json.loads(row["raw"])
    assert array == lines
    assert read(tmp_path, as_array(rows), format="jsonl")[0]["id"] == "0"


def test_an_export_with_all_columns_that_are_named_is_read_plainly(tmp_path):
    rows = [{"id": 1, "text": "t", "label": ["a"]}]
    (row,) = read(tmp_path, as_lines(rows), columns={"labels": "label"})
    assert row["raw"] == json.dumps(rows[0])
    assert row["position"] == 1


@pytest.mark.parametrize(
    ("data", "named", "said"),
    [
        (b"id,text,labels\n1,t,[]\n", "jsonl", "looks like CSV or plain text, not jsonl"),
        (b"id,text,labels\n1,t,[]\n", "prodigy", "looks like CSV or plain text, not prodigy"),
        (b"id,text,labels\n1,t,[]\n", "parquet", "does not start with PAR1"),
        (b'{"id": 1}\n', "csv", "looks like JSON Lines, not csv"),
        (b'[{"id": 1}]', "csv", "looks like a JSON array, not csv"),
        (EXPORTS["doccano.zip"], "csv", "is a zip archive, not csv; set data.format: auto"),
        (EXPORTS["argilla.parquet"], "jsonl", "is a Parquet file, not jsonl"),
        (EXPORTS["argilla.parquet"], "doccano", "is a Parquet file, not doccano"),
        (b'{"x": 1}\n', "doccano", "its keys are not those of the tool"),
        (b" [{}]", "doccano", "The first keys found are none"),
    ],
)
def test_a_named_format_that_cannot_be(tmp_path, data, named, said):
    with pytest.raises(DataError, match=said):
        read(tmp_path, data, format=named)


def test_argillas_parquet_can_be_read_plainly(tmp_path):
    columns = {"labels": "topic.suggestion"}
    rows = read(tmp_path, EXPORTS["argilla.parquet"], format="parquet", columns=columns)
    assert [row["labels"] for row in rows] == [["guess"]] * 4
