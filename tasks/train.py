"""Train → arms: the linear baseline, BERT with BCE, BERT with the candidate's loss."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from prefect import task

from longtail import storage
from longtail.activations import ActivationCache
from longtail.baselines import LinearBaseline
from longtail.bundle import BundleInfo, TrainingIds, write_bundle
from longtail.config import (
    EncoderSettings,
    FusionSettings,
    LinearSettings,
    LossSettings,
    SplitName,
    TrainingSettings,
)
from longtail.encoder import Encoder, load_encoder
from longtail.fusion import Fusion, fit_fusion, fuse
from longtail.known import Bools, stacked
from longtail.losses import build_loss
from longtail.predictions import Predictions, read_predictions, write_predictions
from longtail.scoring import score, score_bundle
from longtail.tiny import write_tiny_encoder
from longtail.training import LabelledTexts, TrainedArm, train_arm
from tasks.arms import write_arm
from tasks.data import SplitData
from tasks.handles import ArmHandle, ArmName, DatasetHandle, RunHandle, SplitHandle

logger = logging.getLogger(__name__)

GPU = "gpu"
TINY = "tiny"
LINEAR_MODEL = "model"
DECISIONS = "_decisions.parquet"


@task(name="train linear")
def train_linear(run: RunHandle, split: SplitHandle, settings: LinearSettings) -> ArmHandle:
    """Fit TF-IDF with one linear classifier per label, save it, score validation and test.

    Validation is scored by a model that has not seen it. With ``refit`` the one that is saved, and
    scores the test set, has learned from it as well.
    """
    started = time.monotonic()
    data = SplitData(split)
    directory = _directory(run, "linear")
    model = LinearBaseline(settings).fit(data.texts("train"), data.y("train"), data.known("train"))
    decisions = model.decisions(data.texts("validation"))
    _write(directory, data, "validation", model.scores(decisions))
    _write(directory, data, "validation", decisions, DECISIONS)
    parts = learned_from(refit=settings.refit)
    if settings.refit:
        model = LinearBaseline(settings).fit(*_together(data, parts))
    model.save(directory / LINEAR_MODEL)
    _write(directory, data, "test", model.predict(data.texts("test")))
    write_arm(directory, learned_from=parts)
    return _finish(directory, "linear", settings.estimator, time.monotonic() - started)


@task(name="train encoder", task_run_name="train {arm}", tags=[GPU])
def train_encoder(
    run: RunHandle,
    split: SplitHandle,
    dataset: DatasetHandle,
    encoder_settings: EncoderSettings,
    settings: TrainingSettings,
    *,
    arm: ArmName,
    loss: LossSettings,
    linear: ArmHandle,
    fusion: FusionSettings,
) -> ArmHandle:
    """Fine-tune with one loss, fuse with the linear arm, write the bundle and score with it."""
    started = time.monotonic()
    data = SplitData(split)
    train, validation = (LabelledTexts(data.texts(part), data.y(part), data.known(part))
                         for part in ("train", "validation"))  # fmt: skip
    encoder = _encoder(run, encoder_settings, train.texts)
    module = build_loss(
        loss, support=data.groups.support, n_texts=len(train.texts), y=train.y, known=train.known
    )
    cache = ActivationCache(run.cache) if settings.cache else None
    logger.info("%s: training with the loss %s on %d texts", arm, loss.name, len(train.texts))
    trained = train_arm(encoder, data.space.names, train, validation, module, settings, cache=cache)
    validated = score(
        trained.model, encoder.tokenizer, validation.texts, max_length=settings.max_length,
        cache=cache, frozen_layers=trained.frozen_layers,
    )  # fmt: skip
    fitted = None
    if fusion.linear:
        decisions = read_predictions(linear.directory / f"validation{DECISIONS}").probabilities
        fitted = fit_fusion(validation.y, validated, decisions, fusion, validation.known)
        validated = fuse(validated, decisions, fitted.weight)
        _tell_fusion(arm, fitted)
    info = _info(data, dataset, encoder, encoder_settings, settings, loss, trained, fitted)
    model = None
    if info.fusion_weight is not None:
        model = LinearBaseline.load(linear.directory / LINEAR_MODEL)
    directory = _directory(run, arm)
    bundle = write_bundle(
        directory / "bundle", trained.model, encoder.tokenizer, info, _training_ids(data, model),
        linear=model,
    )  # fmt: skip
    _write(directory, data, "validation", validated)
    _write(directory, data, "test", score_bundle(bundle, data.texts("test"), cache=cache))
    return _finish(directory, arm, loss.name, time.monotonic() - started, trained, fitted, bundle)


def learned_from(*, refit: bool) -> list[SplitName]:
    """The splits whose texts a linear arm has learned from."""
    return ["train", "validation"] if refit else ["train"]


def _together(
    data: SplitData, parts: Sequence[SplitName]
) -> tuple[list[str], sp.csr_array, Bools | None]:
    """Texts, labels and known cells of several splits, one below the other."""
    y = [data.y(part) for part in parts]
    known = stacked([one.shape for one in y], [data.known(part) for part in parts])
    texts = [text for part in parts for text in data.texts(part)]
    return texts, sp.csr_array(sp.vstack(y)), known


def _tell_fusion(arm: str, fitted: Fusion) -> None:
    if fitted.weight == 0.0:
        logger.info("%s: not fused, no weight is better on validation than the encoder alone", arm)
        return
    logger.info(
        "%s: fused with the linear arm, weight %g, validation micro-F1 %.4f, alone %.4f",
        arm, fitted.weight, fitted.validation_micro_f1, fitted.alone_micro_f1,
    )  # fmt: skip


def _encoder(run: RunHandle, settings: EncoderSettings, texts: Any) -> Encoder:
    if settings.source != TINY:
        return load_encoder(settings)
    directory = run.store / "cache" / "encoders" / f"tiny-{storage.fingerprint(list(texts))[:16]}"
    if not directory.is_dir():
        with storage.committed_directory(directory) as staging:
            write_tiny_encoder(staging, texts)
    return load_encoder(EncoderSettings(source=str(directory)))


def _info(
    data: SplitData,
    dataset: DatasetHandle,
    encoder: Encoder,
    encoder_settings: EncoderSettings,
    settings: TrainingSettings,
    loss: LossSettings,
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
        max_length=settings.max_length,
        frozen_layers=trained.frozen_layers,
        fusion_weight=(fitted.weight or None) if fitted is not None else None,
        loss=loss.name,
        data_fingerprint=dataset.fingerprint,
        encoder_fingerprint=encoder.fingerprint,
        encoder_source=encoder_settings.source,
        settings={"training": settings.model_dump(), "loss": loss.model_dump()},
    )


def _training_ids(data: SplitData, model: LinearBaseline | None) -> TrainingIds:
    """What the bundle has learned from: with a linear arm that was fitted again, validation too."""
    parts = learned_from(refit=model is not None and model.settings.refit)
    return TrainingIds(*data.training_hashes(parts))


def _write(
    directory: Path,
    data: SplitData,
    part: SplitName,
    scores: NDArray[np.float32],
    suffix: str = ".parquet",
) -> None:
    predictions = Predictions(tuple(data.ids(part)), data.space.names, scores)
    write_predictions(directory / f"{part}{suffix}", predictions)


def _directory(run: RunHandle, arm: str) -> Path:
    directory = run.directory / "arms" / arm
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _finish(
    directory: Path,
    arm: ArmName,
    loss: str,
    seconds: float,
    trained: TrainedArm | None = None,
    fitted: Fusion | None = None,
    bundle: Path | None = None,
) -> ArmHandle:
    about: dict[str, Any] = {"arm": arm, "loss": loss, "seconds": seconds, "history": []}
    if trained is not None:
        about["history"] = trained.history
        about["training"] = {
            name: getattr(trained, name)
            for name in ("best_epoch", "seconds", "cache_seconds", "tokens_per_second", "device",
                         "trainable_layers", "frozen_layers", "trainable_parameters", "cached")
        }  # fmt: skip
    if fitted is not None:
        names = ("weight", "validation_micro_f1", "alone_micro_f1")
        about["fusion"] = {name: getattr(fitted, name) for name in names}
    write_arm(directory, **about)
    logger.info("%s: trained and scored in %.0f s", arm, seconds)
    return ArmHandle(arm=arm, directory=directory, loss=loss, seconds=seconds, bundle=bundle)
