"""What a training starts from: the classifier with its frozen part apart, and its inputs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from longtail.activations import ActivationCache, Progress, cache_key
from longtail.batching import LabelledTexts, Source, tokenise
from longtail.config import TrainingSettings
from longtail.encoder import Encoder, build_classifier
from longtail.freezing import (
    PartlyFrozen,
    Split,
    Whole,
    encoder_layers,
    freeze,
    split,
    trainable_layers,
)
from longtail.segments import Dtype
from longtail.workers import one_thread_per_operation

logger = logging.getLogger(__name__)

_CACHE_DTYPES: tuple[Dtype, Dtype] = ("float16", "float32")


@dataclass(frozen=True)
class Prepared:
    """A classifier with its frozen part apart, on its device."""

    model: Any
    module: PartlyFrozen | Whole
    parts: Split | None
    device: torch.device
    depth: int


@dataclass(frozen=True)
class Inputs:
    """Where the batches come from; ``cached`` where that is the activation cache."""

    train: Source
    validation: Source
    cached: bool


def prepare(encoder: Encoder, labels: Sequence[str], settings: TrainingSettings) -> Prepared:
    """The seeded classifier, its lower layers frozen, on this process's device."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_classifier(encoder, labels, seed=settings.seed)
    layers = len(encoder_layers(model))
    trained = trainable_layers(settings.trainable_layers, layers, cuda=device.type == "cuda")
    depth = layers - trained
    frozen = freeze(model, depth)
    parts = split(model, depth)
    module = PartlyFrozen(parts) if parts is not None else Whole(model, frozen)
    module.to_device(device)
    return Prepared(model, module, parts, device, depth)


def find_inputs(
    prepared: Prepared,
    encoder: Encoder,
    train: LabelledTexts,
    validation: LabelledTexts,
    settings: TrainingSettings,
    *,
    cache: ActivationCache | None,
    progress: Progress | None,
) -> Inputs:
    """Cached activations where there can be any, else token ids.

    Validation is kept in float32: the finished model is scored on it from the same activations.
    """
    tokens = [tokenise(encoder.tokenizer, part.texts, settings.max_length)
              for part in (train, validation)]  # fmt: skip
    plain = Inputs(tokens[0], tokens[1], cached=False)
    if cache is None or not settings.cache or prepared.depth < 0:
        return plain
    if prepared.parts is None:
        logger.info(
            "the layers of a %s encoder cannot be cached; they are computed in every epoch",
            encoder.family,
        )
        return plain
    lower = prepared.parts.lower
    key = cache_key(lower, encoder.tokenizer, settings.max_length)
    found = []
    for source, dtype in zip(tokens, _CACHE_DTYPES, strict=True):
        activations = cache.get(lower, source, key=key, dtype=dtype, progress=progress)
        if activations is None:
            return plain
        found.append(activations)
    computed = sum(activations.texts_computed for activations in found)
    total = sum(len(source.texts) for source in tokens)
    logger.info("frozen layers: %d of %d texts computed, the rest was cached", computed, total)
    return Inputs(found[0], found[1], cached=True)


def step_threads(prepared: Prepared, inputs: Inputs) -> AbstractContextManager[object]:
    """One thread for steps that are too small to be divided: one layer at one token."""
    layers = len(encoder_layers(prepared.model))
    small = inputs.cached and layers - prepared.depth <= 1 and prepared.device.type == "cpu"
    return one_thread_per_operation() if small else nullcontext()
