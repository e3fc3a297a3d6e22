"""Annotation tables as content: their fingerprint, and which rows and texts say the same.

Nothing here makes a Python object of a row: a row becomes one run of bytes within Arrow, and that
run one hash of 128 bits, which stands for the row (:func:`longtail.hashing.wide_hash`).
"""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail.annotations.moments import moments_of
from longtail.annotations.schema import ANNOTATIONS
from longtail.hash_tables import ranges
from longtail.hashing import Hashes, stable_hash, wide_hash
from longtail.labels import label_sets
from longtail.normalisation import normalised
from longtail.row_groups import batches_of

_EMPTY = pa.scalar(b"", pa.binary())


def canonical(table: pa.Table) -> pa.Table:
    """The columns of ANNOTATIONS in one chunk, each label once and sorted; rows as they stand.

    Raises:
        ValueError: an id is null.
    """
    table = table.select(ANNOTATIONS.names).cast(ANNOTATIONS).combine_chunks()
    if table["id"].null_count:
        raise ValueError("an id is null; every annotation needs one")
    place = ANNOTATIONS.get_field_index("labels")
    return table.set_column(place, ANNOTATIONS.field(place), label_sets(table["labels"]))


def content_fingerprint(digests: Hashes) -> str:
    """SHA-256 over the digests of rows, sorted, so that the order of the rows does not matter.

    Two sets of rows have the same fingerprint if and only if they have the same digests, of 128
    bits each: an accident needs some 2⁶⁴ different rows. Sorting is chosen over a sum of the
    digests because for a sum there are known ways to construct another set with the same one.

    Args:
        digests: of each row (:func:`row_digests`), shape (n, 2).

    Returns:
        Hexadecimal digest.
    """
    whole = hashlib.sha256()
    for rows in ranges(digests, len(digests)):
        own = digests[rows]
        order = np.lexsort((own[:, 1], own[:, 0]))
        whole.update(own[order].astype("<u8").data)
    return whole.hexdigest()


def table_fingerprint(table: pa.Table) -> str:
    """SHA-256 over the rows of a table of annotations, of any size, in their order.

    Raises:
        ValueError: an id is null.
    """
    whole = hashlib.sha256()
    for part in batches_of(table, ANNOTATIONS.names):
        whole.update(row_digests(canonical(part)).astype("<u8").data)
    return whole.hexdigest()


def row_digests(table: pa.Table) -> Hashes:
    """One hash per row over every column of ANNOTATIONS; null differs from empty.

    Args:
        table: the columns of ANNOTATIONS, labels in a fixed order, less than 2 GB of text.

    Returns:
        Shape (n, 2).
    """
    return wide_hash(_packed([table[name] for name in ANNOTATIONS.names]))


def duplicate_keys(table: pa.Table) -> Hashes:
    """What makes two texts the same: normalised text, label set, group and split; shape (n, 2)."""
    rest = [table[name] for name in ("labels", "group", "split")]
    return wide_hash(_packed([normalised(table["text"]), *rest]))


def annotator_codes(column: pa.ChunkedArray) -> Hashes:
    """A hash of each row's annotator, 0 where none is named; shape (n,)."""
    coded = column.combine_chunks().dictionary_encode()
    codes = np.concatenate([stable_hash(coded.dictionary), np.zeros(1, dtype=np.uint64)])
    found: Hashes = codes[coded.indices.fill_null(len(coded.dictionary)).to_numpy()]
    return found


def distinct_labels(table: pa.Table) -> pa.Array:
    """Every label that occurs, once."""
    return pc.unique(pc.list_flatten(table["labels"]))


def _packed(columns: list[pa.ChunkedArray]) -> pa.Array:
    """Each row as one run of bytes: a header with the lengths of its cells, then the cells.

    The header has a fixed size, so that no two different rows become the same run.
    """
    fields = [_field(column) for column in columns]
    lengths = np.column_stack([lengths for lengths, _ in fields]).astype("<i8")
    header = _cut(pa.py_buffer(lengths), np.arange(len(lengths) + 1) * lengths.shape[1] * 8)
    parts = [header, *(part for _, cells in fields for part in cells)]
    return pc.binary_join_element_wise(*parts, _EMPTY)


def _field(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[pa.Array]]:
    """The length of every cell (−1: null), or a moment's number; and the cells' bytes."""
    array = column.combine_chunks()
    if pa.types.is_timestamp(array.type):
        return moments_of(column), []
    if pa.types.is_list(array.type):
        return _list_field(array)
    return _lengths(pc.binary_length(array)), [_bytes(array)]


def _list_field(array: pa.ListArray) -> tuple[NDArray[np.int64], list[pa.Array]]:
    """The number of strings in every list, and for each list their lengths and their bytes."""
    numbers = _lengths(pc.list_value_length(array))
    strings = _bytes(pc.list_flatten(array))
    sizes = pc.binary_length(strings).to_numpy().astype("<i4")
    ends = np.concatenate([[0], np.cumsum(np.maximum(numbers, 0))])
    _, offsets, data = strings.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[strings.offset :][: len(strings) + 1]
    return numbers, [_cut(pa.py_buffer(sizes), ends * 4), _cut(data, bounds[ends])]


def _lengths(lengths: pa.Array) -> NDArray[np.int64]:
    filled: NDArray[np.int64] = lengths.fill_null(-1).cast(pa.int64()).to_numpy()
    return filled


def _bytes(array: pa.StringArray) -> pa.BinaryArray:
    return array.cast(pa.binary()).fill_null(b"")


def _cut(data: pa.Buffer | None, bounds: NDArray[np.integer]) -> pa.BinaryArray:
    """The slices of a buffer between consecutive bounds, without a copy."""
    buffers = [None, pa.py_buffer(bounds.astype(np.int32)), data or pa.py_buffer(b"")]
    return pa.BinaryArray.from_buffers(pa.binary(), len(bounds) - 1, buffers)
