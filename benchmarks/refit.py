"""What the validation texts are worth as training texts, once the thresholds are fitted on them.

    python benchmarks/refit.py RUN [RUN …]

RUN is a finished run directory. Its training texts are divided by their unit, four to one; the
linear arm is fitted on the larger part and its thresholds on the smaller one. Judged on the run's
validation texts: this model, and one fitted on both parts with the thresholds as they are. The
test set is never read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from longtail import metrics
from longtail.baselines import LinearBaseline
from longtail.config import LinearSettings, ThresholdSettings
from longtail.thresholds import decide, fit_thresholds
from tasks.data import SplitData
from tasks.handles import SplitHandle

PARTS = 5


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--seeds", type=int, default=3, help="divisions of the training texts")
    given = parser.parse_args()
    print("| data | fitted on | micro-F1 | macro-F1 | label coverage |")
    print("| - | - | - | - | - |")
    for run in given.runs:
        found = np.mean([measure(run, seed) for seed in range(given.seeds)], axis=0)
        for name, values in zip(("four fifths", "all, thresholds kept"), found, strict=True):
            print(f"| {run.name} | {name} | " + " | ".join(f"{v:.4f}" for v in values) + " |",
                  flush=True)  # fmt: skip


def measure(run: Path, seed: int) -> np.ndarray:
    """Micro-F1, macro-F1 and coverage on validation, (fitted on a part, on all) × 3."""
    data = SplitData(SplitHandle.of(run))
    texts, y = np.array(data.texts("train"), dtype=object), data.y("train")
    units = data.table("train", ["unit"])["unit"].to_numpy()
    distinct = np.unique(units)
    part = np.random.default_rng(seed).integers(PARTS, size=len(distinct))
    held_out = part[np.searchsorted(distinct, units)] == 0
    first = LinearBaseline(LinearSettings()).fit(texts[~held_out], y[~held_out])
    cuts = fit_thresholds(
        y[held_out], first.predict(texts[held_out]), data.groups, ThresholdSettings()
    ).values
    again = LinearBaseline(LinearSettings()).fit(texts, y)
    truth = data.y("validation").toarray()
    rows = []
    for model in (first, again):
        counts = metrics.label_counts(truth, decide(model.predict(data.texts("validation")), cuts))
        micro, macro = metrics.f1(counts.sum(axis=0)), metrics.f1(counts).mean()
        rows.append([float(micro), float(macro), metrics.label_coverage(counts)])
    return np.array(rows)


if __name__ == "__main__":
    main()
