"""Training an encoder arm: fine-tune, score, fuse, bundle. Runs in a process of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtail import storage
from longtail.activations import ActivationCache
from longtail.activations import Progress as CacheProgress
from longtail.baselines import LinearBaseline
from longtail.bundle import BundleInfo, TrainingIds, write_bundle
from longtail.config import EncoderSettings
from longtail.encoder import Encoder, load_encoder
from longtail.fusion import Fusion, fit_fusion, fuse
from longtail.losses import build_loss
from longtail.predictions import read_predictions
from longtail.progress import Progress
from longtail.scoring import score, score_bundle
from longtail.tiny import write_tiny_encoder
from longtail.training import LabelledTexts, TrainedArm, train_arm
from tasks.arms import write_arm
from tasks.data import SplitData
from tasks.linear_arm import DECISIONS, LINEAR_MODEL, learned_from, write_scores
from tasks.training_job import TINY, TrainingJob

logger = logging.getLogger(__name__)

_TOLD = (
    "best_epoch", "seconds", "cache_seconds", "tokens_per_second", "device", "trainable_layers",
    "frozen_layers", "trainable_parameters", "cached",
)  # fmt: skip


def run_job(
    job: TrainingJob,
    progress: Callable[[Progress], None] | None = None,
    cache_progress: CacheProgress | None = None,
) -> None:
    """Fine-tune with one loss, fuse with the linear arm, write the bundle and score with it.

    Args:
        job: what to train; the results are in its directory.
        progress: called about once a second.
        cache_progress: called with (texts done, texts to compute) while activations are computed.
    """
    started = time.monotonic()
    data = SplitData(job.split)
    train, validation = (LabelledTexts(data.texts(part), data.y(part), data.known(part))
                         for part in ("train", "validation"))  # fmt: skip
    encoder = _encoder(job, train.texts)
    module = build_loss(
        job.loss, support=data.groups.support, n_texts=len(train.texts), y=train.y,
        known=train.known,
    )  # fmt: skip
    cache = ActivationCache(job.activations) if job.training.cache else None
    logger.info(
        "%s: training with the loss %s on %d texts", job.arm, job.loss.name, len(train.texts)
    )
    trained = train_arm(
        encoder, data.space.names, train, validation, module, job.training, cache=cache,
        work_dir=job.checkpoints, resume=True, progress=progress, cache_progress=cache_progress,
    )  # fmt: skip
    validated = score(
        trained.model, encoder.tokenizer, validation.texts, max_length=job.training.max_length,
        cache=cache, frozen_layers=trained.frozen_layers,
    )  # fmt: skip
    fitted = None
    if job.fusion.linear:
        validated, fitted = _fused(job, validation, validated)
    bundle = _bundle(job, data, encoder, trained, fitted)
    write_scores(job.directory, data, "validation", validated)
    tested = score_bundle(bundle, data.texts("test"), cache=cache)
    write_scores(job.directory, data, "test", tested)
    _describe(job, time.monotonic() - started, trained, fitted)


def _fused(
    job: TrainingJob, validation: LabelledTexts, alone: NDArray[np.float32]
) -> tuple[NDArray[np.float32], Fusion]:
    decisions = read_predictions(job.linear / f"validation{DECISIONS}").probabilities
    fitted = fit_fusion(validation.y, alone, decisions, job.fusion, validation.known)
    if fitted.weight == 0.0:
        logger.info(
            "%s: not fused, no weight is better on validation than the encoder alone", job.arm
        )
    else:
        logger.info(
            "%s: fused with the linear arm, weight %g, validation micro-F1 %.4f, alone %.4f",
            job.arm, fitted.weight, fitted.validation_micro_f1, fitted.alone_micro_f1,
        )  # fmt: skip
    return fuse(alone, decisions, fitted.weight), fitted


def _encoder(job: TrainingJob, texts: Any) -> Encoder:
    if job.encoder.source != TINY:
        return load_encoder(job.encoder)
    directory = job.encoders / f"tiny-{storage.fingerprint(list(texts))[:16]}"
    if not directory.is_dir():
        with storage.committed_directory(directory) as staging:
            write_tiny_encoder(staging, texts)
    return load_encoder(EncoderSettings(source=str(directory)))


def _bundle(
    job: TrainingJob,
    data: SplitData,
    encoder: Encoder,
    trained: TrainedArm,
    fitted: Fusion | None,
) -> Path:
    info = _info(job, data, encoder, trained, fitted)
    model = None
    if info.fusion_weight is not None:
        model = LinearBaseline.load(job.linear / LINEAR_MODEL)
    return write_bundle(
        job.directory / "bundle", trained.model, encoder.tokenizer, info,
        _training_ids(data, model), linear=model,
    )  # fmt: skip


def _info(
    job: TrainingJob,
    data: SplitData,
    encoder: Encoder,
    trained: TrainedArm,
    fitted: Fusion | None,
) -> BundleInfo:
    """What is known before tuning; until then the best global cut stands for all labels."""
    alone = trained.history[trained.best_epoch - 1]["threshold"]
    cut = alone if fitted is None else fitted.threshold
    return BundleInfo(
        labels=data.space.names,
        thresholds=(cut,) * len(data.space),
        threshold_policy="global",
        label_groups=data.groups.of_label,
        group_cutoffs=data.groups.cutoffs,
        train_support=data.groups.support,
        max_length=job.training.max_length,
        frozen_layers=trained.frozen_layers,
        fusion_weight=(fitted.weight or None) if fitted is not None else None,
        loss=job.loss.name,
        data_fingerprint=job.dataset,
        encoder_fingerprint=encoder.fingerprint,
        encoder_source=job.encoder.source,
        settings={"training": job.training.model_dump(), "loss": job.loss.model_dump()},
    )


def _training_ids(data: SplitData, model: LinearBaseline | None) -> TrainingIds:
    """What the bundle has learned from: with a linear arm that was fitted again, validation too."""
    parts = learned_from(refit=model is not None and model.settings.refit)
    return TrainingIds(*data.training_hashes(parts))


def _describe(job: TrainingJob, seconds: float, trained: TrainedArm, fitted: Fusion | None) -> None:
    about: dict[str, Any] = {
        "arm": job.arm,
        "loss": job.loss.name,
        "seconds": seconds,
        "history": trained.history,
        "training": {name: getattr(trained, name) for name in _TOLD},
    }
    if fitted is not None:
        names = ("weight", "validation_micro_f1", "alone_micro_f1")
        about["fusion"] = {name: getattr(fitted, name) for name in names}
    if job.shortages:
        about["out_of_memory"] = {
            "batch_size": job.training.batch_size,
            "accumulation": job.training.accumulation,
            "shortages": [shortage.model_dump() for shortage in job.shortages],
        }
    write_arm(job.directory, **about)
    logger.info("%s: trained and scored in %.0f s", job.arm, seconds)
