"""The candidate's encoder out of a shortlist: validation alone decides, and says so."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import tasks.select
from longtail import storage
from longtail.config import CONTENDER
from longtail.labels import LabelGroups, LabelSpace
from longtail.partition import SCHEMA
from longtail.predictions import Predictions, write_predictions
from tasks.arms import ARM_FILE, write_arm
from tasks.data import write_label_space
from tasks.handles import ArmHandle, RunHandle, SplitHandle
from tasks.select import SELECTION, select_loss

LABELS = ("a", "b", "c")
TRUTH = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]], dtype=bool)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks.select, "publish_table", lambda *_: None)
    return RunHandle(
        id="r1", name="desk", directory=tmp_path / "run", store=tmp_path / "store", started_at="now"
    )


@pytest.fixture
def split(run):
    rows = [
        {"id": f"v{n}", "text": f"text {n}", "unit": n, "cohort": 0,
         "labels": [name for name, holds in zip(LABELS, row, strict=True) if holds]}
        for n, row in enumerate(TRUTH)
    ]  # fmt: skip
    storage.write_parquet(
        run.directory / "splits" / "validation.parquet", pa.Table.from_pylist(rows, schema=SCHEMA)
    )
    groups = LabelGroups(("HEAD", "MEDIUM", "TAIL"), (4, 2, 1), (2, 3))
    write_label_space(run.directory / "label_space.json", LabelSpace(LABELS), groups)
    return SplitHandle.of(run.directory)


@pytest.fixture
def arm(run):
    """An arm that gives exactly some cells of validation; there is no test set to look at."""

    def make(name, given, loss="db"):
        directory = run.directory / "arms" / name
        ids = tuple(f"v{n}" for n in range(len(TRUTH)))
        scores = np.where(given, 0.9, 0.1).astype(np.float32)
        write_predictions(directory / "validation.parquet", Predictions(ids, LABELS, scores))
        (directory / "bundle").mkdir()
        cuts = dict.fromkeys(LABELS, 0.5)
        write_arm(directory, arm=name, loss=loss, thresholds={"labels": cuts})
        return ArmHandle(arm=name, directory=directory, loss=loss, seconds=1.0,
                         bundle=directory / "bundle")  # fmt: skip

    return make


HEAD_ONLY = TRUTH & np.array([True, False, False])
WITHOUT_C = TRUTH & np.array([True, True, False])
# Finds every label, and gives two texts two labels too many.
NOISY = TRUTH | (np.arange(6) // 2 == 1)[:, None] & np.array([False, True, True])


def select(run, split, shortlist, baseline):
    chosen = select_loss.fn(run, split, shortlist, baseline)
    return chosen, storage.read_json(run.directory / SELECTION)


def test_the_highest_micro_f1_wins_among_those_that_cover_what_bce_covers(run, split, arm):
    """NOISY finds every label at a lower micro-F1 than WITHOUT_C, which lacks one that BCE has."""
    shortlist = (
        arm(CONTENDER + "db", WITHOUT_C, "db"),
        arm(CONTENDER + "asl", HEAD_ONLY, "asl"),
        arm(CONTENDER + "zlpr", NOISY, "zlpr"),
    )
    chosen, said = select(run, split, shortlist, arm("bce", TRUTH))

    assert chosen is shortlist[2]
    assert said["baseline_recognised_labels"] == 3
    f1 = {row["loss"]: row["micro_f1"] for row in said["shortlist"]}
    assert f1["db"] > f1["zlpr"] > f1["asl"]
    assert [row["chosen"] for row in said["shortlist"]] == [False, False, True]
    assert said["shortlist"][2]["arm"] == "candidate-zlpr"


def test_without_one_that_covers_enough_the_highest_micro_f1_wins(run, split, arm):
    shortlist = (
        arm(CONTENDER + "asl", HEAD_ONLY, "asl"),
        arm(CONTENDER + "db", WITHOUT_C, "db"),
    )
    chosen, _ = select(run, split, shortlist, arm("bce", TRUTH))
    assert chosen.loss == "db"


def test_of_equals_the_first_is_taken(run, split, arm):
    shortlist = (arm(CONTENDER + "db", TRUTH, "db"), arm(CONTENDER + "asl", TRUTH, "asl"))
    chosen, _ = select(run, split, shortlist, arm("bce", HEAD_ONLY))
    assert chosen.loss == "db"


def test_all_stay_where_they_are_and_one_alone_needs_no_choice(run, split, arm):
    shortlist = (arm(CONTENDER + "db", TRUTH, "db"), arm(CONTENDER + "asl", HEAD_ONLY, "asl"))
    chosen, _ = select(run, split, shortlist, arm("bce", HEAD_ONLY))

    assert chosen.bundle == chosen.directory / "bundle"
    assert storage.read_json(chosen.directory / ARM_FILE)["arm"] == "candidate-db"
    assert all(one.directory.is_dir() for one in shortlist)
    (run.directory / SELECTION).unlink()
    assert select_loss.fn(run, split, shortlist[1:], shortlist[0]) is shortlist[1]
    assert not (run.directory / SELECTION).exists()
