"""``loss: auto``: of several trained candidates the one that validation prefers."""

from __future__ import annotations

import dataclasses
import logging
import os
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from longtail import storage
from longtail.predictions import read_predictions
from longtail.selection import OnValidation, on_validation, preferred
from tasks.arms import ARM_FILE, read_thresholds, write_arm
from tasks.artifacts import artifact_key, percent, publish_table
from tasks.data import SplitData
from tasks.handles import ArmHandle, RunHandle, SplitHandle
from tasks.stages import timed

logger = logging.getLogger(__name__)

SELECTION = "selection.json"


@task(name="select candidate", task_run_name="select candidate", cache_policy=NO_CACHE)
def select_candidate(
    run: RunHandle, split: SplitHandle, shortlist: tuple[ArmHandle, ...], baseline: ArmHandle
) -> tuple[ArmHandle, ...]:
    """Take the candidate from the shortlist: the one that validation prefers.

    Args:
        run: where ``selection.json`` is written.
        split: whose validation texts decide.
        shortlist: trained, fused and tuned, each under its own name.
        baseline: the BCE arm.

    Returns:
        The shortlist with the chosen one last and renamed to ``candidate``, its directory too.
    """
    with timed(run, "select"):
        return _select(run, split, shortlist, baseline)


def _select(
    run: RunHandle, split: SplitHandle, shortlist: tuple[ArmHandle, ...], baseline: ArmHandle
) -> tuple[ArmHandle, ...]:
    data = SplitData(split)
    of_baseline = _on_validation(data, baseline)
    found = [_on_validation(data, arm) for arm in shortlist]
    best = preferred(found, of_baseline)
    chosen = _rename(shortlist[best])
    arms = [chosen if at == best else arm for at, arm in enumerate(shortlist)]
    rows = [
        {
            "loss": arm.loss,
            "arm": arm.arm,
            "chosen": arm is chosen,
            "seconds": arm.seconds,
            "fusion": storage.read_json(arm.directory / ARM_FILE).get("fusion"),
            **dataclasses.asdict(values),
        }
        for arm, values in zip(arms, found, strict=True)
    ]
    needed = of_baseline.recognised_labels
    content = {"baseline_recognised_labels": needed, "shortlist": rows}
    storage.write_json(run.directory / SELECTION, content)
    _show(run, rows)
    logger.info("Of %s, validation prefers %s", ", ".join(arm.loss for arm in arms), chosen.loss)
    return (*(arm for arm in arms if arm is not chosen), chosen)


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


def _rename(arm: ArmHandle) -> ArmHandle:
    directory = arm.directory.with_name("candidate")
    os.replace(arm.directory, directory)
    write_arm(directory, arm="candidate")
    bundle = None if arm.bundle is None else directory / arm.bundle.name
    return arm.model_copy(update={"arm": "candidate", "directory": directory, "bundle": bundle})
