"""What late fusion with the linear arm gains, measured on validation alone, over finished runs.

    python benchmarks/fusion.py RUN [RUN …] [--policy group] [--repeats 3]

The runs' encoder arms must not be fused yet: retrain with ``--set fusion.linear=false``. The linear
arm is fitted anew on each run's training texts. The validation texts are divided by their unit
into two halves, several times; weights and thresholds are fitted on one half and judged on the
other. The test set is never read.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from threshold_policies import GOALS, halves, judged

from longtail import storage
from longtail.baselines import LinearBaseline
from longtail.config import GROUPS, FusionSettings, LinearSettings, ThresholdPolicy
from longtail.config import ThresholdSettings as Policy
from longtail.fusion import fit_fusion, fuse
from longtail.labels import LabelGroups
from longtail.predictions import read_predictions
from longtail.thresholds import decide, fit_thresholds
from tasks.data import SplitData
from tasks.handles import SplitHandle

ARMS = ("bce", "candidate")
SHOWN = GOALS[:3]
Scores: TypeAlias = NDArray[np.float32]


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--policy", choices=get_args(ThresholdPolicy), default="group")
    parser.add_argument("--repeats", type=int, default=3, help="divisions into halves")
    given = parser.parse_args()
    print(f"| data | arm | variant | {' | '.join(SHOWN)} | median weights |")
    print("| - | - | - | - | - | - | - |")
    for run in given.runs:
        data = SplitData(SplitHandle.of(run))
        settings = LinearSettings.model_validate(storage.read_json(run / "config.json")["linear"])
        linear = LinearBaseline(settings).fit(data.texts("train"), data.y("train"))
        decisions = linear.decisions(data.texts("validation"))
        for arm in ARMS:
            for variant, (goals, weights) in measure(run, arm, data, decisions, given).items():
                cells = [f"{value:.2f}" for value in goals] + [weights]
                print(f"| {run.name} | {arm} | {variant} | {' | '.join(cells)} |", flush=True)


def measure(
    run: Path, arm: str, data: SplitData, decisions: Scores, given: argparse.Namespace
) -> dict[str, tuple[NDArray[np.float64], str]]:
    """Each variant's means over the halves that it was not fitted on, and its weights."""
    if (storage.read_json(run / "arms" / arm / "arm.json").get("fusion") or {}).get("weight"):
        raise SystemExit(f"{run}: {arm} is fused already; retrain with fusion.linear=false")
    predictions = read_predictions(run / "arms" / arm / "validation.parquet")
    alone = predictions.aligned(data.ids("validation"), data.space.names)
    y = data.y("validation")
    units = data.table("validation", ["unit"])["unit"].to_numpy()
    variants = parts_of(data.groups)
    found: dict[str, list[Any]] = {variant: [] for variant in variants}
    weights: dict[str, list[Any]] = {variant: [] for variant in variants}
    for seed in range(given.repeats):
        first = halves(units, seed)
        for fit, judge in ((first, ~first), (~first, first)):
            for variant, parts in variants.items():
                scores, chosen = fused(y, alone, decisions, fit, parts)
                cuts = fit_thresholds(y[fit], scores[fit], data.groups, Policy(policy=given.policy))
                decided = decide(scores[judge], cuts.values)
                goals = judged(y[judge].toarray(), decided, data.groups)
                found[variant].append(goals[: len(SHOWN)])
                weights[variant].append(chosen)
    return {
        variant: (np.mean(found[variant], axis=0),
                  ", ".join(f"{weight:g}" for weight in np.median(weights[variant], axis=0)))
        for variant in variants
    }  # fmt: skip


def parts_of(groups: LabelGroups) -> dict[str, list[NDArray[np.int64]]]:
    """Each variant's parts of the labels that have a weight of their own."""
    return {
        "encoder alone": [],
        "one weight": [np.arange(len(groups.of_label))],
        "weight per group": [groups.columns(group) for group in GROUPS],
    }


def fused(
    y: Any, alone: Scores, decisions: Scores, fit: NDArray[np.bool_], parts: list[Any]
) -> tuple[Scores, list[float]]:
    """All texts' probabilities, each part fused by the weight best for its own micro-F1."""
    scores, weights = alone.copy(), []
    for part in parts:
        known = (y[fit][:, part], alone[fit][:, part], decisions[fit][:, part])
        weights.append(fit_fusion(*known, FusionSettings()).weight)
        scores[:, part] = fuse(alone[:, part], decisions[:, part], weights[-1])
    return scores, weights


if __name__ == "__main__":
    main()
