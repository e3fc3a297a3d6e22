"""One cell of a comparison: a loss and a seed on one data set, trained once and kept."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from prefect import task

from longtail import storage
from longtail.activations import ActivationCache
from longtail.config import (
    CombinationSettings,
    EncoderSettings,
    LossSettings,
    SplitName,
    TrainingSettings,
)
from longtail.encoder import load_encoder
from longtail.errors import StoreError
from longtail.losses import build_loss
from longtail.losses.spec import resolve_spec
from longtail.models.evidence import EncoderLogits, Scores, Source
from longtail.models.held_out import HeldOut, held_out_evidence
from longtail.models.label_names import LabelNames, NameWords, in_words
from longtail.models.neighbours import Neighbours
from longtail.models.reading import EncoderReader
from longtail.predictions import read_predictions
from longtail.training import LabelledTexts, TrainedArm, train_arm
from tasks.arms import write_arm
from tasks.data import SplitData
from tasks.evidence import annotated_splits
from tasks.handles import SplitHandle
from tasks.linear_arm import learned_from, write_scores
from tasks.slot import training_slot

logger = logging.getLogger(__name__)

_BUDGET = (
    "epochs", "batch_size", "max_length", "learning_rate", "head_learning_rate", "weight_decay",
    "warmup_share", "trainable_layers", "early_stopping_patience", "seed", "precision",
)  # fmt: skip
_EVIDENCE = 1
"""To be raised when a cell's evidence changes: cells of before are trained again."""
# But for rounding, and for dropout, which is drawn in each process.
_SAME_WEIGHTS = ("cache", "processes")

CELL = "cell.json"
Descriptions = Mapping[str, Sequence[str]]
"""What else labels are called, and what they mean; see :func:`tasks.evidence.descriptions_of`."""
PARTS: tuple[SplitName, ...] = ("validation", "test")


def cell_directory(
    root: Path,
    split: SplitHandle,
    encoder: str,
    settings: TrainingSettings,
    loss: LossSettings,
    descriptions: Descriptions,
) -> Path:
    """Where a cell is kept: all that its numbers depend on is in the name.

    Label groups and threshold policies are not: they can be changed without training again.

    Args:
        root: directory of the data set's cells.
        split: what is trained and scored on.
        encoder: the encoder's fingerprint.
        settings: the budget; its seed is the cell's.
        loss: the cell's loss.
        descriptions: of the labels, from the data set's taxonomy.
    """
    texts = [storage.sha256_file(split.directory / f"{part}.parquet")
             for part in ("train", *PARTS)]  # fmt: skip
    data = SplitData(split)
    since = [data.since] if any(data.since) else []
    evidence = [_EVIDENCE, CombinationSettings().neighbours, _words(data, descriptions)]
    key = storage.fingerprint(
        texts, data.space.names, encoder, _budget(settings), _terms(loss), evidence, *since
    )
    return root / f"{loss.name}-seed{settings.seed}-{key[:12]}"


def is_whole(directory: Path) -> bool:
    """Whether a cell, or a combination of cells, was made to its end and is as it was written."""
    if not directory.is_dir():
        return False
    try:
        storage.verify_directory(directory)
    except StoreError as error:
        logger.warning("%s; it is made again", error)
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
    descriptions: Descriptions,
    cache_directory: Path,
    slot: str | None = None,
) -> Path:
    """Fine-tune with one loss and seed; write evidence about validation and test, and the curve.

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
    reader = EncoderReader(
        {EncoderLogits.name: trained.model}, encoder.tokenizer, max_length=settings.max_length,
        frozen_layers=trained.frozen_layers,
    )  # fmt: skip
    found = _evidence(data, reader, cache, _words(data, descriptions))
    about: dict[str, Any] = {
        "loss": loss.model_dump(mode="json"),
        "training": settings.model_dump(mode="json"),
        "encoder": encoder.fingerprint,
        "evidence": list(found.test),
        "notes": found.notes,
        **_figures(trained),
    }
    with storage.committed_directory(directory) as staging:
        for part, evidence in zip(PARTS, (found.validation, found.test), strict=True):
            for name, scores in evidence.items():
                write_scores(staging, data, part, scores, _suffix(name))
        write_arm(staging, loss=loss.name, learned_from=learned_from(refit=False))
        storage.write_json(staging / CELL, about)
    logger.info("%s: %.0f s, best epoch %d", directory.name, trained.seconds, trained.best_epoch)
    return directory


def read_evidence(
    directory: Path, data: SplitData, part: SplitName, *sources: str
) -> dict[str, Scores]:
    """What a cell's sources say of the validation or test texts, float32 (n, L) by source.

    Args:
        directory: of the cell.
        data: its split.
        part: validation or test.
        sources: those to read; by default all that the cell has.
    """
    ids, labels = data.ids(part), data.space.names
    return {
        name: read_predictions(directory / f"{part}{_suffix(name)}").aligned(ids, labels)
        for name in sources or storage.read_json(directory / CELL)["evidence"]
    }


def _evidence(
    data: SplitData, reader: EncoderReader, cache: ActivationCache | None, words: Sequence[str]
) -> HeldOut:
    splits = annotated_splits(data, reader, cache)
    make = partial(_sources, words, reader)
    return held_out_evidence(make, splits["train"], splits["validation"], splits["test"].reading)


def _sources(words: Sequence[str], reader: EncoderReader) -> list[Source]:
    near = Neighbours(CombinationSettings().neighbours)
    return [EncoderLogits(), near, LabelNames(words, reader.read), NameWords(words)]


def _words(data: SplitData, descriptions: Descriptions) -> list[str]:
    return [in_words(name, *descriptions.get(name, ())) for name in data.space.names]


def _suffix(source: str) -> str:
    return f"_{source}.parquet"


def _figures(trained: TrainedArm) -> dict[str, Any]:
    """How the training went, and how much of the encoder it changed."""
    names = (
        "seconds", "cache_seconds", "best_epoch", "history", "device", "trainable_layers",
        "trainable_parameters",
    )  # fmt: skip
    figures = {name: getattr(trained, name) for name in names}
    return figures | {"parameters": sum(weights.numel() for weights in trained.model.parameters())}
