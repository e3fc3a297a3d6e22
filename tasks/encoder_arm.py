"""Training an encoder arm: fine-tune, score, bundle. Runs in a process of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from longtail import storage
from longtail.activations import ActivationCache
from longtail.activations import Progress as CacheProgress
from longtail.bundle import BundleInfo, TrainingIds, write_bundle
from longtail.config import EncoderSettings
from longtail.encoder import Encoder, load_encoder
from longtail.losses import build_loss
from longtail.progress import Progress
from longtail.scoring import score, score_bundle
from longtail.tiny import write_tiny_encoder
from longtail.training import LabelledTexts, TrainedArm, train_arm
from tasks.arms import write_arm
from tasks.data import SplitData
from tasks.linear_arm import write_scores
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
    """Fine-tune with one loss, write the bundle and score with it.

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
    bundle = _bundle(job, data, encoder, trained)
    write_scores(job.directory, data, "validation", validated)
    tested = score_bundle(bundle, data.texts("test"), cache=cache)
    write_scores(job.directory, data, "test", tested)
    _describe(job, time.monotonic() - started, trained)


def _encoder(job: TrainingJob, texts: Any) -> Encoder:
    if job.encoder.source != TINY:
        return load_encoder(job.encoder)
    directory = job.encoders / f"tiny-{storage.fingerprint(list(texts))[:16]}"
    if not directory.is_dir():
        with storage.committed_directory(directory) as staging:
            write_tiny_encoder(staging, texts)
    return load_encoder(EncoderSettings(source=str(directory)))


def _bundle(job: TrainingJob, data: SplitData, encoder: Encoder, trained: TrainedArm) -> Path:
    return write_bundle(
        job.directory / "bundle", trained.model, encoder.tokenizer,
        _info(job, data, encoder, trained), TrainingIds(*data.training_hashes(["train"])),
    )  # fmt: skip


def _info(job: TrainingJob, data: SplitData, encoder: Encoder, trained: TrainedArm) -> BundleInfo:
    """What is known before tuning; until then the best global cut stands for all labels."""
    cut = trained.history[trained.best_epoch - 1]["threshold"]
    return BundleInfo(
        labels=data.space.names,
        thresholds=(cut,) * len(data.space),
        threshold_policy="global",
        label_groups=data.groups.of_label,
        group_cutoffs=data.groups.cutoffs,
        train_support=data.groups.support,
        max_length=job.training.max_length,
        frozen_layers=trained.frozen_layers,
        loss=job.loss.name,
        data_fingerprint=job.dataset,
        encoder_fingerprint=encoder.fingerprint,
        encoder_source=job.encoder.source,
        settings={"training": job.training.model_dump(), "loss": job.loss.model_dump()},
    )


def _describe(job: TrainingJob, seconds: float, trained: TrainedArm) -> None:
    about: dict[str, Any] = {
        "arm": job.arm,
        "loss": job.loss.name,
        "seconds": seconds,
        "history": trained.history,
        "training": {name: getattr(trained, name) for name in _TOLD},
    }
    if job.shortages:
        about["out_of_memory"] = {
            "batch_size": job.training.batch_size,
            "accumulation": job.training.accumulation,
            "shortages": [shortage.model_dump() for shortage in job.shortages],
        }
    write_arm(job.directory, **about)
    logger.info("%s: trained and scored in %.0f s", job.arm, seconds)
