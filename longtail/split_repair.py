"""After the label pass: sizes made exact, and labels brought into the splits that lack them.

Both work on :class:`longtail.stratification.State`, use integers only and break every tie by the
units' order, so the result is the same on any machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from longtail.stratification import Ints, State

_POOL = 256
_CARRIERS = 64
_MOVES_PER_POOL = 16
_MAX_STEPS = 2000
_PATIENCE = 200
_MAX_TRIED = 60_000

Swap = list[tuple[int, int]]


def balance_sizes(state: State, *, keep_cover: bool) -> None:
    """Move units from the split with most rows too many to the one with most too few.

    Ends when every size is within one unit of its target (exact where all units are one row), or
    within the state's slack.

    Args:
        state: changed in place.
        keep_cover: never take a label's last unit out of a split where it should stand; without
            it, only where nothing else makes the size right.
    """
    while True:
        donor, taker = int(np.argmin(state.room + state.slack)), int(np.argmax(state.room))
        pool = _movable(state, donor, taker)
        if keep_cover and len(pool):
            pool = pool[last_ones(state, pool, donor) == 0]
        if not len(pool):
            return
        _move_best(state, pool, donor, taker, keep_cover=keep_cover)


def repair_cover(state: State) -> None:
    """Bring labels into the splits that lack them, by swaps that keep the sizes.

    A tabu search: the swap that leaves the fewest labels missing is made even where it makes
    things no better, a unit that was moved rests for some steps, and the best state met is kept.
    Where it ends with labels missing and units are few, every split there is gets tried.
    """
    _search(state)
    if _deficit(state) and len(state.targets) ** len(state.weights) <= _MAX_TRIED:
        _try_all(state)


def _search(state: State) -> None:
    deficit = _deficit(state)
    best, best_assignment, since = deficit, state.assignment.copy(), 0
    resting = np.zeros(len(state.weights), dtype=np.int64)
    longest_rest = 1 + min(20, len(state.weights) // 3)
    tries = np.zeros(state.cover.shape, dtype=np.int64)
    patience = _PATIENCE + 4 * int(state.missing.sum())
    for step in range(_MAX_STEPS):
        if best == 0 or since > patience:
            break
        label, split = _next_missing(state, tries)
        tries[label, split] += 1
        for unit, goal in _best_swap(state, label, split, resting <= step):
            state.move(unit, goal)
            # the rest varies, so that the search does not run in a circle
            resting[unit] = step + 1 + step * 7919 % 104_729 % longest_rest
        deficit, since = _deficit(state), since + 1
        if deficit < best:
            best, best_assignment, since = deficit, state.assignment.copy(), 0
    _become(state, best_assignment)


def _try_all(state: State) -> None:
    """The split with the least missing of all that keep the sizes, nearest to the present one."""
    n_splits, n_units = len(state.targets), len(state.weights)
    every = np.indices((n_splits,) * n_units, dtype=np.int8).reshape(n_units, -1)
    split_rows = np.stack([state.weights @ (every == split) for split in range(n_splits)])
    off = np.abs(split_rows - state.quota[:, None])
    fuller = split_rows > (state.quota - state.room)[:, None]
    allowed = (off.max(axis=0) <= _tolerance(state)) & ~fuller[state.full].any(axis=0)
    every = every[:, allowed]
    has_label = (state.counts.T > 0).astype(np.int64)
    lacking = state.required & (state.fixed.cover == 0)
    deficit = sum(
        state.stakes @ (lacking[:, [split]] & (has_label @ (every == split) == 0))
        for split in range(n_splits)
    )
    changed = (every != state.assignment[:, None]).sum(axis=0)
    best = np.lexsort((changed, deficit))[0]
    _become(state, every[:, best])


def _become(state: State, assignment: NDArray[np.int8]) -> None:
    for unit in np.flatnonzero(state.assignment != assignment).tolist():
        state.move(unit, int(assignment[unit]))


def _tolerance(state: State) -> int:
    """Rows that a size may be off: less than the largest unit, or what it already is."""
    return max(int(state.slack.max()), int(state.weights.max()) - 1, int(np.abs(state.room).max()))


def _deficit(state: State) -> int:
    """What is missing, by its stakes."""
    return int(state.missing.sum(axis=1) @ state.stakes)


def _movable(state: State, donor: int, taker: int) -> Ints:
    """Units whose move makes the sizes better: those that overshoot on no side, else the least."""
    excess, lack = -state.room[donor], state.room[taker]
    enough = excess <= state.slack[donor] and lack <= state.slack.max()
    if min(excess, lack) <= 0 or enough:
        return np.empty(0, dtype=np.int64)
    here = state.assignment == donor
    units = np.flatnonzero(here & (state.weights <= min(excess, lack)))
    if not len(units):
        units = np.flatnonzero(here & (state.weights < excess + lack))
        lightest = state.weights[units].min(initial=excess + lack)
        units = units[state.weights[units] == lightest]
    return units


def _move_best(state: State, units: Ints, donor: int, taker: int, *, keep_cover: bool) -> None:
    """Move one unit, and on as long as others fit exactly: always the least harmful one."""
    pool = units[least_harmful(state, units, donor, taker)[:_POOL]]
    for _ in range(_MOVES_PER_POOL):
        if not len(pool):
            return
        chosen = int(least_harmful(state, pool, donor, taker)[0])
        state.move(int(pool[chosen]), taker)
        pool = np.delete(pool, chosen)
        pool = pool[state.weights[pool] <= min(-state.room[donor], state.room[taker])]
        if keep_cover:
            pool = pool[last_ones(state, pool, donor) == 0]


def least_harmful(state: State, units: Ints, donor: int, taker: int) -> Ints:
    """Order of the units: those whose move leaves fewest labels missing, then least deviation."""
    return np.lexsort(
        (deviation(state, units, donor, taker), cover_loss(state, units, donor, taker))
    )


def last_ones(state: State, units: Ints, split: int) -> Ints:
    """Labels that should stand in the split and would lose their last unit there, per unit."""
    last = state.required[:, split] & (state.cover[:, split] == 1)
    return _sum_labels(state, units, last * state.stakes)


def cover_loss(state: State, units: Ints, donor: int, taker: int) -> Ints:
    """Labels that lose their last unit less those that gain their first, per moved unit."""
    gained = state.required[:, taker] & (state.cover[:, taker] == 0)
    return last_ones(state, units, donor) - _sum_labels(state, units, gained * state.stakes)


def deviation(state: State, units: Ints, donor: int, taker: int) -> Ints:
    """Change of the labels' squared deviations (up to a positive factor), per moved unit."""
    rows = state.rows(units)
    pull = state.demand[:, donor] - state.demand[:, taker]
    terms = rows.values * (pull[rows.labels] + state.n_rows * rows.values)
    return sum_by(rows.owner, terms, len(units))


def _sum_labels(state: State, units: Ints, per_label: Ints) -> Ints:
    """The sum of a number over the labels of each unit."""
    if not per_label.any():
        return np.zeros(len(units), dtype=np.int64)
    rows = state.rows(units)
    return sum_by(rows.owner, per_label[rows.labels], len(units))


def sum_by(owner: Ints, values: Ints, n: int) -> Ints:
    """The sum of the values of each owner 0 … n − 1, in integers."""
    sums = np.zeros(n, dtype=np.int64)
    np.add.at(sums, owner, values)
    return sums


def _next_missing(state: State, tries: Ints) -> tuple[int, int]:
    """The missing (label, split) tried least often, then with the fewest units."""
    labels, splits = np.nonzero(state.missing)
    units = state.cover.sum(axis=1)
    first = np.lexsort((splits, labels, units[labels], tries[labels, splits]))[0]
    return int(labels[first]), int(splits[first])


def _best_swap(state: State, label: int, split: int, awake: NDArray[np.bool_]) -> Swap:
    """Bring a unit with the label into the split, and another out of it: the best such pair."""
    carriers = state.holders(label)
    carriers = carriers[(state.assignment[carriers] != split) & awake[carriers]]
    pools: dict[tuple[int, int], Ints] = {}
    best: tuple[tuple[int, int, int], Swap] | None = None
    for unit in carriers[:_CARRIERS].tolist():
        home, weight = int(state.assignment[unit]), int(state.weights[unit])
        if (home, weight) not in pools:
            pools[home, weight] = _exchange(state, split, home, weight, awake)
        found = _evaluate(state, unit, split, pools[home, weight])
        if found is not None and (best is None or found[0] < best[0]):
            best = found
    return [] if best is None else best[1]


def _exchange(state: State, split: int, home: int, weight: int, awake: NDArray[np.bool_]) -> Ints:
    """The units of the split that may go ``home`` for one of ``weight`` rows, best first."""
    units = np.flatnonzero((state.assignment == split) & awake)
    units = units[_size_error(state, split, home, weight - state.weights[units]) >= 0]
    return units[least_harmful(state, units, split, home)[:_POOL]]


def _evaluate(
    state: State, unit: int, split: int, pool: Ints
) -> tuple[tuple[int, int, int], Swap] | None:
    """The best partner of one unit: (labels missing then, rows off, deviation) and the swap."""
    home, weight = int(state.assignment[unit]), int(state.weights[unit])
    alone = int(_size_error(state, split, home, np.array([weight]))[0])
    rows_off = _size_error(state, split, home, weight - state.weights[pool])
    state.move(unit, split)
    missing = _deficit(state)
    losses, deviations = cover_loss(state, pool, split, home), deviation(state, pool, split, home)
    state.move(unit, home)
    options: list[tuple[tuple[int, int, int], Swap]] = []
    if alone >= 0:
        options.append(((missing, alone, 0), [(unit, split)]))
    if len(pool):
        first = np.lexsort((deviations, rows_off, losses))[0]
        key = (missing + int(losses[first]), int(rows_off[first]), int(deviations[first]))
        options.append((key, [(unit, split), (int(pool[first]), home)]))
    return min(options, default=None)


def _size_error(state: State, split: int, home: int, gained: Ints) -> Ints:
    """Rows off target in both splits after ``split`` gains rows from ``home``; −1: not allowed.

    Allowed is what stays within one unit of the targets, or gets no worse; a split in which too
    much stands already never gets more.
    """
    after = np.abs(np.stack([state.room[split] - gained, state.room[home] + gained]))
    allowed = after.max(axis=0) <= _tolerance(state)
    allowed &= ~(state.full[split] & (gained > 0)) & ~(state.full[home] & (gained < 0))
    return np.where(allowed, after.sum(axis=0), -1)
