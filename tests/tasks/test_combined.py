"""What a retrain would make of two cells: candidate, ladder and matched arm, from files alone."""

from __future__ import annotations

import numpy as np
import pytest
from cells_case import prepare, train

from longtail import storage
from longtail.config import (
    LinearSettings,
    LossSettings,
)
from longtail.predictions import read_predictions
from tasks.arms import ARM_FILE
from tasks.cells import CELL
from tasks.combined import combine_cells, combined_directory
from tasks.data import SplitData
from tasks.leaderboard import Cell, DataSet, combinations
from tasks.linear_arm import fit_linear


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("combined") / "desk" / "key")


@pytest.fixture(scope="module")
def linear(split):
    return split.directory.parent / "arms" / "linear"


@pytest.fixture(scope="module")
def cells(split):
    return train(split, split.directory.parents[1])


@pytest.fixture
def combined(split, linear, cells, tmp_path):
    def make(own):
        where = combined_directory(tmp_path, linear, cells[own], cells["bce"])
        return combine_cells.fn(where, split, linear, cells[own], cells["bce"])

    return make


def scores(directory, part):
    return read_predictions(directory / f"{part}.parquet").probabilities


def test_candidate_ladder_and_matched_are_written_whole(combined):
    directory = combined("db-soft")

    storage.verify_directory(directory)
    ladder = directory / "candidate" / "ladder"
    steps = [step["key"] for step in storage.read_json(ladder / "steps.json")]
    assert steps == ["linear", "neighbours", "names", "both_encoders"]
    for arm in (directory / "candidate", directory / "matched", *(ladder / key for key in steps)):
        for part, rows in (("validation", 30), ("test", 12)):
            assert scores(arm, part).shape == (rows, 3)
            assert ((scores(arm, part) >= 0) & (scores(arm, part) <= 1)).all()
    for arm in ("candidate", "matched"):
        about = storage.read_json(directory / arm / ARM_FILE)
        assert about["learned_from"] == ["train", "validation"]
        assert "encoder" in about["combination"]["sources"] or arm == "matched"


def test_matched_does_not_depend_on_the_loss(combined):
    """Only the BCE encoder, and what is near in its space, is in it."""
    first, other = combined("db-soft"), combined("db")

    for part in ("validation", "test"):
        np.testing.assert_array_equal(
            scores(first / "matched", part), scores(other / "matched", part)
        )
        assert (scores(first / "candidate", part) != scores(other / "candidate", part)).any()


def test_a_source_that_a_cell_lacks_is_left_out_with_its_note(
    split, linear, cells, combined, tmp_path
):
    about = storage.read_json(cells["db-soft"] / CELL)
    bare = tmp_path / "db-soft-seed0-bare"
    bare.mkdir()
    for name in ("encoder", "neighbours"):
        for part in ("validation", "test"):
            file = f"{part}_{name}.parquet"
            storage.link_or_copy(cells["db-soft"] / file, bare / file)
    notes = ["The source names is left out: no label has a word in its name."]
    storage.write_json(bare / CELL, about | {"evidence": ["encoder", "neighbours"], "notes": notes})
    where = combine_cells.fn(tmp_path / "made", split, linear, bare, cells["bce"])

    found = storage.read_json(where / "candidate" / ARM_FILE)["combination"]
    assert set(found["sources"]) <= {"encoder", "bce", "linear", "neighbours"}
    assert notes[0] in found["notes"]
    steps = storage.read_json(where / "candidate" / "ladder" / "steps.json")
    assert [step["key"] for step in steps] == ["linear", "neighbours", "both_encoders"]


def test_other_cells_or_another_linear_arm_have_a_place_of_their_own(
    split, linear, cells, tmp_path
):
    def where(own="db-soft", arm=linear):
        return combined_directory(tmp_path, arm, cells[own], cells["bce"])

    other = tmp_path / "linear"
    fit_linear(SplitData(split), other, LinearSettings(min_df=1, c=0.1))

    assert where() == where()
    assert where().name.startswith("db-soft-seed0-")
    assert len({where(), where(own="db"), where(arm=other)}) == 3


def test_there_is_a_candidate_for_each_seed_that_both_losses_have(split, linear, tmp_path):
    data = DataSet(name="desk", directory=split.directory.parent, split=split, export="", sha256="")

    def cell(loss, seed):
        settings = LossSettings(**loss)
        return Cell(data="desk", split=split, loss=settings, seed=seed,
                    directory=tmp_path / f"{settings.name}-seed{seed}-1")  # fmt: skip

    asked = [({"name": "bce"}, 0), ({"name": "bce"}, 1), ({"name": "db-soft"}, 1),
             ({"name": "db-soft"}, 2), ({"name": "db"}, 0),
             ({"name": "db-soft", "options": {"focal": True}}, 0)]  # fmt: skip
    found = combinations(tmp_path, data, [cell(*one) for one in asked])

    assert [(one.seed, one.own.title, one.bce.title) for one in found] == [(1, "db-soft", "bce")]
