"""``loss: auto``: of several trained encoders the one that validation prefers."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from longtail import storage
from longtail.predictions import read_predictions
from longtail.selection import OnValidation, on_validation, preferred
from tasks.arms import read_thresholds
from tasks.artifacts import artifact_key, percent, publish_table
from tasks.data import SplitData
from tasks.handles import ArmHandle, RunHandle, SplitHandle
from tasks.stages import timed

logger = logging.getLogger(__name__)

SELECTION = "selection.json"


@task(name="select loss", task_run_name="select loss", cache_policy=NO_CACHE)
def select_loss(
    run: RunHandle, split: SplitHandle, shortlist: tuple[ArmHandle, ...], baseline: ArmHandle
) -> ArmHandle:
    """Take the candidate's encoder from the shortlist: the one that validation prefers.

    Args:
        run: where ``selection.json`` is written, if there is more than one to choose from.
        split: whose validation texts decide.
        shortlist: trained and tuned.
        baseline: the BCE arm.
    """
    if len(shortlist) == 1:
        return shortlist[0]
    with timed(run, "select"):
        return _select(run, split, shortlist, baseline)


def _select(
    run: RunHandle, split: SplitHandle, shortlist: tuple[ArmHandle, ...], baseline: ArmHandle
) -> ArmHandle:
    data = SplitData(split)
    of_baseline = _on_validation(data, baseline)
    found = [_on_validation(data, arm) for arm in shortlist]
    best = preferred(found, of_baseline)
    chosen = shortlist[best]
    rows = [
        {
            "loss": arm.loss,
            "arm": arm.arm,
            "chosen": arm is chosen,
            "seconds": arm.seconds,
            **dataclasses.asdict(values),
        }
        for arm, values in zip(shortlist, found, strict=True)
    ]
    needed = of_baseline.recognised_labels
    content = {"baseline_recognised_labels": needed, "shortlist": rows}
    storage.write_json(run.directory / SELECTION, content)
    _show(run, rows)
    logger.info(
        "Of %s, validation prefers %s", ", ".join(arm.loss for arm in shortlist), chosen.loss
    )
    return chosen


def _show(run: RunHandle, rows: list[dict[str, Any]]) -> None:
    publish_table(
        artifact_key(run, "selection"),
        [
            {
                "loss": row["loss"],
                "chosen": "yes" if row["chosen"] else "",
                "validation micro-F1": percent(row["micro_f1"]),
                "labels recognised": row["recognised_labels"],
                "seconds": round(row["seconds"]),
            }
            for row in rows
        ],
        "The shortlist on validation",
    )


def _on_validation(data: SplitData, arm: ArmHandle) -> OnValidation:
    predictions = read_predictions(arm.directory / "validation.parquet")
    cuts = read_thresholds(arm.directory)
    return on_validation(
        data.y("validation"),
        predictions.aligned(data.ids("validation"), data.space.names),
        np.array([cuts[label] for label in data.space.names]),
        data.known("validation"),
    )
