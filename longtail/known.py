"""Which labels a text is known to have or not to have.

A text that was annotated before a label existed does not lack that label: nobody asked. Its cell
is unknown, unless the text has the label all the same. Without a date it cannot be said when a
text was annotated, so its cell of every label that has a ``since`` is unknown too.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.annotations.moments import UNDATED, moments_of

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Since = Sequence[datetime | None]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ALWAYS = UNDATED
"""When a label without ``since`` began, and when a text without a date was annotated."""


def known_cells(annotated_at: pa.ChunkedArray, since: Since, y: sp.csr_array) -> Bools | None:
    """The cells whose truth is known.

    Args:
        annotated_at: when each of n texts was annotated, last if several times; timestamps with a
            time zone, null where nobody knows.
        since: from when on each of L labels could be given; None: always.
        y: labels, boolean CSR of shape (n, L).

    Returns:
        bool (n, L), or None where all of them are known.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    _check(annotated_at, since, y)
    began = _began(since)
    dated = np.flatnonzero(began != _ALWAYS)
    if not len(dated):
        return None
    known = np.ones(y.shape, dtype=bool)
    known[:, dated] = moments_of(annotated_at)[:, None] >= began[dated]
    known[np.repeat(np.arange(y.shape[0]), np.diff(y.indptr)), y.indices] = True
    return None if known.all() else known


def known_texts(annotated_at: pa.ChunkedArray, since: Since, y: sp.csr_array) -> Ints:
    """Of each label, the texts of which it is known; what summing :func:`known_cells` would give.

    It never holds a cell in memory, so that it serves a million texts and a thousand labels.

    Args:
        annotated_at: as in :func:`known_cells`.
        since: as in :func:`known_cells`.
        y: labels, boolean CSR of shape (n, L).

    Returns:
        Shape (L,).
    """
    _check(annotated_at, since, y)
    began, moments = _began(since), moments_of(annotated_at)
    later = len(moments) - np.searchsorted(np.sort(moments), began)
    early = np.repeat(moments, np.diff(y.indptr)) < began[y.indices]
    counts: Ints = later + np.bincount(y.indices[early], minlength=y.shape[1])
    return counts


def stacked(parts: Sequence[tuple[int, int]], known: Sequence[Bools | None]) -> Bools | None:
    """The known cells of several sets of texts, one below the other.

    Args:
        parts: shape of each set's label matrix.
        known: each set's cells, None where all are known.

    Returns:
        bool (texts, labels), or None where all of them are known.
    """
    if all(cells is None for cells in known):
        return None
    return np.concatenate(
        [
            np.ones(shape, dtype=bool) if cells is None else cells
            for shape, cells in zip(parts, known, strict=True)
        ]
    )


def _check(annotated_at: pa.ChunkedArray, since: Since, y: sp.csr_array) -> None:
    if (len(annotated_at), len(since)) != y.shape:
        raise ValueError(
            f"{len(annotated_at)} dates and {len(since)} labels do not fit y of shape {y.shape}"
        )


def _began(since: Since) -> Ints:
    return np.array([to_microseconds(moment, _ALWAYS) for moment in since], dtype=np.int64)


def to_microseconds(moment: datetime | None, without: int) -> int:
    """Microseconds since 1970, or what stands for no moment."""
    return int(without) if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)
