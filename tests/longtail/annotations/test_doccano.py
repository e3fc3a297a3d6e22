"""doccano: JSON Lines, JSON, CSV, and archives with one file per user."""

from __future__ import annotations

import json

import pytest
from export_case import (
    DOCCANO,
    DOCCANO_CSV,
    EXPORTS,
    as_array,
    as_lines,
    as_zip,
    read,
    reasons,
    used,
)

from longtail.errors import DataError


@pytest.mark.parametrize("name", ["doccano.jsonl", "doccano.json", "doccano.csv"])
def test_a_line_is_a_row_and_no_label_may_mean_not_annotated(tmp_path, name):
    rows = read(tmp_path, EXPORTS[name])
    assert used(rows) == [("1", "one", ["a", "b"], None), ("3", "three", ["b"], None)]
    ((unlabelled, why),) = reasons(rows)
    assert unlabelled == "2"
    assert "no label" in why
    assert "data.columns.labels: label" in why


def test_the_way_out_takes_no_label_for_a_text_without_labels(tmp_path):
    columns = {"labels": "label"}
    for_sure = read(tmp_path, EXPORTS["doccano.jsonl"], columns=columns, format="jsonl")
    assert used(for_sure)[1] == ("2", "two", [], None)
    # So is a file whose labels column is named: it has all that a plain file needs.
    assert used(read(tmp_path, EXPORTS["doccano.jsonl"], columns=columns))[1][2] == []
    options = {"format": "csv", "label_separator": "#"}
    csv = read(tmp_path, EXPORTS["doccano.csv"], columns=columns, **options)
    assert [row[2] for row in used(csv)] == [["a", "b"], [], ["b"]]


def test_metadata_and_old_names_of_the_text(tmp_path):
    rows = [{"id": 1, "data": "one", "label": ["a"], "group": "g", "annotator": "ann"}]
    row = read(tmp_path, as_lines(rows))[0]
    assert (row["text"], row["group"], row["annotator"]) == ("one", "g", "ann")
    old = b"id,data,label\n1,one,a\n"
    assert used(read(tmp_path, old)) == [("1", "one", ["a"], None)]


def test_a_csv_is_taken_for_doccanos_only_when_it_plainly_is(tmp_path):
    joined = b"id,text,label\n1,one,a#b\n2,two,c\n"
    assert [row[2] for row in used(read(tmp_path, joined))] == [["a", "b"], ["c"]]
    plain = b"id,text,label\n1,one,C#\n2,two,b\n"
    with pytest.raises(DataError, match=r"data\.columns\.labels: label"):
        read(tmp_path, plain)
    named = read(tmp_path, b"id,text,label\n1,one,b\n", format="doccano")
    assert used(named) == [("1", "one", ["b"], None)]


def test_spans_are_a_problem_of_the_labels(tmp_path):
    rows = read(tmp_path, as_lines([{"id": 1, "text": "t", "label": [[0, 1, "PER"]]}]))
    assert "labels: label 1 is a list" in rows[0]["problems"][0]


def test_the_files_of_an_archive_are_the_annotators(tmp_path):
    other = [{"id": 1, "text": "one", "label": ["c"]}]
    data = as_zip({
        "ann.jsonl": as_lines(DOCCANO),
        "folder/bob.json": as_array(other),
        "eva.csv": DOCCANO_CSV,
        "all.jsonl": as_lines(other),
        "unknown.jsonl": as_lines(DOCCANO[1:2]),
        "idle.jsonl": b"",
        "idle.csv": b"\n",
        "__MACOSX/._ann.jsonl": b"\0\0",
        ".DS_Store": b"\0",
    })  # fmt: skip
    rows = read(tmp_path, data, name="export.zip")
    assert [row["position"] for row in rows] == list(range(1, 9 + 1))
    assert used(rows) == [
        ("1", "one", ["a", "b"], "ann"),
        ("3", "three", ["b"], "ann"),
        ("1", "one", ["c"], "bob"),
        ("1", "one", ["a", "b"], "eva"),
        ("3", "three", ["b"], "eva"),
        ("1", "one", ["c"], None),
    ]


def test_a_member_that_is_no_export_of_doccanos_is_named(tmp_path):
    data = as_zip({"ann.jsonl": as_lines(DOCCANO), "bob.jsonl": b'{"x": 1}\n'})
    with pytest.raises(DataError, match=r"bob\.jsonl: does not look like an export of doccano"):
        read(tmp_path, data)
    with pytest.raises(DataError, match=r"bob\.csv: .*no column label"):
        read(tmp_path, as_zip({"bob.csv": "id,x\n1,2\n"}))


def test_a_broken_line_costs_that_line(tmp_path):
    rows = read(tmp_path, as_lines(DOCCANO) + b'{"id": 9,\n{"id": 4, "id": 5, "label": []}\n')
    assert "not valid JSON" in rows[3]["problems"][0]
    assert "'id' stands more than once" in rows[4]["problems"][0]


def test_texts_to_be_labelled(tmp_path):
    lines = "".join(json.dumps({"id": n, "text": "t", "label": []}) + "\n" for n in range(2))
    rows = read(tmp_path, lines.encode(), labels_required=False)
    assert [(row["id"], row["skipped"]) for row in rows] == [("0", None), ("1", None)]
