"""Moves and swaps that bring the label shares nearer to what was asked."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from longtail.split_repair import cover_loss, deviation, last_ones, least_harmful, sum_by
from longtail.stratification import Ints, State

_ROUNDS = 12
_POOL = 256
_SCALE = 1 << 20
_SWAPS = 50
_CARRIERS = 16


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
            if not state.full[taker]
        ]
        if not any(moves):
            return


def even_out(state: State) -> None:
    """Swap single rows as long as a label is more than one row off and a swap lowers that.

    The sizes stay, no label loses its last row in a split, and every swap lowers the sum of all
    labels' squared deviations. At most ``_SWAPS`` swaps.
    """
    hopeless = np.zeros(len(state.support), dtype=bool)
    for _ in range(_SWAPS):
        off = np.where(hopeless, 0, np.abs(state.demand).max(axis=1))
        label = int(np.argmax(off)) if len(off) else 0
        if not len(off) or off[label] <= state.n_rows:
            return
        wanted = state.demand[label]
        donor, taker = int(np.argmin(wanted)), int(np.argmax(wanted))
        swap = _best_swap(state, label, donor, taker)
        if swap is None:
            hopeless[label] = True
            continue
        state.move(swap[0], taker)
        state.move(swap[1], donor)


def _best_swap(state: State, label: int, donor: int, taker: int) -> tuple[int, int] | None:
    """A row with the label and a row in exchange whose swap lowers the deviations most."""
    carriers = state.holders(label)
    carriers = carriers[state.assignment[carriers] == donor]
    carriers = carriers[least_harmful(state, carriers, donor, taker)[:_CARRIERS]]
    partners = np.flatnonzero(state.assignment == taker)
    partners = partners[least_harmful(state, partners, taker, donor)[:_POOL]]
    loss = np.add.outer(
        cover_loss(state, carriers, donor, taker), cover_loss(state, partners, taker, donor)
    )
    change = np.add.outer(
        deviation(state, carriers, donor, taker), deviation(state, partners, taker, donor)
    )
    change -= 2 * state.n_rows * _shared_labels(state, carriers, partners)
    best = np.lexsort((change.ravel(), loss.ravel()))[:1]
    if not len(best) or (loss.flat[best[0]], change.flat[best[0]]) >= (0, 0):
        return None
    row, column = divmod(int(best[0]), len(partners))
    return int(carriers[row]), int(partners[column])


def _shared_labels(state: State, carriers: Ints, partners: Ints) -> Ints:
    """Labels that two rows have in common, which their swap leaves where they are."""
    ours, theirs = state.rows(carriers), state.rows(partners)
    has = np.zeros((len(state.support), len(carriers)), dtype=np.int64)
    has[ours.labels, ours.owner] = 1
    shared = np.zeros((len(partners), len(carriers)), dtype=np.int64)
    np.add.at(shared, theirs.owner, has[theirs.labels])
    return shared.T


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
