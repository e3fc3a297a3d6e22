"""Validation probabilities → thresholds, every arm by the same policy."""

from __future__ import annotations

import logging

from prefect import task

from longtail.bundle import finalise_bundle
from longtail.config import ThresholdSettings
from longtail.predictions import read_predictions
from longtail.thresholds import fit_thresholds
from tasks.arms import write_arm
from tasks.data import SplitData
from tasks.handles import ArmHandle, SplitHandle

logger = logging.getLogger(__name__)


@task(name="tune thresholds", task_run_name="tune thresholds of {arm.arm}")
def tune_thresholds(split: SplitHandle, arm: ArmHandle, settings: ThresholdSettings) -> ArmHandle:
    """Fit an arm's thresholds on the validation split; ``arm.json`` and the bundle get them."""
    data = SplitData(split)
    predictions = read_predictions(arm.directory / "validation.parquet")
    scores = predictions.aligned(data.ids("validation"), data.space.names)
    known = data.known("validation")
    fitted = fit_thresholds(data.y("validation"), scores, data.groups, settings, known)
    cuts = dict(zip(data.space.names, fitted.values.tolist(), strict=True))
    about = fitted.to_json()
    del about["values"]
    about["on_group_cut"] = [data.space.names[column] for column in fitted.on_group_cut]
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
