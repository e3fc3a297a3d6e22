"""A tiny encoder and a small labelled set whose labels are words of the texts."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from longtail.config import EncoderSettings, LossSettings, TrainingSettings
from longtail.encoder import Encoder, load_encoder
from longtail.labels import LabelSpace, support
from longtail.losses import build_loss
from longtail.tiny import write_tiny_encoder
from longtail.training import LabelledTexts

WORDS = ("printer", "network", "password", "invoice", "screen", "keyboard")
FILLER = [
    "please",
    "help",
    "me",
    "with",
    "my",
    "office",
    "machine",
    "since",
    "it",
    "stopped",
    "today",
    "and",
    "again",
]


def texts_and_labels(n: int, seed: int) -> tuple[list[str], list[list[str]]]:
    random = np.random.default_rng(seed)
    rarity = 1.0 / np.arange(1, len(WORDS) + 1)
    texts, labels = [], []
    for _ in range(n):
        chosen = random.choice(
            WORDS, size=random.integers(1, 3), replace=False, p=rarity / rarity.sum()
        )
        words = [*random.choice(FILLER, size=random.integers(2, 24)), *chosen]
        random.shuffle(words)
        texts.append(" ".join(words))
        labels.append(sorted(set(chosen)))
    return texts, labels


SPACE = LabelSpace(tuple(sorted(WORDS)))


def labelled(n: int, seed: int, *, unknown: bool = False) -> LabelledTexts:
    texts, labels = texts_and_labels(n, seed)
    y = SPACE.encode(labels)
    known = np.random.default_rng(seed).random(y.shape) > 0.2 if unknown else None
    return LabelledTexts(texts, y, known)


@functools.cache
def encoder_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="longtail-tiny-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return write_tiny_encoder(directory, texts_and_labels(200, 9)[0], layers=3, hidden_size=32)


@functools.cache
def tiny_encoder() -> Encoder:
    return load_encoder(EncoderSettings(source=str(encoder_directory())))


def loss_of(name: str, train: LabelledTexts, **options: float | bool | str):
    return build_loss(
        LossSettings(name=name, options=options),
        support=support(train.y),
        n_texts=len(train.texts),
        y=train.y,
        known=train.known,
    )


def settings(**changes) -> TrainingSettings:
    defaults = {
        "epochs": 2, "batch_size": 8, "max_length": 24, "trainable_layers": 1,
        "learning_rate": 1e-3, "head_learning_rate": 1e-2,
    }  # fmt: skip
    return TrainingSettings(**{**defaults, **changes})


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
