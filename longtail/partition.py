"""A run's train, validation and test: old texts keep their side, new ones are assigned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.config import SplitName, SplitSettings
from longtail.errors import DataError
from longtail.labels import LabelSpace
from longtail.leaks import TEST, TRAIN, VALIDATION, leaking_rows
from longtail.ledger import SPLITS, LedgerEntries
from longtail.near_duplicates import Units
from longtail.split_quality import Sides, quality_report
from longtail.splitting import stratify

NOWHERE = -1
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("group", pa.string()),
        ("unit", pa.int64()),
        ("cohort", pa.int64()),
    ]
)
"""One text of a split; ``unit`` is what is never divided, ``cohort`` the ledger's generation."""

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
SideArray = NDArray[np.int8]


@dataclass(frozen=True)
class Partition:
    """A run's splits.

    Attributes:
        tables: ``train``, ``validation`` and ``test`` (:data:`SCHEMA`), rows sorted by id.
        assigned: split of every text that the ledger did not know; what it is to be extended by.
        removed: ids left out of this run because they repeat a text of a split held out from them.
        quality: JSON: sizes, deviations, missing labels, leaks, ledger (docs/reference/splits.md).
    """

    tables: Mapping[SplitName, pa.Table]
    assigned: Mapping[str, SplitName]
    removed: tuple[str, ...]
    quality: dict[str, Any]


@dataclass
class _Rows:
    """The working table as arrays, and where each row stands so far."""

    ids: list[str]
    y: sp.csr_array
    units: Ints
    known: Bools
    given: SideArray
    side: SideArray

    @property
    def free(self) -> Bools:
        free: Bools = self.side == NOWHERE
        return free


def partition(
    table: pa.Table,
    space: LabelSpace,
    settings: SplitSettings,
    entries: LedgerEntries,
    units: Units,
) -> Partition:
    """Assign every text of a run to train, validation or test.

    In this order: a text that the ledger knows keeps its side; a new text with a split of its own
    keeps that; a new text in a unit with such a text follows it (test before validation before
    train); what is left is stratified by the settings' sizes. Where the data says train and test
    but never validation, validation is carved from the new training texts, stratified.

    Args:
        table: the run's texts: id, text, labels, and group and split, which may be null. Ids
            unique.
        space: label space; other labels do not count.
        settings: sizes, method, seed, and what becomes of leaks.
        entries: the ledger as read.
        units: what must stay together (:func:`longtail.near_duplicates.find_units`).

    Raises:
        DataError: too few units to divide, or a split is empty.
    """
    order = np.argsort(np.array(table["id"].to_pylist(), dtype=object), kind="stable")
    table = table.take(pa.array(order))
    rows = _gather(table, space, entries, units.units[order])
    _require_given(rows)
    carved = _carve(rows, settings)
    take = rows.free & (rows.given != NOWHERE)
    rows.side[take] = rows.given[take]
    followers = _follow(rows)
    _stratify_free(rows, settings)
    _require_all(rows.side, "")
    leaks = leaking_rows(rows.side, rows.units)
    left_out = leaks & (settings.leaks == "remove_from_train")
    _require_all(rows.side[~left_out], " once the texts that repeat a held-out text are left out")
    cohorts = _cohorts(rows, entries)
    quality = quality_report(
        Sides(rows.ids, rows.y, rows.units, rows.side, left_out),
        space,
        settings,
        near=units,
        stratified=not (rows.given != NOWHERE).any(),
        leaks=leaks,
        ledger={
            "generation": entries.generations,
            "known": int(rows.known.sum()),
            "new": int((~rows.known).sum()),
            "followers": followers,
            "carved_for_validation": carved,
            "given": int((rows.given != NOWHERE).sum()),
            **_conflicts(rows),
        },
    )
    return Partition(
        tables=_tables(table, rows, cohorts, left_out),
        assigned={
            rows.ids[row]: SPLITS[rows.side[row]] for row in np.flatnonzero(~rows.known).tolist()
        },
        removed=tuple(rows.ids[row] for row in np.flatnonzero(left_out).tolist()),
        quality=quality,
    )


def _gather(table: pa.Table, space: LabelSpace, entries: LedgerEntries, units: Ints) -> _Rows:
    code = {name: place for place, name in enumerate(SPLITS)}
    ids: list[str] = table["id"].to_pylist()
    found = [entries.by_id.get(name) for name in ids]
    splits = table["split"].to_pylist() if "split" in table.column_names else [None] * len(ids)
    side = np.array([NOWHERE if entry is None else code[entry.split] for entry in found], np.int8)
    return _Rows(
        ids=ids,
        y=space.encode([labels or [] for labels in table["labels"].to_pylist()]),
        units=units,
        known=side != NOWHERE,
        given=np.array([NOWHERE if name is None else code[name] for name in splits], np.int8),
        side=side,
    )


def _require_given(rows: _Rows) -> None:
    """A split that the data brings must have texts to train and to test on."""
    if not (rows.given != NOWHERE).any() or (rows.free & (rows.given == NOWHERE)).any():
        return
    for side in (TRAIN, TEST):
        if not ((rows.given == side) | (rows.side == side)).any():
            raise DataError(
                f"the data's own split column has no row that says {SPLITS[side]!r}; add such "
                "rows, or leave data.columns.split out so that the texts are divided here"
            )


def _carve(rows: _Rows, settings: SplitSettings) -> int:
    """Take validation out of the new given training texts, where the data never gives it.

    Returns:
        How many texts were taken.
    """
    if (rows.given == VALIDATION).any() or not (rows.given != NOWHERE).any():
        return 0
    new_train = rows.free & (rows.given == TRAIN)
    held_out = np.unique(rows.units[(rows.side == TEST) | (rows.given == TEST)])
    follows = new_train & np.isin(rows.units, rows.units[rows.side == VALIDATION])
    rows.side[follows & ~np.isin(rows.units, held_out)] = VALIDATION
    settled = np.union1d(held_out, rows.units[rows.side != NOWHERE])
    chosen = np.flatnonzero(new_train & ~np.isin(rows.units, settled))
    if len(np.unique(rows.units[chosen])) >= 2:
        share = settings.validation / (settings.train + settings.validation)
        rows.side[chosen] = _stratified(rows, chosen, (1 - share, share), settings)
    return int((new_train & (rows.side == VALIDATION)).sum())


def _follow(rows: _Rows) -> int:
    """Send new texts to the side that their unit already stands on; how many did."""
    before = int(rows.free.sum())
    for side in (TEST, VALIDATION, TRAIN):
        here = np.unique(rows.units[(rows.side == side)])
        rows.side[rows.free & np.isin(rows.units, here)] = side
    return before - int(rows.free.sum())


def _stratify_free(rows: _Rows, settings: SplitSettings) -> None:
    """Divide the texts that nothing binds to a side."""
    chosen = np.flatnonzero(rows.free)
    n_units = len(np.unique(rows.units[chosen]))
    if n_units >= len(SPLITS):
        sizes = (settings.train, settings.validation, settings.test)
        rows.side[chosen] = _stratified(rows, chosen, sizes, settings)
    elif len(chosen) == len(rows.ids):
        raise DataError(
            f"the {len(rows.ids)} texts form only {n_units} unit(s) that must stay together (one "
            "group, or texts that repeat each other); at least 3 are needed for train, validation "
            "and test. Bring more texts, or check data.columns.group"
        )
    else:  # one or two units added to a data set that is already divided
        rows.side[chosen] = TRAIN


def _stratified(
    rows: _Rows, chosen: Ints, sizes: tuple[float, ...], settings: SplitSettings
) -> SideArray:
    return stratify(
        rows.y[chosen],
        sizes,
        ids=[rows.ids[row] for row in chosen.tolist()],
        units=rows.units[chosen],
        seed=settings.seed,
        method=settings.method,
    ).assignment


def _require_all(side: SideArray, when: str) -> None:
    for place, name in enumerate(SPLITS):
        if not (side == place).any():
            raise DataError(
                f"of {len(side)} texts none is in {name}{when}; bring more texts, or give "
                f"split.{name} a larger share"
            )


def _conflicts(rows: _Rows) -> dict[str, Any]:
    """Known texts whose given split is not where the ledger has them; the ledger wins."""
    differs = rows.known & (rows.given != NOWHERE) & (rows.given != rows.side)
    if not (rows.given == VALIDATION).any():  # carved earlier from what the data calls train
        differs &= ~((rows.given == TRAIN) & (rows.side == VALIDATION))
    listed = [rows.ids[row] for row in np.flatnonzero(differs)[:20].tolist()]
    return {"conflicts": int(differs.sum()), "conflict_ids": listed}


def _cohorts(rows: _Rows, entries: LedgerEntries) -> Ints:
    return np.array(
        [
            entries.by_id[name].cohort if known else entries.generations
            for name, known in zip(rows.ids, rows.known.tolist(), strict=True)
        ],
        dtype=np.int64,
    )


def _tables(
    table: pa.Table, rows: _Rows, cohorts: Ints, left_out: Bools
) -> dict[SplitName, pa.Table]:
    n = table.num_rows
    labels = [labels or [] for labels in table["labels"].to_pylist()]
    group = table["group"] if "group" in table.column_names else pa.nulls(n, pa.string())
    whole = pa.table(
        [table["id"], table["text"], pa.array(labels, pa.list_(pa.string())), group,
         pa.array(rows.units), pa.array(cohorts)], names=SCHEMA.names
    ).cast(SCHEMA)  # fmt: skip
    return {
        name: whole.filter(pa.array((rows.side == place) & ~left_out)).combine_chunks()
        for place, name in enumerate(SPLITS)
    }
