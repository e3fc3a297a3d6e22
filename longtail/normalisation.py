"""Normalised texts, a column at a time: what duplicates are looked for in.

The same as :func:`longtail.annotations.merge.normalise_text` text by text; ASCII texts, for which
Unicode normalisation does nothing, are treated as one long run of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail.annotations.merge import normalise_text
from longtail.hashing import Hashes, stable_hash, string_parts, wide_hash

_BLOCK_BYTES = 1 << 20
_SPACE = ord(" ")


def normalised(texts: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """Normalise every text: NFKC, case folded, white space collapsed.

    Args:
        texts: strings; null stays null.

    Returns:
        As many strings, in chunks of about a megabyte.
    """
    return pa.chunked_array([*normalised_blocks(texts)], pa.string())


def normalised_blocks(texts: pa.Array | pa.ChunkedArray) -> Iterator[pa.StringArray]:
    """The same, block by block in order, for a use that needs no block twice."""
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        for block in _blocks(chunk):
            yield _normalised_block(block)


def text_hash(texts: pa.Array | pa.ChunkedArray) -> Hashes:
    """:func:`longtail.hashing.stable_hash` of the normalised texts, shape (n,)."""
    found = [stable_hash(block) for block in normalised_blocks(texts)]
    return np.concatenate([np.empty(0, dtype=np.uint64), *found])


def wide_text_hash(texts: pa.Array | pa.ChunkedArray) -> Hashes:
    """:func:`longtail.hashing.wide_hash` of the normalised texts, shape (n, 2)."""
    found = [wide_hash(block) for block in normalised_blocks(texts)]
    return np.concatenate([np.empty((0, 2), dtype=np.uint64), *found])


def _blocks(chunk: pa.Array) -> Iterator[pa.Array]:
    """Slices of a chunk with about a megabyte of text each; one long text is a slice of its own."""
    for bounds, _ in string_parts(chunk):
        start = 0
        while start < len(chunk):
            stop = int(np.searchsorted(bounds, bounds[start] + _BLOCK_BYTES, side="right")) - 1
            stop = min(max(stop, start + 1), len(chunk))
            yield chunk.slice(start, stop - start)
            start = stop


def _normalised_block(block: pa.Array) -> pa.StringArray:
    bounds, data = next(string_parts(block))
    values = _folded(np.frombuffer(data, dtype=np.uint8)[bounds[0] : bounds[-1]])
    bounds = bounds - bounds[0]
    other = np.unique(np.searchsorted(bounds, np.flatnonzero(values >= 128), side="right") - 1)
    values, bounds = _collapsed(values, bounds)
    missing = block.is_null()
    plain = pa.StringArray.from_buffers(
        len(block), pa.py_buffer(bounds.astype(np.int32)), pa.py_buffer(values)
    )
    if len(other):
        is_other = np.zeros(len(block), dtype=bool)
        is_other[other] = True
        slow = [normalise_text(text) for text in block.take(pa.array(other)).to_pylist()]
        plain = pc.replace_with_mask(plain, pa.array(is_other), pa.array(slow, pa.string()))
    return pc.if_else(missing, pa.scalar(None, pa.string()), plain) if block.null_count else plain


def _folded(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Small letters for capital ones, and spaces for what ``str.split`` splits at, in ASCII."""
    capital = values - np.uint8(ord("A")) < 26  # whatever is below A wraps round to a large number
    blank = (values - np.uint8(ord("\t")) < 5) | (values - np.uint8(0x1C) < 5)
    return np.where(blank, np.uint8(_SPACE), values | (capital.view(np.uint8) << np.uint8(5)))


def _collapsed(
    values: NDArray[np.uint8], bounds: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Strings without leading and trailing spaces, and with one for every run of them."""
    space = values == _SPACE
    last = np.unique(bounds[1:][np.diff(bounds) > 0]) - 1
    dropped = space.copy()
    dropped[:-1] &= space[1:]
    inner = last[:-1] if len(last) else last
    # A space at a string's end goes, whatever the next string begins with; and a space before
    # another stays where that one belongs to the next string.
    dropped[inner] = space[inner]
    values, bounds = _without(values, bounds, np.flatnonzero(dropped))
    first = np.unique(bounds[:-1][np.diff(bounds) > 0])
    return _without(values, bounds, first[values[first] == _SPACE])


def _without(
    values: NDArray[np.uint8], bounds: NDArray[np.int64], places: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Strings without the bytes at some places, ascending."""
    if not len(places):
        return values, bounds
    kept = np.ones(len(values), dtype=bool)
    kept[places] = False
    return values[kept], bounds - np.searchsorted(places, bounds)
