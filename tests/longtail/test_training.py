"""One fine-tuning run: right gradients, the cache changes nothing, the same seed the same model."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from steps_case import steps
from tiny_case import SPACE, labelled, loss_of, settings, tiny_encoder, weights
from torch import nn
from transformers import MPNetConfig, MPNetModel

from longtail.activations import ActivationCache
from longtail.batching import Collator, LabelledTexts, tokenise
from longtail.config import EncoderSettings
from longtail.encoder import build_classifier, load_encoder
from longtail.errors import ConfigError, DataError
from longtail.freezing import hidden
from longtail.scoring import score
from longtail.thresholds import best_global_threshold
from longtail.trainer import METRIC, ArmTrainer, StepLoss
from longtail.training import train_arm

TRAIN = labelled(64, 1)
VALIDATION = labelled(24, 2)


def train(*, loss="bce", train_on=TRAIN, validation=VALIDATION, encoder=None, **options):
    changes = options.pop("settings", {})
    module = options.pop("module", None) or loss_of(loss, train_on)
    return train_arm(
        encoder or tiny_encoder(),
        SPACE.names,
        train_on,
        validation,
        module,
        settings(**changes),
        **options,
    )


def same(one, two, tolerance=0.0):
    first, second = weights(one.model), weights(two.model)
    if tolerance:
        # Softmax does not feel the keys' bias: its gradient is rounding, which Adam blows up.
        first = {name: value for name, value in first.items() if "key.bias" not in name}
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=tolerance, atol=tolerance, msg=name)


def different(one, two):
    second = weights(two.model)
    return any(not torch.equal(value, second[name]) for name, value in weights(one.model).items())


def test_an_arm_learns_and_says_how():
    arm = train(settings={"epochs": 12, "learning_rate": 3e-3})
    assert [entry["epoch"] for entry in arm.history] == list(range(1, 13))
    assert arm.history[-1]["loss"] < arm.history[0]["loss"] / 2
    everything = best_global_threshold(VALIDATION.y, np.ones(VALIDATION.y.shape, np.float32))[1]
    assert arm.history[-1][METRIC] > everything + 0.2
    assert set(arm.history[0]) == {"epoch", "loss", METRIC, "threshold", "seconds"}
    assert not arm.model.training
    assert arm.device == "cpu"
    assert (arm.trainable_layers, arm.frozen_layers, arm.cached) == (1, 2, False)
    assert arm.tokens_per_second > 0
    assert arm.seconds >= sum(entry["seconds"] for entry in arm.history)


def test_the_model_is_that_of_the_best_epoch():
    # A rate that spoils the model: the last epochs are not the best.
    arm = train(settings={"epochs": 6, "learning_rate": 0.05, "head_learning_rate": 0.5})
    best = arm.history[arm.best_epoch - 1]
    assert best[METRIC] == max(entry[METRIC] for entry in arm.history)
    found = score(arm.model, tiny_encoder().tokenizer, VALIDATION.texts, max_length=24)
    threshold, f1 = best_global_threshold(VALIDATION.y, found)
    assert f1 == pytest.approx(best[METRIC], abs=1e-6)
    assert threshold == pytest.approx(best["threshold"], abs=1e-4)


@pytest.mark.parametrize("loss", ["bce", "db"])
def test_the_cache_changes_nothing(tmp_path, loss):
    plain = train(loss=loss)
    cache = ActivationCache(tmp_path)
    cached = train(loss=loss, cache=cache)
    again = train(loss=loss, cache=cache)
    assert (plain.cached, cached.cached) == (False, True)
    same(cached, again)
    # Training texts are kept in half precision; Adam's steps of about 1e-3 make 2e-4 of it.
    same(plain, cached, tolerance=1e-3)
    for one, two in zip(plain.history, cached.history, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-3)


def test_the_cache_in_full_precision_changes_nothing_but_rounding(tmp_path, monkeypatch):
    monkeypatch.setattr("longtail.preparation._CACHE_DTYPES", ("float32", "float32"))
    plain, cached = train(), train(cache=ActivationCache(tmp_path))
    for one, two in zip(plain.history, cached.history, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
        assert one[METRIC] == pytest.approx(two[METRIC], abs=1e-6)
    same(plain, cached, tolerance=2e-5)


def test_arms_epochs_seeds_and_runs_share_what_was_computed(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    computed = []
    monkeypatch.setattr(
        "longtail.activations.hidden",
        lambda lower, ids, mask: computed.append(len(ids)) or hidden(lower, ids, mask),
    )
    train(cache=ActivationCache(tmp_path))
    assert sum(computed) == 88  # every text once, in two epochs
    for other in ({"loss": "db"}, {"settings": {"seed": 3, "epochs": 3}}):
        train(cache=ActivationCache(tmp_path), **other)
    assert sum(computed) == 88
    assert caplog.text.count("frozen layers: 0 of 88 texts computed") == 2
    train(train_on=labelled(70, 1), cache=ActivationCache(tmp_path))
    assert sum(computed) == 94  # next week's texts


def test_what_is_scored_is_kept_in_full_precision(tmp_path):
    train(cache=ActivationCache(tmp_path))
    width = tiny_encoder().config.hidden_size
    for part, dtype in ((TRAIN, "float16"), (VALIDATION, "float32")):
        tokens = int(tokenise(tiny_encoder().tokenizer, part.texts, 24).lengths.sum())
        kept = sum(file.stat().st_size for file in tmp_path.glob(f"*-{dtype}/*.bin"))
        assert kept == tokens * width * np.dtype(dtype).itemsize


def test_the_split_trains_like_the_whole_model(monkeypatch):
    changes = {"epochs": 1}
    encoder = tiny_encoder()
    monkeypatch.setattr(encoder.config, "hidden_dropout_prob", 0.0)

    def build(*args, **options):
        model = build_classifier(*args, **options)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return model

    monkeypatch.setattr("longtail.preparation.build_classifier", build)
    parts = train(settings=changes)
    monkeypatch.setattr("longtail.preparation.split", lambda *_: None)
    whole = train(settings=changes)
    same(parts, whole, tolerance=2e-5)


def test_the_same_seed_gives_the_same_model_whatever_came_before():
    first = train()
    torch.manual_seed(77)
    np.random.default_rng(5).random(3)
    same(first, train())
    assert different(first, train(settings={"seed": 1}))


def test_frozen_layers_stay_as_they_were():
    start = weights(build_classifier(tiny_encoder(), SPACE.names, seed=0))
    end = weights(train().model)
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert not any("embeddings" in name or "layer.0" in name or "layer.1" in name
                   for name in changed)  # fmt: skip
    assert any("layer.2" in name for name in changed)
    assert {"bert.pooler.dense.weight", "classifier.weight"} <= changed


def test_everything_is_trained_when_asked():
    arm = train(settings={"trainable_layers": "all", "epochs": 1})
    start = weights(build_classifier(tiny_encoder(), SPACE.names, seed=0))
    assert not torch.equal(start["bert.embeddings.word_embeddings.weight"],
                           arm.model.bert.embeddings.word_embeddings.weight)  # fmt: skip
    assert (arm.trainable_layers, arm.frozen_layers) == (3, -1)


def test_all_losses_see_the_same_batches_from_the_same_start(monkeypatch):
    seen = []

    class Recorder(Collator):
        def __call__(self, rows):
            seen[-1].append(tuple(rows))
            return super().__call__(rows)

    monkeypatch.setattr("longtail.training.Collator", Recorder)
    for loss in ("bce", "db", "ntr-focal"):
        seen.append([])
        train(loss=loss)
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][:8] != seen[0][8:]  # the second epoch has another order


def test_the_step_is_the_mean_over_known_cells():
    part = labelled(32, 3, unknown=True)
    model = build_classifier(tiny_encoder(), SPACE.names, seed=0)
    source = tokenise(tiny_encoder().tokenizer, part.texts, 24).batch(range(32))
    logits = model(**source).logits
    known = torch.from_numpy(part.known)
    targets = torch.from_numpy(part.y.toarray().astype(np.float32))
    cells = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    mean = (cells * known).sum().div(known.sum())
    mean.backward()
    found = steps(32, 1, part, loss="bce")
    assert found["losses"][0] == pytest.approx(mean.item(), rel=1e-5)
    torch.testing.assert_close(
        found["gradients"][0]["classifier.weight"], model.classifier.weight.grad,
        rtol=1e-3, atol=1e-7,
    )  # fmt: skip


def test_a_share_of_a_step_over_processes():
    """Two processes hold other numbers of known cells; the Trainer gives both the total."""
    loss = loss_of("bce", TRAIN)
    logits = torch.randn(10, 6)
    labels = torch.from_numpy(TRAIN.y[:10].toarray().astype(np.float32))
    labels[0, :4] = labels[7, 2] = -100.0
    total = (labels != -100.0).sum()
    step = StepLoss(loss, partial=True)
    parts = [step(logits[:3], labels[:3], total), step(logits[3:], labels[3:], total)]
    whole = StepLoss(loss, partial=True)(logits, labels, None)
    torch.testing.assert_close(sum(parts), whole)
    assert step.take_mean() == pytest.approx(float(whole), rel=1e-6)


def test_two_learning_rates_and_no_decay_on_biases_and_norms(monkeypatch):
    caught = []
    original = ArmTrainer.create_optimizer

    def catch(self, *args):
        caught.append((self, original(self, *args)))
        return caught[-1][1]

    monkeypatch.setattr(ArmTrainer, "create_optimizer", catch)
    train(settings={"epochs": 1, "weight_decay": 0.3})
    trainer, optimizer = caught[0]
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    groups = {
        (group["initial_lr"], group["weight_decay"]): {names[id(p)] for p in group["params"]}
        for group in optimizer.param_groups
    }
    assert set(groups) == {(1e-3, 0.3), (1e-3, 0.0), (1e-2, 0.3), (1e-2, 0.0)}
    assert groups[1e-2, 0.3] == {"upper.bert.pooler.dense.weight", "upper.classifier.weight"}
    assert all("bias" in name or "LayerNorm" in name for name in groups[1e-3, 0.0])
    assert not any("bias" in name or "LayerNorm" in name for name in groups[1e-3, 0.3])


def test_bf16_is_for_training_alone():
    half = train(settings={"precision": "bf16", "epochs": 3})
    full = train(settings={"epochs": 3})
    assert different(half, full)
    same(half, full, tolerance=0.05)
    assert {value.dtype for value in half.model.parameters()} == {torch.float32}
    # What chooses the epoch are the float32 probabilities of the model that is returned.
    found = score(half.model, tiny_encoder().tokenizer, VALIDATION.texts, max_length=24)
    threshold, f1 = best_global_threshold(VALIDATION.y, found)
    best = half.history[half.best_epoch - 1]
    assert f1 == pytest.approx(best[METRIC], abs=1e-6)
    assert threshold == pytest.approx(best["threshold"], abs=1e-5)


class InterruptedRunError(Exception):
    pass


def interrupt_in(epoch):
    def progress(now):
        if now.epoch == epoch:
            raise InterruptedRunError

    return progress


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr("longtail.progress_reporter._REPORT_SECONDS", 0.0)


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("also", [{}, {"precision": "bf16", "batch_size": 4, "accumulation": 2}])
def test_an_interrupted_training_ends_where_the_uninterrupted_one_does(tmp_path, also):
    changes = {"epochs": 3, **also}
    whole = train(settings=changes)
    with pytest.raises(InterruptedRunError):
        train(settings=changes, work_dir=tmp_path, progress=interrupt_in(3))
    # A kill in the middle of saving leaves a checkpoint without its state.
    (tmp_path / "checkpoint-999").mkdir()
    steps = []
    resumed = train(settings=changes, work_dir=tmp_path, resume=True, progress=steps.append)
    same(whole, resumed, tolerance=1e-6)
    assert steps[0].epoch == 3
    assert [entry["loss"] for entry in resumed.history] == pytest.approx(
        [entry["loss"] for entry in whole.history], rel=1e-5
    )
    assert resumed.best_epoch == whole.best_epoch


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("other", [{"loss": "db"}, {"settings": {"epochs": 3, "seed": 4}}])
def test_checkpoints_of_another_run_are_not_taken_up(tmp_path, other):
    with pytest.raises(InterruptedRunError):
        train(settings={"epochs": 3}, work_dir=tmp_path, progress=interrupt_in(2))
    arguments = {"settings": {"epochs": 3}, **other}
    resumed = train(work_dir=tmp_path, resume=True, **arguments)
    same(train(**arguments), resumed)


@pytest.mark.usefixtures("every_step")
def test_progress_counts_up():
    told = []
    train(progress=told.append)
    assert [now.step for now in told] == list(range(1, 17))
    assert told[-1].steps == 16
    assert told[-1].seconds_left == 0
    assert {now.epoch for now in told} == {1, 2}
    assert all(now.texts_per_second > 0 and math.isfinite(now.loss) for now in told)


def test_training_stops_early_when_nothing_gets_better():
    changes = {"epochs": 12, "early_stopping_patience": 1, "learning_rate": 1e-9,
               "head_learning_rate": 1e-9}  # fmt: skip
    assert len(train(settings=changes).history) <= 3


class Exploding(nn.Module):
    def sum(self, logits, targets, known):
        return logits.sum() * float("nan")

    def cells(self, targets, known):
        return torch.tensor(targets.numel())


@pytest.mark.usefixtures("every_step")
def test_a_loss_that_is_not_a_number_stops_the_run():
    with pytest.raises(ConfigError, match="the loss became nan in epoch 1"):
        train(module=Exploding())


def test_unknown_cells_do_not_teach(tmp_path):
    part = labelled(64, 1, unknown=True)
    poisoned = part.y.toarray() ^ ~part.known
    flipped = LabelledTexts(part.texts, sp.csr_array(poisoned), part.known)
    loss = loss_of("bce", part)
    same(train(train_on=part, module=loss), train(train_on=flipped, module=loss))


@pytest.mark.parametrize(
    ("train_on", "validation", "message"),
    [
        (LabelledTexts([], TRAIN.y[:0]), VALIDATION, "no training text"),
        (TRAIN, LabelledTexts([], TRAIN.y[:0]), "no validation text"),
        (LabelledTexts(TRAIN.texts[:5], TRAIN.y), VALIDATION, "training labels have shape"),
    ],
)
def test_data_that_do_not_fit(train_on, validation, message):
    with pytest.raises(DataError, match=message):
        train(module=loss_of("bce", TRAIN), train_on=train_on, validation=validation)


def test_a_family_that_cannot_be_split_is_trained_all_the_same(tmp_path, caplog):
    directory = tmp_path / "mpnet"
    torch.manual_seed(0)
    MPNetModel(
        MPNetConfig(
            vocab_size=len(tiny_encoder().tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
        )
    ).save_pretrained(directory)
    tiny_encoder().tokenizer.save_pretrained(directory)
    encoder = load_encoder(EncoderSettings(source=str(directory)))
    caplog.set_level("INFO")
    arm = train(encoder=encoder, cache=ActivationCache(tmp_path / "cache"))
    assert not arm.cached
    assert "cannot be cached" in caplog.text
    assert arm.history[-1]["loss"] < arm.history[0]["loss"]
    start = weights(build_classifier(encoder, SPACE.names, seed=0))
    end = weights(arm.model)
    assert torch.equal(start["mpnet.encoder.layer.0.attention.attn.q.weight"],
                       end["mpnet.encoder.layer.0.attention.attn.q.weight"])  # fmt: skip


def test_nothing_is_printed_or_left_behind(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    train()
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
