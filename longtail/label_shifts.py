"""Labels that were given more or less often from one moment on, and with which words.

docs/reference/annotators.md says what is tested and what it cannot tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import xlogy

from longtail.annotations.row_codes import Codes, RowCodes, row_codes
from longtail.annotations.schema import ANNOTATIONS
from longtail.multiple_tests import Floats, benjamini_hochberg
from longtail.shifted_words import shifted_words
from longtail.voices import since_of

FALSE_DISCOVERY_RATE = 0.05
MIN_TEXTS = 30
_MOST_CUTS = 1000
_MARGIN = 0.1
_MIN_EXPECTED = 5.0


def label_shifts(
    table: pa.Table, *, since: Mapping[str, datetime | None] | None = None
) -> dict[str, Any]:
    """Look for one moment per label at which its share of the texts changed.

    Args:
        table: the annotations, one row per id (ANNOTATIONS).
        since: when each label was introduced; annotations of before that are left out of it.

    Returns:
        JSON-able; the keys stand in docs/reference/annotators.md.
    """
    rows = table.select(ANNOTATIONS.names).cast(ANNOTATIONS)
    rows = rows.filter(pc.is_valid(rows["labels"]))
    dated = rows.filter(pc.is_valid(rows["annotated_at"]))
    about: dict[str, Any] = {
        "false_discovery_rate": FALSE_DISCOVERY_RATE, "dated_texts": dated.num_rows,
        "undated_texts": rows.num_rows - dated.num_rows, "tested": 0, "labels": [],
    }  # fmt: skip
    if dated.num_rows < 2 * MIN_TEXTS:
        return about
    codes = row_codes(dated)
    cuts = _cuts(np.sort(codes.date))
    if not len(cuts) or not len(codes.names):
        return about
    texts, given = _counts(codes, cuts, since_of(codes.names, since))
    best, p = _strongest(texts, given)
    tested = np.flatnonzero(np.isfinite(p))
    q = np.full(len(p), np.nan)
    q[tested] = benjamini_hochberg(p[tested])
    flagged = tested[q[tested] <= FALSE_DISCOVERY_RATE]
    flagged = flagged[np.argsort(p[flagged], kind="stable")]
    words = shifted_words(dated["text"], codes, [(int(j), int(cuts[best[j]])) for j in flagged])
    labels = []
    for j, (more, less) in zip(flagged.tolist(), words, strict=True):
        place = best[j]
        n, k = texts[j, place], given[j, place]
        n_after, k_after = texts[j, -1] - n, given[j, -1] - k
        labels.append(
            {"label": codes.names[j].as_py(), "date": _iso(int(cuts[place])),
             "texts_before": int(n), "texts_after": int(n_after), "rate_before": float(k / n),
             "rate_after": float(k_after / n_after), "p": float(p[j]), "q": float(q[j]),
             "words_more": more, "words_less": less}
        )  # fmt: skip
    return about | {"tested": len(tested), "labels": labels}


def _cuts(dates: Codes) -> Codes:
    """Evenly placed moments, each the first of what comes after it."""
    starts = np.flatnonzero(np.diff(dates)) + 1
    if len(starts) > _MOST_CUTS:
        even = np.linspace(0, len(dates), _MOST_CUTS + 2)[1:-1]
        starts = np.unique(starts[np.minimum(np.searchsorted(starts, even), len(starts) - 1)])
    return dates[starts]


def _counts(codes: RowCodes, cuts: Codes, since: Codes) -> tuple[Floats, Floats]:
    """Texts that could have a label before each cut, and those that have it.

    Returns:
        Two arrays of shape (L, cuts + 1); the last column is all texts.
    """
    n_labels, n_bins = len(codes.names), len(cuts) + 1
    piece = np.searchsorted(cuts, codes.date, side="right")
    moments, moment = np.unique(since, return_inverse=True)
    known = np.stack(
        [np.bincount(piece[codes.date >= at], minlength=n_bins) for at in moments]
    ).cumsum(axis=1)
    counted = codes.date[codes.pair_row] >= since[codes.pair_label]
    place = codes.pair_label * n_bins + piece[codes.pair_row]
    given = np.bincount(place[counted], minlength=n_labels * n_bins).reshape(n_labels, n_bins)
    texts = known[moment.reshape(-1)]
    return texts.astype(np.float64), given.cumsum(axis=1).astype(np.float64)


def _strongest(texts: Floats, given: Floats) -> tuple[Codes, Floats]:
    """The cut of each label with the largest likelihood ratio, and its p-value.

    The p-value is of the largest of all ratios: R. Miller and D. Siegmund, Maximally Selected Chi
    Square Statistics, 1982, equation 7. NaN where the label has too few texts.
    """
    n, k = texts[:, -1:], given[:, -1:]
    before, with_it = texts[:, :-1], given[:, :-1]
    fewer = np.minimum(k, n - k)
    margin = np.maximum(_MARGIN, _MIN_EXPECTED / np.maximum(fewer, MIN_TEXTS))
    share = before / np.maximum(n, 1.0)
    allowed = (share >= margin) & (share <= 1.0 - margin) & (fewer >= MIN_TEXTS)
    ratio = np.where(allowed, _likelihood_ratio(before, with_it, n, k), -1.0)
    best = ratio.argmax(axis=1)
    strongest = ratio[np.arange(len(best)), best]
    p = _maximal_tail(np.sqrt(np.maximum(strongest, 0.0)), margin[:, 0])
    return best, np.where(strongest >= 0, p, np.nan)


def _likelihood_ratio(before: Floats, with_it: Floats, n: Floats, k: Floats) -> Floats:
    """G of the table (before, after) × (with the label, without), twice the log ratio."""
    cells = ((before, with_it), (n - before, k - with_it))
    total = np.zeros(with_it.shape)
    for size, part in cells:
        total += xlogy(part, part) + xlogy(size - part, size - part) - xlogy(size, size)
    ratio: Floats = 2.0 * (total - xlogy(k, k) - xlogy(n - k, n - k) + xlogy(n, n))
    return np.maximum(ratio, 0.0)


def _maximal_tail(b: Floats, margin: Floats) -> Floats:
    """P(largest root of the ratios ≥ b) over cuts between ``margin`` and 1 − ``margin``."""
    density = np.exp(-(b**2) / 2) / np.sqrt(2 * np.pi)
    width = 2.0 * np.log((1.0 - margin) / margin)
    b = np.maximum(b, 1.0)  # below that the approximation ends, and nothing is a finding
    tail: Floats = density * (b - 1.0 / b) * width + 4.0 * density / b
    return np.minimum(1.0, tail)


def _iso(microseconds: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)).isoformat()
