"""Hashes of strings that are the same on every machine and in every process.

All are BLAKE2b (RFC 7693). Python's own ``hash`` changes from process to process, and NumPy's
generators may change from version to version; this does neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Strings: TypeAlias = Iterable[str | None] | pa.Array | pa.ChunkedArray


def stable_hash(strings: Strings, *, seed: int = 0) -> Hashes:
    """BLAKE2b-64 of each string's UTF-8 form, keyed with the seed.

    Args:
        strings: any strings, null being the empty one; lone surrogates are hashed as they stand.
            An Arrow column is hashed without becoming Python strings.
        seed: key of the hash, 0 … 2⁶⁴ − 1; another seed gives an unrelated order.

    Returns:
        One unsigned 64-bit number per string, shape (n,).
    """
    return _digests(strings, 8, seed)


def wide_hash(strings: Strings) -> Hashes:
    """BLAKE2b-128 of each string's UTF-8 form: a stand-in for the string itself.

    Of n strings, two different ones share a hash with a probability below n² / 2¹²⁹: 10⁻²⁵ for ten
    million. That is rarer than a memory error that no one notices, and finding two such strings on
    purpose takes 2⁶⁴ trials; so equality of hashes is taken for equality of strings.

    Args:
        strings: as for :func:`stable_hash`.

    Returns:
        Shape (n, 2): the high and the low half.
    """
    return _digests(strings, 16, 0).reshape(-1, 2)


def as_column(values: Strings) -> pa.ChunkedArray:
    """Strings as an Arrow column; one that is one already is not copied."""
    if isinstance(values, pa.ChunkedArray):
        return values
    array = values if isinstance(values, pa.Array) else pa.array(list(values), pa.string())
    return pa.chunked_array([array])


def string_parts(
    column: pa.Array | pa.ChunkedArray,
) -> Iterator[tuple[NDArray[np.int64], pa.Buffer]]:
    """The chunks of a string column: where each string starts and ends, and all of their bytes.

    Yields:
        Bounds of shape (strings + 1,), into the buffer; a null is an empty string. A chunk without
        strings is left out.
    """
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        if len(chunk):
            width = np.int64 if pa.types.is_large_string(chunk.type) else np.int32
            filled = chunk.fill_null("") if chunk.null_count else chunk
            _, offsets, data = filled.buffers()
            bounds = np.frombuffer(offsets, dtype=width)[filled.offset :][: len(filled) + 1]
            yield bounds.astype(np.int64), pa.py_buffer(b"") if data is None else data


def _digests(strings: Strings, size: int, seed: int) -> Hashes:
    keyed = blake2b(digest_size=size, key=seed.to_bytes(8, "little"))
    digests = []
    for value in _encoded(strings):
        hasher = keyed.copy()
        hasher.update(value)
        digests.append(hasher.digest())
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _encoded(strings: Strings) -> Iterator[bytes | memoryview]:
    if not isinstance(strings, pa.Array | pa.ChunkedArray):
        for text in strings:
            yield (text or "").encode("utf-8", "surrogatepass")
        return
    for bounds, data in string_parts(strings):
        view = memoryview(data)
        for start, stop in pairwise(bounds.tolist()):
            yield view[start:stop]
