"""How good a run's split is, as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.config import SplitSettings
from longtail.labels import LabelSpace
from longtail.leaks import TRAIN, VALIDATION
from longtail.ledger import SPLITS
from longtail.near_duplicates import Units
from longtail.splitting import split_sizes

_LISTED = 50
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Sides:
    """Every row of a run and where it stands.

    Attributes:
        ids: row ids.
        y: boolean CSR (rows, labels).
        units: unit of each row.
        side: 0 train, 1 validation, 2 test.
        left_out: rows that this run does without.
    """

    ids: pa.ChunkedArray
    y: sp.csr_array
    units: Ints
    side: NDArray[np.int8]
    left_out: NDArray[np.bool_]


def quality_report(
    sides: Sides,
    space: LabelSpace,
    settings: SplitSettings,
    *,
    near: Units,
    stratified: bool,
    leaks: NDArray[np.bool_],
    ledger: dict[str, Any],
) -> dict[str, Any]:
    """What ``quality.json`` says (docs/reference/splits.md).

    Args:
        sides: the rows.
        space: names of the labels.
        settings: what was asked for.
        near: the units and near-duplicate pairs.
        stratified: whether the sizes were ours to choose; else none were asked for.
        leaks: rows that repeat a text held out from them, left out or not.
        ledger: counts of the ledger, passed through.
    """
    labels_per_split = _labels_per_split(sides, len(space))
    rows_of_unit = np.unique(sides.units, return_counts=True)[1]
    return {
        "method": settings.method,
        "seed": settings.seed,
        "units": len(rows_of_unit),
        "largest_unit": int(rows_of_unit.max()),
        "sizes": _sizes(sides, settings, stratified=stratified),
        "labels": _deviations(labels_per_split, sides, space),
        "missing_labels": {
            name: [space.names[at] for at in np.flatnonzero(labels_per_split[place] == 0)]
            for place, name in enumerate(SPLITS)
        },
        "infeasible": _infeasible(labels_per_split, sides, space),
        "leaks": _leaks(sides, leaks, settings),
        "near_duplicates": {
            "pairs": near.n_pairs,
            "listed": [[pair.first, pair.second, round(pair.similarity, 4)] for pair in near.pairs],
        },
        "ledger": ledger,
    }


def _labels_per_split(sides: Sides, n_labels: int) -> Ints:
    """(splits, labels): texts with the label, those left out not counted."""
    lengths = np.diff(sides.y.indptr)
    cells = np.repeat(sides.side, lengths) * np.int64(n_labels) + sides.y.indices
    used = np.repeat(~sides.left_out, lengths)
    return np.bincount(cells[used], minlength=len(SPLITS) * n_labels).reshape(-1, n_labels)


def _sizes(sides: Sides, settings: SplitSettings, *, stratified: bool) -> dict[str, Any]:
    n = len(sides.ids)
    asked = split_sizes(n, (settings.train, settings.validation, settings.test))
    return {
        name: {
            "asked": int(asked[place]) if stratified else None,
            "assigned": int((sides.side == place).sum()),
            "used": int(((sides.side == place) & ~sides.left_out).sum()),
        }
        for place, name in enumerate(SPLITS)
    }


def _deviations(labels_per_split: Ints, sides: Sides, space: LabelSpace) -> dict[str, Any]:
    """Rows by which a label misses the share of its positives that the split's size gives it."""
    sizes = np.bincount(sides.side[~sides.left_out], minlength=len(SPLITS))
    shares = sizes / sizes.sum()
    off = np.abs(labels_per_split - np.outer(shares, labels_per_split.sum(axis=0)))
    worst = off.max(axis=0) if off.size else np.zeros(0)
    order = np.argsort(-worst, kind="stable")[:_LISTED]
    return {
        "largest_deviation_rows": round(float(worst.max(initial=0.0)), 3),
        "mean_deviation_rows": round(float(off.mean()) if off.size else 0.0, 3),
        "worst": [
            {"label": space.names[at], "rows": round(float(worst[at]), 3),
             "counts": labels_per_split[:, at].tolist()}
            for at in order.tolist()
        ],
    }  # fmt: skip


def _infeasible(labels_per_split: Ints, sides: Sides, space: LabelSpace) -> list[dict[str, Any]]:
    """Labels that stand in some split but not in all, with the units that have them."""
    lacking = (labels_per_split == 0).any(axis=0) & (labels_per_split > 0).any(axis=0)
    columns = sides.y.tocsc()
    found = []
    for at in np.flatnonzero(lacking).tolist():
        rows = columns.indices[columns.indptr[at] : columns.indptr[at + 1]]
        rows = rows[~sides.left_out[rows]]
        absent = [SPLITS[place] for place in np.flatnonzero(labels_per_split[:, at] == 0)]
        found.append(
            {
                "label": space.names[at],
                "texts": len(rows),
                "units": len(np.unique(sides.units[rows])),
                "missing_from": absent,
            }
        )
    return found


def _leaks(sides: Sides, leaks: NDArray[np.bool_], settings: SplitSettings) -> dict[str, Any]:
    return {
        "policy": settings.leaks,
        "train_rows": int((leaks & (sides.side == TRAIN)).sum()),
        "validation_rows": int((leaks & (sides.side == VALIDATION)).sum()),
        "left_out": int(sides.left_out.sum()),
        "ids": sides.ids.filter(pa.array(leaks)).slice(0, _LISTED).to_pylist(),
    }
