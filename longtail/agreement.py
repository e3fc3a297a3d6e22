"""How well the annotators of a text agree: Krippendorff's alpha, label by label.

docs/reference/annotators.md says what the figures mean and what they cannot tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from longtail.annotations.merge import current_voices
from longtail.annotations.row_codes import Codes, RowCodes, row_codes
from longtail.annotator_drift import annotator_drift
from longtail.label_shifts import label_shifts
from longtail.multiple_tests import Floats
from longtail.significance import drawn_weights
from longtail.voices import shared_voices, since_of

__all__ = ["agreement", "annotator_drift", "label_shifts"]

_CONFIDENCE = 0.95
_MAX_UNDEFINED = 0.05


@dataclass(frozen=True)
class _Units:
    """What the pairable texts say of each label, as columns that sum up over texts.

    Attributes:
        columns: shape (texts, D + 3L): annotations that know a label introduced at each of the D
            moments; then, per label, what its own annotations add to that; how often it was
            given; how much its annotators disagree, k(m − k)/(m − 1).
        moment: which of the D moments is each label's, shape (L,).
        texts: texts on which two annotators know the label, shape (L,).
        texts_given: texts of them on which one of them gave it, shape (L,).
    """

    columns: sp.csr_array
    moment: Codes
    texts: Codes
    texts_given: Codes

    def sums(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """(n, n₁, disagreement) per label, each of shape (draws, L), for weights of the texts."""
        total = np.asarray((self.columns.T @ weights.T).T)
        n_labels = len(self.moment)
        known, more, given, apart = np.split(
            total, np.cumsum([total.shape[1] - 3 * n_labels, n_labels, n_labels]), axis=1
        )
        return known[:, self.moment] + more, given, apart


def agreement(
    voices: pa.Table,
    *,
    since: Mapping[str, datetime | None] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Krippendorff's alpha of each label and of all together, with bootstrap intervals.

    K. Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011; nominal, two values.

    Args:
        voices: rows of ANNOTATIONS, per id and annotator, of texts that several annotated.
        since: when each label was introduced; an annotation of before that does not know it.
        draws: bootstrap draws over texts.
        seed: of the draws.

    Returns:
        JSON-able; the keys stand in docs/reference/annotators.md.
    """
    rows = shared_voices(voices)
    current = current_voices(voices).num_rows
    about = {
        "texts": 0, "voices": rows.num_rows, "annotators": len(pc.unique(rows["annotator"])),
        "outdated": voices.num_rows - current, "draws": draws, "confidence": _CONFIDENCE,
        "alpha": None, "interval": None, "labels": [],
    }  # fmt: skip
    if rows.num_rows == 0:
        return about
    codes = row_codes(rows)
    if len(codes.names) == 0:
        return about | {"texts": codes.n_ids}
    units = _units(codes, since_of(codes.names, since))
    n_texts = codes.n_ids
    n, given, apart = units.sums(np.ones((1, n_texts)))
    drawn = [units.sums(weights) for weights in drawn_weights(n_texts, draws, seed)]
    draws_of = tuple(np.concatenate(parts) for parts in zip(*drawn, strict=True))
    alphas, intervals = _alpha(n, given, apart)[0], _intervals(_alpha(*draws_of))
    overall = _overall(n, given, apart)
    labels = [
        {"label": name, "texts": int(units.texts[j]), "given": int(given[0, j]),
         "texts_given": int(units.texts_given[j]), "alpha": _number(alphas[j]),
         "interval": intervals[j] if np.isfinite(alphas[j]) else None,
         "undefined": _why(n[0, j], given[0, j])}
        for j, name in enumerate(codes.names.to_pylist())
    ]  # fmt: skip
    return about | {
        "texts": n_texts, "alpha": _number(overall[0]),
        "interval": _intervals(_overall(*draws_of)[:, None])[0], "labels": labels,
    }  # fmt: skip


def _units(codes: RowCodes, since: Codes) -> _Units:
    """Count, per text and label, who knew it and who gave it."""
    n_labels, n_units = len(codes.names), codes.n_ids
    moments, moment = np.unique(since, return_inverse=True)
    knowing = np.stack(
        [np.bincount(codes.id[codes.date >= at], minlength=n_units) for at in moments], axis=1
    )
    cells, cell, k = np.unique(
        codes.id[codes.pair_row] * n_labels + codes.pair_label,
        return_inverse=True, return_counts=True,
    )  # fmt: skip
    unit, label = cells // n_labels, cells % n_labels
    early = codes.date[codes.pair_row] < since[codes.pair_label]
    known = knowing[unit, moment[label]]
    m = known + np.bincount(cell.reshape(-1), weights=early, minlength=len(cells)).astype(np.int64)
    counted = m >= 2
    before = np.where(known >= 2, known, 0)
    pairable = np.where(knowing >= 2, knowing, 0)
    apart = np.where(counted, k * (m - k) / np.maximum(m - 1, 1), 0.0)
    parts = (np.where(counted, m, 0) - before, np.where(counted, k, 0), apart)
    shape = (n_units, n_labels)
    columns = sp.hstack(
        [sp.csr_array(pairable.astype(float))]
        + [sp.csr_array((part.astype(float), (unit, label)), shape=shape) for part in parts]
    )
    more = np.bincount(label[counted & (before == 0)], minlength=n_labels)
    return _Units(
        columns=sp.csr_array(columns), moment=moment.reshape(-1),
        texts=(pairable > 0).sum(axis=0)[moment.reshape(-1)] + more,
        texts_given=np.bincount(label[counted], minlength=n_labels),
    )  # fmt: skip


def _alpha(n: Floats, given: Floats, apart: Floats) -> Floats:
    """Alpha from sums; NaN where nothing varies."""
    chance = given * (n - given)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance > 0, 1.0 - (n - 1.0) * apart / chance, np.nan)


def _overall(n: Floats, given: Floats, apart: Floats) -> Floats:
    """Alpha of label sets whose distance is the number of labels in which they differ."""
    chance = (given * (n - given) / np.maximum(n - 1.0, 1.0)).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance > 0, 1.0 - apart.sum(axis=1) / chance, np.nan)


def _intervals(drawn: Floats) -> list[list[float] | None]:
    """Percentile interval per column; None where it is too often undefined."""
    if not len(drawn):
        return [None] * drawn.shape[1]
    tail = (1.0 - _CONFIDENCE) / 2
    found: list[list[float] | None] = []
    for column in drawn.T:
        defined = column[np.isfinite(column)]
        if len(defined) < (1.0 - _MAX_UNDEFINED) * len(column):
            found.append(None)
        else:
            found.append([float(np.quantile(defined, one)) for one in (tail, 1.0 - tail)])
    return found


def _number(alpha: float) -> float | None:
    return float(alpha) if np.isfinite(alpha) else None


def _why(n: float, given: float) -> str | None:
    if n == 0:
        return "no text has two annotators who could know the label"
    if given == 0:
        return "nobody gave it on a text of several annotators"
    if given == n:
        return "everybody gave it on every text of several annotators"
    return None
