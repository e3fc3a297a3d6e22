"""A run's train, validation and test: old texts keep their side, new ones are assigned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.config import SplitName, SplitSettings
from longtail.errors import DataError
from longtail.labels import LabelSpace
from longtail.leaks import TEST, TRAIN, VALIDATION, leaking_rows
from longtail.ledger import ASSIGNED, NOWHERE, SPLITS, LedgerEntries, Standing, split_codes
from longtail.near_duplicates import Units
from longtail.split_quality import Sides, quality_report
from longtail.splitting import stratify

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("group", pa.string()),
        ("unit", pa.int64()),
        ("cohort", pa.int64()),
        ("annotated_at", pa.timestamp("us", tz="UTC")),
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
        assigned: id and split of every text that the ledger did not know
            (:data:`longtail.ledger.ASSIGNED`); what it is to be extended by.
        removed: ids left out of this run because they repeat a text of a split held out from them.
        quality: JSON: sizes, deviations, missing labels, leaks, ledger (docs/reference/splits.md).
    """

    tables: Mapping[SplitName, pa.Table]
    assigned: pa.Table
    removed: tuple[str, ...]
    quality: dict[str, Any]


@dataclass
class _Rows:
    """The working table as arrays, and where each row stands so far."""

    ids: pa.ChunkedArray
    y: sp.csr_array
    units: Ints
    standing: Standing
    given: SideArray
    side: SideArray

    @property
    def known(self) -> Bools:
        return self.standing.known

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
    table, in_order = _sorted(table, units.units)
    rows = _gather(table, space, entries, in_order)
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
    cohorts = np.where(rows.known, rows.standing.cohorts, entries.generations).astype(np.int64)
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
        assigned=_assigned(rows),
        removed=tuple(rows.ids.filter(pa.array(left_out)).to_pylist()),
        quality=quality,
    )


def _sorted(table: pa.Table, units: Ints) -> tuple[pa.Table, Ints]:
    """Rows sorted by id; a data set is read that way, so there is mostly nothing to do."""
    ids = table["id"]
    if pc.all(pc.less_equal(ids.slice(0, max(len(ids) - 1, 0)), ids.slice(1))).as_py() is not False:
        return table, units
    order = pc.sort_indices(ids)
    return table.take(order), units[order.to_numpy()]


def _gather(table: pa.Table, space: LabelSpace, entries: LedgerEntries, units: Ints) -> _Rows:
    standing = entries.lookup(table["id"])
    nowhere = np.full(table.num_rows, NOWHERE, dtype=np.int8)
    return _Rows(
        ids=table["id"],
        y=space.encode(table["labels"]),
        units=units,
        standing=standing,
        given=split_codes(table["split"]) if "split" in table.column_names else nowhere,
        side=standing.splits.copy(),
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
    share = settings.validation / (settings.train + settings.validation)
    beside = np.flatnonzero((rows.side == TRAIN) | (rows.side == VALIDATION))
    if len(chosen) and (len(beside) or len(np.unique(rows.units[chosen])) >= 2):
        _stratify(rows, np.concatenate([beside, chosen]), (1 - share, share), settings)
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
    n_free, n_rows = int(rows.free.sum()), len(rows.side)
    n_units = len(np.unique(rows.units[rows.free]))
    if n_free == n_rows and n_units < len(SPLITS):
        raise DataError(
            f"the {n_rows} texts form only {n_units} unit(s) that must stay together (one "
            "group, or texts that repeat each other); at least 3 are needed for train, validation "
            "and test. Bring more texts, or check data.columns.group"
        )
    if settings.method == "skmultilearn" and n_units < len(SPLITS):
        rows.side[rows.free] = TRAIN  # the reference cannot add to what is divided
    elif n_free:
        sizes = (settings.train, settings.validation, settings.test)
        _stratify(rows, np.arange(n_rows), sizes, settings)


def _stratify(rows: _Rows, chosen: Ints, sizes: tuple[float, ...], settings: SplitSettings) -> None:
    """Divide the free ones of some rows by what the others of them leave to be wished."""
    rows.side[chosen] = stratify(
        rows.y[chosen],
        sizes,
        ids=rows.ids.take(pa.array(chosen)),
        units=rows.units[chosen],
        seed=settings.seed,
        method=settings.method,
        fixed=rows.side[chosen],
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
    listed = rows.ids.filter(pa.array(differs)).slice(0, 20).to_pylist()
    return {"conflicts": int(differs.sum()), "conflict_ids": listed}


def _assigned(rows: _Rows) -> pa.Table:
    new = ~rows.known
    names = pa.array(SPLITS).take(pa.array(rows.side[new]))
    return pa.table([rows.ids.filter(pa.array(new)), names], schema=ASSIGNED)


def _tables(
    table: pa.Table, rows: _Rows, cohorts: Ints, left_out: Bools
) -> dict[SplitName, pa.Table]:
    own = {"unit": pa.array(rows.units), "cohort": pa.array(cohorts)}
    columns = []
    for field in SCHEMA:
        if field.name in own:
            columns.append(own[field.name])
        elif field.name in table.column_names:
            columns.append(table[field.name].cast(field.type))
        else:
            columns.append(pa.nulls(table.num_rows, field.type))
    labels = SCHEMA.get_field_index("labels")
    columns[labels] = pc.coalesce(columns[labels], pa.scalar([], SCHEMA.field(labels).type))
    whole = pa.table(columns, schema=SCHEMA)
    return {
        name: whole.filter(pa.array((rows.side == place) & ~left_out))
        for place, name in enumerate(SPLITS)
    }
