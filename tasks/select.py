"""``loss: auto``: of several trained candidates the one that validation prefers."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from longtail import metrics, storage
from longtail.predictions import read_predictions
from longtail.thresholds import decide
from tasks.arms import ARM_FILE, read_thresholds, write_arm
from tasks.artifacts import percent, publish_table
from tasks.data import SplitData
from tasks.handles import ArmHandle, RunHandle, SplitHandle

logger = logging.getLogger(__name__)

SELECTION = "selection.json"


@task(name="select candidate", cache_policy=NO_CACHE)
def select_candidate(
    run: RunHandle, split: SplitHandle, shortlist: tuple[ArmHandle, ...], baseline: ArmHandle
) -> tuple[ArmHandle, ...]:
    """Take the candidate from the shortlist, by validation alone.

    Of those that recognise at least as many validation labels as the baseline the one with the
    highest micro-F1; where none does, the one with the highest micro-F1 of all. Of equals the
    first one named.

    Args:
        run: where ``selection.json`` is written.
        split: whose validation texts decide.
        shortlist: trained, fused and tuned, each under its own name.
        baseline: the BCE arm.

    Returns:
        The shortlist with the chosen one last and renamed to ``candidate``, its directory too.
    """
    data = SplitData(split)
    needed = _on_validation(data, baseline)["recognised_labels"]
    found = [_on_validation(data, arm) for arm in shortlist]
    best = max(
        range(len(shortlist)),
        key=lambda at: (found[at]["recognised_labels"] >= needed, found[at]["micro_f1"], -at),
    )
    chosen = _rename(shortlist[best])
    arms = [chosen if at == best else arm for at, arm in enumerate(shortlist)]
    rows = [
        {
            "loss": arm.loss,
            "arm": arm.arm,
            "chosen": arm is chosen,
            "seconds": arm.seconds,
            **values,
        }
        for arm, values in zip(arms, found, strict=True)
    ]
    content = {"baseline_recognised_labels": needed, "shortlist": rows}
    storage.write_json(run.directory / SELECTION, content)
    _show(rows)
    logger.info("Of %s, validation prefers %s", ", ".join(arm.loss for arm in arms), chosen.loss)
    return (*(arm for arm in arms if arm is not chosen), chosen)


def _show(rows: list[dict[str, Any]]) -> None:
    publish_table(
        "selection",
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


def _on_validation(data: SplitData, arm: ArmHandle) -> dict[str, Any]:
    predictions = read_predictions(arm.directory / "validation.parquet")
    cuts = read_thresholds(arm.directory)
    decided = decide(
        predictions.aligned(data.ids("validation"), data.space.names),
        np.array([cuts[label] for label in data.space.names]),
    )
    counts = metrics.label_counts(data.y("validation").toarray(), decided)
    return {
        "micro_f1": float(metrics.f1(counts.sum(axis=0))),
        "macro_f1": float(metrics.f1(counts).mean()),
        "recognised_labels": int(np.count_nonzero(metrics.recognised(counts))),
        "fusion": storage.read_json(arm.directory / ARM_FILE).get("fusion"),
    }


def _rename(arm: ArmHandle) -> ArmHandle:
    directory = arm.directory.with_name("candidate")
    os.replace(arm.directory, directory)
    write_arm(directory, arm="candidate")
    bundle = None if arm.bundle is None else directory / arm.bundle.name
    return arm.model_copy(update={"arm": "candidate", "directory": directory, "bundle": bundle})
