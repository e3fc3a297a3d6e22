"""Arrays of 128-bit hashes: which are equal, which repeat, where one stands among others.

Long arrays are taken in parts, each of the hashes of one range, so that sorting needs a small share
of the memory that the hashes themselves take, and keeps to the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from longtail.hashing import Hashes

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NOWHERE = -1
_SORTED_AT_ONCE = 1 << 20


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
    for own, others in zip(ranges(asked, len(known)), ranges(known, len(known)), strict=True):
        if len(own) and len(others):
            at = _places_of(asked[own], known[others])
            found[own[at != NOWHERE]] = others[at[at != NOWHERE]]
    return found


def _places_of(asked: Hashes, known: Hashes) -> Ints:
    order = np.argsort(known[:, 0], kind="stable")
    high = known[order, 0]
    found = np.full(len(asked), NOWHERE, dtype=np.int64)
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
    shared = np.zeros(len(hashes), dtype=bool)
    for rows in ranges(hashes, len(hashes)):
        own = hashes[rows]
        order = np.lexsort((own[:, 1], own[:, 0]))
        alike = np.flatnonzero(same_hashes(own[order[1:]], own[order[:-1]]))
        shared[rows[order[alike]]] = True
        shared[rows[order[alike + 1]]] = True
    return shared


def ranges(hashes: Hashes, n_rows: int) -> Iterator[Ints]:
    """The rows in parts by their hashes' range, the parts ascending.

    Args:
        hashes: shape (n, 2).
        n_rows: decides how many parts there are.
    """
    n_parts = 1 << (n_rows // _SORTED_AT_ONCE).bit_length()
    bounds = [part * (2**64 // n_parts) for part in range(n_parts)] + [2**64 - 1]
    high = hashes[:, 0]
    for part, (low, top) in enumerate(pairwise(bounds)):
        inside = high >= np.uint64(low)
        inside &= (high < np.uint64(top)) if part < n_parts - 1 else True
        yield np.flatnonzero(inside)
