"""Trained arms become one candidate: its bundle, what it is tuned on, what it is held against."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from longtail import storage
from longtail.bundle import load_bundle, read_info, read_training_ids
from longtail.config import (
    CombinationSettings,
    EncoderSettings,
    LinearSettings,
    LossSettings,
    TrainingSettings,
)
from longtail.labels import LabelGroups, LabelSpace
from longtail.predictions import read_predictions
from longtail.scoring import score_bundle
from longtail.serve_check import pipeline_probabilities
from tasks.arms import LADDER, STEPS
from tasks.combine import combine_evidence
from tasks.data import SplitData, write_label_space
from tasks.encoder_arm import run_job
from tasks.handles import RunHandle, SplitHandle
from tasks.train import arm_handle, train_linear
from tasks.training_job import TINY, TrainingJob

TOPICS = ("boot", "stove", "tent")
FILLER = ("please", "help", "today", "again", "since", "broken", "my", "the")
SIZES = {"train": 90, "validation": 60, "test": 20}
BUDGET = TrainingSettings(epochs=2, batch_size=16, max_length=16, trainable_layers=1)
SETTINGS = CombinationSettings(folds=3, min_texts=20, neighbours=10)
ALL = SETTINGS.sources


def rows(part, count):
    rng = np.random.default_rng(len(part))
    about = [sorted(rng.choice(TOPICS, rng.integers(1, 3), replace=False)) for _ in range(count)]
    texts = [" ".join([*rng.choice(FILLER, 6), f"n{n}", *given]) for n, given in enumerate(about)]
    # People miss labels, so that no source is always right.
    labels = [[name for name in given if rng.random() < 0.8] for given in about]
    ids = [f"{part}{n}" for n in range(count)]
    return {"id": ids, "text": texts, "labels": labels, "unit": list(range(count))}


def run_in(root, name="run"):
    return RunHandle(
        id=name, name="desk", directory=root / name, store=root / "store", started_at="now"
    )


@pytest.fixture(scope="module", params=[1, "all"], ids=["frozen", "all trained"])
def trained(request, tmp_path_factory):
    """Split and arms, made once: with frozen layers, and with none."""
    root = tmp_path_factory.mktemp("trained")
    run = run_in(root, "arms")
    for part, count in SIZES.items():
        path = run.directory / "splits" / f"{part}.parquet"
        storage.write_parquet(path, pa.table(rows(part, count)))
    groups = LabelGroups(("HEAD", "MEDIUM", "TAIL"), (50, 45, 40), (42, 48))
    write_label_space(run.directory / "label_space.json", LabelSpace(TOPICS), groups)
    split = SplitHandle.of(run.directory)
    arms = [train_linear.fn(run, split, LinearSettings())]
    for arm, loss in (("bce", "bce"), ("candidate-db", "db")):
        directory = run.directory / "arms" / arm
        directory.mkdir(parents=True)
        run_job(TrainingJob(
            arm=arm, directory=directory, split=split, dataset="f" * 64,
            encoder=EncoderSettings(source=TINY), loss=LossSettings(name=loss),
            training=BUDGET.model_copy(update={"trainable_layers": request.param}),
            activations=run.cache, encoders=run.store / "encoders",
        ))  # fmt: skip
        arms.append(arm_handle(directory, key=arm))
    return root, split, arms


@pytest.fixture
def combine(trained, tmp_path):
    """Combines them in a run of its own, some settings changed."""
    root, split, (linear, bce, encoder) = trained

    def make(name="run", taxonomy=None, bce=bce, **changes):
        run = RunHandle(id=name, name="desk", directory=tmp_path / name, store=root / "store",
                        started_at="now")  # fmt: skip
        settings = SETTINGS.model_copy(update=changes)
        return combine_evidence.fn(run, split, encoder, bce, linear, settings, taxonomy)

    return make


def scores(arm, part):
    return read_predictions(arm.directory / f"{part}.parquet").probabilities


def about(arm):
    return storage.read_json(arm.directory / "arm.json")


def frozen(trained):
    return load_bundle(trained[2][1].bundle).info.frozen_layers >= 0


def test_the_candidate_is_served_as_it_was_scored(trained, combine):
    candidate, _ = combine()
    data = SplitData(trained[1])
    bundle = load_bundle(candidate.bundle)

    assert (candidate.arm, candidate.loss, bundle.info.loss) == ("candidate", "db", "db")
    assert bundle.info.sources == tuple(about(candidate)["combination"]["sources"])
    served = score_bundle(bundle, data.texts("test"))
    np.testing.assert_allclose(served, scores(candidate, "test"), atol=1e-5)
    assert scores(candidate, "validation").shape == (SIZES["validation"], len(TOPICS))


def test_its_bundle_says_that_it_has_learned_from_validation(trained, combine):
    data, (candidate, _) = SplitData(trained[1]), combine()
    every = [*data.ids("train"), *data.ids("validation")]
    assert len(read_training_ids(candidate.bundle).ids) == len(every)
    assert about(candidate)["learned_from"] == ["train", "validation"]


def test_it_tells_of_its_sources_and_why_one_is_missing(trained, combine):
    found = about(combine()[0])["combination"]
    shares = frozen(trained)
    alone = set(found["validation_micro_f1"]) - {"weighted sum", "learned"}
    assert alone == set(ALL) - ({"names"} if not shares else set())
    assert found["method"] in {"learned", "weighted sum", "one source"}
    left_out = [note for note in found["notes"] if note.startswith("The source names is left out")]
    assert len(left_out) == (0 if shares else 1)
    assert set(found["weights"]) == set(found["sources"])
    assert min(found["weights"].values()) >= 0


def test_validation_is_judged_out_of_fold(combine):
    """The bundle has validation's texts in its memory; what is tuned on them has not."""
    candidate, _ = combine()
    texts = rows("validation", SIZES["validation"])["text"]
    served = score_bundle(candidate.bundle, texts)
    assert np.abs(served - scores(candidate, "validation")).max() > 1e-3


def test_the_matched_arm_has_nothing_of_the_candidates_encoder(trained, combine):
    candidate, matched = combine()
    found = about(matched)["combination"]
    assert (matched.arm, matched.loss, matched.bundle) == ("matched", "bce", None)
    assert "encoder" not in found["sources"]
    assert "encoder" not in found["validation_micro_f1"]
    for part in ("validation", "test"):
        assert scores(matched, part).shape == scores(candidate, part).shape


def test_the_ladder_adds_one_source_after_the_other(trained, combine):
    candidate, _ = combine()
    directory = candidate.directory / LADDER
    steps = storage.read_json(directory / STEPS)
    assert [step["key"] for step in steps] == ["linear", "neighbours", "names", "both_encoders"]
    for step, more in pairwise(steps):
        assert more["sources"][: len(step["sources"])] == step["sources"]
    for step in steps:
        for part, count in (("validation", 60), ("test", 20)):
            found = read_predictions(directory / step["key"] / f"{part}.parquet")
            assert found.probabilities.shape == (count, len(TOPICS))


def test_sources_that_are_switched_off_take_no_part(combine):
    candidate, matched = combine(sources=("encoder", "linear"))
    assert set(about(candidate)["combination"]["validation_micro_f1"]) <= {
        "encoder", "linear", "weighted sum", "learned"
    }  # fmt: skip
    assert set(about(matched)["combination"]["validation_micro_f1"]) <= {
        "bce", "linear", "weighted sum", "learned"
    }  # fmt: skip
    steps = storage.read_json(candidate.directory / LADDER / STEPS)
    assert [step["key"] for step in steps] == ["linear"]


@pytest.mark.parametrize(
    ("changes", "note"),
    [({"sources": ("encoder",)}, ""), ({"folds": 40}, "too few to learn how far to trust")],
    ids=["switched off", "too few texts"],
)
def test_the_encoder_alone_is_a_plain_bundle_with_the_encoders_numbers(
    trained, combine, changes, note
):
    candidate, matched = combine(**changes)
    encoder, data = trained[2][2], SplitData(trained[1])

    assert not read_info(candidate.bundle).combined
    assert not (candidate.bundle / "evidence").exists()
    assert (matched is None) == ("sources" in changes)
    assert note in " ".join(about(candidate)["combination"]["notes"])
    for part in ("validation", "test"):
        np.testing.assert_allclose(scores(candidate, part), scores(encoder, part), atol=1e-5)
    alone = pipeline_probabilities(candidate.bundle, data.texts("test"), TOPICS)
    np.testing.assert_allclose(alone, scores(candidate, "test"), atol=1e-5)
    assert len(read_training_ids(candidate.bundle).ids) == SIZES["train"]


def test_what_was_combined_before_is_taken_over(trained, combine, tmp_path, monkeypatch):
    first, matched = combine()
    monkeypatch.setattr("tasks.combine._Combining.run", lambda *_: pytest.fail("combined again"))
    again, matched_again = combine("again")

    assert (first.key, matched.key) == (again.key, matched_again.key)
    assert again.directory == tmp_path / "again" / "arms" / "candidate"
    for one, other in ((first, again), (matched, matched_again)):
        assert scores(one, "test").tobytes() == scores(other, "test").tobytes()
    storage.verify_directory(again.bundle)
    lines = (tmp_path / "again" / "stages.jsonl").read_text().splitlines()
    assert [json.loads(line)["cached"] for line in lines] == [True]


def test_its_key_is_made_of_what_changes_it(trained, combine, tmp_path, monkeypatch):
    keys = []

    def note(_, __, key, into, ___, files):
        keys.append(key)
        raise InterruptedError

    monkeypatch.setattr("tasks.combine.run_stage", note)
    (tmp_path / "labels.yaml").write_text("labels: {tent: {description: A shelter of cloth}}")
    for changes in ({}, {}, {"folds": 4}, {"sources": ("encoder", "linear")},
                    {"taxonomy": str(tmp_path / "labels.yaml")}):  # fmt: skip
        with pytest.raises(InterruptedError):
            combine(**changes)
    with pytest.raises(InterruptedError):
        combine(bce=trained[2][1].model_copy(update={"key": "other"}))
    same, *others = keys
    assert others[0] == same
    assert len(set(keys)) == len(keys) - 1


def test_descriptions_and_aliases_are_part_of_a_labels_name(trained, combine, tmp_path):
    taxonomy = tmp_path / "labels.yaml"
    taxonomy.write_text("labels: {tent: {description: Shelter of cloth., aliases: [canvas]}}")
    made = combine(taxonomy=str(taxonomy), sources=("encoder", "names", "name_words"))[0]
    words = made.bundle / "evidence" / "name_words" / "name_words.parquet"
    if words.is_file():
        assert {"tent", "canvas", "shelter", "cloth"} <= set(
            storage.read_parquet(words)["word"].to_pylist()
        )
    else:
        assert read_info(made.bundle).sources == ("encoder",)
