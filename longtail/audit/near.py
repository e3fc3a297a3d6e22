"""Near-duplicates, and where they would leak if nothing bound them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.audit.conflicts import excerpt
from longtail.leaks import TEST, TRAIN, leaking_rows
from longtail.ledger import SPLITS
from longtail.near_duplicates import Units
from longtail.splitting import stratify

Sides = NDArray[np.int8]
_SHARES = (0.6, 0.2, 0.2)


@dataclass(frozen=True)
class NearPairs:
    """Pairs of similar texts, and what a split would do to them.

    Attributes:
        pairs: how many there are.
        compared: how many of them were looked at, the most similar ones.
        sides: ``data``: the data's own split; ``by chance``: one that stratifies the texts
            one by one, as is usual.
        divided: pairs looked at whose texts stand on different sides.
        test_texts: test texts that repeat, nearly or exactly, a training text.
        held_out_texts: rows of train and validation that repeat a text held out from them.
        conflicts: pairs looked at whose label sets differ.
        listed: the most similar ones, the conflicting first.
    """

    pairs: int
    compared: int
    sides: Literal["data", "by chance"]
    divided: int
    test_texts: int
    held_out_texts: int
    conflicts: int
    listed: tuple[dict[str, Any], ...]


def near_duplicates(
    table: pa.Table, y: sp.csr_array, near: Units, *, listed: int, seed: int = 0
) -> NearPairs:
    """Look at the pairs under the data's own split, else under one that ignores them.

    Args:
        table: schema ANNOTATIONS, n rows.
        y: bool CSR (n, L).
        near: units by text alone, groups left out.
        listed: pairs to list at most.
        seed: of the split that ignores them.
    """
    own = own_sides(table["split"])
    ids = table["id"].to_pylist()
    sides = own if own is not None else _by_chance(y, ids, seed)
    first, second = _places(table, near)
    differ = _labels_differ(y, first, second)
    apart = sides[first] != sides[second]
    in_train = np.isin(near.units, near.units[sides == TRAIN])
    shown = sorted(range(len(first)), key=lambda at: (not differ[at], -near.pairs[at].similarity))
    return NearPairs(
        pairs=near.n_pairs,
        compared=len(first),
        sides="by chance" if own is None else "data",
        divided=int(apart.sum()),
        test_texts=int((in_train & (sides == TEST)).sum()),
        held_out_texts=int(leaking_rows(sides, near.units).sum()),
        conflicts=int(differ.sum()),
        listed=tuple(
            _pair(table, near, sides, at, int(first[at]), int(second[at])) for at in shown[:listed]
        ),
    )


def own_sides(split: pa.ChunkedArray) -> Sides | None:
    """The data's own split as sides, −1 where a row has none; None where no row has one."""
    if split.null_count == len(split):
        return None
    places = pc.index_in(split, pa.array(SPLITS, pa.string()))
    sides: Sides = pc.fill_null(places, -1).to_numpy().astype(np.int8)
    return sides


def _by_chance(y: sp.csr_array, ids: list[str], seed: int) -> Sides:
    if len(ids) < len(_SHARES):
        return np.zeros(len(ids), dtype=np.int8)
    return stratify(y, _SHARES, ids=ids, seed=seed).assignment


def _places(table: pa.Table, near: Units) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ids = table["id"].combine_chunks()
    found = [
        pc.index_in(pa.array([getattr(pair, side) for pair in near.pairs], pa.string()), ids)
        for side in ("first", "second")
    ]
    first, second = (places.to_numpy(zero_copy_only=False).astype(np.int64) for places in found)
    return first, second


def _labels_differ(
    y: sp.csr_array, first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.bool_]:
    if not len(first):
        return np.zeros(0, dtype=bool)
    other = sp.csr_array(y[first].astype(np.int8) != y[second].astype(np.int8))
    return np.asarray(other.sum(axis=1)).ravel() > 0


def _pair(
    table: pa.Table, near: Units, sides: Sides, at: int, first: int, second: int
) -> dict[str, Any]:
    labels = table["labels"]
    return {
        "excerpt": excerpt(str(table["text"][first])),
        "first": near.pairs[at].first,
        "second": near.pairs[at].second,
        "similarity": round(near.pairs[at].similarity, 4),
        "labels_first": sorted(labels[first].as_py() or ()),
        "labels_second": sorted(labels[second].as_py() or ()),
        "side_first": _side(sides[first]),
        "side_second": _side(sides[second]),
    }


def _side(side: np.int8) -> str | None:
    return None if side < 0 else SPLITS[int(side)]
