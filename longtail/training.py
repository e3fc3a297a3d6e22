"""One fine-tuning run: the same encoder, budget, seed and order of texts for every loss.

On a CPU the lower layers are frozen and their activations come from the cache; see
``docs/reference/training.md``.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from longtail.activations import ActivationCache
from longtail.activations import Progress as CacheProgress
from longtail.batching import Collator, LabelledTexts, Source
from longtail.checkpoints import checkpoint_directory, last_checkpoint, run_fingerprint
from longtail.config import TrainingSettings
from longtail.encoder import Encoder, quiet_transformers
from longtail.errors import DataError, OutOfMemoryError
from longtail.freezing import SPLITTABLE, PartlyFrozen, Whole, encoder_layers
from longtail.memory import is_out_of_memory
from longtail.preparation import Inputs, Prepared, find_inputs, prepare, step_threads
from longtail.processes import ALONE, Processes, join_processes, number_of_processes
from longtail.progress import Progress
from longtail.progress_reporter import ProgressReporter
from longtail.scoring import probabilities
from longtail.thresholds import best_global_threshold
from longtail.trainer import (
    METRIC,
    ArmTrainer,
    StepLoss,
    training_arguments,
)

logger = logging.getLogger(__name__)

_VALIDATION_TOKENS = 4096


@dataclass(frozen=True)
class TrainedArm:
    """A trained classifier and how it got there.

    Attributes:
        model: the best epoch's classifier, plain transformers, float32 on the CPU, in eval mode.
        history: one entry per epoch: epoch, loss, validation_micro_f1, threshold, seconds.
        best_epoch: the epoch whose weights these are, from 1.
        seconds: of training and validating, tokenising and the cache included.
        cache_seconds: of loading, tokenising and computing activations, within ``seconds``.
        tokens_per_second: training tokens per second of optimiser steps, padding and validation
            not counted.
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

    Under ``torchrun`` the processes share every step, and each of them returns the same arm;
    otherwise ``settings.processes`` says how many are started.

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
            run (data, labels, encoder, loss, settings and processes), else start anew.
        progress: called about once a second.
        cache_progress: called with (texts done, texts to compute) while activations are computed.

    Raises:
        DataError: no text to train or validate on, or labels that do not fit the matrices.
        ConfigError: the loss became NaN or infinite, or a batch has fewer texts than processes.
        TrainingError: one of several processes died.
        OutOfMemoryError: the device, or the machine, has too little memory for ``batch_size``.
    """
    _check(labels, train, validation)
    processes = join_processes()
    if processes is ALONE and number_of_processes(settings) > 1:
        from longtail.launch import train_in_processes

        return train_in_processes(
            encoder, labels, train, validation, loss, settings, cache=cache,
            work_dir=work_dir, resume=resume, progress=progress, cache_progress=cache_progress,
        )  # fmt: skip
    started = time.monotonic()
    prepared = prepare(encoder, labels, settings)
    with processes.first_of_machine_first():
        inputs = find_inputs(
            prepared, encoder, train, validation, settings, cache=cache, progress=cache_progress
        )
    prepared_by = time.monotonic()
    parts = (train, validation)
    run = run_fingerprint(encoder, labels, parts, loss, settings, processes.count)
    with checkpoint_directory(work_dir, run, resume=resume, processes=processes) as directory:
        trainer = _trainer(
            prepared, inputs, train, validation, loss=loss, settings=settings,
            directory=directory, progress=progress, processes=processes,
        )  # fmt: skip
        with quiet_transformers(), step_threads(prepared, inputs), _memory_in_words(settings):
            trainer.train(resume_from_checkpoint=last_checkpoint(directory, processes))
    history = _history(trainer.state.log_history)
    model = prepared.model.cpu().eval()
    return TrainedArm(
        model=model,
        history=history,
        best_epoch=int(max(history, key=lambda entry: entry[METRIC])["epoch"]),
        seconds=time.monotonic() - started,
        cache_seconds=prepared_by - started if inputs.cached else 0.0,
        tokens_per_second=trainer.tokens_per_second(),
        device=prepared.device.type,
        trainable_layers=len(encoder_layers(model)) - max(prepared.depth, 0),
        frozen_layers=prepared.depth,
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        cached=inputs.cached,
    )


@contextlib.contextmanager
def _memory_in_words(settings: TrainingSettings) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OutOfMemoryError(
            f"out of memory with batch_size {settings.batch_size} ({said}); halve it and double "
            "accumulation, which gives the same steps"
        ) from error


def _check(labels: Sequence[str], train: LabelledTexts, validation: LabelledTexts) -> None:
    for name, part in (("training", train), ("validation", validation)):
        expected = (len(part.texts), len(labels))
        if part.y.shape != expected:
            raise DataError(f"the {name} labels have shape {part.y.shape}, expected {expected}")
        if not len(part.texts):
            raise DataError(f"there is no {name} text; the data set is too small to be split")


def _trainer(
    prepared: Prepared,
    inputs: Inputs,
    train: LabelledTexts,
    validation: LabelledTexts,
    *,
    loss: nn.Module,
    settings: TrainingSettings,
    directory: Path,
    progress: Callable[[Progress], None] | None,
    processes: Processes,
) -> ArmTrainer:
    # Several processes: one that has no share of the last texts has unknown cells only.
    partial = train.known is not None or processes.count > 1
    step_loss = StepLoss(loss.to(prepared.device), partial=partial)
    tokens, texts = int(inputs.train.lengths.sum()), len(train.texts)
    report = progress if processes.first else None
    reporter = ProgressReporter(step_loss.take_mean, tokens=tokens, texts=texts, report=report)
    # The Trainer puts autocast around the module that it trains; this one is scored in float32.
    scored = copy.copy(prepared.module)

    def validate(_: Any) -> tuple[float, float]:
        found = _validation(scored, inputs.validation, validation.y.shape[1], processes)
        best = best_global_threshold(validation.y, found, known=validation.known)
        return processes.told_by_first(best)

    return ArmTrainer(
        prepared.module,
        training_arguments(
            settings,
            directory,
            processes=processes.count,
            find_unused=prepared.model.config.model_type not in SPLITTABLE,
        ),
        collator=Collator(inputs.train, train.y, train.known),
        head=_head(prepared.model),
        settings=settings,
        loss=step_loss,
        validate=validate,
        reporter=reporter,
        processes=processes,
    )


def _validation(
    module: PartlyFrozen | Whole, source: Source, labels: int, processes: Processes
) -> NDArray[np.float32]:
    """Probabilities (n, labels) of all validation texts, each process scoring its share."""
    share = probabilities(
        module, source.rows(processes.share), labels, tokens_per_batch=_VALIDATION_TOKENS
    )
    result = np.empty((len(source.lengths), labels), dtype=np.float32)
    for rank, found in enumerate(processes.gathered(share)):
        result[rank :: processes.count] = found
    return result


def _head(model: nn.Module) -> set[int]:
    """``id`` of each parameter outside the embeddings and layers: pooler and head."""
    base: Any = model.base_model
    pooler = getattr(base, "pooler", None)
    pooled = {id(p) for p in pooler.parameters()} if isinstance(pooler, nn.Module) else set()
    encoder = {id(p) for p in base.parameters()} - pooled
    return {id(p) for p in model.parameters()} - encoder


def _history(log: list[dict[str, float]]) -> list[dict[str, float]]:
    """The epochs out of the Trainer's log."""
    epochs: dict[int, dict[str, float]] = {}
    for entry in log:
        epochs.setdefault(round(entry["epoch"]), {}).update(entry)
    return [
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


__all__ = ["LabelledTexts", "Progress", "TrainedArm", "train_arm"]
