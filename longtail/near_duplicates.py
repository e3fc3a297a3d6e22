"""Texts that must not be split apart: one group, the same text, or nearly the same text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from longtail.annotations.merge import normalise_text
from longtail.minhash import Ints, Pairs, near_pairs


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
    ids: Sequence[str],
    texts: Sequence[str],
    groups: Sequence[str | None],
    similarity: float,
    *,
    listed: int = 200,
) -> Units:
    """Bind rows of one group, of the same normalised text, or of nearly the same text.

    Args:
        ids: unique id of each row.
        texts: text of each row.
        groups: group of each row; None stands alone.
        similarity: Jaccard similarity of the sets of three-word shingles that binds two texts,
            in (0, 1]; a text of one or two words is one shingle. Pairs at exactly this similarity
            are found with probability 0.999 or more, more similar ones almost surely.
        listed: pairs to list at most.
    """
    order = sorted(range(len(ids)), key=ids.__getitem__)
    index: dict[str, int] = {}
    text_of = np.array(
        [index.setdefault(normalise_text(texts[row]), len(index)) for row in order], dtype=np.int64
    )
    known: dict[str, int] = {}
    group_of = np.array(
        [-1 if groups[row] is None else known.setdefault(str(groups[row]), len(known))
         for row in order], dtype=np.int64
    )  # fmt: skip
    pairs = near_pairs(list(index), similarity)
    component = _components(text_of, group_of, len(index), len(known), pairs)
    units = np.empty(len(ids), dtype=np.int64)
    units[order] = _by_first_appearance(component)
    first_row = np.unique(text_of, return_index=True)[1] if len(ids) else text_of
    best = np.lexsort((pairs.second, pairs.first, -pairs.similarity))[:listed]
    shown = tuple(
        NearDuplicate(
            ids[order[first_row[pairs.first[at]]]],
            ids[order[first_row[pairs.second[at]]]],
            float(pairs.similarity[at]),
        )
        for at in best.tolist()
    )
    return Units(units, shown, len(pairs.first))


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


def _by_first_appearance(labels: NDArray[np.int32]) -> Ints:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    numbered: Ints = rank[inverse]
    return numbered
