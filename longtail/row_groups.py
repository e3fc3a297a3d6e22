"""Parquet larger than memory: read and written some rows and megabytes at a time."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from longtail import storage
from longtail.errors import StoreError

MAX_ROWS = 1 << 16
MAX_BYTES = 1 << 24
_WIDE_TYPES = {
    pa.string(): pa.large_string(),
    pa.list_(pa.string()): pa.large_list(pa.large_string()),
}

Source: TypeAlias = str | Path | pa.Table
"""A table, or the path or URL of a Parquet file of ours."""


def batches_of(source: Source, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a Parquet file of ours, or of a table, in order and in bounded parts.

    Args:
        source: a table, or the path or URL of a file, whose own row groups are bounded too.
        columns: which columns; None: all.

    Raises:
        StoreError: the file is damaged.
    """
    if isinstance(source, pa.Table):
        yield from _slices(source if columns is None else source.select(columns))
        return
    try:
        with storage.open_input(source) as handle:
            file = pq.ParquetFile(handle)
            for group in range(file.num_row_groups):
                about = file.metadata.row_group(group)
                rows = _rows_at_once(about.num_rows, about.total_byte_size)
                for batch in file.iter_batches(rows, row_groups=[group], columns=columns):
                    yield pa.Table.from_batches([batch])
    except pa.ArrowInvalid as error:
        raise StoreError(f"{source}: not a readable Parquet file ({error})") from error


def row_count(source: Source) -> int:
    """How many rows there are.

    Raises:
        StoreError: the file is damaged.
    """
    if isinstance(source, pa.Table):
        return int(source.num_rows)
    try:
        with storage.open_input(source) as handle:
            return int(pq.ParquetFile(handle).metadata.num_rows)
    except pa.ArrowInvalid as error:
        raise StoreError(f"{source}: not a readable Parquet file ({error})") from error


def chosen_rows(batches: Iterable[pa.Table], chosen: NDArray[np.bool_]) -> Iterator[pa.Table]:
    """The chosen rows of consecutive parts of a table; ``chosen`` has an entry for every row."""
    start = 0
    for batch in batches:
        here = chosen[start : start + batch.num_rows]
        start += batch.num_rows
        if here.all():
            yield batch
        elif here.any():
            yield batch.filter(pa.array(here))


def in_order(table: pa.Table, order: NDArray[np.int64]) -> pa.Table:
    """The rows at some places, in that order; as :meth:`pyarrow.Table.take`.

    Arrow's own fails where a column of strings holds more than 2 GB, so they are taken from a copy
    with offsets of 64 bits and turned back some rows at a time.
    """
    pieces = [pa.array(order[at : at + MAX_ROWS]) for at in range(0, len(order), MAX_ROWS)]
    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        wide = column.cast(_WIDE_TYPES.get(field.type, field.type)).combine_chunks()
        parts = [wide.take(piece).cast(field.type) for piece in pieces]
        columns.append(pa.chunked_array(parts, field.type))
    return pa.table(columns, schema=table.schema)


def write_row_groups(path: Path, parts: Iterable[pa.Table], schema: pa.Schema) -> None:
    """Write a local file in row groups of bounded size; a reader sees all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with RowGroupWriter(staging, schema) as writer:
            for part in parts:
                writer.write(part)
        os.replace(staging, path)
    except OSError as error:
        error.filename = str(path)  # writing to a full disk names no file
        raise
    finally:
        staging.unlink(missing_ok=True)


class RowGroupWriter:
    """Writes a local Parquet file in row groups of bounded size, whatever it is handed.

    Args:
        path: the file; it is not written atomically, so it belongs into a staging directory.
        schema: of every table that is written.
        passing: the file is read in this run and then thrown away: it is neither compressed nor
            waited for until it is on the disk.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, passing: bool = False) -> None:
        self.rows = 0
        self._schema = schema
        self._passing = passing
        self._handle = path.open("wb")
        compression = "none" if passing else "zstd"
        self._writer = pq.ParquetWriter(self._handle, schema, compression=compression)
        self._waiting: list[pa.Table] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        with self._handle:
            if kind is not None:
                self._writer.close()  # left open, it would be closed after its handle
                return
            self._flush()
            self._writer.close()
            self._handle.flush()
            if not self._passing:
                os.fsync(self._handle.fileno())

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        for part in _slices(table.select(self._schema.names)):
            self.rows += part.num_rows
            self._waiting.append(part)
            waiting = sum(one.num_rows for one in self._waiting)
            if waiting >= MAX_ROWS or sum(one.nbytes for one in self._waiting) >= MAX_BYTES:
                self._flush()

    def _flush(self) -> None:
        if self._waiting:
            whole = pa.concat_tables(self._waiting)
            self._writer.write_table(whole, row_group_size=max(whole.num_rows, 1))
            self._waiting = []


def _slices(table: pa.Table) -> Iterator[pa.Table]:
    rows = _rows_at_once(table.num_rows, table.nbytes)
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


def _rows_at_once(n_rows: int, n_bytes: int) -> int:
    """How many rows hold some megabytes, if all are of the mean size."""
    return max(min(MAX_ROWS, n_rows * MAX_BYTES // max(n_bytes, 1)), 1)
