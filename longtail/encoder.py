"""Loading a pretrained encoder, and putting a seeded classification head on it.

Weights are read from safetensors only and no code that comes with a model is ever run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from longtail.config import EncoderSettings
from longtail.encoder_files import WEIGHTS, find_encoder, first_line
from longtail.errors import ConfigError


@dataclass(frozen=True)
class Encoder:
    """A pretrained encoder on disk, with its tokenizer and configuration in memory.

    Attributes:
        path: directory with ``config.json`` and ``model.safetensors``.
        tokenizer: the encoder's own tokenizer.
        config: its transformers configuration.
        fingerprint: SHA-256 over weights, configuration and tokenizer.
        family: transformers' model type, such as ``bert``.
    """

    path: Path
    tokenizer: Any
    config: Any
    fingerprint: str
    family: str


def load_encoder(settings: EncoderSettings) -> Encoder:
    """Find an encoder, check its weights' checksum and load its tokenizer and configuration.

    Raises:
        ConfigError: the source does not exist, has no safetensors weights, needs code of its own,
            or its checksum is not the expected one.
    """
    found = find_encoder(settings)
    path = found.path
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(path, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{path}: not an encoder that transformers can load without code of the model's own "
            f"({first_line(error)})"
        ) from error
    if tokenizer.pad_token_id is None:
        raise ConfigError(
            f"{path}: its tokenizer has no padding token, so texts cannot be batched; choose an "
            "encoder such as BERT, RoBERTa, ELECTRA or DistilBERT"
        )
    return Encoder(path, tokenizer, config, found.fingerprint, str(config.model_type))


def build_classifier(encoder: Encoder, labels: Sequence[str], *, seed: int) -> Any:
    """The encoder under a new multi-label head, in float32 and eval mode.

    What the checkpoint does not hold (the head, sometimes the pooler) is drawn from ``seed``, so
    that every arm of a retrain starts from the same weights. The caller's random state is kept.

    Args:
        encoder: what :func:`load_encoder` gave.
        labels: label names, in column order.
        seed: of the new weights.

    Returns:
        A plain ``AutoModelForSequenceClassification`` whose configuration holds ``id2label`` and
        the multi-label problem type, so that transformers' pipeline applies a sigmoid.
    """
    if not labels:
        raise ConfigError("a classifier needs at least one label, found none")
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(
            encoder.path,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={name: column for column, name in enumerate(labels)},
            problem_type="multi_label_classification",
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
        )
    return model.eval()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and notes on new head weights off the terminal."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


__all__ = ["WEIGHTS", "Encoder", "build_classifier", "load_encoder", "quiet_transformers"]
