"""Pairs of similar texts: MinHash, banding, and the exact Jaccard similarity of every candidate.

Broder (1997), "On the resemblance and containment of documents"; the banding after Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", §3.4. Shingles are 64-bit hashes; everything is
integer arithmetic on arrays, so the pairs are the same on any machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from longtail.hashing import Hashes, Strings, as_column, stable_hash
from longtail.shingles import Ints, mix, shingled

_PERMUTATIONS = 128
_RECALL = 0.999
WINDOW = 16
_RARE_KEYS = 6
_CHUNK = 1 << 15
_BLOCK_ROWS = 1 << 10
_NO_PAIRS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts by their index, first < second, and their Jaccard similarity."""

    first: Ints
    second: Ints
    similarity: NDArray[np.float64]

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(
            np.concatenate([self.first, other.first]),
            np.concatenate([self.second, other.second]),
            np.concatenate([self.similarity, other.similarity]),
        )


NO_PAIRS = Pairs(_NO_PAIRS, _NO_PAIRS, np.empty(0, dtype=np.float64))


def near_pairs(texts: Strings, similarity: float) -> Pairs:
    """Pairs (first < second) of distinct normalised texts of at least the similarity.

    In memory there are 8 bytes per text and band, and the shingles of those texts alone that share
    a band with another.
    """
    if not 0 < similarity <= 1:
        raise ValueError(f"similarity must be in (0, 1], found {similarity}")
    column = as_column(texts)
    keys = _band_keys(column, _rows_per_band(similarity))
    involved = np.flatnonzero(_is_shared(keys))
    chosen = column.filter(pa.array(np.isin(np.arange(len(column)), involved)))
    found = _pairs_among(_sets(chosen), keys[:, involved], similarity)
    return Pairs(involved[found.first], involved[found.second], found.similarity)


def _pairs_among(sets: sp.csr_array, keys: Hashes, similarity: float) -> Pairs:
    n, rare = sets.shape[0], _rarest(sets)
    candidates = [_candidates(key, rare[band % len(rare)]) for band, key in enumerate(keys)]
    seen = np.unique(np.concatenate([_NO_PAIRS, *(small for small, _ in candidates)]))
    found = _verify(sets, seen, similarity)
    for _, large in candidates:
        if len(large):
            together = _text_components(n, found)
            apart = np.unique(large[together[large // n] != together[large % n]])
            found += _verify(sets, np.setdiff1d(apart, seen, assume_unique=True), similarity)
    return found


def _blocks(column: pa.ChunkedArray) -> Iterator[pa.StringArray]:
    for chunk in column.chunks:
        for start in range(0, len(chunk), _BLOCK_ROWS):
            yield chunk.slice(start, _BLOCK_ROWS)


def _rows_per_band(similarity: float) -> int:
    """The most MinHash values per band with which a pair at the similarity is still found."""
    best = 1
    for rows in range(1, _PERMUTATIONS + 1):
        if 1 - (1 - similarity**rows) ** (_PERMUTATIONS // rows) >= _RECALL:
            best = rows
    return min(best, 16)


def _band_keys(column: pa.ChunkedArray, rows: int) -> Hashes:
    """One key per band and text, shape (bands, texts); texts with equal keys are candidates."""
    factors = stable_hash(map(str, range(_PERMUTATIONS))) | np.uint64(1)
    n_bands = _PERMUTATIONS // rows
    keys = np.zeros((n_bands, len(column)), dtype=np.uint64)
    start = 0
    for shingles in shingled(_blocks(column)):
        part = keys[:, start : start + len(shingles.sizes)]
        start += len(shingles.sizes)
        for number, factor in enumerate(factors[: n_bands * rows]):
            least = np.minimum.reduceat(shingles.values * factor, shingles.offsets[:-1])
            part[number // rows] = mix(part[number // rows] + least)
    return keys


def _is_shared(keys: Hashes) -> NDArray[np.bool_]:
    """Texts that have a key in common with another."""
    shared = np.zeros(keys.shape[1], dtype=bool)
    for key in keys:
        order = np.argsort(key)
        same = key[order[1:]] == key[order[:-1]]
        shared[order[1:][same]] = True
        shared[order[:-1][same]] = True
    return shared


def _sets(column: pa.ChunkedArray) -> sp.csr_array:
    """The sets of shingles as a 0/1 matrix (texts, shingles)."""
    parts = [shingles.sets() for shingles in shingled(_blocks(column))]
    values = np.concatenate([np.empty(0, dtype=np.uint64), *(part.values for part in parts)])
    sizes = np.concatenate([_NO_PAIRS, *(part.sizes for part in parts)])
    distinct, columns = np.unique(values, return_inverse=True)
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    ones = np.ones(len(columns), dtype=np.int32)
    return sp.csr_array((ones, columns, indptr), shape=(len(sizes), len(distinct)))


def _rarest(sets: sp.csr_array) -> list[Ints]:
    """Of each text the rarest, second rarest, … shingle that it shares with any other text."""
    n, owner = sets.shape[0], np.repeat(np.arange(sets.shape[0]), np.diff(sets.indptr))
    texts_with = np.bincount(sets.indices, minlength=sets.shape[1])[sets.indices]
    owner, column, texts_with = (a[texts_with > 1] for a in (owner, sets.indices, texts_with))
    order = np.lexsort((column, texts_with, owner))
    owner, column = owner[order], column[order]
    counts = np.bincount(owner, minlength=n)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    keys = []
    for rank in range(_RARE_KEYS):
        key = np.full(n, -1, dtype=np.int64)
        key[owner[place == rank]] = column[place == rank]
        keys.append(key)
    return keys


def _candidates(key: Hashes, near: Ints) -> tuple[Ints, Ints]:
    """Pairs of texts with one key, as first · n + second, from small buckets and from large ones.

    In a bucket of more than ``WINDOW`` + 1 texts each is compared with the next ``WINDOW`` only,
    in the order of ``near``, a rare shingle that similar texts are likely to share: over all
    bands that binds what belongs together without a square number of comparisons.
    """
    n = len(key)
    order = np.lexsort((near, key))
    in_order = key[order]
    edges = np.flatnonzero(np.concatenate([[True], in_order[1:] != in_order[:-1], [True]]))
    bucket = np.repeat(np.diff(edges), np.diff(edges))
    small, large = [_NO_PAIRS], [_NO_PAIRS]
    for step in range(1, min(WINDOW, int(bucket.max(initial=1)) - 1) + 1):
        same = np.flatnonzero(in_order[step:] == in_order[:-step])
        first, second = order[same], order[same + step]
        codes = np.minimum(first, second) * n + np.maximum(first, second)
        is_small = bucket[same] <= WINDOW + 1
        small.append(codes[is_small])
        large.append(codes[~is_small])
    return np.concatenate(small), np.concatenate(large)


def _verify(sets: sp.csr_array, codes: Ints, similarity: float) -> Pairs:
    """The candidate pairs whose exact Jaccard similarity is high enough."""
    n, sizes = max(sets.shape[0], 1), np.diff(sets.indptr).astype(np.int64)
    first, second = codes // n, codes % n
    small, big = np.minimum(sizes[first], sizes[second]), np.maximum(sizes[first], sizes[second])
    possible = small >= similarity * big
    first, second = first[possible], second[possible]
    shared = np.zeros(len(first), dtype=np.int64)
    for start in range(0, len(first), _CHUNK):
        part = slice(start, start + _CHUNK)
        shared[part] = (sets[first[part]] * sets[second[part]]).sum(axis=1)
    jaccard = shared / np.maximum(sizes[first] + sizes[second] - shared, 1)
    near = jaccard >= similarity
    return Pairs(first[near], second[near], jaccard[near])


def _text_components(n: int, pairs: Pairs) -> NDArray[np.int32]:
    graph = sp.coo_array(
        (np.ones(len(pairs.first), dtype=bool), (pairs.first, pairs.second)), shape=(n, n)
    )
    labels: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return labels
