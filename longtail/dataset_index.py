"""What an upsert must know of each row, as arrays: 64 bytes for a row of any length.

Hashes of 128 bits stand for ids and contents (:func:`longtail.hashing.wide_hash` says how sure that
is), so that ten million rows are compared without their texts in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa

from longtail.annotations.moments import UNDATED, moments_of
from longtail.content import (
    annotator_codes,
    canonical,
    distinct_labels,
    duplicate_keys,
    row_digests,
)
from longtail.hash_tables import Bools, Ints, repeated, same_hashes
from longtail.hashing import Hashes, wide_hash
from longtail.row_groups import MAX_ROWS, RowGroupWriter, Source, batches_of, row_count

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


Chosen = tuple[RowIndex, Bools | Ints]
"""An index and which of its rows: flags, or places."""


def empty_index(n_rows: int) -> RowIndex:
    """An index to be filled."""
    ids, content, keys = (np.empty((n_rows, 2), dtype=np.uint64) for _ in _WIDE)
    return RowIndex(
        ids, content, keys, np.empty(n_rows, dtype=np.int64), np.empty(n_rows, dtype=np.uint64)
    )


def gathered(parts: Iterable[RowIndex], n_rows: int) -> RowIndex:
    """Consecutive indices as one, filled as they come: never are there two of every row.

    Args:
        parts: in order.
        n_rows: of all of them together.
    """
    whole, start = empty_index(n_rows), 0
    for part in parts:
        for field in fields(RowIndex):
            getattr(whole, field.name)[start : start + len(part)] = getattr(part, field.name)
        start += len(part)
    return whole


def concat(parts: Sequence[RowIndex]) -> RowIndex:
    """Several indices as one, in order."""
    return gathered(parts, sum(map(len, parts)))


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
        moments_of(table["annotated_at"]),
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

    index = gathered(parts(), row_count(source))
    if repeated(index.ids).any():
        raise ValueError("ids must be unique; merge the annotations first")
    return index, labels[0]


def write_index(path: Path, parts: Iterable[Chosen]) -> None:
    """Write the chosen rows of indices, one after the other, into a Parquet file.

    Args:
        path: the file.
        parts: indices, and which of their rows.
    """
    with RowGroupWriter(path, _SCHEMA) as writer:
        for index, rows in parts:
            for start in range(0, len(rows), MAX_ROWS):
                here = rows[start : start + MAX_ROWS]
                if here.dtype == bool:
                    here = start + np.flatnonzero(here)
                writer.write(_as_table(index.take(here)))


def read_index(path: Path) -> RowIndex:
    """Read what :func:`write_index` wrote."""
    return gathered(_read_parts(path), row_count(path))


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
