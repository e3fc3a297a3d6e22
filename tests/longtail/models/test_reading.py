"""One pass over texts: the logits of scoring, and vectors of unit length."""

import numpy as np
import pytest
import torch
from evidence_case import classifier
from tiny_case import SPACE, labelled, tiny_encoder
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from longtail.activations import ActivationCache
from longtail.models.reading import EncoderReader, headless, unit
from longtail.scoring import score_logits

TEXTS = [*labelled(30, 4).texts, "", "printer " * 80]
TOKENIZER = tiny_encoder().tokenizer


def distilbert(seed):
    torch.manual_seed(seed)
    config = DistilBertConfig(vocab_size=len(TOKENIZER), dim=32, n_layers=3, n_heads=4,
                              hidden_dim=48, num_labels=6, initializer_range=0.2)  # fmt: skip
    return DistilBertForSequenceClassification(config).eval()


def roberta(seed):
    torch.manual_seed(seed)
    config = RobertaConfig(vocab_size=len(TOKENIZER), hidden_size=32, num_hidden_layers=3,
                           num_attention_heads=4, intermediate_size=48, num_labels=6,
                           max_position_embeddings=64, initializer_range=0.2)  # fmt: skip
    return RobertaForSequenceClassification(config).eval()


def alike(make):
    """Two classifiers that differ above their second layer alone."""
    first, second = make(1), make(1)
    torch.manual_seed(9)
    for name, weights in second.named_parameters():
        if "layer.2." in name or "classifier" in name:
            torch.nn.init.normal_(weights, std=0.3)
    return {"encoder": first, "bce": second}


def reader(models, frozen_layers=2):
    return EncoderReader(models, TOKENIZER, max_length=24, frozen_layers=frozen_layers)


def by_scoring(model, **options):
    return score_logits(model, TOKENIZER, TEXTS, max_length=24, **options)


@pytest.mark.parametrize("make", [classifier, distilbert, roberta])
@pytest.mark.parametrize("count", [1, 2])
def test_logits_are_those_of_scoring(make, count, tmp_path):
    models = dict(list(alike(make).items())[:count])
    found = reader(models)
    cache = ActivationCache(tmp_path)
    assert found.shares_layers
    for kept in (None, cache, cache):
        read = found.read(TEXTS, cache=kept)
        assert list(read.logits) == list(read.vectors) == list(models)
        for name, model in models.items():
            np.testing.assert_allclose(read.logits[name], by_scoring(model), atol=2e-5)


def test_the_encoders_of_a_reading_differ():
    read = reader(alike(classifier)).read(TEXTS)
    assert np.abs(read.logits["encoder"] - read.logits["bce"]).max() > 0.1


def test_vectors_and_meaning_have_length_1():
    read = reader(alike(classifier)).read(TEXTS)
    for part in (*read.vectors.values(), read.meaning):
        assert part.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1.0, atol=1e-5)


def test_the_meaning_is_the_mean_of_the_frozen_states():
    model = classifier(1)
    read = reader({"encoder": model}).read(TEXTS[:3])
    for row, text in enumerate(TEXTS[:3]):
        tokens = TOKENIZER(text, truncation=True, max_length=24, return_tensors="pt")
        with torch.no_grad():
            states = model.bert(**tokens, output_hidden_states=True).hidden_states[2][0]
        np.testing.assert_allclose(read.meaning[row], unit(states.mean(0)[None].numpy())[0],
                                   atol=1e-5)  # fmt: skip


def test_training_does_not_move_the_meaning():
    first, second = (reader({"encoder": classifier(seed)}).read(TEXTS) for seed in (1, 2))
    np.testing.assert_allclose(first.meaning, second.meaning, atol=1e-6)
    assert np.abs(first.vectors["encoder"] - second.vectors["encoder"]).max() > 0.1


def test_a_model_in_training_mode_is_read_without_dropout():
    model = classifier(1)
    expected = by_scoring(model)
    model.train()
    found = reader({"encoder": model}).read(TEXTS)
    np.testing.assert_allclose(found.logits["encoder"], expected, atol=2e-5)


def test_where_nothing_is_frozen_there_is_no_meaning(tmp_path):
    models = alike(classifier)
    found = reader(models, frozen_layers=-1)
    read = found.read(TEXTS, cache=ActivationCache(tmp_path))
    assert not found.shares_layers
    assert read.meaning is None
    for name, model in models.items():
        np.testing.assert_allclose(read.logits[name], by_scoring(model), atol=2e-5)


def test_encoders_that_begin_otherwise_share_nothing():
    first, second = classifier(1), classifier(2)
    torch.nn.init.normal_(second.bert.encoder.layer[0].output.dense.weight)
    models = {"encoder": first, "bce": second}
    read = reader(models).read(TEXTS)
    assert read.meaning is None
    for name, model in models.items():
        np.testing.assert_allclose(read.logits[name], by_scoring(model), atol=2e-5)


@pytest.mark.parametrize("frozen", [2, -1])
def test_no_texts(frozen):
    read = reader(alike(classifier), frozen).read([])
    assert read.logits["bce"].shape == (0, len(SPACE))
    assert read.vectors["encoder"].shape == (0, 32)
    assert (None if frozen < 0 else (0, 32)) == (
        None if read.meaning is None else read.meaning.shape
    )


def test_reading_tells_of_its_progress_and_leaves_the_models_alone():
    models, told = alike(classifier), []
    before = {name: model.state_dict()["classifier.weight"].clone()
              for name, model in models.items()}  # fmt: skip
    reader(models).read(TEXTS, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(TEXTS), len(TEXTS))
    for name, model in models.items():
        assert isinstance(model.classifier, torch.nn.Linear)
        assert torch.equal(model.classifier.weight, before[name])
        np.testing.assert_allclose(by_scoring(model).shape, (len(TEXTS), 6))


def test_a_model_without_an_output_layer_for_its_labels():
    model = classifier(1)
    model.classifier = torch.nn.Linear(32, 4)
    with pytest.raises(ValueError, match="no output layer for 6 labels"):
        headless(model)
