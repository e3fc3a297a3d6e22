"""A bundle: whole or not at all, loadable by transformers alone, checked in a fresh process."""

import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_case import SPACE, labelled, tiny_encoder
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from longtail import storage
from longtail.bundle import (
    BundleInfo,
    TrainingIds,
    finalise_bundle,
    load_bundle,
    read_info,
    read_training_ids,
    write_bundle,
)
from longtail.encoder import build_classifier
from longtail.errors import StoreError
from longtail.predictions import Predictions, write_predictions
from longtail.scoring import score, score_bundle
from longtail.serve_check import (
    BY_TRANSFORMERS,
    main,
    pipeline_probabilities,
    run_serve_check,
)

LABELS = len(SPACE)
LONG = "printer network " * 60
TEXTS = [*labelled(10, 5).texts, LONG, "", "x"]
IDS = TrainingIds(np.arange(5, dtype=np.uint64), np.arange(5, dtype=np.uint64) + 2**63)


def info(**changes):
    values = {
        "labels": SPACE.names, "thresholds": (0.5,) * LABELS, "threshold_policy": "global",
        "label_groups": ("HEAD", "HEAD", "MEDIUM", "MEDIUM", "TAIL", "TAIL"),
        "group_cutoffs": (3, 9), "train_support": (20, 10, 5, 4, 2, 1), "max_length": 24,
        "frozen_layers": 2, "loss": "db", "data_fingerprint": "d" * 64,
        "encoder_fingerprint": tiny_encoder().fingerprint, "encoder_source": "tiny",
    }  # fmt: skip
    return BundleInfo(**{**values, **changes})


@pytest.fixture(scope="module")
def model():
    model = build_classifier(tiny_encoder(), SPACE.names, seed=0)
    torch.manual_seed(1)
    torch.nn.init.normal_(model.classifier.bias)
    return model


@pytest.fixture
def bundle(tmp_path, model):
    return write_bundle(tmp_path / "bundle", model, tiny_encoder().tokenizer, info(), IDS)


def test_a_bundle_comes_back_as_it_was(bundle, model):
    loaded = load_bundle(bundle)
    assert loaded.info == info(created_at=loaded.info.created_at)
    assert loaded.thresholds.tolist() == [0.5] * LABELS
    expected = score(model, tiny_encoder().tokenizer, TEXTS, max_length=24)
    np.testing.assert_array_equal(score_bundle(bundle, TEXTS), expected)
    ids = read_training_ids(bundle)
    assert (ids.ids == IDS.ids).all()
    assert (ids.texts == IDS.texts).all()
    assert ids.texts.dtype == np.uint64


def test_transformers_alone_gives_the_same_probabilities(bundle, model):
    expected = score(model, tiny_encoder().tokenizer, TEXTS, max_length=24)
    found = pipeline_probabilities(bundle, TEXTS, SPACE.names)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    config = AutoModelForSequenceClassification.from_pretrained(bundle).config
    assert config.problem_type == "multi_label_classification"
    assert tuple(config.id2label.values()) == SPACE.names
    assert AutoTokenizer.from_pretrained(bundle).model_max_length == 24


def test_the_encoders_tokenizer_is_left_alone(bundle):
    assert tiny_encoder().tokenizer.model_max_length == 256


def test_everyone_may_read_what_is_served(bundle):
    modes = {stat.S_IMODE((bundle / name).stat().st_mode)
             for name in ("config.json", "model.safetensors")}  # fmt: skip
    assert len(modes) == 1


def test_the_card_says_what_it_is(bundle):
    card = (bundle / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers")
    assert "Not evaluated yet." in card
    assert "| MEDIUM | 2 | 3 to 8 |" in card
    finalise_bundle(bundle, metrics={"micro_f1": 0.51239, "label_coverage": None})
    card = (bundle / "README.md").read_text()
    assert "| micro-F1 | 0.5124 |" in card
    assert "| label coverage | not computable |" in card
    assert "d" * 64 in card


def test_thresholds_are_put_in_later_and_the_bundle_is_sealed_again(bundle):
    values = np.linspace(0.1, 0.6, LABELS)
    finalise_bundle(bundle, thresholds=values, threshold_policy="group")
    loaded = load_bundle(bundle)
    assert loaded.thresholds.tolist() == values.tolist()
    assert loaded.info.threshold_policy == "group"
    with pytest.raises(ValidationError, match="thresholds has 2 entries for 6 labels"):
        finalise_bundle(bundle, thresholds=np.ones(2))
    load_bundle(bundle)


def test_a_kill_while_it_is_finalised_leaves_no_half_bundle(bundle, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "write_manifest", killed)
    with pytest.raises(KeyboardInterrupt):
        finalise_bundle(bundle, metrics={"micro_f1": 0.5})
    with pytest.raises(StoreError, match="never finished"):
        load_bundle(bundle)


def test_a_kill_while_it_is_written_leaves_nothing(tmp_path, model, monkeypatch):
    monkeypatch.setattr("longtail.bundle.render_card", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_bundle(tmp_path / "bundle", model, tiny_encoder().tokenizer, info(), IDS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["model.safetensors", "longtail.json", "tokenizer.json"])
def test_a_changed_file_is_found(bundle, file):
    content = bytearray((bundle / file).read_bytes())
    content[-2] ^= 1
    (bundle / file).write_bytes(content)
    with pytest.raises(StoreError, match="content differs"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format": 99}, "format 99, this version of Longtail reads 2"),
        (["a list"], "format None"),
        ({"format": 2, "labels": ["a"]}, "damaged"),
    ],
)
def test_information_that_cannot_be_read(bundle, content, message):
    (bundle / "longtail.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match=message):
        read_info(bundle)
    (bundle / "longtail.json").unlink()
    with pytest.raises(StoreError, match="not a bundle"):
        read_info(bundle)


def test_labels_that_are_not_the_models(tmp_path, model):
    other = info(labels=("a", "b", "c", "d", "e", "f"))
    with pytest.raises(ValueError, match="labels of the bundle and of the model differ"):
        write_bundle(tmp_path / "bundle", model, tiny_encoder().tokenizer, other, IDS)


def answer(bundle, tmp_path, expected, texts=TEXTS, tolerance="1e-4", capsys=None):
    """The command line's exit status and answer, in this process."""
    texts_file, expected_file = tmp_path / "texts.parquet", tmp_path / "expected.parquet"
    storage.write_parquet(texts_file, storage.pa.table({"text": texts}))
    ids = tuple(str(row) for row in range(len(expected)))
    write_predictions(expected_file, Predictions(ids, SPACE.names, expected))
    status = main([str(bundle), str(texts_file), str(expected_file), "--tolerance", tolerance])
    return status, json.loads(capsys.readouterr().out)


def test_the_check_passes_and_fails(bundle, model, tmp_path, capsys):
    expected = score(model, tiny_encoder().tokenizer, TEXTS, max_length=24)
    status, found = answer(bundle, tmp_path, expected, capsys=capsys)
    assert (status, found["passed"], found["n"]) == (0, True, len(TEXTS))
    assert found["largest_difference"] < 1e-5
    wrong = expected.copy()
    wrong[TEXTS.index(LONG), 2] += 0.01
    status, found = answer(bundle, tmp_path, wrong, capsys=capsys)
    assert (status, found["passed"]) == (1, False)
    assert found["largest_difference"] == pytest.approx(0.01, abs=1e-5)
    wrong[0, 0] = np.nan
    status, found = answer(bundle, tmp_path, wrong, capsys=capsys)
    assert (status, found["passed"]) == (1, False)


def test_the_check_fails_on_what_does_not_fit(bundle, model, tmp_path, capsys):
    expected = score(model, tiny_encoder().tokenizer, TEXTS, max_length=24)
    status, found = answer(bundle, tmp_path, expected, texts=TEXTS[:-1], capsys=capsys)
    assert status == 1
    assert "12 texts" in found["detail"]
    (bundle / "config.json").write_text("{}")
    status, found = answer(bundle, tmp_path, expected, capsys=capsys)
    assert status == 1
    assert "content differs" in found["detail"]


def test_the_fresh_process_agrees(bundle, model):
    expected = score(model, tiny_encoder().tokenizer, TEXTS, max_length=24)
    found = run_serve_check(bundle, TEXTS, expected, 1e-4)
    assert found.passed, found.detail
    assert (found.n, found.by, found.detail) == (len(TEXTS), BY_TRANSFORMERS, "")


def test_no_bundle_and_no_answer_are_failed_checks(tmp_path, bundle, monkeypatch):
    nothing = np.zeros((1, LABELS), np.float32)
    assert "not a bundle" in run_serve_check(tmp_path, ["x"], nothing, 1e-4).detail
    late = run_serve_check(bundle, ["x"], nothing, 1e-4, timeout=0.01)
    assert (late.passed, late.detail) == (False, "the fresh process did not answer within 0.01 s")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    dead = run_serve_check(bundle, ["x"], nothing, 1e-4)
    assert (dead.passed, dead.detail) == (False, "the fresh process ended with status 1: no output")


def test_the_fresh_process_is_alone(bundle, monkeypatch):
    """In a session of its own, so that a signal to the run does not end the check half-way."""
    seen = {}

    def run(command, **options):
        seen.update(options)
        return subprocess.CompletedProcess(command, 0, '{"passed": true, '
                                           '"largest_difference": 0.0, "n": 1}', "")  # fmt: skip

    monkeypatch.setattr(subprocess, "run", run)
    assert run_serve_check(bundle, ["x"], np.zeros((1, LABELS), np.float32), 1e-4).passed
    assert seen["start_new_session"]
    assert seen["env"]["HF_HUB_OFFLINE"] == "1"
    assert seen["env"]["PATH"] == os.environ["PATH"]
