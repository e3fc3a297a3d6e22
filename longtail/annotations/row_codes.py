"""Rows that share an id as integers, so that a million of them are compared at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail.annotations.moments import moments_of
from longtail.labels import label_cells, label_lists, label_names

Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class RowCodes:
    """The rows of a table as codes: two rows have the same code where they hold the same.

    Attributes:
        id: code of the id, from 0 in the order of first appearance, shape (n,).
        n_ids: distinct ids.
        voice: code of (id, annotator), no annotator being one of its own, shape (n,).
        n_voices: distinct pairs of them.
        about: code of (text, group, split): what all annotators of a text must agree on.
        content: code of (text, group, split, label set).
        date: microseconds since 1970, UNDATED where there is none.
        has_labels: False where the labels are null.
        pair_row, pair_label: every (row, label) once, sorted, shape (p,).
        names: the labels, sorted; ``pair_label`` counts in them.
    """

    id: Codes
    n_ids: int
    voice: Codes
    n_voices: int
    about: Codes
    content: Codes
    date: Codes
    has_labels: Flags
    pair_row: Codes
    pair_label: Codes
    names: pa.Array

    def label_lists(self) -> pa.Array:
        """The labels of every row, each once and sorted; null where they are null."""
        return label_lists(self.pair_row, self.pair_label, self.has_labels, self.names)


def row_codes(table: pa.Table) -> RowCodes:
    """Code the rows of a table with the columns of ANNOTATIONS."""
    ids, n_ids = _coded(table["id"])
    voice, n_voices = _joint(ids, *_coded(table["annotator"]))
    about, _ = _coded(table["text"])
    for name in ("group", "split"):
        about, _ = _joint(about, *_coded(table[name]))
    names = label_names(table["labels"])
    pair_row, pair_label = label_cells(table["labels"], names)
    has_labels = pc.is_valid(table["labels"]).to_numpy()
    content, _ = _joint(about, *_coded(_spelled(pair_row, pair_label, has_labels)))
    return RowCodes(
        id=ids - 1, n_ids=n_ids - 1, voice=voice, n_voices=n_voices, about=about,
        content=content, date=moments_of(table["annotated_at"]),
        has_labels=has_labels, pair_row=pair_row, pair_label=pair_label, names=names,
    )  # fmt: skip


def last_by(group: Codes, n_groups: int, *keys: NDArray[np.generic]) -> Codes:
    """The place of each group's last element by ``keys``, the first of them counting most.

    Args:
        group: group of each element, 0 … n_groups − 1, shape (n,).
        n_groups: number of groups.
        keys: what orders the elements of a group, each of shape (n,).

    Returns:
        Index of an element per group, −1 for a group without any, shape (n_groups,).
    """
    order = np.lexsort((*reversed(keys), group))
    ends = order[np.flatnonzero(np.diff(group[order], append=-1))]
    last = np.full(n_groups, -1, dtype=np.int64)
    last[group[ends]] = ends
    return last


def _coded(column: pa.ChunkedArray) -> tuple[Codes, int]:
    """Codes by first appearance, from 1; null is 0. And how many codes there can be."""
    if pa.types.is_string(column.type):  # more than 2 GB of distinct text overflow 32-bit offsets
        column = column.cast(pa.large_string())
    chunks = pc.dictionary_encode(column).unify_dictionaries().chunks
    parts = [chunk.indices.fill_null(-1).to_numpy() for chunk in chunks]
    n_values = len(chunks[0].dictionary) if chunks else 0
    return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64) + 1, n_values + 1


def _joint(first: Codes, second: Codes, n_second: int) -> tuple[Codes, int]:
    """One code for two, and how many there are."""
    distinct, joint = np.unique(first * n_second + second, return_inverse=True)
    return joint.reshape(-1).astype(np.int64), len(distinct)


def _spelled(pair_row: Codes, pair_label: Codes, has_labels: Flags) -> pa.ChunkedArray:
    """Each row's label set as a string of numbers, which Arrow can hash."""
    numbers = pc.cast(pa.array(np.arange(int(pair_label.max(initial=0)) + 1)), pa.string())
    lists = label_lists(pair_row, pair_label, has_labels, numbers)
    return pa.chunked_array([pc.binary_join(lists, ",")])
