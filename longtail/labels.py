"""The label space, support, and the label groups HEAD, MEDIUM and TAIL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.config import GROUPS, Group, GroupSettings


@dataclass(frozen=True)
class LabelSpace:
    """The ordered set of label names; column j of every label matrix is ``names[j]``.

    Attributes:
        names: unique, sorted, so that the order does not depend on the data's order.
    """

    names: tuple[str, ...]

    @classmethod
    def of(cls, label_lists: Iterable[Sequence[str]]) -> LabelSpace:
        """The space of all labels that occur."""
        return cls(tuple(sorted({label for labels in label_lists for label in labels})))

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def index(self) -> dict[str, int]:
        """Column of each label name."""
        return {name: column for column, name in enumerate(self.names)}

    def encode(self, label_lists: Sequence[Sequence[str]]) -> sp.csr_array:
        """Label lists as a boolean matrix; labels outside the space are left out.

        Returns:
            CSR matrix of shape (texts, labels), dtype bool.
        """
        index = self.index
        columns = [sorted({index[label] for label in labels if label in index})
                   for labels in label_lists]  # fmt: skip
        counts = np.fromiter((len(row) for row in columns), dtype=np.int64, count=len(columns))
        indptr = np.concatenate([[0], np.cumsum(counts)])
        indices = np.fromiter((j for row in columns for j in row), np.int64, int(indptr[-1]))
        data = np.ones(len(indices), dtype=bool)
        return sp.csr_array((data, indices, indptr), shape=(len(columns), len(self)))

    def decode(self, decisions: NDArray[np.bool_]) -> list[list[str]]:
        """The rows of a dense boolean matrix (texts, labels) as label lists."""
        return [[self.names[j] for j in np.flatnonzero(row)] for row in decisions]


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
