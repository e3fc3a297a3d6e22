"""The label space, support, and the label groups HEAD, MEDIUM and TAIL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.config import GROUPS, Group, GroupSettings

LabelLists: TypeAlias = Iterable[Sequence[str]] | pa.ListArray | pa.ChunkedArray
"""Label lists, or an Arrow column of them, where null is a text without labels."""


@dataclass(frozen=True)
class LabelSpace:
    """The ordered set of label names; column j of every label matrix is ``names[j]``.

    Attributes:
        names: unique, sorted, so that the order does not depend on the data's order.
    """

    names: tuple[str, ...]

    @classmethod
    def of(cls, label_lists: LabelLists) -> LabelSpace:
        """The space of all labels that occur."""
        if isinstance(label_lists, pa.Array | pa.ChunkedArray):
            names = pc.unique(pc.list_flatten(label_lists)).drop_null()
            return cls(tuple(names.take(pc.sort_indices(names)).to_pylist()))
        return cls(tuple(sorted({label for labels in label_lists for label in labels})))

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def index(self) -> dict[str, int]:
        """Column of each label name."""
        return {name: column for column, name in enumerate(self.names)}

    def encode(self, label_lists: LabelLists) -> sp.csr_array:
        """Label lists as a boolean matrix; labels outside the space are left out.

        Returns:
            CSR matrix of shape (texts, labels), dtype bool.
        """
        if isinstance(label_lists, pa.Array | pa.ChunkedArray):
            column = label_lists
        else:
            column = pa.array(list(label_lists), pa.list_(pa.string()))
        rows, indices = label_cells(column, pa.array(self.names, pa.string()))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(column)))])
        data = np.ones(len(indices), dtype=bool)
        return sp.csr_array((data, indices, indptr), shape=(len(column), len(self)))

    def decode(self, decisions: NDArray[np.bool_]) -> list[list[str]]:
        """The rows of a dense boolean matrix (texts, labels) as label lists."""
        return [[self.names[j] for j in np.flatnonzero(row)] for row in decisions]


def label_cells(
    column: pa.ListArray | pa.ChunkedArray, names: pa.Array
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every (row, label) of a column of label lists, once.

    Args:
        column: label lists; null is a row without labels.
        names: the labels that count.

    Returns:
        Rows and places in ``names``, sorted by row and then by place.
    """
    places = pc.index_in(pc.list_flatten(column), names)
    known = pc.is_valid(places).to_numpy(zero_copy_only=False)
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    owners = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    codes = places.drop_null().to_numpy().astype(np.int64)
    # Far quicker than np.unique, which hashes.
    cells = np.sort(owners[known] * max(len(names), 1) + codes, kind="stable")
    fresh = np.ones(len(cells), dtype=bool)
    fresh[1:] = cells[1:] != cells[:-1]
    return np.divmod(cells[fresh], max(len(names), 1))


def label_sets(
    column: pa.ListArray | pa.ChunkedArray, names: pa.Array | None = None
) -> pa.ListArray:
    """Label lists as they are stored: each label once, sorted; null stays null.

    Args:
        column: label lists.
        names: the labels that stay; None: all.
    """
    names = label_names(column) if names is None else names.take(pc.sort_indices(names))
    present = pc.is_valid(column).to_numpy(zero_copy_only=False)
    return label_lists(*label_cells(column, names), present, names)


def label_names(column: pa.ListArray | pa.ChunkedArray) -> pa.Array:
    """Every label of a column of label lists, once, sorted."""
    names = pc.unique(pc.list_flatten(column)).drop_null()
    return names.take(pc.sort_indices(names))


def label_lists(
    rows: NDArray[np.int64], places: NDArray[np.int64], present: NDArray[np.bool_], names: pa.Array
) -> pa.ListArray:
    """Label lists from their cells, as :func:`label_cells` gives them.

    Args:
        rows: row of each cell, ascending.
        places: its label, as a place in ``names``.
        present: False for a row whose labels are null, shape (rows of the result,).
        names: the labels.
    """
    ends = np.cumsum(np.bincount(rows, minlength=len(present)))
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, names.take(pa.array(places)), mask=pa.array(~present))


@dataclass(frozen=True)
class LabelGroups:
    """Which label belongs to which group, fixed on the training support.

    Attributes:
        of_label: group of each label, in label-space order.
        support: positives of each label in train.
        cutoffs: smallest support of MEDIUM and of HEAD.
    """

    of_label: tuple[Group, ...]
    support: tuple[int, ...]
    cutoffs: tuple[int, int]

    def columns(self, group: Group) -> NDArray[np.int64]:
        """Label columns of a group."""
        return np.flatnonzero(np.asarray(self.of_label) == group)


def support(y: sp.csr_array) -> NDArray[np.int64]:
    """Positives of each label; y has shape (texts, labels)."""
    return np.bincount(y.indices, minlength=y.shape[1]).astype(np.int64)


def group_labels(train_support: NDArray[np.int64], settings: GroupSettings) -> LabelGroups:
    """Divide labels into HEAD, MEDIUM and TAIL by their training support.

    Args:
        train_support: positives of each label in train.
        settings: quantiles of the support over the labels, or explicit cut-offs.

    Labels of equal support always share a group. Where a third and more of the labels have the
    smallest support, they are the TAIL, and the quantile's cut-offs give way.
    """
    if settings.cutoffs is not None:
        medium, head = settings.cutoffs
    elif len(train_support) == 0:
        medium, head = 0, 0
    else:
        medium, head = _cutoffs(train_support, settings.quantiles)
    ranks = np.digitize(train_support, [medium, head])
    names: tuple[Group, ...] = tuple(GROUPS[2 - int(rank)] for rank in ranks)
    return LabelGroups(names, tuple(int(n) for n in train_support), (medium, head))


def _cutoffs(train_support: NDArray[np.int64], quantiles: tuple[float, float]) -> tuple[int, int]:
    """Cut-offs at the quantiles, moved up where ties would leave TAIL or MEDIUM empty."""
    distinct = np.unique(train_support)
    low, high = np.quantile(train_support, quantiles, method="higher")
    medium = max(low, distinct[min(1, len(distinct) - 1)])
    above = distinct[distinct > medium]
    head = high if high > medium or len(above) == 0 else above[0]
    return int(medium), int(max(head, medium))
