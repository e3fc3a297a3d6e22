"""How often the gate's lower bound lets a candidate pass that is exactly as good as its opponent.

    python benchmarks/gate_bootstrap.py

Two simulated arms of equal quality (3.7 positives per text, 60 % of them found, as many false
positives as misses) that disagree on a given share of the positives. Printed: how often the bound
of the gain lies above 0 (a false alarm, should be 5 %), above -0.5 pt and above -3 pt,
the margins of a refresh at that time. docs/decisions/0012-the-gates-bootstrap.md shows the figures.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from longtail.significance import paired_bootstrap

PER_TEXT, FOUND = 3.7, 0.6


def equal_arms(
    generator: np.random.Generator, texts: int, disagreement: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts per text of two arms of which neither is better, each of shape (texts, 3)."""
    positives = generator.poisson(PER_TEXT, texts)
    alone = disagreement / 2
    hits = generator.multinomial(positives, [FOUND - alone, alone, alone, 1 - FOUND - alone])
    errors = generator.multinomial(positives, [1 - FOUND - alone, alone, alone, FOUND - alone])
    sides = []
    for own in (1, 2):
        found = hits[:, 0] + hits[:, own]
        sides.append(np.stack([found, errors[:, 0] + errors[:, own], positives - found], axis=1))
    return sides[0], sides[1]


def lower_bounds(positives: int, disagreement: float, data_sets: int, draws: int) -> NDArray:
    """The one-sided 95 % lower bound of the gain in each simulated data set."""
    texts = int(positives / PER_TEXT)
    bounds = []
    for seed in range(data_sets):
        arms = equal_arms(np.random.default_rng(seed), texts, disagreement)
        bounds.append(paired_bootstrap(*arms, draws, seed, 0.95).lower)
    return np.array(bounds)


def main() -> None:
    """Print one line per test-set size and disagreement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-sets", type=int, default=400)
    parser.add_argument("--draws", type=int, default=400)
    options = parser.parse_args()
    print("disagree  positives  above 0  above -0.5 pt  above -3 pt")
    for disagreement in (0.05, 0.1, 0.2):
        for positives in (100, 500, 2000, 5000, 20_000):
            bounds = lower_bounds(positives, disagreement, options.data_sets, options.draws)
            shares = [(bounds > margin).mean() for margin in (0.0, -0.005, -0.03)]
            print(
                f"{disagreement:8.0%}  {positives:9,}  {shares[0]:7.1%}  {shares[1]:13.0%}  "
                f"{shares[2]:11.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
