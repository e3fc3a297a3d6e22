"""The linear arm and the encoder arms: what they leave, and when they are taken over."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from longtail import storage
from longtail.baselines import LinearBaseline
from longtail.bundle import load_bundle, read_training_ids
from longtail.config import EncoderSettings, LinearSettings, LossSettings, TrainingSettings
from longtail.labels import LabelGroups, LabelSpace
from longtail.predictions import read_predictions
from longtail.scoring import score_bundle
from longtail.serve_check import pipeline_probabilities
from longtail.thresholds import best_global_threshold
from tasks.arms import write_arm
from tasks.data import SplitData, write_label_space
from tasks.encoder_arm import run_job
from tasks.handles import DatasetHandle, RunHandle, SplitHandle
from tasks.linear_arm import LINEAR_MODEL
from tasks.train import train_encoder, train_linear
from tasks.training_job import TINY, TrainingJob

TOPICS = ("tent", "boot", "stove")
FILLER = ("please", "help", "today", "again", "since", "broken", "my", "the")
SIZES = {"train": 90, "validation": 40, "test": 20}
SETTINGS = TrainingSettings(epochs=1, batch_size=16, max_length=16, trainable_layers="all")


def rows(part, count):
    rng = np.random.default_rng(len(part))
    labels = [sorted(rng.choice(TOPICS, rng.integers(1, 3), replace=False)) for _ in range(count)]
    texts = [" ".join([*rng.choice(FILLER, 6), *given]) for given in labels]
    return {"id": [f"{part}{n}" for n in range(count)], "text": texts, "labels": labels}


@pytest.fixture
def run(tmp_path):
    return RunHandle(
        id="r", name="desk", directory=tmp_path / "run", store=tmp_path / "store", started_at="now"
    )


@pytest.fixture
def split(run):
    for part, count in SIZES.items():
        path = run.directory / "splits" / f"{part}.parquet"
        storage.write_parquet(path, pa.table(rows(part, count)))
    groups = LabelGroups(("HEAD", "MEDIUM", "TAIL"), (50, 45, 40), (42, 48))
    write_label_space(run.directory / "label_space.json", LabelSpace(TOPICS), groups)
    return SplitHandle.of(run.directory)


@pytest.fixture
def linear(run, split):
    return train_linear.fn(run, split, LinearSettings())


@pytest.fixture
def trained(run, split):
    """The directory of a candidate's encoder."""
    job = TrainingJob(
        arm="candidate-db", directory=run.directory / "arms" / "candidate-db", split=split,
        dataset="f" * 64, encoder=EncoderSettings(source=TINY), training=SETTINGS,
        loss=LossSettings(name="db"), activations=run.cache, encoders=run.store / "encoders",
    )  # fmt: skip
    job.directory.mkdir(parents=True, exist_ok=True)
    run_job(job)
    return job.directory


def train(run, split, **changes):
    dataset = DatasetHandle(
        directory=run.store, fingerprint="f" * 64, version=1, n_texts=150, n_labels=3
    )
    given = {"loss": LossSettings(name="bce"), "arm": "bce", **changes}
    settings = given.pop("settings", SETTINGS)
    return train_encoder.fn(run, split, dataset, EncoderSettings(source=TINY), settings, **given)


def test_the_linear_arm_is_kept_as_it_scored(split, linear):
    model = LinearBaseline.load(linear.directory / LINEAR_MODEL)
    kept = read_predictions(linear.directory / "test.parquet").probabilities
    np.testing.assert_array_equal(model.predict(SplitData(split).texts("test")), kept)


@pytest.mark.parametrize("refit", [True, False])
def test_validation_is_scored_by_a_model_that_has_not_seen_it(run, split, refit):
    data = SplitData(split)
    linear = train_linear.fn(run, split, LinearSettings(refit=refit))
    unseen = LinearBaseline(LinearSettings()).fit(data.texts("train"), data.y("train"))
    kept = read_predictions(linear.directory / "validation.parquet").probabilities
    np.testing.assert_array_equal(unseen.predict(data.texts("validation")), kept)

    model = LinearBaseline.load(linear.directory / LINEAR_MODEL)
    differs = np.abs(model.predict(data.texts("validation")) - kept).max() > 0.01
    assert differs == refit
    learned = storage.read_json(linear.directory / "arm.json")["learned_from"]
    assert learned == ["train", "validation"][: 1 + refit]


def test_an_encoder_arm_is_plain_and_has_learned_from_train_alone(split, trained):
    data, bundle = SplitData(split), load_bundle(trained / "bundle")

    assert (bundle.info.combined, bundle.ensemble, bundle.info.loss) == (False, None, "db")
    assert "combination" not in storage.read_json(trained / "arm.json")
    assert len(read_training_ids(trained / "bundle").ids) == len(data.ids("train"))
    tested = read_predictions(trained / "test.parquet").probabilities
    np.testing.assert_allclose(score_bundle(bundle, data.texts("test")), tested, atol=1e-6)
    alone = pipeline_probabilities(trained / "bundle", data.texts("test"), TOPICS)
    np.testing.assert_allclose(tested, alone, atol=1e-5)


def test_until_it_is_tuned_it_cuts_where_validation_is_best(split, trained):
    data, cuts = SplitData(split), load_bundle(trained / "bundle").info.thresholds
    found = read_predictions(trained / "validation.parquet").probabilities
    assert len(set(cuts)) == 1
    assert cuts[0] == pytest.approx(best_global_threshold(data.y("validation"), found)[0], abs=1e-3)


def test_what_was_trained_before_is_taken_over_and_nothing_is_started(run, split, monkeypatch):
    first = train(run, split)
    about = storage.read_json(first.directory / "arm.json")
    checkpoints = run.store / "cache" / "checkpoints"
    again = run.model_copy(update={"id": "r2", "directory": run.directory.with_name("again")})
    monkeypatch.setattr("tasks.train.train_in_process", lambda *_, **__: pytest.fail("trained"))
    monkeypatch.setattr("tasks.train.training_slot", lambda _: pytest.fail("took the slot"))
    second = train(again, split)

    assert (first.key, first.loss, first.arm) == (second.key, "bce", "bce")
    assert second.directory == again.directory / "arms" / "bce"
    assert storage.read_json(second.directory / "arm.json") == about
    assert about["history"]
    assert second.bundle == second.directory / "bundle"
    storage.verify_directory(second.bundle)
    assert [path.name for path in checkpoints.iterdir()] == ["locks"]
    lines = (again.directory / "stages.jsonl").read_text().splitlines()
    assert [json.loads(line)["cached"] for line in lines] == [True]


def test_an_arms_key_is_made_of_what_changes_the_arm(run, split, monkeypatch):
    asked = []

    def note(_, stage, key, into, __):
        asked.append(key)
        write_arm(into, arm=stage.removeprefix("train-"), loss="x", seconds=1.0)

    monkeypatch.setattr("tasks.train.run_stage", note)
    longer = SETTINGS.model_copy(update={"epochs": 2})
    changes = (
        {}, {}, {"settings": longer}, {"loss": LossSettings(name="db")}, {"arm": "candidate-db"}
    )  # fmt: skip
    for change in changes:
        train(run, split, **change)
    texts = storage.read_parquet(split.directory / "test.parquet")
    storage.write_parquet(split.directory / "test.parquet", texts.slice(1))
    train(run, split)

    same, *others = asked
    assert others[0] == same
    assert len(set(asked)) == len(asked) - 1
