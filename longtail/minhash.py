"""Pairs of similar texts: MinHash, banding, and the exact Jaccard similarity of every candidate.

Broder (1997), "On the resemblance and containment of documents"; the banding after Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", §3.4. Shingles are 64-bit hashes; everything is
integer arithmetic on arrays, so the pairs are the same on any machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from longtail.hashing import stable_hash

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]

SHINGLE_WORDS = 3
_PERMUTATIONS = 128
_RECALL = 0.999
WINDOW = 16
_RARE_KEYS = 6
_CHUNK = 1 << 15
_NO_PAIRS = np.empty(0, dtype=np.int64)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class _Shingles:
    """The shingle sets of texts: ``values[offsets[i]:offsets[i + 1]]``, sorted, each once."""

    values: Hashes
    offsets: Ints

    @property
    def sizes(self) -> Ints:
        return np.diff(self.offsets)


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


def near_pairs(texts: Sequence[str], similarity: float) -> Pairs:
    """Pairs (first < second) of distinct normalised texts of at least the similarity."""
    if not 0 < similarity <= 1:
        raise ValueError(f"similarity must be in (0, 1], found {similarity}")
    n, shingles = len(texts), _shingle(texts)
    keys = list(_band_keys(shingles, _rows_per_band(similarity)))
    sets = _as_matrix(shingles)
    rare = _rarest(sets)
    candidates = [_candidates(key, rare[band % len(rare)]) for band, key in enumerate(keys)]
    seen = np.unique(np.concatenate([_NO_PAIRS, *(small for small, _ in candidates)]))
    found = _verify(sets, seen, similarity)
    for _, large in candidates:
        if len(large):
            together = _text_components(n, found)
            apart = np.unique(large[together[large // n] != together[large % n]])
            found += _verify(sets, np.setdiff1d(apart, seen, assume_unique=True), similarity)
    return found


def _shingle(texts: Sequence[str]) -> _Shingles:
    words = [_WORD.findall(text) or [text] for text in texts]
    vocabulary: dict[str, int] = {}
    flat = np.fromiter(
        (vocabulary.setdefault(word, len(vocabulary)) for word in chain.from_iterable(words)),
        dtype=np.int64,
    )
    hashes = stable_hash(vocabulary)[flat]
    lengths = np.array([len(found) for found in words], dtype=np.int64)
    counts = np.maximum(lengths - SHINGLE_WORDS + 1, 1)
    owner = np.repeat(np.arange(len(texts)), counts)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = np.repeat(np.cumsum(lengths) - lengths, counts) + within
    values = np.zeros(len(owner), dtype=np.uint64)
    for step in range(SHINGLE_WORDS):
        there = step < lengths[owner]
        word = np.where(there, hashes[np.minimum(start + step, max(len(flat) - 1, 0))], 0)
        values = _mix(values + word.astype(np.uint64))
    order = np.lexsort((values, owner))
    owner, values = owner[order], values[order]
    fresh = np.ones(len(owner), dtype=bool)
    fresh[1:] = (np.diff(owner) != 0) | (values[1:] != values[:-1])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner[fresh], minlength=len(texts)))])
    return _Shingles(values[fresh], offsets)


def _mix(x: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit depends on every bit."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _rows_per_band(similarity: float) -> int:
    """The most MinHash values per band with which a pair at the similarity is still found."""
    best = 1
    for rows in range(1, _PERMUTATIONS + 1):
        if 1 - (1 - similarity**rows) ** (_PERMUTATIONS // rows) >= _RECALL:
            best = rows
    return min(best, 16)


def _band_keys(shingles: _Shingles, rows: int) -> Iterator[Hashes]:
    """One key per text and band; texts with equal keys are candidates."""
    if len(shingles.sizes) == 0:
        return
    factors = stable_hash(map(str, range(_PERMUTATIONS))) | np.uint64(1)
    for band in range(_PERMUTATIONS // rows):
        key = np.zeros(len(shingles.sizes), dtype=np.uint64)
        for factor in factors[band * rows : (band + 1) * rows]:
            least = np.minimum.reduceat(shingles.values * factor, shingles.offsets[:-1])
            key = _mix(key + least)
        yield key


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
    for step in range(1, min(WINDOW, int(bucket.max()) - 1) + 1):
        same = np.flatnonzero(in_order[step:] == in_order[:-step])
        first, second = order[same], order[same + step]
        codes = np.minimum(first, second) * n + np.maximum(first, second)
        is_small = bucket[same] <= WINDOW + 1
        small.append(codes[is_small])
        large.append(codes[~is_small])
    return np.concatenate(small), np.concatenate(large)


def _as_matrix(shingles: _Shingles) -> sp.csr_array:
    """The sets as a 0/1 matrix (texts, shingles)."""
    distinct, columns = np.unique(shingles.values, return_inverse=True)
    return sp.csr_array(
        (np.ones(len(columns), dtype=np.int64), columns, shingles.offsets),
        shape=(len(shingles.sizes), len(distinct)),
    )


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
