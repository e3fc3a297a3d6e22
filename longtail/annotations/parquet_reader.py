"""Rows of a Parquet export."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from longtail.annotations.columns import require_columns
from longtail.annotations.schema import Record, Unreadable
from longtail.errors import DataError

_BATCH_ROWS = 1_000


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
    try:
        parquet = pq.ParquetFile(handle)
        schema = parquet.schema_arrow
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(_damaged(file, 0, error)) from error
    there = require_columns(file, schema.names, wanted)
    for field, name in there.items():
        _require_type(file, field, name, schema.field(name).type)
    position = 0
    batches = parquet.iter_batches(_BATCH_ROWS, columns=list(there.values()))
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(_damaged(file, position, error)) from error
        yield from _records(batch, position)
        position += batch.num_rows


def _records(batch: pa.RecordBatch, before: int) -> Iterator[Record]:
    names = batch.schema.names
    columns = [_cells(column) for column in batch.columns]
    for row, cells in enumerate(zip(*columns, strict=True)):
        values = dict(zip(names, cells, strict=True))
        yield Record(before + row + 1, values, _raw(values))


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
