"""The label pass of iterative stratification, vectorised over a sparse matrix.

Sechidis, Tsoumakas and Vlahavas (2011), "On the Stratification of Multi-Label Data", give one row
at a time to the split that wants its rarest label most. For the label in hand the rows that are
still free are interchangeable, so all of them are apportioned here in one step, and the demand of
every other label follows from one sparse sum. What is divided are *units*: rows that stay together.

Demands are kept as integers (rows times the number of all rows), so that no rounding of a
particular processor can change a split.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Ints = NDArray[np.int64]
HEAVY = 10
_NEVER = np.iinfo(np.int64).max


class Fixed(NamedTuple):
    """What already stands in the splits and does not move.

    Attributes:
        rows: (labels, splits), rows with the label.
        cover: (labels, splits), units with the label.
        sizes: (splits,), rows.
    """

    rows: Ints
    cover: Ints
    sizes: Ints

    @classmethod
    def nothing(cls, n_labels: int, n_splits: int) -> Fixed:
        """Nothing stands anywhere yet."""
        none = np.zeros((n_labels, n_splits), dtype=np.int64)
        return cls(none, none, np.zeros(n_splits, dtype=np.int64))


class Cells(NamedTuple):
    """Entries of some units: which of them (0 …), its label, its rows with the label."""

    owner: Ints
    labels: Ints
    values: Ints


@dataclass
class State:
    """Which free unit stands in which split so far, and what every split still wants.

    Units that stood somewhere before are in the sums only, so that nothing can move them.

    Attributes:
        counts: CSR (units, labels), int64: rows of the free unit that have the label.
        weights: rows of each free unit, shape (units,).
        fixed: what stood there before.
        support: rows with each label, fixed ones too, shape (labels,).
        targets: rows each split should have of the whole, shape (splits,).
        quota: rows each split should have of the free ones, shape (splits,).
        slack: rows that each size may be over its target for the sake of the labels.
        full: splits in which more rows stand than they should have of the whole; they get none.
        priority: splits in the order in which a label with few units wants them.
        required: (labels, splits), True where the label has units enough to stand there.
        stakes: what one missing (label, split) counts for, shape (labels,): a label that could
            stand in every split outweighs all that could not.
        assignment: int8, split of each free unit, −1 while it is free.
        demand: (labels, splits), rows still wanted times the number of all rows.
        cover: (labels, splits), units with the label in the split.
        room: free rows each split still wants, shape (splits,).
    """

    counts: sp.csr_array
    weights: Ints
    fixed: Fixed
    support: Ints
    targets: Ints
    quota: Ints
    slack: Ints
    full: NDArray[np.bool_]
    priority: tuple[int, ...]
    required: NDArray[np.bool_]
    stakes: Ints
    assignment: NDArray[np.int8]
    demand: Ints
    cover: Ints
    room: Ints

    @classmethod
    def start(
        cls,
        counts: sp.csr_array,
        weights: Ints,
        targets: Ints,
        priority: tuple[int, ...],
        fixed: Fixed | None = None,
    ) -> State:
        """No free unit assigned yet."""
        n_units, n_labels = counts.shape
        fixed = fixed or Fixed.nothing(n_labels, len(targets))
        support = _total(counts.indices, counts.data, n_labels) + fixed.rows.sum(axis=1)
        units = np.bincount(counts.indices, minlength=n_labels) + fixed.cover.sum(axis=1)
        rank = np.empty(len(targets), dtype=np.int64)
        rank[list(priority)] = np.arange(len(targets))
        wanted, full = targets - fixed.sizes, fixed.sizes > targets
        # A split that already has more than its share gets nothing, and the others share the rest.
        quota = apportion(wanted, 1, int(weights.sum()), wanted)
        return cls(
            counts=counts,
            weights=weights,
            fixed=fixed,
            support=support,
            targets=targets,
            quota=quota,
            slack=np.where(full, 0, int(fixed.sizes.any())),
            full=full,
            priority=priority,
            required=units[:, None] > rank[None, :],
            stakes=np.where(units >= len(targets), n_labels * len(targets) + 1, 1),
            assignment=np.full(n_units, -1, dtype=np.int8),
            demand=np.outer(support, targets) - int(targets.sum()) * fixed.rows,
            cover=fixed.cover.copy(),
            room=quota.copy(),
        )

    @property
    def n_rows(self) -> int:
        """Rows of all units, fixed ones too."""
        return int(self.targets.sum())

    @property
    def missing(self) -> NDArray[np.bool_]:
        """(labels, splits), True where a label should stand and does not."""
        missing: NDArray[np.bool_] = self.required & (self.cover == 0)
        return missing

    def rows(self, units: Ints) -> Cells:
        """The entries of some units, shape (m,)."""
        starts = self.counts.indptr[units].astype(np.int64)
        lengths = self.counts.indptr[units + 1] - starts
        ends = np.cumsum(lengths)
        owner = np.repeat(np.arange(len(units)), lengths)
        at = np.arange(len(owner)) + np.repeat(starts - ends + lengths, lengths)
        return Cells(owner, self.counts.indices[at].astype(np.int64), self.counts.data[at])

    def holders(self, label: int) -> Ints:
        """The units that have a label, ascending."""
        entries = np.flatnonzero(self.counts.indices == label)
        units: Ints = np.searchsorted(self.counts.indptr, entries, side="right") - 1
        return units

    def place(self, units: Ints, splits: Ints) -> None:
        """Assign free units to splits, shape (m,) each."""
        self._add(units, splits, 1)
        self.assignment[units] = splits

    def move(self, unit: int, split: int) -> None:
        """Take an assigned unit to another split."""
        units = np.array([unit], dtype=np.int64)
        self._add(units, self.assignment[units].astype(np.int64), -1)
        self._add(units, np.array([split], dtype=np.int64), 1)
        self.assignment[unit] = split

    def _add(self, units: Ints, splits: Ints, sign: int) -> None:
        n_splits, shape = len(self.targets), self.demand.shape
        rows = self.rows(units)
        cells = rows.labels * n_splits + splits[rows.owner]
        got = _total(cells, rows.values, self.demand.size).reshape(shape)
        self.demand -= sign * self.n_rows * got
        self.cover += sign * np.bincount(cells, minlength=self.cover.size).reshape(shape)
        self.room -= sign * _total(splits, self.weights[units], n_splits)


def place_singly(state: State, rows: int = HEAVY) -> None:
    """Assign the units of at least ``rows`` rows, the heaviest first, each on its own.

    A heavy unit carries many labels at once; given away at the turn of its rarest label alone, it
    would upset the common ones beyond what is left to mend them. It goes where all its labels and
    the size together want it most.
    """
    support = np.maximum(state.support, 1)[:, None]
    heavy = np.flatnonzero(state.weights >= rows)
    for unit in heavy[np.argsort(-state.weights[heavy], kind="stable")]:
        one = np.array([unit])
        cells = state.rows(one)
        wishes = cells.values @ (state.demand[cells.labels] // support[cells.labels])
        wishes += state.weights[unit] * state.room
        state.place(one, np.array([int(np.argmax(wishes))]))


def run_label_pass(state: State) -> None:
    """Assign every unit: label by label, the rarest remaining first, then the unlabelled ones."""
    columns = state.counts.tocsc()
    units_with = np.diff(columns.indptr).astype(np.int64) + state.fixed.cover.sum(axis=1)
    remaining = units_with - state.cover.sum(axis=1)
    while remaining.any():
        label = int(np.argmin(np.where(remaining > 0, remaining, _NEVER)))
        span = slice(columns.indptr[label], columns.indptr[label + 1])
        free = state.assignment[columns.indices[span]] < 0
        units = columns.indices[span][free].astype(np.int64)
        _place_label(state, label, units, columns.data[span][free], remaining)
        remaining = units_with - state.cover.sum(axis=1)
    _place_unlabelled(state)


def apportion(demand: Ints, value: int, n: int, room: Ints) -> Ints:
    """Give n units of one value away, each to the split that then wants the most.

    The closed form of that greedy rule: the demands are lowered to a common level, and the units
    left over by rounding go to the largest remainders, of which the roomiest split first.

    Args:
        demand: what each split wants, in the unit of ``value``; may be negative.
        value: what one unit takes off a demand, positive.
        n: units to give away.
        room: rows each split still wants, to break ties.

    Returns:
        Units for each split; sums to n.
    """
    order = np.argsort(-demand, kind="stable")
    wanted = demand[order]
    sums = np.cumsum(wanted) - value * n
    takers = np.arange(1, len(order) + 1)
    enough = np.append(sums[:-1] >= takers[:-1] * wanted[1:], True)
    active = int(np.argmax(enough)) + 1
    above_level = wanted[:active] * active - sums[active - 1]
    whole, rest = np.divmod(above_level, active * value)
    left = n - int(whole.sum())
    first = np.lexsort((order[:active], -room[order[:active]], -rest))[:left]
    whole[first] += 1
    result = np.zeros(len(order), dtype=np.int64)
    result[order[:active]] = whole
    return result


def _place_label(state: State, label: int, units: Ints, values: Ints, remaining: Ints) -> None:
    """Apportion the free units of a label, those with most of its rows first."""
    order = np.lexsort((_next_label(state, label, units, remaining), -values))
    units, values = units[order], values[order]
    splits = np.empty(len(units), dtype=np.int64)
    demand, n_rows = state.demand[label].copy(), state.n_rows
    for start, stop in _runs(values):
        value = int(values[start]) * n_rows
        shares = apportion(demand, value, stop - start, state.room)
        splits[start:stop] = _interleave(shares)
        demand -= shares * value
    _cover_first(state, label, splits)
    state.place(units, splits)


def _next_label(state: State, label: int, units: Ints, remaining: Ints) -> Ints:
    """For each unit its rarest other label, as a sort key.

    Interleaving the splits along this order stratifies the pairs of labels as well, which leaves
    less to mend when the other label's turn comes.
    """
    rows = state.rows(units)
    keys = remaining[rows.labels] * len(remaining) + rows.labels
    keys[rows.labels == label] = _NEVER
    first = np.flatnonzero(np.diff(rows.owner, prepend=-1))
    least: Ints = np.minimum.reduceat(keys, first)
    return least


def _interleave(shares: Ints) -> Ints:
    """Splits in an even order: share k's i-th unit stands at (i + ½) / share k."""
    splits = np.repeat(np.arange(len(shares)), shares)
    within = np.arange(len(splits)) - np.repeat(np.cumsum(shares) - shares, shares)
    places = (2 * within + 1) / np.repeat(2 * np.maximum(shares, 1), shares)
    return splits[np.argsort(places, kind="stable")]


def _cover_first(state: State, label: int, splits: Ints) -> None:
    """Change ``splits`` so that the label stands in as many splits as it has units for."""
    rank = {split: place for place, split in enumerate(state.priority)}
    for wanted in state.priority:
        held = state.cover[label] + np.bincount(splits, minlength=len(rank))
        if held[wanted] > 0:
            continue
        donors = [
            split for split in range(len(rank))
            if np.any(splits == split) and (held[split] > 1 or rank[split] > rank[wanted])
        ]  # fmt: skip
        if donors:
            donor = max(donors, key=lambda split: (held[split], rank[split]))
            splits[np.flatnonzero(splits == donor)[-1]] = wanted


def _place_unlabelled(state: State) -> None:
    free = np.flatnonzero(state.assignment < 0)
    free = free[np.argsort(-state.weights[free], kind="stable")]
    weights = state.weights[free]
    for start, stop in _runs(weights):
        shares = apportion(state.room, int(weights[start]), stop - start, state.room)
        state.place(free[start:stop], _interleave(shares))


def _runs(values: Ints) -> list[tuple[int, int]]:
    """Bounds of the runs of equal values."""
    edges = np.flatnonzero(np.diff(values, prepend=-1, append=-1)).tolist()
    return list(pairwise(edges))


def _total(bins: NDArray[np.integer], values: Ints, n: int) -> Ints:
    # bincount adds in float64, which is exact for whole numbers below 2⁵³
    return np.bincount(bins, weights=values, minlength=n).astype(np.int64)
