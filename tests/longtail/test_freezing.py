"""Frozen and trained parts: together they are the classifier, number for number."""

import pytest
import torch
from tiny_case import tiny_encoder
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from longtail.encoder import build_classifier
from longtail.freezing import (
    PartlyFrozen,
    Whole,
    encoder_layers,
    freeze,
    hidden,
    split,
    trainable_layers,
    weights_digest,
)

SIZES = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
         "intermediate_size": 48, "max_position_embeddings": 64, "num_labels": 5,
         "initializer_range": 0.2}  # fmt: skip
FAMILIES = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SIZES)),
    "bert eager": lambda: BertForSequenceClassification(
        BertConfig(**SIZES, attn_implementation="eager")
    ),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**SIZES)),
    "electra": lambda: ElectraForSequenceClassification(ElectraConfig(**SIZES, embedding_size=16)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=100,
            dim=32,
            n_layers=3,
            n_heads=4,
            hidden_dim=48,
            num_labels=5,
            initializer_range=0.2,
        )
    ),
}


def batch(padding_id=0):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 90, (4, 12), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 7:] = mask[3, 2:] = 0
    return ids.masked_fill(mask == 0, padding_id), mask


@pytest.fixture(params=list(FAMILIES))
def model(request):
    torch.manual_seed(0)
    return FAMILIES[request.param]().eval()


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_lower_and_upper_together_are_the_model(model, depth):
    ids, mask = batch(model.config.pad_token_id)
    parts = split(model, depth)
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).logits
        states = hidden(parts.lower, ids, mask)
        found = PartlyFrozen(parts).eval()(mask, hidden_states=states)
        recomputed = PartlyFrozen(parts).eval()(mask, input_ids=ids)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(recomputed, found, rtol=0, atol=0)


def test_the_gradients_are_those_of_the_whole_model(model):
    ids, mask = batch(model.config.pad_token_id)
    freeze(model, 1)
    model(input_ids=ids, attention_mask=mask).logits.square().sum().backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    PartlyFrozen(split(model, 1)).eval()(mask, input_ids=ids).square().sum().backward()
    assert expected
    for name, parameter in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5)


def test_training_the_upper_part_trains_the_model(model):
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    freeze(model, 2)
    for parameter in PartlyFrozen(split(model, 2)).parameters():
        if parameter.requires_grad:
            parameter.data.add_(1.0)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed
    assert changed == {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any("embeddings" in name or "layer.0" in name or "layer.1" in name
                   for name in changed)  # fmt: skip


def test_only_what_is_trained_is_in_the_checkpoint():
    model = build_classifier(tiny_encoder(), ["a", "b"], seed=0)
    names = set(PartlyFrozen(split(model, 2)).state_dict())
    assert any("classifier" in name for name in names)
    assert not any("embeddings" in name for name in names)
    assert len([name for name in names if "query.weight" in name]) == 1


def test_the_frozen_part_never_drops_anything_out():
    model = build_classifier(tiny_encoder(), ["a", "b"], seed=0)
    ids, mask = batch()
    ids = ids % len(tiny_encoder().tokenizer)
    frozen = freeze(model, 2)
    for wrapped in (PartlyFrozen(split(model, 2)), Whole(model, frozen)):
        wrapped.train()
        assert not any(module.training for part in frozen for module in part.modules())
        assert model.bert.encoder.layer[2].training
        assert not torch.equal(wrapped(mask, input_ids=ids), wrapped(mask, input_ids=ids))
        wrapped.eval()
        assert torch.equal(wrapped(mask, input_ids=ids), wrapped(mask, input_ids=ids))


def test_another_family_is_frozen_but_not_split():
    model = MPNetForSequenceClassification(MPNetConfig(**SIZES)).eval()
    assert split(model, 2) is None
    frozen = freeze(model, 2)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert any("layer.2" in name for name in trained)
    assert any("classifier" in name for name in trained)
    assert not any("embeddings" in name or "layer.1." in name for name in trained)
    assert len(encoder_layers(model)) == 3
    assert len(frozen) >= 3


def test_nothing_is_frozen_below_depth_zero(model):
    assert freeze(model, -1) == ()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert split(model, -1) is None


def test_how_many_layers_are_trained():
    assert trainable_layers("auto", 6, cuda=False) == 1
    assert trainable_layers("auto", 6, cuda=True) == 7
    assert trainable_layers("all", 6, cuda=False) == 7
    assert trainable_layers(2, 6, cuda=True) == 2
    assert trainable_layers(9, 6, cuda=False) == 6


def test_the_digest_follows_the_weights():
    one, two = (build_classifier(tiny_encoder(), ["a"], seed=seed) for seed in (0, 1))
    lowers = [split(model, 2).lower for model in (one, two)]
    assert weights_digest(lowers[0]) == weights_digest(lowers[1])
    assert weights_digest(one) != weights_digest(two)
    lowers[1].encoder.layer[0].output.dense.bias.data[0] += 1e-6
    assert weights_digest(lowers[0]) != weights_digest(lowers[1])
