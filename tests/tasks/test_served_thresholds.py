"""What is evaluated is what is served: the tuned thresholds go into the bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from longtail import storage
from longtail.bundle import BundleInfo, TrainingIds, finalise_bundle, read_info, write_bundle
from longtail.config import EncoderSettings, ThresholdSettings
from longtail.encoder import build_classifier, load_encoder
from longtail.labels import LabelGroups, LabelSpace
from longtail.predictions import Predictions, write_predictions
from longtail.tiny import write_tiny_encoder
from tasks.arms import read_thresholds
from tasks.data import write_label_space
from tasks.handles import ArmHandle, RunHandle, SplitHandle
from tasks.publish import thresholds_as_evaluated
from tasks.tune import tune_thresholds

SPACE = LabelSpace(("common", "rare"))
GROUPS = LabelGroups(("HEAD", "TAIL"), (9, 2), (3, 5))
LABELS = [["common"], ["common"], ["rare"], []]
SCORES = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.4], [0.2, 0.1]], dtype=np.float32)
IDS = ("a", "b", "c", "d")


@pytest.fixture
def run(tmp_path: Path) -> RunHandle:
    return RunHandle(
        id="r", name="desk", directory=tmp_path, store=tmp_path / "store", started_at="now"
    )


@pytest.fixture
def split(tmp_path: Path) -> SplitHandle:
    directory = tmp_path / "splits"
    table = pa.table({"id": IDS, "labels": pa.array(LABELS, pa.list_(pa.string()))})
    storage.write_parquet(directory / "validation.parquet", table)
    write_label_space(tmp_path / "label_space.json", SPACE, GROUPS)
    return SplitHandle.of(tmp_path)


@pytest.fixture
def arm(tmp_path: Path) -> ArmHandle:
    encoder = load_encoder(
        EncoderSettings(source=str(write_tiny_encoder(tmp_path / "tiny", ["a few words"])))
    )
    info = BundleInfo(
        labels=SPACE.names, thresholds=(0.5, 0.5), threshold_policy="global",
        label_groups=GROUPS.of_label, group_cutoffs=GROUPS.cutoffs,
        train_support=GROUPS.support, max_length=16, loss="db", data_fingerprint="d" * 64,
        encoder_fingerprint=encoder.fingerprint, encoder_source="tiny",
    )  # fmt: skip
    nothing = TrainingIds(np.zeros(0, np.uint64), np.zeros(0, np.uint64))
    directory = tmp_path / "candidate"
    bundle = write_bundle(
        directory / "bundle",
        build_classifier(encoder, SPACE.names, seed=0),
        encoder.tokenizer,
        info,
        nothing,
    )
    write_predictions(directory / "validation.parquet", Predictions(IDS, SPACE.names, SCORES))
    return ArmHandle(arm="candidate", directory=directory, loss="db", seconds=0.0, bundle=bundle)


def test_the_bundle_serves_with_the_thresholds_that_were_tuned(run, split, arm):
    tune_thresholds.fn(run, split, arm, ThresholdSettings(policy="group"))
    info, evaluated = read_info(arm.bundle), read_thresholds(arm.directory)
    assert info.threshold_policy == "group"
    assert dict(zip(info.labels, info.thresholds, strict=True)) == evaluated
    assert evaluated["common"] == pytest.approx(0.55)
    assert evaluated["rare"] == pytest.approx(0.3)
    storage.verify_directory(arm.bundle)
    assert thresholds_as_evaluated(info, evaluated).passed


def test_the_labels_without_a_cut_of_their_own_are_named(run, split, arm):
    tune_thresholds.fn(run, split, arm, ThresholdSettings(policy="label", min_label_positives=2))
    about = storage.read_json(arm.directory / "arm.json")["thresholds"]
    assert about["on_group_cut"] == ["rare"]
    assert about["labels"]["rare"] == about["by_group"]["TAIL"]
    assert about["fallbacks"]["TAIL"].startswith("1 of 1 labels with fewer than 2 validation")
    assert read_info(arm.bundle).threshold_policy == "label"


def test_a_bundle_with_other_thresholds_than_were_evaluated_is_not_published(run, split, arm):
    tune_thresholds.fn(run, split, arm, ThresholdSettings())
    evaluated = read_thresholds(arm.directory)
    changed = finalise_bundle(arm.bundle, thresholds=np.array([evaluated["common"], 0.31]))
    rule = thresholds_as_evaluated(changed, evaluated)
    assert (rule.passed, rule.severity, rule.value) == (False, "block", 1)
    assert "'rare'" in rule.detail
    assert not thresholds_as_evaluated(changed, {}).passed
