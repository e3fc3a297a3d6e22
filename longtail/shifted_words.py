"""Whether the texts that get a label changed at a moment: the words that came and went."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import ndtr

from longtail.annotations.row_codes import Codes, RowCodes
from longtail.multiple_tests import Floats, benjamini_hochberg

_POOL = 4000
_PER_SIDE = 1000
_MOST_LABELS = 50
_SHOWN = 5
_MIN_WORD_TEXTS = 10
_FALSE_DISCOVERY_RATE = 0.05
_WORD = r"(?u)\b[^\W\d_]{3,}\b"

Words = tuple[list[str], list[str]]


def shifted_words(
    texts: pa.ChunkedArray, codes: RowCodes, moments: Sequence[tuple[int, int]]
) -> list[Words]:
    """Words that a label's texts have more, and less, often from a moment on.

    A word is shown if its share among the label's texts changed, and changed by more than among
    the other texts, so that words that came or went for everybody are not (the weaker of the two
    differences, normal approximation, Benjamini and Hochberg over the words).

    Args:
        texts: all of them, shape (n,).
        codes: of the same rows.
        moments: (label, microseconds since 1970) of what is to be explained.

    Returns:
        Per moment at most five words each way, the strongest first; both lists are empty where no
        word stands out, and beyond the first 50 moments.
    """
    explained = moments[:_MOST_LABELS]
    if not explained:
        return []
    pool = _evenly(np.arange(len(codes.date)), _POOL)
    chosen = [_own(codes, label, moment) for label, moment in explained]
    rows = np.unique(np.concatenate([pool, *chosen]))
    matrix, words = _word_matrix(texts.take(pa.array(rows)).to_pylist())
    found = []
    for (label, moment), own in zip(explained, chosen, strict=True):
        with_label = codes.pair_row[codes.pair_label == label]
        others = np.setdiff1d(pool, with_label)
        found.append(_changed(matrix, words, codes.date[rows] >= moment,
                              np.isin(rows, own), np.isin(rows, others)))  # fmt: skip
    return found + [([], [])] * (len(moments) - len(explained))


def _own(codes: RowCodes, label: int, moment: int) -> Codes:
    """Texts of a label from both sides of a moment."""
    rows = codes.pair_row[codes.pair_label == label]
    after = codes.date[rows] >= moment
    return np.concatenate([_evenly(rows[~after], _PER_SIDE), _evenly(rows[after], _PER_SIDE)])


def _evenly(rows: Codes, most: int) -> Codes:
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _word_matrix(texts: list[str]) -> tuple[sp.csr_array, NDArray[np.object_]]:
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(binary=True, token_pattern=_WORD, dtype=np.float64)
    try:
        matrix = counter.fit_transform(texts)
    except ValueError:  # no word at all
        return sp.csr_array((len(texts), 0)), np.empty(0, dtype=object)
    return sp.csr_array(matrix), counter.get_feature_names_out()


def _changed(
    matrix: sp.csr_array,
    words: NDArray[np.object_],
    after: NDArray[np.bool_],
    labelled: NDArray[np.bool_],
    others: NDArray[np.bool_],
) -> Words:
    sides = [labelled & after, labelled & ~after, others & after, others & ~after]
    sizes = [int(side.sum()) for side in sides]
    if min(sizes) < _MIN_WORD_TEXTS:
        return [], []
    counts = [np.asarray(matrix[side].sum(axis=0)).reshape(-1) for side in sides]
    common = np.flatnonzero(counts[0] + counts[1] >= _MIN_WORD_TEXTS)
    shares = [_share(count[common], size) for count, size in zip(counts, sizes, strict=True)]
    parts = [p * (1 - p) / n for p, n in zip(shares, sizes, strict=True)]
    own_change, other_change = shares[0] - shares[1], shares[2] - shares[3]
    own = own_change / np.sqrt(parts[0] + parts[1])
    beyond = (own_change - other_change) / np.sqrt(sum(parts))
    # A word must change here, and more than elsewhere: either alone is somebody else's change.
    z = np.where(own * beyond > 0, np.sign(own) * np.minimum(np.abs(own), np.abs(beyond)), 0.0)
    flagged = benjamini_hochberg(2 * ndtr(-np.abs(z))) <= _FALSE_DISCOVERY_RATE
    order = np.argsort(-np.abs(z), kind="stable")
    order = order[flagged[order]]
    more, less = (words[common[order[sign * z[order] > 0]]][:_SHOWN] for sign in (1, -1))
    return more.tolist(), less.tolist()


def _share(count: Floats, size: int) -> Floats:
    """Share with half a text on either side, so that never seen has a variance, too."""
    return (count + 0.5) / (size + 1.0)
