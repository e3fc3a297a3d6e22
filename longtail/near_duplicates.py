"""Texts that must not be split apart: one group, the same text, or nearly the same text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from longtail.hashing import Strings, as_column
from longtail.minhash import NO_PAIRS, Pairs, near_pairs
from longtail.normalisation import normalised, wide_text_hash
from longtail.shingles import Ints


@dataclass(frozen=True)
class NearDuplicate:
    """Two texts that say nearly the same; ``similarity`` is in (0, 1]."""

    first: str
    second: str
    similarity: float


@dataclass(frozen=True)
class Units:
    """Which rows must stay together.

    Attributes:
        units: int64, shape (rows,); equal numbers stay together. Numbered from 0 by first
            appearance in the order of the ids, so the rows' order does not matter.
        pairs: the most similar near-duplicates with different texts, at most ``listed`` of them.
        n_pairs: how many there are. Where many texts all resemble each other, only as many of
            their pairs are compared as it takes to bind them.
    """

    units: Ints
    pairs: tuple[NearDuplicate, ...]
    n_pairs: int


def find_units(
    ids: Strings,
    texts: Strings,
    groups: Strings,
    similarity: float,
    *,
    listed: int = 200,
) -> Units:
    """Bind rows of one group, of the same normalised text, or of nearly the same text.

    Args:
        ids: unique id of each row; a sequence or an Arrow column, as the others are.
        texts: text of each row.
        groups: group of each row; None stands alone.
        similarity: Jaccard similarity of the sets of three-word shingles that binds two texts,
            in (0, 1]; a text of one or two words is one shingle. Pairs at exactly this similarity
            are found with probability 0.999 or more, more similar ones almost surely. At 1 only
            equal normalised texts are bound, and shingles are not looked at.
        listed: pairs to list at most.
    """
    ids, texts, groups = (as_column(values) for values in (ids, texts, groups))
    order: Ints = pc.sort_indices(ids).to_numpy().astype(np.int64)
    text_of, first_row = _by_first(wide_text_hash(texts)[order])
    group_of = pc.dictionary_encode(groups.take(pa.array(order)).combine_chunks())
    group_codes = group_of.indices.fill_null(-1).to_numpy().astype(np.int64)
    pairs = NO_PAIRS
    if similarity < 1:
        pairs = near_pairs(normalised(_taken(texts, order[first_row])), similarity)
    component = _components(text_of, group_codes, len(first_row), len(group_of.dictionary), pairs)
    units = np.empty(len(ids), dtype=np.int64)
    units[order] = _by_first(component)[0]
    best = np.lexsort((pairs.second, pairs.first, -pairs.similarity))[:listed]
    shown = tuple(
        NearDuplicate(
            ids[int(order[first_row[pairs.first[at]]])].as_py(),
            ids[int(order[first_row[pairs.second[at]]])].as_py(),
            float(pairs.similarity[at]),
        )
        for at in best.tolist()
    )
    return Units(units, shown, len(pairs.first))


def _taken(column: pa.ChunkedArray, rows: Ints) -> pa.ChunkedArray:
    """Some rows; in the order that they have already without making one chunk of all of them."""
    if (np.diff(rows) < 0).any():
        return column.take(pa.array(rows))
    chosen = np.zeros(len(column), dtype=bool)
    chosen[rows] = True
    return column.filter(pa.array(chosen))


def _components(
    text_of: Ints, group_of: Ints, n_texts: int, n_groups: int, pairs: Pairs
) -> NDArray[np.int32]:
    """Component of each row in the graph of rows, texts and groups."""
    n = len(text_of)
    grouped = np.flatnonzero(group_of >= 0)
    sources = np.concatenate([np.arange(n), grouped, n + pairs.first])
    targets = np.concatenate([n + text_of, n + n_texts + group_of[grouped], n + pairs.second])
    size = n + n_texts + n_groups
    graph = sp.coo_array((np.ones(len(sources), dtype=bool), (sources, targets)), (size, size))
    labels: NDArray[np.int32] = connected_components(graph, directed=False)[1][:n]
    return labels


def _by_first(values: NDArray[np.integer[Any]]) -> tuple[Ints, Ints]:
    """Number equal rows alike, from 0 in the order in which they first appear; where that is.

    Args:
        values: shape (n,), or (n, 2) for hashes of two halves.
    """
    keys = values.reshape(len(values), 1 if values.ndim == 1 else 2)
    order = np.lexsort(keys.T[::-1])
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (keys[order[1:]] != keys[order[:-1]]).any(axis=1)
    first = order[fresh]
    by_place = np.argsort(first)
    rank = np.empty(len(first), dtype=np.int64)
    rank[by_place] = np.arange(len(first))
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = rank[np.cumsum(fresh) - 1]
    return numbers, first[by_place]
