"""Splits of multi-label data: iterative stratification, exact sizes, indivisible units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.errors import DataError
from longtail.hashing import Strings, as_column, stable_hash
from longtail.split_polish import even_out, polish
from longtail.split_repair import balance_sizes, repair_cover
from longtail.stratification import Fixed, Ints, State, place_singly, run_label_pass

Method = Literal["longtail", "skmultilearn"]
Sides = NDArray[np.int8]
FREE = -1
FEW = 64
"""Free units up to this number are added to a divided whole one by one."""


@dataclass(frozen=True)
class MissingLabel:
    """A label that does not stand in every split.

    Attributes:
        label: its column.
        units: units that have it; fewer than there are splits cannot stand in all of them.
        splits: the splits without it.
    """

    label: int
    units: int
    splits: tuple[int, ...]


@dataclass(frozen=True)
class Stratified:
    """A split of all rows.

    Attributes:
        assignment: int8, shape (rows,), index of each row's split.
        asked: rows asked for per split.
        got: rows per split.
        infeasible: labels that do not stand in every split.
    """

    assignment: NDArray[np.int8]
    asked: tuple[int, ...]
    got: tuple[int, ...]
    infeasible: tuple[MissingLabel, ...]


def stratify(
    y: sp.csr_array,
    sizes: Sequence[float],
    *,
    ids: Strings,
    units: Ints | None = None,
    seed: int = 0,
    method: Method = "longtail",
    fixed: Sides | None = None,
) -> Stratified:
    """Divide rows so that every split has its share of every label.

    Sechidis, Tsoumakas and Vlahavas (2011), "On the Stratification of Multi-Label Data", with all
    rows of a label apportioned at once, and a repair pass. Sizes are exact to one row (with units:
    to the largest unit), units are never divided, and every label with at least as many units as
    there are splits stands in each of them wherever the search finds a way. A label with fewer
    units is wanted first by split 0, then by the last one, then by those between (train, test,
    validation). The same ids, labels and seed give the same split on any machine and in any order
    of rows.

    Rows may be added to a divided whole: those that are fixed stay, and the free ones go where
    they bring the whole nearest to its shares, so that what one addition left uneven the next one
    mends. No split's size is then more than one row (one unit) off its share, as far as the free
    rows suffice for that.

    Args:
        y: boolean CSR matrix of shape (rows, labels).
        sizes: share of each split, positive, summing to 1: (train, validation, test), or any
            other number of splits from two on.
        ids: id of each row; those of the free rows unique.
        units: integer of shape (rows,); rows of one unit are never divided. None: each row is one.
        seed: 0 … 2⁶⁴ − 1; keys the hash of the ids that orders the rows.
        method: ``longtail``, or ``skmultilearn`` for scikit-multilearn 0.2.0, which keeps the
            units whole but not the sizes, and divides the free rows by themselves.
        fixed: int8 of shape (rows,): the split in which a row stands, −1 where it is free.

    Raises:
        ValueError: shapes or sizes do not fit, or a unit has both fixed and free rows.
        DataError: an id twice, or fewer units than splits to begin with.
    """
    n = y.shape[0]
    sides = np.full(n, FREE, dtype=np.int8) if fixed is None else np.array(fixed, dtype=np.int8)
    free = np.flatnonzero(sides == FREE)
    column = as_column(ids)
    _check(y, sizes, len(column), units, sides)
    order = _rank(column.take(pa.array(free)), seed)
    unit_of_row, counts, weights = _gather(y[free], None if units is None else units[free], order)
    targets, standing = split_sizes(n, sizes), _standing(y, units, sides, len(sizes))
    if method == "skmultilearn" or not standing.sizes.any():
        _require_units(len(weights), len(sizes))
    if method == "skmultilearn":
        chosen = _skmultilearn(counts, sizes, seed)
    else:
        chosen = _longtail(counts, weights, targets, standing)
    sides[free] = chosen[unit_of_row]
    return Stratified(
        assignment=sides,
        asked=tuple(targets.tolist()),
        got=tuple(np.bincount(sides, minlength=len(sizes)).tolist()),
        infeasible=_infeasible(standing.cover + _cover(counts, chosen, len(sizes))),
    )


def split_sizes(n: int, sizes: Sequence[float]) -> Ints:
    """Whole numbers of rows nearest to the asked shares (largest remainder); they sum to n."""
    exact = [Fraction(size).limit_denominator(1_000_000) for size in sizes]
    shares = [n * size / sum(exact) for size in exact]
    whole = [int(share) for share in shares]
    by_remainder = sorted(
        _priority(len(sizes)), key=lambda split: shares[split] - whole[split], reverse=True
    )
    for split in by_remainder[: n - sum(whole)]:
        whole[split] += 1
    return np.array(whole, dtype=np.int64)


def _priority(n_splits: int) -> tuple[int, ...]:
    """Who first gets what does not suffice for all: train, then test, then validation."""
    return (0, n_splits - 1, *range(1, n_splits - 1))


def _longtail(counts: sp.csr_array, weights: Ints, targets: Ints, standing: Fixed) -> Sides:
    state = State.start(counts, weights, targets, _priority(len(targets)), standing)
    added = bool(standing.sizes.any())
    if not len(weights):
        return state.assignment
    if added and len(weights) <= FEW:
        place_singly(state, rows=1)
    else:
        place_singly(state)
        run_label_pass(state)
    balance_sizes(state, keep_cover=False)
    repair_cover(state)
    if added or weights.max() > 1:
        polish(state)
        balance_sizes(state, keep_cover=True)
    if weights.max(initial=1) == 1:
        even_out(state)
    return state.assignment


def _skmultilearn(counts: sp.csr_array, sizes: Sequence[float], seed: int) -> NDArray[np.int8]:
    """The reference: one split after the other is cut off, last one first, in units."""
    from skmultilearn.model_selection import iterative_train_test_split

    labels = counts.toarray() > 0
    assignment = np.zeros(counts.shape[0], dtype=np.int8)
    rest = np.arange(counts.shape[0])
    state = np.random.get_state()  # noqa: NPY002 - it draws from NumPy's global generator
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        for split in range(len(sizes) - 1, 0, -1):
            share = sizes[split] / sum(sizes[: split + 1])
            kept, _, cut, _ = iterative_train_test_split(rest[:, None], labels[rest], share)
            assignment[cut[:, 0]] = split
            rest = kept[:, 0]
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return assignment


def _rank(ids: pa.Array | pa.ChunkedArray, seed: int) -> Ints:
    """Rows in the order of their ids' keyed hashes; ties by id.

    Raises:
        DataError: an id twice.
    """
    hashes = stable_hash(ids, seed=seed)
    order = np.argsort(hashes, kind="stable")
    equal = np.flatnonzero(np.diff(hashes[order]) == 0)
    for place in equal.tolist():
        first, second = ids[order[place]].as_py(), ids[order[place + 1]].as_py()
        if first == second:
            raise DataError(f"the id {first!r} stands on two rows; ids must be unique")
    if len(equal):  # two different ids with one 64-bit hash: about once in 10¹³ pairs
        names = ids.to_pylist()
        order = np.array(sorted(range(len(ids)), key=lambda row: (hashes[row], names[row])))
    return order


def _gather(y: sp.csr_array, units: Ints | None, order: Ints) -> tuple[Ints, sp.csr_array, Ints]:
    """Units in the order of their first row: unit of each row, (units, labels) counts, weights."""
    n = y.shape[0]
    unit_of_row = np.empty(n, dtype=np.int64)
    if units is None:
        unit_of_row[order] = np.arange(n)
        counts = sp.csr_array(y[order], dtype=np.int64)
        counts.sort_indices()
        return unit_of_row, counts, np.ones(n, dtype=np.int64)
    _, first, inverse = np.unique(units[order], return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    unit_of_row[order] = place[inverse]
    counts = _sums(y, unit_of_row, len(first))
    return unit_of_row, counts, np.bincount(unit_of_row, minlength=len(first)).astype(np.int64)


def _standing(y: sp.csr_array, units: Ints | None, sides: Sides, n_splits: int) -> Fixed:
    """What the fixed rows make up; a unit in several splits counts in each of them."""
    here = np.flatnonzero(sides != FREE)
    if not len(here):
        return Fixed.nothing(y.shape[1], n_splits)
    split_of, fixed = sides[here].astype(np.int64), sp.csr_array(y[here])
    rows = _cover(fixed, split_of, n_splits)
    cover = rows
    if units is not None:
        parts, part_of_row = np.unique(units[here] * n_splits + split_of, return_inverse=True)
        if len(parts) < len(here):
            counts = _sums(fixed, part_of_row, len(parts))
            cover = _cover(counts, parts % n_splits, n_splits)
    return Fixed(rows, cover, np.bincount(split_of, minlength=n_splits))


def _sums(y: sp.csr_array, owner: Ints, n: int) -> sp.csr_array:
    """Rows with each label of each owner, CSR (owners, labels), int64."""
    ones, rows = np.ones(len(owner), dtype=np.int64), np.arange(len(owner))
    member = sp.csr_array((ones, (owner, rows)), shape=(n, len(owner)))
    counts = sp.csr_array(member @ y.astype(np.int64))
    counts.sort_indices()
    return counts


def _cover(counts: sp.csr_array, splits: NDArray[np.integer[Any]], n_splits: int) -> Ints:
    """(labels, splits): how many of the matrix' rows in a split have the label."""
    cells = counts.indices.astype(np.int64) * n_splits
    cells += np.repeat(splits, np.diff(counts.indptr))
    n_labels = counts.shape[1]
    return np.bincount(cells, minlength=n_labels * n_splits).reshape(n_labels, n_splits)


def _infeasible(cover: Ints) -> tuple[MissingLabel, ...]:
    units = cover.sum(axis=1)
    return tuple(
        MissingLabel(label, int(units[label]), tuple(np.flatnonzero(cover[label] == 0).tolist()))
        for label in np.flatnonzero((units > 0) & (cover == 0).any(axis=1)).tolist()
    )


def _require_units(n_units: int, n_splits: int) -> None:
    if n_units < n_splits:
        raise DataError(
            f"{n_units} indivisible unit(s) of texts cannot be divided into {n_splits} "
            "splits; bring more texts that neither share a group nor repeat each other"
        )


def _check(
    y: sp.csr_array, sizes: Sequence[float], n_ids: int, units: Ints | None, sides: Sides
) -> None:
    n = y.shape[0]
    if {n_ids, len(sides), n if units is None else len(units)} != {n}:
        raise ValueError(f"y has {n} rows, but there are {n_ids} ids and units {units!r:.60}")
    if len(sizes) < 2 or min(sizes) <= 0 or abs(sum(sizes) - 1) > 1e-6:
        raise ValueError(f"sizes must be positive and sum to 1, found {tuple(sizes)}")
    if n and not FREE <= sides.min() <= sides.max() < len(sizes):
        raise ValueError(f"fixed must be a split of {len(sizes)}, or −1, found {np.unique(sides)}")
    if units is not None and np.isin(units[sides == FREE], units[sides != FREE]).any():
        raise ValueError("a unit has fixed rows and free ones; its free rows must follow first")
