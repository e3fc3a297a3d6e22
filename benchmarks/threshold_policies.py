"""Which threshold policy serves best: measured on validation alone, over finished runs.

    python benchmarks/threshold_policies.py RUN [RUN …] [--out TABLE.md]

The validation texts of each run are divided by their unit into two halves, ten times; each policy
is fitted on one half and judged on the other. The test set is never read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from longtail import metrics
from longtail.config import ThresholdSettings
from longtail.predictions import read_predictions
from longtail.thresholds import decide, fit_thresholds
from tasks.data import SplitData
from tasks.handles import SplitHandle

POLICIES = ("global", "grid", "group", "group_joint")
ARMS = ("linear", "bce", "candidate")
REPEATS = 10


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, help="write the table here, too")
    given = parser.parse_args()
    lines = [
        "| data | arm | policy | micro-F1 | macro-F1 | label coverage |",
        "| - | - | - | - | - | - |",
    ]
    means: dict[str, list[np.ndarray]] = {policy: [] for policy in POLICIES}
    for run in given.runs:
        for arm in ARMS:
            for policy in POLICIES:
                scores = measure(run, arm, policy)
                means[policy].append(scores)
                lines.append(row(run.name, arm, policy, scores))
    lines += [row("**mean**", "all", policy, np.mean(means[policy], axis=0)) for policy in POLICIES]
    text = "\n".join(lines) + "\n"
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


def row(data: str, arm: str, policy: str, scores: np.ndarray) -> str:
    """One line of the table."""
    return f"| {data} | {arm} | {policy} | " + " | ".join(f"{value:.4f}" for value in scores) + " |"


def measure(run: Path, arm: str, policy: str) -> np.ndarray:
    """Mean micro-F1, macro-F1 and coverage on the halves a policy was not fitted on."""
    data = split_of(run)
    predictions = read_predictions(run / "arms" / arm / "validation.parquet")
    scores = predictions.aligned(data.ids("validation"), data.space.names)
    y = data.y("validation")
    units = data.table("validation", ["unit"])["unit"].to_numpy()
    found = []
    for seed in range(REPEATS):
        first = halves(units, seed)
        for fit, judge in ((first, ~first), (~first, first)):
            cuts = fit_thresholds(
                y[fit], scores[fit], data.groups, ThresholdSettings(policy=policy)
            )
            found.append(judged(y[judge].toarray(), decide(scores[judge], cuts.values)))
    return np.mean(found, axis=0)


def judged(y: np.ndarray, decided: np.ndarray) -> tuple[float, float, float]:
    """Micro-F1, macro-F1 over labels with positives, label coverage."""
    counts = metrics.label_counts(y, decided)
    present = y.any(axis=0)
    return (
        float(metrics.f1(counts.sum(axis=0))),
        float(metrics.f1(counts[present]).mean()),
        float(metrics.label_coverage(counts)),
    )


def halves(units: np.ndarray, seed: int) -> np.ndarray:
    """A random half of the units, as a mask over the rows."""
    names = np.unique(units)
    chosen = np.random.default_rng(seed).permutation(names)[: len(names) // 2]
    return np.isin(units, chosen)


def split_of(run: Path) -> SplitData:
    """The split of a finished run."""
    return SplitData(SplitHandle.of(run))


if __name__ == "__main__":
    main()
