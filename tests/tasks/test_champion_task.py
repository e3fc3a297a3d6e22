"""The champion on today's test set; whatever is wrong with it is a finding, never a crash."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp

from longtail import storage
from longtail.baselines import LinearBaseline
from longtail.bundle import BundleInfo, TrainingIds, load_bundle, write_bundle
from longtail.config import EncoderSettings, LinearSettings, PublishSettings
from longtail.encoder import build_classifier, load_encoder
from longtail.models.combination import Combination, WeightedSum
from longtail.models.ensemble import Ensemble
from longtail.models.evidence import EncoderLogits, LinearDecisions
from longtail.models.reading import EncoderReader
from longtail.predictions import read_predictions
from longtail.scoring import score_logits
from longtail.tiny import write_tiny_encoder
from tasks.arms import read_thresholds
from tasks.champion import repair_registry, score_champion
from tasks.handles import RunHandle, SplitHandle
from tasks.promotion import INTENT, LOG, Promotion
from tasks.publishing import open_promotions

NAME = "tickets"
TEXTS = ["the tent is torn", "where is my parcel", "the tent again"]
LABELS = ("a", "b")


@pytest.fixture
def run(tmp_path, store_directory):
    return RunHandle(
        id="r", name=NAME, directory=tmp_path / "run", store=store_directory, started_at="now"
    )


@pytest.fixture
def split(run):
    table = pa.table({"id": ["x", "y", "z"], "text": TEXTS})
    storage.write_parquet(run.directory / "splits" / "test.parquet", table)
    return SplitHandle.of(run.directory)


@pytest.fixture
def release(run, tmp_path):
    """Makes a real, tiny bundle the champion."""
    encoder = load_encoder(EncoderSettings(source=str(write_tiny_encoder(tmp_path / "e", TEXTS))))
    promotions = open_promotions(PublishSettings(), run.store, NAME)

    def make(number, micro_f1, seed, linear=None):
        info = BundleInfo(
            labels=LABELS, thresholds=(0.4, 0.6), threshold_policy="group",
            label_groups=("HEAD", "TAIL"), group_cutoffs=(1, 2), train_support=(3, 1),
            max_length=16, loss="db", data_fingerprint="d" * 64,
            encoder_fingerprint=encoder.fingerprint, encoder_source="tiny",
            sources=("encoder",) if linear is None else ("encoder", "linear"),
        )  # fmt: skip
        nothing = TrainingIds(np.zeros(0, np.uint64), np.zeros(0, np.uint64))
        model = build_classifier(encoder, LABELS, seed=seed)
        bundle = write_bundle(
            tmp_path / f"b{number}", model, encoder.tokenizer, info, nothing,
            ensemble=None if linear is None else _ensemble(model, encoder.tokenizer, linear),
        )  # fmt: skip
        version = promotions.registry.register(bundle, None, {})
        before = promotions.champion()
        entry = Promotion(
            kind="promote", at="2999-01-01T00:00:00+00:00", by="t", to_version=version.number,
            from_version=before.number if before else None, micro_f1=micro_f1,
        )  # fmt: skip
        promotions.promote(version, entry)
        return bundle

    return make


@pytest.fixture
def linear():
    y = sp.csr_array(np.array([[1, 0], [0, 1], [1, 0]], dtype=bool))
    return LinearBaseline(LinearSettings()).fit(TEXTS, y)


def _ensemble(model, tokenizer, linear):
    """Logits and twice the decision values, added up."""
    reader = EncoderReader({"encoder": model.eval()}, tokenizer, max_length=16)
    added = WeightedSum({"encoder": 1.0, "linear": 2.0}, 0.0)
    combination = Combination("weighted sum", ("encoder", "linear"), added, np.array([3, 1]))
    sources = {"encoder": EncoderLogits(), "linear": LinearDecisions(linear)}
    return Ensemble(reader, sources, combination)


def score(run, split):
    return score_champion.fn(run, split, PublishSettings())


def test_before_the_first_release_there_is_none(run, split):
    assert score(run, split).state == "none"


def test_the_champion_is_scored_as_it_serves(run, split, release):
    release(1, 0.5, seed=0)
    champion = score(run, split)
    (arm,) = champion.arms

    assert (champion.state, champion.version, arm.version) == ("scored", 1, 1)
    scored = read_predictions(arm.directory / "test.parquet")
    assert (scored.ids, scored.labels) == (("x", "y", "z"), LABELS)
    assert ((scored.probabilities > 0) & (scored.probabilities < 1)).all()
    assert read_thresholds(arm.directory) == {"a": 0.4, "b": 0.6}
    about = storage.read_json(arm.directory / "arm.json")["thresholds"]
    assert about["by_group"] == {"HEAD": 0.4, "TAIL": 0.6}


def test_a_combined_champion_is_scored_so_from_the_registrys_copy(run, split, release, linear):
    bundle = release(1, 0.5, seed=0, linear=linear)
    encoder = load_bundle(bundle)
    shutil.rmtree(bundle)
    (arm,) = score(run, split).arms

    alone = score_logits(encoder.model, encoder.tokenizer, TEXTS, max_length=16)
    found = read_predictions(arm.directory / "test.parquet").probabilities
    expected = 1 / (1 + np.exp(-(alone + 2.0 * linear.decisions(TEXTS))))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - 1 / (1 + np.exp(-alone))).max() > 0.1
    about = storage.read_json(arm.directory / "arm.json")
    assert about["combination"] == {"sources": ["encoder", "linear"]}


def test_a_combined_champion_of_which_a_part_is_damaged_blocks(run, split, release, linear):
    release(1, 0.5, seed=0, linear=linear)
    for terms in (run.store / "mlartifacts").rglob("terms.parquet"):
        terms.write_bytes(b"torn")
    champion = score(run, split)

    assert (champion.state, champion.version, champion.arms) == ("unreadable", 1, ())
    assert "terms.parquet" in champion.error


def test_the_best_of_the_year_stands_beside_a_champion_that_is_not_it(run, split, release):
    release(1, 0.7, seed=0)
    release(2, 0.6, seed=1)
    champion = score(run, split)

    assert [(arm.arm, arm.version) for arm in champion.arms] == [
        ("champion", 2), ("best_champion", 1)
    ]  # fmt: skip
    one, other = (read_predictions(arm.directory / "test.parquet") for arm in champion.arms)
    assert not np.allclose(one.probabilities, other.probabilities)


def test_a_best_champion_whose_bundle_is_gone_is_named_and_the_champion_is_still_scored(
    run, split, release
):
    release(1, 0.7, seed=0)
    for weights in (run.store / "mlartifacts").rglob("model.safetensors"):
        weights.unlink()
    release(2, 0.6, seed=1)
    champion = score(run, split)

    assert (champion.state, [arm.arm for arm in champion.arms]) == ("scored", ["champion"])
    assert champion.best_error.startswith("version 1, ")


def test_a_damaged_champion_is_a_finding_with_its_file(run, split, release):
    release(1, 0.5, seed=0)
    for weights in (run.store / "mlartifacts").rglob("model.safetensors"):
        weights.write_bytes(b"torn")
    champion = score(run, split)

    assert (champion.state, champion.version, champion.arms) == ("unreadable", 1, ())
    assert "model.safetensors" in champion.error


def test_a_bundle_that_will_not_load_is_a_finding_too(run, split, release, monkeypatch):
    release(1, 0.5, seed=0)
    monkeypatch.setattr("tasks.champion.score_bundle", lambda *_, **__: 1 / 0)
    champion = score(run, split)

    assert (champion.state, champion.version) == ("unreadable", 1)
    assert "ZeroDivisionError" in champion.error


def test_a_lost_registry_is_no_first_release(run, split, release):
    release(1, 0.5, seed=0)
    (run.store / "mlflow.db").unlink()
    champion = score(run, split)

    assert champion.state == "unreadable"
    assert LOG in champion.error


def test_what_was_fetched_is_checked_and_fetched_again(run, split, release):
    release(1, 0.5, seed=0)
    first = score(run, split)
    kept = run.model_store / "bundles" / "version-1"
    (kept / "config.json").write_text("{}")
    second = score(run, split)

    assert [handle.state for handle in (first, second)] == ["scored", "scored"]
    storage.verify_directory(kept)
    shutil.rmtree(kept)
    assert score(run, split).state == "scored"


def test_an_interrupted_promotion_is_mended_when_a_run_starts(run, release):
    release(1, 0.5, seed=0)
    promotions = open_promotions(PublishSettings(), run.store, NAME)
    stale = promotions.log()[0].model_copy(update={"id": "x", "to_version": 2})
    storage.write_json(run.model_store / INTENT, stale.model_dump(mode="json"))

    repair_registry.fn(run, PublishSettings())

    assert not (run.model_store / INTENT).exists()
    assert promotions.champion().number == 1
