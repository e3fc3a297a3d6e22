"""A cell is found again by what its numbers depend on, and is trained again when damaged."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pytest

from longtail import storage
from longtail.config import GROUPS, EncoderSettings, LossSettings, TrainingSettings
from longtail.labels import LabelGroups, LabelSpace
from longtail.tiny import write_tiny_encoder
from tasks.cells import CELL, cell_directory, is_whole, read_evidence, train_cell
from tasks.data import SplitData, write_label_space
from tasks.handles import SplitHandle
from tasks.leaderboard import Cell

WORDS = ("tent", "boot", "stove")
DB = LossSettings(name="db")
BUDGET = TrainingSettings(epochs=1, batch_size=8, max_length=16, trainable_layers="all", seed=3)


def texts(part, number):
    rows = [[WORDS[n % 3], *(["boot"] if n % 5 == 0 else [])] for n in range(number)]
    return pa.table({
        "id": [f"{part}{n}" for n in range(number)],
        "text": [f"please mend my {' and '.join(row)} number {n}" for n, row in enumerate(rows)],
        "labels": [sorted(set(row)) for row in rows],
        "unit": list(range(number)),
    })  # fmt: skip


@pytest.fixture
def split(tmp_path):
    handle = SplitHandle.of(tmp_path / "desk")
    for part, number in (("train", 30), ("validation", 12), ("test", 12)):
        storage.write_parquet(handle.directory / f"{part}.parquet", texts(part, number))
    groups = LabelGroups(GROUPS, (14, 10, 10), (10, 12))
    write_label_space(handle.label_space, LabelSpace(tuple(sorted(WORDS))), groups)
    return handle


def directory(split, *, encoder="e", settings=BUDGET, loss=DB, descriptions=None):
    root = split.directory.parent / "cells"
    return cell_directory(root, split, encoder, settings, loss, descriptions or {})


def changed(**settings):
    return BUDGET.model_copy(update=settings)


# ── where a cell is kept ─────────────────────────────────────────────────────────────────────


def test_the_name_says_which_loss_and_seed(split):
    assert directory(split).name.startswith("db-seed3-")
    assert directory(split) == directory(split)


@pytest.mark.parametrize(
    "other",
    [
        {"settings": changed(seed=4)},
        {"settings": changed(epochs=2)},
        {"settings": changed(precision="bf16")},
        {"settings": changed(accumulation=2)},
        {"encoder": "another"},
        {"loss": LossSettings(name="bce")},
        {"loss": LossSettings(name="db", options={"focal_gamma": 1.0})},
        {"descriptions": {"boot": ["footwear"]}},
    ],
)
def test_what_changes_the_numbers_changes_the_place(split, other):
    assert directory(split, **other) != directory(split)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_so_does_another_text(split, part):
    before = directory(split)
    storage.write_parquet(split.directory / f"{part}.parquet", texts(part, 9))

    assert directory(split) != before


@pytest.mark.parametrize(
    "other",
    [
        {"settings": changed(cache=False)},
        {"settings": changed(processes=2)},
        {"loss": LossSettings(name="db", options={})},
        {"descriptions": {"kettle": ["not a label here"]}},
    ],
)
def test_what_does_not_change_them_does_not(split, other):
    assert directory(split, **other) == directory(split)


def test_label_groups_are_free_to_change(split):
    before = directory(split)
    groups = LabelGroups(("TAIL", "HEAD", "HEAD"), (14, 10, 10), (1, 2))
    write_label_space(split.label_space, LabelSpace(tuple(sorted(WORDS))), groups)

    assert directory(split) == before


# ── what is in it ────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def encoder(tmp_path):
    source = write_tiny_encoder(tmp_path / "encoder", texts("train", 30)["text"].to_pylist())
    return EncoderSettings(source=str(source))


def trained(split, encoder, tmp_path, settings=BUDGET):
    where = directory(split, settings=settings)
    train_cell.fn(where, split, encoder, settings, DB, {}, tmp_path / "cache")
    return where


def test_a_cell_holds_evidence_and_how_it_was_trained(split, encoder, tmp_path):
    where = trained(split, encoder, tmp_path, changed(trainable_layers=1))

    assert is_whole(where)
    for part in ("validation", "test"):
        found = read_evidence(where, SplitData(split), part)
        assert list(found) == ["encoder", "neighbours", "names", "name_words"]
        for values in found.values():
            assert values.shape == (12, 3)
            assert np.isfinite(values).all()
        assert set(read_evidence(where, SplitData(split), part, "encoder")) == {"encoder"}
    about = storage.read_json(where / CELL)
    assert (about["loss"]["name"], about["training"]["seed"]) == ("db", 3)
    assert about["parameters"] >= about["trainable_parameters"] > 0
    assert len(about["history"]) == 1
    assert about["notes"] == []
    assert storage.read_json(where / "arm.json")["learned_from"] == ["train"]


def test_the_test_texts_neighbours_are_validation_texts_too(split, encoder, tmp_path):
    where = trained(split, encoder, tmp_path)
    evidence = read_evidence(where, SplitData(split), "test")

    rows = storage.read_parquet(split.directory / "validation.parquet")
    none = pa.array([[] for _ in range(len(rows))], pa.list_(pa.string()))
    at = rows.schema.get_field_index("labels")
    storage.write_parquet(
        split.directory / "validation.parquet", rows.set_column(at, "labels", none)
    )
    again = read_evidence(trained(split, encoder, tmp_path), SplitData(split), "test")

    assert (again["neighbours"] < evidence["neighbours"]).all()


def test_a_source_with_nothing_to_say_is_left_out_with_a_note(split, encoder, tmp_path):
    """Labels without a word in their names, and no frozen layer that knows meanings."""
    groups = LabelGroups(GROUPS, (14, 10, 10), (10, 12))
    names = {"boot": "**", "stove": "++", "tent": "--"}
    write_label_space(split.label_space, LabelSpace(tuple(sorted(names.values()))), groups)
    for part in ("train", "validation", "test"):
        path = split.directory / f"{part}.parquet"
        rows = storage.read_parquet(path)
        labels = [[names[label] for label in row] for row in rows["labels"].to_pylist()]
        at = rows.schema.get_field_index("labels")
        storage.write_parquet(path, rows.set_column(at, "labels", pa.array(labels)))

    about = storage.read_json(trained(split, encoder, tmp_path) / CELL)

    assert about["evidence"] == ["encoder", "neighbours"]
    assert [note.partition(":")[0] for note in about["notes"]] == [
        "The source names is left out", "The source name_words is left out",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["test_encoder.parquet", CELL, storage.MANIFEST])
def test_a_damaged_cell_is_not_whole(tmp_path, caplog, name):
    cell = tmp_path / "db-seed0-1"
    with storage.committed_directory(cell) as staging:
        for file in ("validation_encoder.parquet", "test_encoder.parquet", CELL):
            (staging / file).write_text(file)
    assert is_whole(cell)

    (cell / name).unlink()
    with caplog.at_level(logging.WARNING):
        assert not is_whole(cell)
    assert "made again" in caplog.text


def test_what_is_not_there_is_not_whole_either(tmp_path, caplog):
    assert not is_whole(tmp_path / "db-seed0-1")
    assert caplog.text == ""


# ── what it is called ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("loss", "title"),
    [
        (DB, "db"),
        (LossSettings(name="db", options={"focal_gamma": 1.0, "focal": True}),
         "db (focal=true, focal_gamma=1.0)"),
        (LossSettings(article={"focal": {"gamma": 2}, "reweight_func": "inv"}),
         'article (focal={"gamma": 2}, reweight_func=inv)'),
    ],
)  # fmt: skip
def test_a_loss_is_called_by_what_was_changed_of_it(split, loss, title):
    assert Cell(data="desk", split=split, loss=loss, seed=0, directory="x").title == title
