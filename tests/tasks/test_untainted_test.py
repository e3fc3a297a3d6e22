"""Test texts that a release has learned from leave the test set, so that a run can pass again."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from longtail import storage
from longtail.bundle import TRAINING_IDS
from longtail.labels import LabelGroups, LabelSpace
from longtail.leaks import training_hashes
from longtail.partition import SCHEMA
from tasks.data import LEFT_OUT, SplitData, write_label_space
from tasks.handles import ArmHandle, SplitHandle
from tasks.leaks import check_leaks, untainted_test

TEST = [("t1", "No power", 1), ("t2", "Door is open", 2), ("t3", "A window", 3)]
LEFT = [("old", "Power is gone today", 1)]


@pytest.fixture
def data(tmp_path: Path) -> SplitData:
    """Text ``old`` was bound to the test text ``t1`` and left out of training."""
    for split, rows in {"train": [], "validation": [], "test": TEST}.items():
        table = pa.Table.from_pylist(
            [
                {"id": name, "text": text, "labels": ["a"], "unit": unit, "cohort": 0}
                for name, text, unit in rows
            ],
            schema=SCHEMA,
        )
        storage.write_parquet(tmp_path / f"{split}.parquet", table)
    names, texts, units = zip(*LEFT, strict=True)
    left = pa.table({"id": names, "text": texts, "unit": units})
    storage.write_parquet(tmp_path / LEFT_OUT, left)
    space = tmp_path / "label_space.json"
    write_label_space(space, LabelSpace(("a",)), LabelGroups(("HEAD",), (1,), (0, 0)))
    return SplitData(SplitHandle(directory=tmp_path, label_space=space))


def release(directory: Path, ids: list[str], texts: list[str]) -> ArmHandle:
    hashes = zip(("id", "text"), training_hashes(ids, texts), strict=True)
    storage.write_parquet(directory / TRAINING_IDS, pa.table(dict(hashes)))
    return ArmHandle(arm="champion", directory=directory, loss="db", seconds=0, bundle=directory)


def test_a_text_bound_to_what_the_champion_learned_leaves_the_test_set(data, tmp_path):
    champion = release(tmp_path / "champion", ["old", "x"], ["An older wording", "Door  is OPEN"])
    whole = check_leaks(data, data.test, [champion])["champion"]
    assert whole is not None
    assert not whole.clean
    test = untainted_test(data, [champion], minimum=1)
    assert test.ids == ("t3",)
    assert test.y.shape == (1, 1)
    assert test.units.tolist() == [3]
    assert test.fingerprint != data.test.fingerprint
    after = check_leaks(data, test, [champion])["champion"]
    assert after is not None
    assert after.clean


def test_nothing_is_left_out_where_too_little_would_remain(data, tmp_path):
    champion = release(tmp_path / "champion", ["old"], ["An older wording"])
    assert untainted_test(data, [champion], minimum=3) is data.test
    assert untainted_test(data, [champion], minimum=2).ids == ("t2", "t3")


def test_without_a_leak_or_a_release_the_test_set_is_whole(data, tmp_path):
    champion = release(tmp_path / "champion", ["elsewhere"], ["Nothing of the kind"])
    assert untainted_test(data, [champion], minimum=1) is data.test
    assert untainted_test(data, [], minimum=1) is data.test


def test_a_release_that_cannot_be_checked_leaves_the_test_set_whole(data, tmp_path):
    champion = release(tmp_path / "champion", ["old"], ["x"])
    (tmp_path / "champion" / TRAINING_IDS).write_bytes(b"not parquet")
    assert untainted_test(data, [champion], minimum=1) is data.test
    assert check_leaks(data, data.test, [champion]) == {"champion": None}
