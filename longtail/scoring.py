"""Probabilities of texts, in float32, by one classifier or by several that share frozen layers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from longtail.activations import TOKENS_PER_BATCH, ActivationCache, cache_key
from longtail.batching import Source, length_batches, tokenise
from longtail.freezing import PartlyFrozen, Whole, split
from longtail.workers import side_by_side

if TYPE_CHECKING:
    from longtail.bundle import Bundle

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
_LOG_SECONDS = 15.0


def score(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    max_length: int,
    cache: ActivationCache | None = None,
    frozen_layers: int = -1,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Probabilities of a classifier in float32.

    Texts are scored in order of length, in batches padded to their own longest text; a text's
    probabilities do not depend on the batch beyond rounding (about 1e-6).

    Args:
        model: a transformers sequence classifier.
        tokenizer: its tokenizer.
        texts: n texts.
        max_length: tokens per text; longer texts are cut.
        cache: with ``frozen_layers``, the hidden states of the frozen layers are computed once
            for all models whose frozen layers are equal, and kept in float32: what comes out is
            what the whole model gives. Worth it for texts that several models score.
        frozen_layers: layers that training left alone, such as ``TrainedArm.frozen_layers``.
        progress: called with (texts done, texts).

    Returns:
        Shape (n, L), in [0, 1], rows in the texts' order, columns in that of ``id2label``.
    """
    found = score_logits(
        model, tokenizer, texts, max_length=max_length, cache=cache, frozen_layers=frozen_layers,
        progress=progress,
    )  # fmt: skip
    return _sigmoid(found)


def score_logits(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    max_length: int,
    cache: ActivationCache | None = None,
    frozen_layers: int = -1,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Logits of a classifier in float32, (n, L); see :func:`score`."""
    labels = int(model.config.num_labels)
    if not len(texts):
        return np.zeros((0, labels), dtype=np.float32)
    tokens = tokenise(tokenizer, texts, max_length)
    module: PartlyFrozen | Whole = Whole(model, ())
    source: Source = tokens
    parts = split(model, frozen_layers) if cache is not None else None
    if parts is not None and cache is not None:
        key = cache_key(parts.lower, tokenizer, max_length)
        cached = cache.get(parts.lower, tokens, key=key, dtype="float32")
        if cached is not None:
            module, source = PartlyFrozen(parts), cached
    return logits(module, source, labels, progress=progress)


def probabilities(
    module: PartlyFrozen | Whole,
    source: Source,
    labels: int,
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Probabilities (n, labels) of a wrapped classifier; see :func:`logits`."""
    found = logits(module, source, labels, tokens_per_batch=tokens_per_batch, progress=progress)
    return _sigmoid(found)


def logits(
    module: PartlyFrozen | Whole,
    source: Source,
    labels: int,
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Logits (n, labels) of a wrapped classifier; see :func:`outputs`."""
    return outputs(
        module, source, [labels], tokens_per_batch=tokens_per_batch, progress=progress
    )[0]  # fmt: skip


def outputs(
    module: nn.Module,
    source: Source,
    widths: Sequence[int],
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    progress: Progress | None = None,
) -> list[NDArray[np.float32]]:
    """What a module gives for all texts, without autocast, in the rows' order.

    The module is left in the mode it was in.

    Args:
        module: gives a tensor (texts, width) for a batch, or a list of them.
        source: n texts.
        widths: of the tensors.
        tokens_per_batch: size of a batch, padding included.
        progress: called with (texts done, texts).

    Returns:
        One array (n, width) for each width.
    """
    was_training = module.training
    module.eval()
    device = next(module.parameters()).device
    rows = np.arange(len(source.lengths))
    results = [np.empty((len(rows), width), dtype=np.float32) for width in widths]
    done, logged = 0, time.monotonic()
    batches = length_batches(source.lengths, rows, tokens_per_batch)
    compute = partial(_outputs, module, source, device)
    for batch, values in side_by_side(compute, batches, device=device):
        for result, part in zip(results, values, strict=True):
            result[batch] = part
        done += len(batch)
        if progress is not None:
            progress(done, len(rows))
        if time.monotonic() - logged > _LOG_SECONDS:
            logged = time.monotonic()
            logger.info("scored %d of %d texts", done, len(rows))
    module.train(was_training)
    return results


@torch.inference_mode()
def _outputs(
    module: nn.Module, source: Source, device: torch.device, rows: Sequence[int]
) -> list[NDArray[np.float32]]:
    inputs = {name: tensor.to(device) for name, tensor in source.batch(rows).items()}
    found = module(**inputs)
    parts = found if isinstance(found, list) else [found]
    return [part.float().cpu().numpy() for part in parts]


def _sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    torch.sigmoid_(torch.from_numpy(values))
    return values


def score_bundle(
    bundle: str | Path | Bundle,
    texts: Sequence[str],
    *,
    cache: ActivationCache | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Probabilities of a bundle as it serves: of all its evidence, where it combines several.

    Args:
        bundle: its directory, or what :func:`longtail.bundle.load_bundle` gave.
        texts: n texts.
        cache: see :func:`score`.
        progress: see :func:`score`.

    Returns:
        float32 (n, L), in [0, 1], columns in the order of the bundle's labels.

    Raises:
        StoreError: the bundle is unfinished, damaged, or of another format.
    """
    from longtail.bundle import Bundle, load_bundle

    loaded = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    if loaded.ensemble is not None:
        return loaded.ensemble.probabilities(texts, cache=cache, progress=progress)
    return score(
        loaded.model, loaded.tokenizer, texts, max_length=loaded.info.max_length,
        cache=cache, frozen_layers=loaded.info.frozen_layers, progress=progress,
    )  # fmt: skip
