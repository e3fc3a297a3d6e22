"""Whole columns of a Parquet export as canonical values.

What :mod:`longtail.annotations.fields` says of one cell, said of a column at a time, with the
cells about which there may be something to say marked as doubtful. Those are for the cell-by-cell
reader, so that every reason has one author.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail.annotations.fields import read_date, read_labels, read_split
from longtail.annotations.schema import ANNOTATIONS

Mask = NDArray[np.bool_]
Read = tuple[pa.Array, Mask]

# What str.strip takes off; Arrow's own idea of white space is another one.
_SPACE = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
_LARGEST_EXACT_FLOAT = 2**53
_LABELS = pa.list_(pa.string())
_MOMENT = ANNOTATIONS.field("annotated_at").type
_DAY = 86_400_000_000
_PER_MICROSECOND = {"s": 1_000_000, "ms": 1_000, "us": 1}
# A year within the calendar's ends, so that no time zone leads out of it.
_FIRST, _LAST = ((dt.date(year, 1, 1) - dt.date(1970, 1, 1)).days * _DAY for year in (2, 9998))


def read_column(field: str, column: pa.Array, label_separator: str | None) -> Read:
    """A column of an export as a column of ANNOTATIONS.

    Args:
        field: the column of ANNOTATIONS that it is to become.
        column: of a type that can be right for the field.
        label_separator: what separates labels within one string, or None.

    Returns:
        The values, and which rows are doubtful: their values mean nothing.

    Raises:
        pa.ArrowException: the column must be read cell by cell.
    """
    plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    if pa.types.is_null(plain.type):
        return pa.nulls(len(plain), ANNOTATIONS.field(field).type), np.zeros(len(plain), dtype=bool)
    if field == "labels":
        return _labels(plain, label_separator)
    if field == "text":
        text = _strings(plain)
        return text, _has_nul(text)
    if field == "annotated_at":
        return _moments(plain)
    values, doubtful = _names(plain)
    return _splits(values, doubtful) if field == "split" else (values, doubtful)


def no_problems(n_rows: int) -> pa.Array:
    """A list of no problems for every row."""
    return pa.ListArray.from_arrays(np.zeros(n_rows + 1, np.int32), pa.array([], pa.string()))


def _strings(column: pa.Array) -> pa.Array:
    strings = column.cast(pa.string())
    strings.validate(full=True)  # Parquet's own reader does not look whether strings are UTF-8
    return strings


def _has_nul(strings: pa.Array) -> Mask:
    none = np.zeros(len(strings), dtype=bool)
    data = strings.buffers()[2]
    if data is None or len(strings) == 0:
        return none
    offsets = np.frombuffer(strings.buffers()[1], np.int32)
    first, last = offsets[strings.offset], offsets[strings.offset + len(strings)]
    if np.frombuffer(data, np.uint8)[first:last].all():
        return none
    return _mask(pc.match_substring(strings, "\x00"))


def _mask(found: pa.Array) -> Mask:
    mask: Mask = found.fill_null(False).to_numpy(zero_copy_only=False)
    return mask


def _numbers(column: pa.Array, of: pa.DataType) -> NDArray[Any]:
    numbers: NDArray[Any] = column.cast(of).fill_null(0).to_numpy(zero_copy_only=False)
    return numbers


def _names(column: pa.Array) -> Read:
    types, nothing = pa.types, np.zeros(len(column), dtype=bool)
    if types.is_integer(column.type):
        return column.cast(pa.string()), nothing
    if types.is_decimal(column.type):
        whole = column.cast(pa.int64())
        return whole.cast(pa.string()), np.abs(_numbers(whole, whole.type)) > _LARGEST_EXACT_FLOAT
    if types.is_floating(column.type):
        return _whole_numbers(column)
    stripped = pc.utf8_trim(_strings(column), _SPACE)
    names = pc.if_else(pc.equal(stripped, ""), pa.scalar(None, pa.string()), stripped)
    return names, _has_nul(names)


def _whole_numbers(column: pa.Array) -> Read:
    floats = _numbers(column, pa.float64())
    absent = np.isnan(floats) | column.is_null().to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        whole = (np.floor(floats) == floats) & (np.abs(floats) <= _LARGEST_EXACT_FLOAT)
    names = pa.array(np.where(whole, floats, 0).astype(np.int64), mask=absent).cast(pa.string())
    return names, ~whole & ~absent


def _splits(names: pa.Array, doubtful: Mask) -> Read:
    coded = names.dictionary_encode()
    read = [read_split(name) for name in coded.dictionary.to_pylist()]
    splits = pa.array([split for split, _ in read], pa.string()).take(coded.indices)
    unknown = splits.is_null().to_numpy(zero_copy_only=False) & _mask(names.is_valid())
    return splits, doubtful | unknown


def _labels(column: pa.Array, separator: str | None) -> Read:
    if not _is_flat_list(column.type):
        return _cell_by_cell(column, lambda cell: read_labels(cell, separator), _LABELS)
    lists = column.cast(_LABELS)
    flat, parents = _strings(lists.flatten()), pc.list_parent_indices(lists).to_numpy()
    doubtful = np.zeros(len(column), dtype=bool)
    doubtful[parents[_has_nul(flat) | _mask(flat.is_null())]] = True
    ends = np.cumsum(_numbers(pc.list_value_length(lists), pa.int64()))
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    names = pc.utf8_trim(flat, _SPACE)
    return pa.ListArray.from_arrays(offsets, names, mask=lists.is_null()), doubtful


def _is_flat_list(found: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_list(found) or types.is_large_list(found) or types.is_fixed_size_list(found)
    )


def _moments(column: pa.Array) -> Read:
    types, kind = pa.types, column.type
    if types.is_timestamp(kind):
        if kind.tz is not None and kind.tz != "UTC":
            _require_zone(kind)
        numbers = _numbers(column, pa.int64())
        if kind.unit == "ns":
            return _within(column, numbers // 1_000, 1, numbers % 1_000 != 0)
        return _within(column, numbers, _PER_MICROSECOND[kind.unit])
    if types.is_date32(kind):
        return _within(column, _numbers(column.cast(pa.int32()), pa.int64()), _DAY)
    if types.is_date64(kind):
        numbers = _numbers(column, pa.int64())
        return _within(column, numbers, 1_000, numbers % (_DAY // 1_000) != 0)
    return _cell_by_cell(column, read_date, _MOMENT)


def _require_zone(kind: pa.DataType) -> None:
    try:
        pa.scalar(0, kind).as_py()
    except (ValueError, KeyError) as error:
        raise pa.ArrowInvalid(f"unknown time zone {kind.tz}") from error


def _within(
    column: pa.Array, numbers: NDArray[np.int64], factor: int, odd: Mask | None = None
) -> Read:
    """Moments from numbers of so many microseconds; outside the calendar they are doubtful."""
    outside = (numbers < _FIRST // factor) | (numbers > _LAST // factor)
    doubtful = outside if odd is None else outside | odd
    absent = column.is_null().to_numpy(zero_copy_only=False)
    microseconds = np.where(outside, 0, numbers) * factor
    return pa.array(microseconds, pa.int64(), mask=absent).cast(_MOMENT), doubtful & ~absent


def _cell_by_cell(
    column: pa.Array, read: Callable[[object], tuple[Any, str | None]], of: pa.DataType
) -> Read:
    cells = [read(cell) for cell in _strings(column).to_pylist()]
    values = pa.array([value for value, _ in cells], of)
    return values, np.array([problem is not None for _, problem in cells], dtype=bool)
