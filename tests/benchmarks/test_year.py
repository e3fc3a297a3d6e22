"""The year's checks see a broken promise, and pass over a year that kept them all."""

import datetime as dt
import importlib
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from longtail import storage

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def year():
    folder = str(ROOT / "benchmarks")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("year")
    finally:
        sys.path.remove(folder)


def write_week(folder, number, *, rules=(), **sides):
    run = folder / f"week{number:02d}"
    for split in ("train", "validation", "test"):
        storage.write_parquet(
            run / "splits" / f"{split}.parquet", pa.table({"id": sides.get(split, [])})
        )
    storage.write_json(run / "verdict.json", {"rules": list(rules)})
    return run


def test_the_arrivals_are_equal_parts_in_the_order_of_the_dates(year, tmp_path):
    days = [dt.datetime(2026, 1, day, tzinfo=dt.UTC) for day in (9, 3, 7, 1, 5, 2, 8)]
    table = pa.table({"id": [f"d{day.day}" for day in days], "text": ["a"] * 7,
                      "labels": [["x"]] * 7, "seen": days})  # fmt: skip
    pq.write_table(table, tmp_path / "all.parquet")

    weeks = list(year.arrivals(tmp_path / "all.parquet", "seen", 3, tmp_path / "out"))

    ids = [pq.read_table(export)["id"].to_pylist() for _, export in weeks]
    assert [name for part in ids for name in part] == ["d1", "d2", "d3", "d5", "d7", "d8", "d9"]
    assert [number for number, _ in weeks] == [1, 2, 3]
    assert max(map(len, ids)) - min(map(len, ids)) <= 1
    assert "annotated_at" in pq.read_schema(weeks[0][1]).names


def test_a_year_that_keeps_its_promises_has_no_findings(year, tmp_path):
    runs = [
        write_week(tmp_path, 1, train=["a"], validation=["b"], test=["c"]),
        write_week(tmp_path, 2, train=["a", "d"], validation=["b"], test=["c", "e"]),
    ]

    assert [*year.sides_broken(runs), *year.verdicts_broken(runs)] == []


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"train": ["a", "c"], "test": []}, "moved from test to train"),
        ({"train": ["a"], "test": ["e"]}, "left the test set, such as c"),
        ({"train": ["a", "c"], "test": ["c"]}, "1 test texts were learned from, such as c"),
        ({"train": [], "test": ["a", "c"]}, "a moved from train to test"),
    ],
)
def test_a_text_on_a_side_that_is_not_its_own_is_found(year, tmp_path, second, said):
    runs = [
        write_week(tmp_path, 1, train=["a"], test=["c"]),
        write_week(tmp_path, 2, **second),
    ]

    assert any(said in finding for finding in year.sides_broken(runs))


@pytest.mark.parametrize("rule", ["same_test_set", "no_leaks"])
def test_arms_that_were_not_judged_alike_are_found(year, tmp_path, rule):
    failed = {"name": rule, "passed": False, "detail": "Not alike."}
    other = {"name": "bce_micro_f1", "passed": False, "detail": "No gain."}
    run = write_week(tmp_path, 1, rules=[failed, other])

    assert list(year.verdicts_broken([run])) == ["week01: Not alike."]


def test_balance_counts_texts_off_their_share_and_labels_that_miss_a_split(year):
    y = sp.csr_array(np.array([[1, 0], [1, 1], [1, 1], [1, 1], [1, 0]], dtype=bool))
    sides = np.array([0, 0, 0, 1, 2])

    mean, largest, missing = year.balance(y, sides, (0.6, 0.2, 0.2))

    # The second label has two of its three texts in split 0 and none in the last.
    assert (largest, missing) == (pytest.approx(0.6), 1)
    assert mean == pytest.approx((0 + 0 + 0 + 0.2 + 0.4 + 0.6) / 6)
