"""Probabilities: float32, in order, whatever the batch, and the same from the cache."""

import numpy as np
import pytest
import torch
from tiny_case import SPACE, labelled, tiny_encoder

from longtail.activations import ActivationCache
from longtail.batching import tokenise
from longtail.encoder import build_classifier
from longtail.freezing import Whole
from longtail.scoring import probabilities, score

TEXTS = labelled(50, 4).texts


@pytest.fixture
def model():
    return build_classifier(tiny_encoder(), SPACE.names, seed=0)


def plain(model, texts, max_length=24):
    """One text at a time, as transformers' documentation does it."""
    rows = []
    for text in texts:
        encoded = tiny_encoder().tokenizer(
            text, truncation=True, max_length=max_length, return_tensors="pt"
        )
        with torch.no_grad():
            rows.append(torch.sigmoid(model(**encoded).logits[0]).numpy())
    return np.stack(rows)


def test_scores_are_those_of_one_text_at_a_time(model):
    found = score(model, tiny_encoder().tokenizer, TEXTS, max_length=24)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain(model, TEXTS), atol=1e-6)


@pytest.mark.parametrize("tokens", [1, 40, 10_000])
def test_the_batch_does_not_matter(model, tokens):
    source = tokenise(tiny_encoder().tokenizer, TEXTS, 24)
    found = probabilities(Whole(model, ()), source, len(SPACE), tokens_per_batch=tokens)
    np.testing.assert_allclose(found, plain(model, TEXTS), atol=1e-6)


def test_long_texts_are_cut_at_the_maximum(model):
    long = "printer " * 100 + "invoice " * 100
    found = score(model, tiny_encoder().tokenizer, [long], max_length=24)
    same = score(model, tiny_encoder().tokenizer, ["printer " * 22], max_length=24)
    np.testing.assert_allclose(found, same, atol=1e-6)


def test_the_cache_gives_the_same(model, tmp_path):
    cache = ActivationCache(tmp_path)
    expected = plain(model, TEXTS)
    for _ in range(2):
        found = score(
            model, tiny_encoder().tokenizer, TEXTS, max_length=24, cache=cache, frozen_layers=2
        )
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert cache.size() > 0


def test_a_model_with_other_lower_layers_does_not_take_the_wrong_activations(model, tmp_path):
    cache = ActivationCache(tmp_path)
    options = {"max_length": 24, "cache": cache, "frozen_layers": 2}
    score(model, tiny_encoder().tokenizer, TEXTS, **options)
    model.bert.encoder.layer[0].attention.output.dense.weight.data *= 1.5
    found = score(model, tiny_encoder().tokenizer, TEXTS, **options)
    np.testing.assert_allclose(found, plain(model, TEXTS), atol=1e-6)


def test_scoring_leaves_the_mode_as_it_was(model):
    for mode in (True, False):
        wrapped = Whole(model, ()).train(mode)
        source = tokenise(tiny_encoder().tokenizer, TEXTS[:4], 24)
        first = probabilities(wrapped, source, len(SPACE))
        assert wrapped.training is mode
        np.testing.assert_array_equal(first, probabilities(wrapped, source, len(SPACE)))
        model.train(mode)
        score(model, tiny_encoder().tokenizer, TEXTS[:4], max_length=24)
        assert model.training is mode


def test_no_text_and_progress(model):
    assert score(model, tiny_encoder().tokenizer, [], max_length=24).shape == (0, len(SPACE))
    told = []
    score(model, tiny_encoder().tokenizer, TEXTS, max_length=24,
          progress=lambda done, total: told.append((done, total)))  # fmt: skip
    assert told[-1] == (50, 50)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
