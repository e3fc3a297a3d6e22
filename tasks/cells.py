"""One cell of a comparison: a loss and a seed on one data set, trained once and kept."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

from prefect import task

from longtail import storage
from longtail.activations import ActivationCache
from longtail.config import EncoderSettings, LossSettings, SplitName, TrainingSettings
from longtail.encoder import load_encoder
from longtail.errors import StoreError
from longtail.losses import build_loss
from longtail.losses.spec import resolve_spec
from longtail.predictions import Predictions, write_predictions
from longtail.scoring import score
from longtail.training import LabelledTexts, train_arm
from tasks.data import SplitData
from tasks.handles import SplitHandle
from tasks.slot import training_slot

logger = logging.getLogger(__name__)

_BUDGET = (
    "epochs", "batch_size", "max_length", "learning_rate", "head_learning_rate", "weight_decay",
    "warmup_share", "trainable_layers", "early_stopping_patience", "seed", "precision",
)  # fmt: skip
# But for rounding, and for dropout, which is drawn in each process.
_SAME_WEIGHTS = ("cache", "processes")

CELL = "cell.json"
PARTS: tuple[SplitName, ...] = ("validation", "test")


def cell_directory(
    root: Path, split: SplitHandle, encoder: str, settings: TrainingSettings, loss: LossSettings
) -> Path:
    """Where a cell is kept: all that its numbers depend on is in the name.

    Label groups and threshold policies are not: they can be changed without training again.

    Args:
        root: directory of the data set's cells.
        split: what is trained and scored on.
        encoder: the encoder's fingerprint.
        settings: the budget; its seed is the cell's.
        loss: the cell's loss.
    """
    texts = [storage.sha256_file(split.directory / f"{part}.parquet")
             for part in ("train", *PARTS)]  # fmt: skip
    data = SplitData(split)
    since = [data.since] if any(data.since) else []
    key = storage.fingerprint(
        texts, data.space.names, encoder, _budget(settings), _terms(loss), *since
    )
    return root / f"{loss.name}-seed{settings.seed}-{key[:12]}"


def is_whole(directory: Path) -> bool:
    """Whether a cell was trained to its end and is as it was written."""
    if not directory.is_dir():
        return False
    try:
        storage.verify_directory(directory)
    except StoreError as error:
        logger.warning("%s; this cell is trained again", error)
        return False
    return True


def _budget(settings: TrainingSettings) -> dict[str, Any]:
    """What the trained weights depend on; a setting that a later version adds, once it is used."""
    given = settings.model_dump(mode="json")
    default = TrainingSettings().model_dump(mode="json")
    return {
        name: value
        for name, value in given.items()
        if name in _BUDGET or (name not in _SAME_WEIGHTS and value != default[name])
    }


def _terms(loss: LossSettings) -> dict[str, Any]:
    """What makes this loss differ from plain BCE; a term that a later version adds is not in it."""
    spec = resolve_spec(loss)
    return {
        field.name: value
        for field in dataclasses.fields(spec)
        if (value := getattr(spec, field.name)) != field.default
    }


@task(name="train cell", task_run_name="train {directory.name}", tags=["gpu"])
def train_cell(
    directory: Path,
    split: SplitHandle,
    encoder_settings: EncoderSettings,
    settings: TrainingSettings,
    loss: LossSettings,
    cache_directory: Path,
    slot: str | None = None,
) -> Path:
    """Fine-tune with one loss and seed; write validation and test probabilities and the curve.

    The directory appears when it is whole, so that a comparison that was killed goes on where it
    was. It replaces a damaged one.

    Raises:
        ConfigError: the loss became NaN or infinite.
    """
    data = SplitData(split)
    train, validation = (LabelledTexts(data.texts(part), data.y(part), data.known(part))
                         for part in ("train", "validation"))  # fmt: skip
    encoder = load_encoder(encoder_settings)
    cache = ActivationCache(cache_directory) if settings.cache else None
    module = build_loss(
        loss, support=data.groups.support, n_texts=len(train.texts), y=train.y, known=train.known
    )
    with training_slot(slot):
        trained = train_arm(
            encoder, data.space.names, train, validation, module, settings, cache=cache
        )
    about: dict[str, Any] = {
        "loss": loss.model_dump(mode="json"),
        "training": settings.model_dump(mode="json"),
        "encoder": encoder.fingerprint,
        "seconds": trained.seconds,
        "cache_seconds": trained.cache_seconds,
        "best_epoch": trained.best_epoch,
        "history": trained.history,
        "device": trained.device,
        "trainable_layers": trained.trainable_layers,
        "trainable_parameters": trained.trainable_parameters,
        "parameters": sum(weights.numel() for weights in trained.model.parameters()),
    }
    with storage.committed_directory(directory) as staging:
        for part in PARTS:
            scores = score(
                trained.model, encoder.tokenizer, data.texts(part), max_length=settings.max_length,
                cache=cache, frozen_layers=trained.frozen_layers,
            )  # fmt: skip
            predictions = Predictions(tuple(data.ids(part)), data.space.names, scores)
            write_predictions(staging / f"{part}.parquet", predictions)
        storage.write_json(staging / CELL, about)
    logger.info("%s: %.0f s, best epoch %d", directory.name, trained.seconds, trained.best_epoch)
    return directory
