"""Units of several rows: moves that bring the label shares nearer to what was asked."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from longtail.split_repair import last_ones, sum_by
from longtail.stratification import Ints, State

_ROUNDS = 12
_POOL = 256
_SCALE = 1 << 20


def polish(state: State) -> None:
    """Move units as long as that lowers the chi-square distance of labels and sizes to the targets.

    Single rows need none of this: the label pass leaves their shares within about one row. No
    label loses its last unit in a split. At most ``_ROUNDS`` rounds over all pairs of splits.
    """
    per_label = _SCALE // np.maximum(state.support, 1)
    for _ in range(_ROUNDS):
        moves = [
            _improve(state, donor, taker, per_label)
            for donor, taker in permutations(range(len(state.targets)), 2)
        ]
        if not any(moves):
            return


def _improve(state: State, donor: int, taker: int, per_label: Ints) -> int:
    """Make the best moves from one split to another; how many there were."""
    units = np.flatnonzero(state.assignment == donor)
    change = _change(state, units, donor, taker, per_label)
    pool = units[np.argsort(change, kind="stable")[: min(_POOL, int((change < 0).sum()))]]
    made = 0
    while len(pool):
        change = _change(state, pool, donor, taker, per_label)
        best = int(np.argmin(change))
        if change[best] >= 0:
            break
        state.move(int(pool[best]), taker)
        pool = np.delete(pool, best)
        made += 1
    return made


def _change(state: State, units: Ints, donor: int, taker: int, per_label: Ints) -> Ints:
    """Change of the chi-square distance, in integers, per moved unit; 0 where a move is barred."""
    rows = state.rows(units)
    pull = state.demand[:, donor] - state.demand[:, taker]
    terms = per_label[rows.labels] * rows.values
    terms *= (pull[rows.labels] + state.n_rows * rows.values) // state.n_rows
    weights = state.weights[units]
    by_size = weights * (state.room[donor] - state.room[taker] + weights)
    change = sum_by(rows.owner, terms, len(units)) + by_size * max(_SCALE // state.n_rows, 1)
    return np.where(last_ones(state, units, donor) == 0, change, 0)
