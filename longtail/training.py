"""One fine-tuning run: the same encoder, budget, seed and order of texts for every loss.

On a CPU the lower layers are frozen and their activations come from the cache; see
``docs/reference/training.md``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import nn
from transformers.trainer_utils import get_last_checkpoint

from longtail import storage
from longtail.activations import ActivationCache, cache_key
from longtail.activations import Progress as CacheProgress
from longtail.batching import Collator, Source, TokenSource, length_batches, tokenise
from longtail.config import TrainingSettings
from longtail.encoder import Encoder, build_classifier, quiet_transformers
from longtail.errors import ConfigError, DataError
from longtail.freezing import (
    PartlyFrozen,
    Split,
    Whole,
    encoder_layers,
    freeze,
    split,
    trainable_layers,
    weights_digest,
)
from longtail.thresholds import best_global_threshold
from longtail.trainer import (
    METRIC,
    ArmTrainer,
    Progress,
    ProgressReporter,
    StepLoss,
    early_stopping,
    training_arguments,
)

logger = logging.getLogger(__name__)

_VALIDATION_TOKENS = 4096


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and their labels.

    Attributes:
        texts: n texts.
        y: label matrix, bool (n, L).
        known: bool (n, L), False where nobody knows whether the label holds; None: all known.
    """

    texts: Sequence[str]
    y: sp.csr_array
    known: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class TrainedArm:
    """A trained classifier and how it got there.

    Attributes:
        model: the best epoch's classifier, plain transformers, float32 on the CPU, in eval mode.
        history: one entry per epoch: epoch, loss, validation_micro_f1, threshold, seconds.
        best_epoch: the epoch whose weights these are, from 1.
        seconds: of training and validating, tokenising and the cache included.
        cache_seconds: of computing activations, within ``seconds``.
        tokens_per_second: training tokens per second of optimiser steps, padding not counted.
        device: where it was trained.
        trainable_layers: transformer layers that were trained.
        frozen_layers: layers that were not; −1 where the embeddings were trained too.
        trainable_parameters: number of trained weights.
        cached: whether the activations came from the cache.
    """

    model: Any
    history: list[dict[str, float]]
    best_epoch: int
    seconds: float
    cache_seconds: float
    tokens_per_second: float
    device: str
    trainable_layers: int
    frozen_layers: int
    trainable_parameters: int
    cached: bool


def train_arm(
    encoder: Encoder,
    labels: Sequence[str],
    train: LabelledTexts,
    validation: LabelledTexts,
    loss: nn.Module,
    settings: TrainingSettings,
    *,
    cache: ActivationCache | None = None,
    work_dir: str | Path | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    cache_progress: CacheProgress | None = None,
) -> TrainedArm:
    """Fine-tune the encoder with one loss.

    Arms that differ in the loss alone start from the same weights and see the same batches in the
    same order. Each epoch's validation micro-F1 is taken at that epoch's own best threshold; the
    best epoch's weights are returned.

    Args:
        encoder: what :func:`longtail.encoder.load_encoder` gave.
        labels: names of the L columns.
        train: what is trained on.
        validation: what chooses the epoch.
        loss: a module with ``sum(logits, targets, known)`` and ``cells(targets, known)``.
        settings: budget and optimiser.
        cache: where activations of frozen layers are kept; without one they are recomputed.
        work_dir: where checkpoints go, one per epoch; a temporary directory by default.
        resume: go on from the last whole checkpoint in ``work_dir``, if it belongs to this same
            run (data, labels, encoder, loss and settings), else start anew.
        progress: called about once a second.
        cache_progress: called with (texts done, texts to compute) while activations are computed.

    Raises:
        DataError: no text to train or validate on, or labels that do not fit the matrices.
        ConfigError: the loss became NaN or infinite.
    """
    _check(labels, train, validation)
    started = time.monotonic()
    model = build_classifier(encoder, labels, seed=settings.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layers = len(encoder_layers(model))
    trained = trainable_layers(settings.trainable_layers, layers, cuda=device.type == "cuda")
    depth = layers - trained
    frozen = freeze(model, depth)
    parts = split(model, depth)
    wrapped = PartlyFrozen(parts) if parts is not None else Whole(model, frozen)
    wrapped.to_device(device)

    sources = [tokenise(encoder.tokenizer, part.texts, settings.max_length)
               for part in (train, validation)]  # fmt: skip
    cache_started = time.monotonic()
    inputs, cached = _inputs(
        parts, sources, encoder, settings, cache=cache, progress=cache_progress
    )
    cache_seconds = time.monotonic() - cache_started
    run = _fingerprint(encoder, labels, train, validation, loss, settings)
    with _directory(work_dir, run, resume=resume) as directory:
        trainer = _trainer(
            wrapped, model, inputs, train, validation, loss.to(device), settings, directory, progress
        )
        steps_started = time.monotonic()
        with quiet_transformers():
            trainer.train(resume_from_checkpoint=_last_checkpoint(directory))
        steps_seconds = time.monotonic() - steps_started
    history, validating = _history(trainer.state.log_history)
    tokens = int(sources[0].lengths.sum()) * len(history)
    best = max(history, key=lambda entry: entry[METRIC])
    return TrainedArm(
        model=model.cpu().eval(),
        history=history,
        best_epoch=int(best["epoch"]),
        seconds=time.monotonic() - started,
        cache_seconds=cache_seconds,
        tokens_per_second=tokens / max(1e-9, steps_seconds - validating),
        device=device.type,
        trainable_layers=min(trained, layers),
        frozen_layers=depth,
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        cached=cached,
    )


def _check(labels: Sequence[str], train: LabelledTexts, validation: LabelledTexts) -> None:
    for name, part in (("training", train), ("validation", validation)):
        expected = (len(part.texts), len(labels))
        if part.y.shape != expected:
            raise DataError(f"the {name} labels have shape {part.y.shape}, expected {expected}")
        if not len(part.texts):
            raise DataError(f"there is no {name} text; the data set is too small to be split")


def _inputs(
    parts: Split | None,
    sources: list[TokenSource],
    encoder: Encoder,
    settings: TrainingSettings,
    *,
    cache: ActivationCache | None,
    progress: CacheProgress | None,
) -> tuple[list[Source], bool]:
    """Cached activations where there can be any, else token ids."""
    plain: list[Source] = list(sources)
    if not settings.cache or cache is None:
        return plain, False
    if parts is None:
        logger.info("%s: nothing is cached, all layers are computed in every epoch", encoder.family)
        return plain, False
    key = cache_key(parts.lower, encoder.tokenizer, settings.max_length)
    joined = _join(sources)
    found = cache.get(parts.lower, joined, key=key, progress=progress)
    if found is None:
        return plain, False
    if found.texts_computed:
        logger.info("frozen layers computed for %d of %d texts", found.texts_computed,
                    len(joined.texts))  # fmt: skip
    border = len(sources[0].texts)
    return [found.rows(slice(0, border)), found.rows(slice(border, None))], True


def _join(sources: list[TokenSource]) -> TokenSource:
    """Train and validation in one, so that neither pushes the other out of a small cache."""
    texts = tuple(text for source in sources for text in source.texts)
    ids = tuple(row for source in sources for row in source.ids)
    lengths = np.concatenate([source.lengths for source in sources])
    return TokenSource(texts, ids, lengths, sources[0].padding_id)


def _trainer(
    wrapped: PartlyFrozen | Whole,
    model: nn.Module,
    inputs: list[Source],
    train: LabelledTexts,
    validation: LabelledTexts,
    loss: nn.Module,
    settings: TrainingSettings,
    directory: Path,
    progress: Callable[[Progress], None] | None,
) -> ArmTrainer:
    step_loss = StepLoss(loss)
    tokens, texts = int(inputs[0].lengths.sum()), len(train.texts)
    reporter = ProgressReporter(step_loss, tokens, texts, progress)

    def validate(module: nn.Module) -> tuple[float, float]:
        probabilities = probabilities_of(module, inputs[1])
        return best_global_threshold(validation.y, probabilities, known=validation.known)

    return ArmTrainer(
        wrapped,
        training_arguments(settings, directory),
        collator=Collator(inputs[0], train.y, train.known),
        head=_head(model),
        settings=settings,
        loss=step_loss,
        validate=validate,
        callbacks=[reporter, *early_stopping(settings)],
    )


@torch.inference_mode()
def probabilities_of(module: nn.Module, source: Source) -> NDArray[np.float32]:
    """Probabilities (n, L) of a wrapped classifier, in float32, in the rows' order."""
    was_training = module.training
    module.eval()
    device = next(module.parameters()).device
    everything = np.arange(len(source.lengths))
    result: NDArray[np.float32] | None = None
    for rows in length_batches(source.lengths, everything, _VALIDATION_TOKENS):
        inputs = {name: tensor.to(device) for name, tensor in source.batch(rows).items()}
        values = torch.sigmoid(module(**inputs).float()).cpu().numpy()
        if result is None:
            result = np.empty((len(everything), values.shape[1]), dtype=np.float32)
        result[rows] = values
    module.train(was_training)
    assert result is not None  # noqa: S101 - the caller checked that there are texts
    return result


def _head(model: nn.Module) -> set[int]:
    """``id`` of each parameter outside the embeddings and layers: pooler and head."""
    base: Any = model.base_model
    pooler = getattr(base, "pooler", None)
    pooled = {id(p) for p in pooler.parameters()} if isinstance(pooler, nn.Module) else set()
    encoder = {id(p) for p in base.parameters()} - pooled
    return {id(p) for p in model.parameters()} - encoder


def _history(log: list[dict[str, float]]) -> tuple[list[dict[str, float]], float]:
    """The epochs out of the Trainer's log, and the seconds that validation took."""
    epochs: dict[int, dict[str, float]] = {}
    for entry in log:
        epoch = epochs.setdefault(round(entry["epoch"]), {})
        epoch.update(entry)
    history = [
        {
            "epoch": float(number),
            "loss": entry["loss"],
            METRIC: entry[f"eval_{METRIC}"],
            "threshold": entry["eval_threshold"],
            "seconds": entry["epoch_seconds"],
        }
        for number, entry in sorted(epochs.items())
        if f"eval_{METRIC}" in entry
    ]
    return history, sum(entry.get("eval_seconds", 0.0) for entry in epochs.values())


def _fingerprint(
    encoder: Encoder,
    labels: Sequence[str],
    train: LabelledTexts,
    validation: LabelledTexts,
    loss: nn.Module,
    settings: TrainingSettings,
) -> str:
    """What a checkpoint must have in common with a run that resumes it."""
    parts = [
        [list(part.texts), part.y.indptr.tolist(), part.y.indices.tolist(),
         None if part.known is None else np.packbits(part.known).tobytes().hex()]
        for part in (train, validation)
    ]  # fmt: skip
    return storage.fingerprint(
        encoder.fingerprint, list(labels), parts, repr(loss), weights_digest(loss),
        settings.model_dump(),
    )  # fmt: skip


@contextlib.contextmanager
def _directory(work_dir: str | Path | None, run: str, *, resume: bool) -> Iterator[Path]:
    """The directory of the checkpoints, emptied unless it is this run's and is to be resumed."""
    if work_dir is None:
        with tempfile.TemporaryDirectory(prefix="longtail-training-") as name:
            yield Path(name)
        return
    directory = Path(work_dir)
    marker = directory / "run.json"
    same = marker.is_file() and storage.read_json(marker).get("run") == run
    if not (resume and same):
        if resume and marker.is_file():
            logger.info("%s: checkpoints of another run are thrown away", directory)
        for checkpoint in directory.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        storage.write_json(marker, {"run": run})
    yield directory


def _last_checkpoint(directory: Path) -> str | None:
    """The last whole checkpoint; the Trainer writes its state last."""
    while (last := get_last_checkpoint(str(directory))) is not None:
        with contextlib.suppress(OSError, json.JSONDecodeError):
            json.loads((Path(last) / "trainer_state.json").read_text())
            logger.info("training goes on from %s", last)
            return str(last)
        logger.warning("%s is not whole and is thrown away", last)
        shutil.rmtree(last)
    return None


__all__ = ["ConfigError", "LabelledTexts", "Progress", "TrainedArm", "train_arm"]
