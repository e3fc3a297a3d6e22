"""Rows of a Parquet export."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from longtail.annotations.columns import require_columns
from longtail.annotations.fields import read_record
from longtail.annotations.parquet_columns import no_problems, read_column
from longtail.annotations.schema import RAW, Record, Unreadable
from longtail.errors import DataError

_BATCH_ROWS = 32_768
_BATCH_BYTES = 64 << 20
_STREAM_BYTES = 1 << 20

Positions = NDArray[np.int64]


def parquet_records(handle: IO[bytes], file: str, wanted: Mapping[str, str]) -> Iterator[Record]:
    """Read the wanted columns of a Parquet file row by row.

    The ``raw`` of a record is the JSON of the wanted columns only: a Parquet export may carry
    embeddings and images that nobody wants in a quarantine.

    Args:
        handle: the file's bytes, seekable.
        file: its name for messages.
        wanted: column name by canonical field.

    Raises:
        DataError: the file is truncated or damaged, a wanted column is missing, or a column has a
            type that cannot be what it is said to be.
    """
    for batch, positions in _batches(*_opened(handle, file, wanted), file):
        yield from _records(batch, positions)


def parquet_tables(
    handle: IO[bytes], file: str, wanted: Mapping[str, str], label_separator: str | None
) -> Iterator[pa.Table]:
    """Read a Parquet file a column at a time; only doubtful rows are looked at cell by cell.

    The rows are those that ``read_record`` makes of :func:`parquet_records`, but ``raw`` is null
    where there was no doubt: :func:`parquet_raw` gives it for the few rows that need it later.

    Args:
        handle: the file's bytes, seekable.
        file: its name for messages.
        wanted: column name by canonical field.
        label_separator: what separates labels within one string, or None.

    Yields:
        Tables of the schema RAW of at most 32,768 rows and about 64 MB.

    Raises:
        DataError: as :func:`parquet_records`.
    """
    parquet, there = _opened(handle, file, wanted)
    for batch, positions in _batches(parquet, there, file):
        try:
            table, doubtful = _columns(batch, positions, there, label_separator)
        except pa.ArrowException:  # one undecodable cell fails its whole column
            yield _rows(batch, positions, wanted, label_separator)
            continue
        places = np.flatnonzero(doubtful)
        if len(places):
            rows = _rows(batch.take(pa.array(places)), positions[places], wanted, label_separator)
            table = _with_rows(table, places, rows)
        yield table


def parquet_raw(
    handle: IO[bytes], file: str, wanted: Mapping[str, str], positions: Positions
) -> Iterator[tuple[int, str]]:
    """The content of some rows as JSON, as :func:`parquet_records` gives it.

    Args:
        handle: the file's bytes, seekable.
        file: its name for messages.
        wanted: column name by canonical field.
        positions: the rows, from 1, ascending.

    Yields:
        Position and content, in the order of the positions.

    Raises:
        DataError: as :func:`parquet_records`.
    """
    for batch, there in _batches(*_opened(handle, file, wanted), file):
        chosen = positions[np.searchsorted(positions, there[0]) :]
        chosen = chosen[: np.searchsorted(chosen, there[-1], side="right")]
        if len(chosen):
            rows = batch.take(pa.array(chosen - there[0]))
            yield from ((record.position, record.raw) for record in _records(rows, chosen))


def _opened(
    handle: IO[bytes], file: str, wanted: Mapping[str, str]
) -> tuple[pq.ParquetFile, dict[str, str]]:
    try:
        # A buffer makes Arrow read a column by pages: a row group may be the whole of the file.
        parquet = pq.ParquetFile(handle, buffer_size=_STREAM_BYTES)
        schema = parquet.schema_arrow
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(_damaged(file, 0, error)) from error
    there = require_columns(file, schema.names, wanted)
    for field, name in there.items():
        _require_type(file, field, name, schema.field(name).type)
    return parquet, there


def _batches(
    parquet: pq.ParquetFile, there: Mapping[str, str], file: str
) -> Iterator[tuple[pa.RecordBatch, Positions]]:
    """Batches that are not empty, with the position of each row."""
    before = 0
    names = sorted(set(there.values()))
    rows = _rows_at_once(parquet.metadata, names)
    # Group by group: Arrow keeps what it has read of all the groups of one call.
    batches = (
        batch
        for group in range(parquet.num_row_groups)
        for batch in parquet.iter_batches(rows, row_groups=[group], columns=names)
    )
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(_damaged(file, before, error)) from error
        if batch.num_rows:
            yield batch, np.arange(before + 1, before + batch.num_rows + 1)
        before += batch.num_rows


def _rows_at_once(metadata: pq.FileMetaData, names: Sequence[str]) -> int:
    """As many rows as make about 64 MB where the file's rows are largest."""
    largest = 1.0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = [group.column(at) for at in range(group.num_columns)]
        read = [c for c in columns if any(_belongs(c.path_in_schema, name) for name in names)]
        size = sum(column.total_uncompressed_size for column in read)
        largest = max(largest, size / max(group.num_rows, 1))
    return min(_BATCH_ROWS, max(1, int(_BATCH_BYTES / largest)))


def _belongs(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}.")


def _columns(
    batch: pa.RecordBatch,
    positions: Positions,
    there: Mapping[str, str],
    label_separator: str | None,
) -> tuple[pa.Table, NDArray[np.bool_]]:
    """The batch as RAW, and which of its rows are to be read cell by cell instead."""
    n_rows = batch.num_rows
    doubtful = np.zeros(n_rows, dtype=bool)
    columns = {"position": pa.array(positions), "problems": no_problems(n_rows)}
    for field, name in there.items():
        columns[field], doubted = read_column(field, batch.column(name), label_separator)
        doubtful |= doubted
    arrays = [columns.get(field.name, pa.nulls(n_rows, field.type)) for field in RAW]
    return pa.Table.from_arrays(arrays, schema=RAW), doubtful


def _rows(
    batch: pa.RecordBatch,
    positions: Positions,
    wanted: Mapping[str, str],
    label_separator: str | None,
) -> pa.Table:
    rows = [read_record(record, wanted, label_separator) for record in _records(batch, positions)]
    return pa.Table.from_pylist(rows, schema=RAW)


def _with_rows(table: pa.Table, places: NDArray[np.int64], rows: pa.Table) -> pa.Table:
    """The table with some of its rows replaced."""
    order = np.arange(table.num_rows)
    order[places] = table.num_rows + np.arange(rows.num_rows)
    return pa.concat_tables([table, rows]).combine_chunks().take(pa.array(order))


def _records(batch: pa.RecordBatch, positions: Positions) -> Iterator[Record]:
    names = batch.schema.names
    columns = [_cells(column) for column in batch.columns]
    for position, *cells in zip(positions.tolist(), *columns, strict=True):
        values = dict(zip(names, cells, strict=True))
        yield Record(position, values, _raw(values))


def _raw(values: Mapping[str, object]) -> str:
    return json.dumps(values, ensure_ascii=False, default=str)


def _cells(column: pa.Array) -> list[object]:
    try:
        cells: list[object] = column.to_pylist()
    except (ValueError, OverflowError, KeyError):  # one undecodable cell fails the whole column
        return [_cell(column[row]) for row in range(len(column))]
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return [_decoded(cell) if isinstance(cell, bytes) else cell for cell in cells]
    return cells


def _cell(scalar: pa.Scalar) -> object:
    try:
        value = scalar.as_py()
    except UnicodeDecodeError as error:
        return _not_utf8(bytes(error.object))
    except (ValueError, OverflowError, KeyError) as error:
        return Unreadable(f"the value cannot be read ({error}); correct it", str(error))
    return _decoded(value) if isinstance(value, bytes) else value


def _decoded(value: bytes) -> object:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _not_utf8(value)


def _not_utf8(value: bytes) -> Unreadable:
    shown = value.decode("utf-8", "backslashreplace")
    return Unreadable(f"{shown[:60]!r} is not UTF-8; write the column as UTF-8 strings", shown)


def _require_type(file: str, field: str, name: str, found: pa.DataType) -> None:
    plain = found.value_type if pa.types.is_dictionary(found) else found
    expected, fits = _EXPECTED[field] if field in _EXPECTED else _EXPECTED["id"]
    if not (fits(plain) or pa.types.is_null(plain)):
        raise DataError(
            f"{file}: the column {name!r} is of type {found}, {expected} is expected for {field}; "
            f"write it so, or name another column with data.columns.{field}"
        )


def _is_text(found: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(found)
        or types.is_large_string(found)
        or types.is_string_view(found)
        or types.is_binary(found)
        or types.is_large_binary(found)
    )


def _is_list(found: pa.DataType) -> bool:
    types = pa.types
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view)
    if not any(is_list(found) for is_list in lists):
        return False
    item = found.value_type
    item = item.value_type if types.is_dictionary(item) else item
    return _is_text(item) or bool(types.is_null(item))


def _is_name(found: pa.DataType) -> bool:
    types = pa.types
    whole = types.is_integer(found) or types.is_floating(found) or types.is_decimal(found)
    return _is_text(found) or bool(whole)


def _is_date(found: pa.DataType) -> bool:
    return _is_text(found) or bool(pa.types.is_timestamp(found) or pa.types.is_date(found))


_EXPECTED: Mapping[str, tuple[str, Callable[[pa.DataType], bool]]] = {
    "id": ("a string or a whole number", _is_name),
    "text": ("a string", _is_text),
    "labels": ("a list of strings", lambda found: _is_list(found) or _is_text(found)),
    "annotated_at": ("a timestamp or a string in ISO 8601", _is_date),
}


def _damaged(file: str, position: int, error: Exception) -> str:
    where = f"after row {position}" if position else "at its end (the footer)"
    return (
        f"{file}: the Parquet file is damaged or was cut off {where} ({_first_line(error)}); "
        "export it again"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
