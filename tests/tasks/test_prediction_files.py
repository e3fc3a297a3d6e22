"""Predictions as CSV: nothing in them is calculated by a spreadsheet."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np

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
