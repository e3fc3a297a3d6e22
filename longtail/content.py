"""Annotation tables as content: their fingerprint, what changed, which texts say the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail.annotations.merge import label_set, normalise_text
from longtail.annotations.schema import ANNOTATIONS

DuplicateKey = tuple[str, tuple[str, ...] | None, str | None, str | None]


def canonical(table: pa.Table) -> pa.Table:
    """The columns of ANNOTATIONS, each label once and sorted, rows sorted by id.

    Raises:
        ValueError: an id is null or stands twice.
    """
    table = table.select(ANNOTATIONS.names).cast(ANNOTATIONS)
    if table["id"].null_count or len(pc.unique(table["id"])) != table.num_rows:
        raise ValueError("ids must be present and unique; merge the annotations first")
    sets = [label_set(labels) for labels in table["labels"].to_pylist()]
    field = ANNOTATIONS.field("labels")
    table = table.set_column(
        ANNOTATIONS.get_field_index("labels"), field, pa.array(sets, field.type)
    )
    return table.take(pc.sort_indices(table["id"])).combine_chunks()


def content_fingerprint(table: pa.Table) -> str:
    """SHA-256 of a table's content, whatever the order of its rows and how it is chunked.

    Args:
        table: the columns of ANNOTATIONS, ids unique, labels in a fixed order.

    Returns:
        Hexadecimal digest; column by column over the rows sorted by id.
    """
    ordered = table.select(ANNOTATIONS.names).take(pc.sort_indices(table["id"]))
    digest = hashlib.sha256()
    for name in ANNOTATIONS.names:
        digest.update(f"{name}:{table.num_rows};".encode())
        for part in _parts(ordered[name]):
            digest.update(part)
    return digest.hexdigest()


def same_rows(left: pa.Table, right: pa.Table) -> NDArray[np.bool_]:
    """Row by row: whether two tables of equal length hold the same, null being equal to null."""
    same = np.ones(left.num_rows, dtype=bool)
    for name in ANNOTATIONS.names:
        one, other = _comparable(left[name]), _comparable(right[name])
        equal = pc.fill_null(pc.equal(one, other), False)
        both_null = pc.and_(pc.is_null(one), pc.is_null(other))
        same &= pc.or_(equal, both_null).to_numpy()
    return same


def duplicate_keys(table: pa.Table) -> list[DuplicateKey]:
    """What makes two texts the same: normalised text, label set, group and split."""
    columns = (table[name].to_pylist() for name in ("text", "labels", "group", "split"))
    return [
        (normalise_text(text), _as_tuple(labels), group, split)
        for text, labels, group, split in zip(*columns, strict=True)
    ]


def distinct_labels(table: pa.Table) -> pa.Array:
    """Every label that occurs, once."""
    return pc.unique(pc.list_flatten(table["labels"]))


def _as_tuple(labels: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if labels is None else tuple(labels)


def _comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Arrow cannot compare lists, so they are joined by a character that no label may have."""
    return pc.binary_join(column, "\x1f") if pa.types.is_list(column.type) else column


def _parts(column: pa.ChunkedArray) -> Iterator[bytes | memoryview]:
    """A column's content as bytes: lengths (null is −1), then the values end to end."""
    if pa.types.is_list(column.type):
        yield _int64(pc.list_value_length(column), -1)
        yield from _parts(pc.list_flatten(column))
    elif pa.types.is_string(column.type):
        yield _int64(pc.binary_length(column), -1)
        for chunk in pc.fill_null(column, "").chunks:
            yield _characters(chunk)
    else:
        yield _int64(column.cast(pa.int64()), np.iinfo(np.int64).min)


def _int64(numbers: pa.ChunkedArray, null: int) -> bytes:
    filled = pc.fill_null(numbers.cast(pa.int64()), int(null))
    return np.ascontiguousarray(filled.to_numpy(), dtype="<i8").tobytes()


def _characters(chunk: pa.StringArray) -> memoryview:
    _, offsets, data = chunk.buffers()
    if data is None:
        return memoryview(b"")
    bounds = np.frombuffer(offsets, dtype=np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    return memoryview(data)[int(bounds[0]) : int(bounds[-1])]
