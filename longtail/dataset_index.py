"""What an upsert must know of each row, as arrays: 64 bytes for a row of any length.

Hashes of 128 bits stand for ids and contents (:func:`longtail.hashing.wide_hash` says how sure that
is), so that ten million rows are compared without their texts in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from longtail.content import (
    UNDATED,
    annotator_codes,
    canonical,
    dates,
    distinct_labels,
    duplicate_keys,
    row_digests,
)
from longtail.hashing import Hashes, wide_hash
from longtail.row_groups import MAX_ROWS, RowGroupWriter, Source, batches_of

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NOWHERE = -1
_WIDE = ("ids", "content", "keys")
_SCHEMA = pa.schema(
    [
        *((f"{name}_{half}", pa.uint64()) for name in _WIDE for half in ("high", "low")),
        ("dates", pa.int64()),
        ("annotators", pa.uint64()),
    ]
)


@dataclass(frozen=True)
class RowIndex:
    """One entry per row, in the order of the rows.

    Attributes:
        ids: hash of the id, shape (n, 2).
        content: hash of the whole row, shape (n, 2).
        keys: hash of what makes two texts duplicates, shape (n, 2).
        dates: microseconds since 1970, UNDATED where there is none, shape (n,).
        annotators: hash of the annotator, 0 for none, shape (n,).
    """

    ids: Hashes
    content: Hashes
    keys: Hashes
    dates: Ints
    annotators: Hashes

    def __len__(self) -> int:
        return len(self.dates)

    def take(self, rows: Ints | Bools | slice) -> RowIndex:
        """Some of the rows."""
        return RowIndex(*(getattr(self, field.name)[rows] for field in fields(self)))

    def older_than(self, other: RowIndex, rows: Ints, of_other: Ints) -> Bools:
        """Pair by pair of rows: whether both are dated and this index's is the earlier."""
        mine, others = self.dates[rows], other.dates[of_other]
        older: Bools = (mine < others) & (mine != UNDATED)
        return older

    def same_content(self, other: RowIndex, rows: Ints, of_other: Ints) -> Bools:
        """Pair by pair of rows: whether they hold the same."""
        return same_hashes(self.content[rows], other.content[of_other])


def concat(parts: Iterable[RowIndex]) -> RowIndex:
    """Several indices as one, in order."""
    columns: dict[str, list[NDArray[np.generic]]] = {
        "ids": [np.empty((0, 2), np.uint64)],
        "content": [np.empty((0, 2), np.uint64)],
        "keys": [np.empty((0, 2), np.uint64)],
        "dates": [np.empty(0, np.int64)],
        "annotators": [np.empty(0, np.uint64)],
    }
    for part in parts:
        for name, arrays in columns.items():
            arrays.append(getattr(part, name))
    # One column after the other, so that the parts are not all there beside the whole.
    joined: dict[str, Any] = {name: np.concatenate(columns.pop(name)) for name in list(columns)}
    return RowIndex(**joined)


def index_of(table: pa.Table, *, keys: bool = True) -> RowIndex:
    """The index of canonical annotations (:func:`longtail.content.canonical`).

    Args:
        table: schema ANNOTATIONS.
        keys: False leaves the duplicate keys 0, where they are of no use: they are half the work.
    """
    return RowIndex(
        wide_hash(table["id"]),
        row_digests(table),
        duplicate_keys(table) if keys else np.zeros((table.num_rows, 2), dtype=np.uint64),
        dates(table["annotated_at"]),
        annotator_codes(table["annotator"]),
    )


def indexed(source: Source) -> tuple[RowIndex, pa.Array]:
    """The index of annotations in any form, and their distinct labels.

    Raises:
        ValueError: an id is null or stands twice.
    """
    labels = [pa.array([], pa.string())]

    def parts() -> Iterator[RowIndex]:
        for batch in map(canonical, batches_of(source)):
            labels[:] = [pa.concat_arrays([*labels, distinct_labels(batch)]).unique()]
            yield index_of(batch)

    index = concat(parts())
    if repeated(index.ids).any():
        raise ValueError("ids must be unique; merge the annotations first")
    return index, labels[0]


def same_hashes(left: Hashes, right: Hashes) -> Bools:
    """Row by row: whether two arrays of hashes, shape (n, 2), are equal."""
    same: Bools = (left[:, 0] == right[:, 0]) & (left[:, 1] == right[:, 1])
    return same


def places_of(asked: Hashes, known: Hashes) -> Ints:
    """Where each hash stands among others.

    Args:
        asked: shape (m, 2).
        known: shape (n, 2); where one stands more than once, the first of them is found.

    Returns:
        Its row in ``known``, or NOWHERE; shape (m,).
    """
    found = np.full(len(asked), NOWHERE, dtype=np.int64)
    if not (len(asked) and len(known)):
        return found
    order = np.argsort(known[:, 0], kind="stable")
    high = known[order, 0]
    by_value = np.argsort(asked[:, 0])  # looking up in order keeps within the processor's cache
    at = np.searchsorted(high, asked[by_value, 0])
    pending = at < len(high)
    while pending.any():
        rows = by_value[pending]
        candidates = order[at[pending]]
        match = same_hashes(asked[rows], known[candidates])
        found[rows[match]] = candidates[match]
        # Nearly never: another hash with the same first 64 bits.
        at[pending] += 1
        left = np.flatnonzero(pending)[~match]
        left = left[at[left] < len(high)]
        left = left[high[at[left]] == asked[by_value[left], 0]]
        pending = np.zeros_like(pending)
        pending[left] = True
    return found


def number_distinct(hashes: Hashes) -> tuple[Ints, int]:
    """A number from 0 on for each hash, equal ones alike, and how many distinct ones there are."""
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = ~same_hashes(hashes[order[1:]], hashes[order[:-1]])
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = np.cumsum(fresh) - 1
    return numbers, int(fresh.sum())


def repeated(hashes: Hashes) -> Bools:
    """Which rows share their hash with another row; shape (n,)."""
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    high = hashes[order, 0]
    alike = np.flatnonzero(high[1:] == high[:-1])
    del high
    alike = alike[hashes[order[alike + 1], 1] == hashes[order[alike], 1]]
    shared = np.zeros(len(hashes), dtype=bool)
    shared[order[alike]] = True
    shared[order[alike + 1]] = True
    return shared


def write_index(path: Path, parts: Iterable[RowIndex]) -> None:
    """Write indices one after the other into a Parquet file."""
    with RowGroupWriter(path, _SCHEMA) as writer:
        for part in parts:
            for start in range(0, len(part), MAX_ROWS):
                writer.write(_as_table(part.take(slice(start, start + MAX_ROWS))))


def read_index(path: Path) -> RowIndex:
    """Read what :func:`write_index` wrote."""
    return concat(_read_parts(path))


def _read_parts(path: Path) -> Iterator[RowIndex]:
    for batch in batches_of(path):
        ids, content, keys = (
            np.column_stack([batch[f"{name}_{half}"].to_numpy() for half in ("high", "low")])
            for name in _WIDE
        )
        dated, annotators = batch["dates"].to_numpy(), batch["annotators"].to_numpy()
        yield RowIndex(ids, content, keys, dated, annotators)


def _as_table(index: RowIndex) -> pa.Table:
    wide = [pa.array(getattr(index, name)[:, half]) for name in _WIDE for half in (0, 1)]
    return pa.table([*wide, pa.array(index.dates), pa.array(index.annotators)], schema=_SCHEMA)
