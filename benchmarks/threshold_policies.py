"""Which threshold policy serves which goal: measured on validation alone, over finished runs.

    python benchmarks/threshold_policies.py RUN [RUN …] [--out TABLES.md]
    python benchmarks/threshold_policies.py RUN [RUN …] --folds 5 10 20 40 --least 2 5 10

The validation texts of each run are divided by their unit into two halves, ten times; each policy
is fitted on one half and judged on the other, for every arm that the run kept validation
predictions of. The test set is never read. ``--folds`` and ``--least`` measure the policy ``label``
with other folds, or with more validation positives asked for, too.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from longtail import metrics
from longtail.config import GROUPS, ThresholdPolicy, ThresholdSettings
from longtail.labels import LabelGroups
from longtail.predictions import read_predictions
from longtail.thresholds import decide, fit_thresholds
from tasks.data import SplitData
from tasks.handles import SplitHandle

GOALS = ("micro-F1", "macro-F1", "label coverage", *(f"{group} F1" for group in GROUPS))
REFERENCE = "group"
REPEATS = 10

Goals: TypeAlias = NDArray[np.float64]
"""One value per goal, in points."""
Found: TypeAlias = dict[str, dict[tuple[str, str], Goals]]
"""By policy, then by data set and arm."""


def main() -> None:
    """Measure and print the tables."""
    given = arguments()
    policies = variants(given.folds, given.least)
    found: Found = {name: {} for name in policies}
    for run in given.runs:
        for arm in arms_of(run):
            for name, goals in measure(run, arm, policies).items():
                found[name][run.name, arm] = goals
    runs = [run.name for run in given.runs]
    text = "\n".join([*by_data(found, runs), "", *by_goal(found, runs), "", *by_arm(found)]) + "\n"
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--folds", nargs="*", type=int, default=[], metavar="K")
    parser.add_argument("--least", nargs="*", type=int, default=[], metavar="POSITIVES")
    parser.add_argument("--out", type=Path, help="write the tables here, too")
    return parser.parse_args()


def variants(folds: list[int], least: list[int]) -> dict[str, ThresholdSettings]:
    """Every policy by its name, and the variants of ``label`` that were asked for."""
    policies = {name: ThresholdSettings(policy=name) for name in get_args(ThresholdPolicy)}
    for count in folds:
        more = ThresholdSettings(policy="label", label_folds=count)
        policies[f"label, {count} folds"] = more
    for count in least:
        more = ThresholdSettings(policy="label", min_label_positives=count)
        policies[f"label, {count} positives"] = more
    return policies


def arms_of(run: Path) -> list[str]:
    """The arms that the run kept validation predictions of."""
    return sorted(path.parent.name for path in run.glob("arms/*/validation.parquet"))


def measure(run: Path, arm: str, policies: dict[str, ThresholdSettings]) -> dict[str, Goals]:
    """Each policy's means over the halves that it was not fitted on."""
    data = SplitData(SplitHandle.of(run))
    predictions = read_predictions(run / "arms" / arm / "validation.parquet")
    scores = predictions.aligned(data.ids("validation"), data.space.names)
    y = data.y("validation")
    units = data.table("validation", ["unit"])["unit"].to_numpy()
    found: dict[str, list[Goals]] = {name: [] for name in policies}
    for seed in range(REPEATS):
        first = halves(units, seed)
        for fit, judge in ((first, ~first), (~first, first)):
            truth = y[judge].toarray()
            for name, settings in policies.items():
                cuts = fit_thresholds(y[fit], scores[fit], data.groups, settings)
                decided = decide(scores[judge], cuts.values)
                found[name].append(judged(truth, decided, data.groups))
    return {name: np.mean(goals, axis=0) for name, goals in found.items()}


def judged(y: NDArray[np.bool_], decided: NDArray[np.bool_], groups: LabelGroups) -> Goals:
    """The goals; macro-F1 and coverage over the labels with positives in this half."""
    counts = metrics.label_counts(y, decided)
    present = y.any(axis=0)
    within = [metrics.f1(counts[groups.columns(group)].sum(axis=0)) for group in GROUPS]
    macro = metrics.f1(counts[present]).mean()
    micro, coverage = metrics.f1(counts.sum(axis=0)), metrics.label_coverage(counts)
    return 100 * np.array([micro, macro, coverage, *within], dtype=np.float64)


def halves(units: NDArray[np.object_], seed: int) -> NDArray[np.bool_]:
    """A random half of the units, as a mask over the rows."""
    names = np.unique(units)
    chosen = np.random.default_rng(seed).permutation(names)[: len(names) // 2]
    return np.isin(units, chosen)


def by_data(found: Found, runs: list[str]) -> list[str]:
    """Means over the arms of each data set, then over the data sets."""
    lines = heading("data", "policy", *GOALS)
    for run in runs:
        lines += [row(run, name, numbers(of_run(found[name], run))) for name in found]
    for name in found:
        mean = np.mean([of_run(found[name], run) for run in runs], axis=0)
        lines.append(row("**mean**", name, numbers(mean)))
    return lines


def by_goal(found: Found, runs: list[str]) -> list[str]:
    """The policy that serves each goal best, and how far it is ahead of the reference."""
    lines = heading("goal", *runs, "mean")
    for k, goal in enumerate(GOALS):
        values = {name: [*(of_run(arms, run)[k] for run in runs)] for name, arms in found.items()}
        table = {name: np.append(each, np.mean(each)) for name, each in values.items()}
        cells = []
        for column in range(len(runs) + 1):
            best = max(table, key=lambda name: table[name][column])
            ahead = table[best][column] - table[REFERENCE][column]
            cells.append(f"{best} ({ahead:+.1f})")
        lines.append(row(goal, *cells))
    return lines


def by_arm(found: Found) -> list[str]:
    """Differences from the reference policy: mean, and the least and the greatest of any arm."""
    lines = heading("policy", *GOALS)
    for name, arms in found.items():
        if name == REFERENCE:
            continue
        gains = np.array([goals - found[REFERENCE][key] for key, goals in arms.items()])
        columns = zip(gains.mean(axis=0), gains.min(axis=0), gains.max(axis=0), strict=True)
        lines.append(
            row(name, *(f"{m:+.1f} ({low:+.1f} … {high:+.1f})" for m, low, high in columns))
        )
    return lines


def of_run(arms: dict[tuple[str, str], Goals], run: str) -> Goals:
    """Mean over the arms of one data set."""
    mean: Goals = np.mean([goals for (data, _), goals in arms.items() if data == run], axis=0)
    return mean


def numbers(goals: Goals) -> str:
    """Cells of a row, in points."""
    return " | ".join(f"{value:.2f}" for value in goals)


def heading(*names: str) -> list[str]:
    """The first two lines of a table."""
    return [row(*names), "|" + " - |" * len(names)]


def row(*cells: str) -> str:
    """One line of a table."""
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
