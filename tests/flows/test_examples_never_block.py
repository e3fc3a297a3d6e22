"""Examples that cannot be made are a sentence in the report, and the retrain goes on."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from prefect import flow

import flows.retrain
from longtail import storage
from longtail.bundle import BundleInfo, TrainingIds, write_bundle
from longtail.config import EncoderSettings
from longtail.encoder import build_classifier, load_encoder
from longtail.errors import StoreError
from longtail.examples import EXAMPLES
from longtail.labels import LabelGroups, LabelSpace
from longtail.predictions import Predictions, write_predictions
from longtail.tiny import write_tiny_encoder
from tasks.arms import write_arm
from tasks.data import write_label_space
from tasks.examples import explain_examples
from tasks.handles import ArmHandle, RunHandle, SplitHandle

SECRET = "the tent of Ms Ferreira is torn"
TEXTS = [SECRET, "where is my parcel", "the tent again"]
LABELS = ("damaged", "delivery")
SCORES = [[0.9, 0.2], [0.7, 0.6], [0.3, 0.1]]


@pytest.fixture
def run(tmp_path):
    return RunHandle(
        id="r", name="desk", directory=tmp_path / "run", store=tmp_path / "store", started_at="now"
    )


@pytest.fixture
def split(run):
    ids, labels = ["x", "y", "z"], [["damaged"], ["delivery"], ["damaged"]]
    table = pa.table({"id": ids, "text": TEXTS, "labels": labels})
    storage.write_parquet(run.directory / "splits" / "test.parquet", table)
    groups = LabelGroups(("HEAD", "TAIL"), (30, 4), (10, 20))
    write_label_space(run.directory / "label_space.json", LabelSpace(LABELS), groups)
    return SplitHandle.of(run.directory)


@pytest.fixture
def candidate(run, tmp_path):
    """A tiny encoder alone, and what it said of the test texts."""
    encoder = load_encoder(EncoderSettings(source=str(write_tiny_encoder(tmp_path / "e", TEXTS))))
    info = BundleInfo(
        labels=LABELS, thresholds=(0.5, 0.5), threshold_policy="group",
        label_groups=("HEAD", "TAIL"), group_cutoffs=(10, 20), train_support=(30, 4),
        max_length=16, loss="db", data_fingerprint="d" * 64,
        encoder_fingerprint=encoder.fingerprint, encoder_source="tiny",
    )  # fmt: skip
    nothing = TrainingIds(np.zeros(0, np.uint64), np.zeros(0, np.uint64))
    directory = run.directory / "arms" / "candidate"
    model = build_classifier(encoder, LABELS, seed=0)
    bundle = write_bundle(directory / "bundle", model, encoder.tokenizer, info, nothing)
    scores = np.array(SCORES, dtype=np.float32)
    write_predictions(directory / "test.parquet", Predictions(("x", "y", "z"), LABELS, scores))
    write_arm(directory, thresholds={"labels": dict.fromkeys(LABELS, 0.5)})
    return ArmHandle(arm="candidate", directory=directory, loss="db", seconds=1.0, bundle=bundle)


def test_suggestions_by_id_and_never_the_text(run, split, candidate):
    explain_examples.fn(run, split, candidate)

    content = (run.directory / EXAMPLES).read_text(encoding="utf-8")
    assert "Ferreira" not in content
    examples = storage.read_json(run.directory / EXAMPLES)["examples"]
    assert [(one["id"], one["shown_for"]) for one in examples] == [
        ("x", {"label": "damaged", "why": "right, most confident"}),
        ("y", {"label": "delivery", "why": "right, least confident"}),
    ]
    found = [(one["label"], one["probability"], one["right"]) for one in examples[1]["suggestions"]]
    assert found == [("damaged", 0.7, False), ("delivery", 0.6, True)]
    assert {share["source"] for one in examples for label in one["suggestions"]
            for share in label["sources"]} == {"encoder"}  # fmt: skip


def test_they_are_the_same_every_time(run, split, candidate):
    explain_examples.fn(run, split, candidate)
    first = (run.directory / EXAMPLES).read_bytes()
    explain_examples.fn(run, split, candidate)
    assert (run.directory / EXAMPLES).read_bytes() == first


def test_a_candidate_without_a_bundle_is_an_error(run, split, candidate):
    with pytest.raises(StoreError, match="no bundle to explain"):
        explain_examples.fn(run, split, candidate.model_copy(update={"bundle": None}))


@pytest.mark.slow
def test_a_damaged_bundle_is_noted_for_the_report(prefect_harness, run, split, candidate):
    (candidate.bundle / "longtail.json").write_text("{}")

    @flow
    def explains():
        flows.retrain._explain(run, split, candidate)
        return "went on"

    assert explains() == "went on"
    assert "longtail.json" in storage.read_json(run.directory / EXAMPLES)["failed"]
