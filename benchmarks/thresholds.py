"""The exact global threshold against scikit-learn's f1_score in a loop over the article's grid.

    python benchmarks/thresholds.py
    python benchmarks/thresholds.py --sizes 3000x124 30000x600

Labels are Zipf-like, about two per text; probabilities are a noisy model's, so that most cells are
small and positives overlap with negatives. Both sides get the same arrays. Times are the process's
CPU time, which other work on the machine hardly changes; run it with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.metrics import f1_score, precision_recall_curve

from longtail.config import GroupSettings, ThresholdSettings
from longtail.labels import LabelGroups, group_labels, support
from longtail.thresholds import GRID, best_global_threshold, decide, fit_thresholds

T = TypeVar("T")


def main() -> None:
    """Print one table for each size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["3000x124", "6000x600"], metavar="NxL")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| texts × labels | method | CPU seconds | threshold | micro-F1 |")
    print("|---|---|---|---|---|")
    for size in options.sizes:
        texts, labels = (int(part) for part in size.split("x"))
        for name, seconds, threshold, f1 in measure(texts, labels, options.seed):
            print(f"| {texts:,} × {labels:,} | {name} | {seconds:.4f} | {threshold} | {f1:.5f} |")


def measure(texts: int, labels: int, seed: int) -> list[tuple[str, float, str, float]]:
    """Method, seconds, threshold and micro-F1 of each method on one invented data set."""
    y, probabilities = invent(texts, labels, seed)
    sparse = sp.csr_array(y)
    groups = group_labels(support(sparse), GroupSettings())
    methods: dict[str, Callable[[], float]] = {
        "scikit-learn f1_score, 60 grid cuts": lambda: loop_over_grid(y, probabilities),
        "scikit-learn precision_recall_curve": lambda: from_curve(y, probabilities),
        "longtail, every distinct score": lambda: best_global_threshold(sparse, probabilities)[0],
    }
    table = []
    for name, method in methods.items():
        seconds, cut = timed(method)
        f1 = f1_score(y, decide(probabilities, cut), average="micro")
        table.append((name, seconds, f"{cut:.4f}", f1))
    policies = ("group", "group_joint", "label")
    return table + [by_policy(policy, sparse, probabilities, groups) for policy in policies]


def by_policy(
    policy: str, y: sp.csr_array, probabilities: NDArray[np.float32], groups: LabelGroups
) -> tuple[str, float, str, float]:
    """The same row for a policy with a cut for each label group, or for each label."""
    settings = ThresholdSettings.model_validate({"policy": policy})
    seconds, fitted = timed(lambda: fit_thresholds(y, probabilities, groups, settings))
    cuts = " / ".join(f"{cut:.4f}" for cut in fitted.by_group.values())
    if policy == "label":
        cuts = f"{len(np.unique(fitted.values)):,} cuts"
    return f"longtail, {policy}", seconds, cuts, fitted.validation_micro_f1


def loop_over_grid(y: NDArray[np.bool_], probabilities: NDArray[np.float32]) -> float:
    """What the article does: micro-F1 at each cut of the grid, the best cut kept."""
    scores = [f1_score(y, probabilities > cut, average="micro", zero_division=0) for cut in GRID]
    return float(GRID[int(np.argmax(scores))])


def from_curve(y: NDArray[np.bool_], probabilities: NDArray[np.float32]) -> float:
    """The exact optimum by scikit-learn's curve over all cells, as a cut to compare with p > t."""
    precision, recall, cuts = precision_recall_curve(
        y.ravel(), probabilities.ravel(), drop_intermediate=True
    )
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return float(np.nextafter(cuts[int(np.argmax(f1[:-1]))], np.float32(0)))


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds of the fastest of three calls, or of one that takes long, and its result."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        result = call()
        best = min(best, time.process_time() - start)
        if best > 2.0:
            break
    return best, result


def invent(texts: int, labels: int, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Labels and a noisy model's probabilities, both (texts, labels)."""
    draw = np.random.default_rng(seed)
    prior = 1.0 / np.arange(1, labels + 1)
    prior *= 2.0 / prior.sum()
    y = draw.random((texts, labels)) < prior
    logits = np.log(prior / (1 - prior)) + 4.0 * y + draw.normal(0.0, 1.5, (texts, labels))
    return y, (1.0 / (1.0 + np.exp(-logits))).astype(np.float32)


if __name__ == "__main__":
    main()
