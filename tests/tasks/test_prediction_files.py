"""Predictions as CSV: nothing in them is calculated by a spreadsheet."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from longtail.models.explanation import EXPLANATIONS
from longtail.spreadsheet import unguarded
from tasks.prediction_files import write_csv


def test_ids_and_labels_that_look_like_formulas(tmp_path):
    ids = ('=HYPERLINK("http://x")', "-5", "plain")
    labels = ("@x", "a;=cmd", "b")
    decided = np.array([[True, True, False], [False, False, True], [False, False, False]])
    out = tmp_path / "out.csv"
    scores = np.full((3, 3), 0.5, np.float32)
    write_csv(out, ids, scores, decided, SimpleNamespace(labels=labels))

    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ['\'=HYPERLINK("http://x")', "-5", "plain"]
    assert [unguarded(row["id"]) for row in rows] == list(ids)
    assert [json.loads(row["labels"]) for row in rows] == [["@x", "a;=cmd"], ["b"], []]
    assert json.loads(rows[0]["probabilities"]) == dict.fromkeys(labels, 0.5)
    assert ";=" not in out.read_text(encoding="utf-8")


def test_explanations_that_look_like_formulas(tmp_path):
    word = {"term": ";=cmd|' /C calc'!A0", "contribution": 0.5}
    one = {"label": "=1+1", "words": [word], "similar": [{"id": "+x;@y", "similarity": 0.9}],
           "sources": [{"source": "linear", "contribution": 1.0}]}  # fmt: skip
    column = pa.chunked_array([pa.array([[one], []], EXPLANATIONS)])
    decided = np.array([[True], [False]])
    out = tmp_path / "out.csv"
    about = SimpleNamespace(labels=("=1+1",))
    write_csv(out, ("a", "b"), np.full((2, 1), 0.5, np.float32), decided, about, column)

    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    label = one.pop("label")
    assert [json.loads(row["explanations"]) for row in rows] == [{label: one}, {}]
    assert rows[0]["explanations"].startswith("{")
    content = out.read_text(encoding="utf-8")
    assert ";=" not in content
    assert ";@" not in content
