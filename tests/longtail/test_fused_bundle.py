"""A fused bundle: the linear arm travels with the encoder, and only Longtail serves it."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_bundle import IDS, LONG, info
from tiny_case import SPACE, labelled, tiny_encoder

from longtail import storage
from longtail.activations import ActivationCache
from longtail.baselines import LinearBaseline
from longtail.bundle import finalise_bundle, load_bundle, read_info, write_bundle
from longtail.config import LinearSettings
from longtail.encoder import build_classifier
from longtail.errors import StoreError
from longtail.fusion import fuse
from longtail.predictions import Predictions, write_predictions
from longtail.scoring import score, score_bundle, score_logits
from longtail.serve_check import (
    BY_LONGTAIL,
    BY_TRANSFORMERS,
    main,
    pipeline_probabilities,
    run_serve_check,
)

WEIGHT = 1.5
TRAIN = labelled(120, 1)
TEXTS = [*labelled(10, 5).texts, LONG, "", "x", "invoice printer invoice"]


@pytest.fixture(scope="module")
def model():
    model = build_classifier(tiny_encoder(), SPACE.names, seed=0)
    torch.manual_seed(1)
    torch.nn.init.normal_(model.classifier.bias)
    return model


@pytest.fixture(scope="module")
def linear():
    return LinearBaseline(LinearSettings()).fit(TRAIN.texts, TRAIN.y)


@pytest.fixture
def bundle(tmp_path, model, linear):
    return write_bundle(
        tmp_path / "bundle", model, tiny_encoder().tokenizer, info(fusion_weight=WEIGHT), IDS,
        linear=linear,
    )  # fmt: skip


@pytest.fixture(scope="module")
def expected(model, linear):
    """By hand, in float64."""
    logits = score_logits(model, tiny_encoder().tokenizer, TEXTS, max_length=24)
    fused = logits.astype(np.float64) + WEIGHT * linear.decisions(TEXTS)
    return (1 / (1 + np.exp(-fused))).astype(np.float32)


def test_it_serves_the_fused_probabilities(bundle, linear, expected):
    found = score_bundle(bundle, TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    loaded = load_bundle(bundle)
    np.testing.assert_array_equal(score_bundle(loaded, TEXTS), found)
    np.testing.assert_array_equal(loaded.linear.decisions(TEXTS), linear.decisions(TEXTS))
    assert loaded.info.fusion_weight == WEIGHT
    assert score_bundle(bundle, []).shape == (0, len(SPACE))


def test_the_cache_of_frozen_layers_gives_the_same(bundle, expected, tmp_path):
    cache = ActivationCache(tmp_path / "cache")
    for _ in range(2):
        np.testing.assert_allclose(score_bundle(bundle, TEXTS, cache=cache), expected, atol=1e-6)


def test_plain_transformers_gives_the_encoder_alone(bundle, model, linear, expected):
    alone = pipeline_probabilities(bundle, TEXTS, SPACE.names)
    by_encoder = score(model, tiny_encoder().tokenizer, TEXTS, max_length=24)
    np.testing.assert_allclose(alone, by_encoder, atol=1e-6)
    assert np.abs(alone - expected).max() > 0.1
    np.testing.assert_allclose(fuse(alone, linear.decisions(TEXTS), WEIGHT), expected, atol=1e-5)


def test_the_card_says_what_must_serve_it(bundle, tmp_path, model):
    card = (bundle / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: longtail")
    assert "must be served by Longtail" in card
    assert "σ(z + 1.5 · d)" in card
    assert "longtail predict" in card
    assert "score_bundle(bundle" in card
    assert "the linear model reads all of it" in card
    assert "pipeline(" not in card
    plain = write_bundle(tmp_path / "plain", model, tiny_encoder().tokenizer, info(), IDS)
    card = (plain / "README.md").read_text()
    assert "pipeline(" in card
    assert "must be served" not in card


def test_thresholds_and_metrics_come_in_later(bundle, expected):
    finalise_bundle(bundle, thresholds=np.full(6, 0.25), metrics={"micro_f1": 0.5})
    assert read_info(bundle).fusion_weight == WEIGHT
    assert "must be served by Longtail" in (bundle / "README.md").read_text()
    np.testing.assert_allclose(score_bundle(bundle, TEXTS), expected, rtol=1e-5)


def test_weight_and_linear_arm_go_together(tmp_path, model, linear):
    for weight, arm in ((WEIGHT, None), (None, linear)):
        with pytest.raises(ValueError, match="go together"):
            write_bundle(
                tmp_path / "bundle", model, tiny_encoder().tokenizer, info(fusion_weight=weight),
                IDS, linear=arm,
            )  # fmt: skip
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValidationError, match="fusion_weight"):
            info(fusion_weight=weight)
    assert not list(tmp_path.iterdir())


# ── tampering ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("file", ["terms.parquet", "linear.json", "manifest.json"])
def test_a_changed_or_lost_linear_arm_is_found(bundle, file):
    path = bundle / "linear" / file
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(StoreError, match=f"{file}: content differs"):
        score_bundle(bundle, TEXTS)
    path.unlink()
    with pytest.raises(StoreError, match=f"{file}: listed in manifest.json but missing"):
        load_bundle(bundle)


def replace_linear(bundle, texts, y):
    """Another linear arm, by somebody who also mended the manifest."""
    LinearBaseline(LinearSettings()).fit(texts, y).save(bundle / "linear")
    storage.write_manifest(bundle)


def test_a_linear_arm_of_other_labels_is_refused(bundle):
    replace_linear(bundle, TRAIN.texts, TRAIN.y[:, :4])
    with pytest.raises(StoreError, match="decides 4 labels, the bundle has 6"):
        load_bundle(bundle)


def answer(bundle, tmp_path, expected, capsys, labels=SPACE.names):
    """The check's exit status and answer; the columns in another order than the bundle's."""
    texts, wanted = tmp_path / "texts.parquet", tmp_path / "expected.parquet"
    storage.write_parquet(texts, storage.pa.table({"text": TEXTS}))
    ids = tuple(str(row) for row in range(len(TEXTS)))
    write_predictions(wanted, Predictions(ids, labels[::-1], expected[:, ::-1]))
    status = main([str(bundle), str(texts), str(wanted)])
    return status, json.loads(capsys.readouterr().out)


def test_the_check_says_by_whom_and_fails_on_a_tampered_arm(bundle, tmp_path, expected, capsys):
    status, found = answer(bundle, tmp_path, expected, capsys)
    assert (status, found["passed"], found["by"]) == (0, True, BY_LONGTAIL)
    assert found["largest_difference"] < 1e-5

    half = len(TRAIN.texts) // 2
    replace_linear(bundle, TRAIN.texts[:half], TRAIN.y[:half])
    status, found = answer(bundle, tmp_path, expected, capsys)
    assert (status, found["passed"]) == (1, False)
    assert found["detail"].startswith(f"by {BY_LONGTAIL}, a probability differs by")

    (bundle / "linear" / "terms.parquet").write_bytes(b"torn")
    status, found = answer(bundle, tmp_path, expected, capsys)
    assert (status, found["passed"]) == (1, False)
    assert "terms.parquet: content differs" in found["detail"]


def test_a_bundle_of_other_labels_fails_the_check(bundle, tmp_path, expected, capsys):
    others = (*SPACE.names[:-1], "unheard of")
    status, found = answer(bundle, tmp_path, expected, capsys, labels=others)
    assert status == 1
    assert "gives other labels than expected" in found["detail"]


def test_the_fresh_process_serves_it_by_longtail_and_a_plain_one_by_transformers(
    bundle, tmp_path, model, expected
):
    found = run_serve_check(bundle, TEXTS, expected, 1e-4)
    assert (found.passed, found.by, found.n) == (True, BY_LONGTAIL, len(TEXTS)), found.detail
    plain = write_bundle(tmp_path / "plain", model, tiny_encoder().tokenizer, info(), IDS)
    alone = score(model, tiny_encoder().tokenizer, TEXTS, max_length=24)
    found = run_serve_check(plain, TEXTS, alone, 1e-4)
    assert (found.passed, found.by) == (True, BY_TRANSFORMERS), found.detail
