"""Validation probabilities → thresholds, every arm by the same policy."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from longtail import storage
from longtail.bundle import finalise_bundle
from longtail.config import ThresholdSettings
from longtail.predictions import read_predictions
from longtail.thresholds import Thresholds, fit_thresholds
from tasks.arms import write_arm
from tasks.data import SplitData
from tasks.handles import ArmHandle, RunHandle, SplitHandle
from tasks.stages import run_stage, stage_key

logger = logging.getLogger(__name__)

_SCORED = "validation.parquet"
_THRESHOLDS = "thresholds.json"


@task(
    name="tune thresholds",
    task_run_name="tune thresholds of {arm.arm}",
    cache_policy=NO_CACHE,
)
def tune_thresholds(
    run: RunHandle, split: SplitHandle, arm: ArmHandle, settings: ThresholdSettings
) -> ArmHandle:
    """Fit an arm's thresholds on the validation split; ``arm.json`` and the bundle get them."""
    run_stage(
        run, f"tune-{arm.arm}", _key(split, arm, settings), arm.directory,
        partial(_fit, split, settings), files=[_THRESHOLDS],
    )  # fmt: skip
    fitted = Thresholds.from_json(storage.read_json(arm.directory / _THRESHOLDS))
    names = SplitData(split).space.names
    about = fitted.to_json()
    del about["values"]
    about["on_group_cut"] = [names[column] for column in fitted.on_group_cut]
    cuts = dict(zip(names, fitted.values.tolist(), strict=True))
    write_arm(arm.directory, thresholds={**about, "labels": cuts})
    if arm.bundle is not None:
        finalise_bundle(arm.bundle, thresholds=fitted.values, threshold_policy=fitted.policy)
    logger.info(
        "%s: %s thresholds %s, validation micro-F1 %.4f",
        arm.arm,
        fitted.policy,
        {group: round(cut, 3) for group, cut in fitted.by_group.items()},
        fitted.validation_micro_f1,
    )
    for group, why in fitted.fallbacks.items():
        logger.info("%s, %s: %s", arm.arm, group, why)
    return arm


def _fit(split: SplitHandle, settings: ThresholdSettings, directory: Path) -> None:
    data = SplitData(split)
    predictions = read_predictions(directory / _SCORED)
    scores = predictions.aligned(data.ids("validation"), data.space.names)
    known = data.known("validation")
    fitted = fit_thresholds(data.y("validation"), scores, data.groups, settings, known)
    storage.write_json(directory / _THRESHOLDS, fitted.to_json())


def _key(split: SplitHandle, arm: ArmHandle, settings: ThresholdSettings) -> str:
    """Of what is fitted and not of what trained it: equal scores have equal thresholds."""
    files = (arm.directory / _SCORED, split.directory / _SCORED, split.label_space)
    content = [storage.sha256_file(path) for path in files]
    return stage_key("tune", ("tasks.tune",), content, settings.model_dump(mode="json"))
