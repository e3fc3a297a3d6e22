"""Annotators who differ from the others: on the same texts, and in how often they give a label.

docs/reference/annotators.md says what is tested, what is flagged and what it cannot tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from longtail.annotations.row_codes import Codes
from longtail.annotator_evidence import Cells, Evidence, cells_of, evidence_of
from longtail.annotator_rates import FALSE_DISCOVERY_RATE, label_rates
from longtail.multiple_tests import Floats, benjamini_hochberg, upper_tail

MIN_DECIDING_TEXTS = 20
_Z = 1.959963984540054  # two-sided 95 %


def annotator_drift(
    table: pa.Table,
    voices: pa.Table,
    *,
    since: Mapping[str, datetime | None] | None = None,
) -> dict[str, Any]:
    """Compare each annotator with the others.

    Args:
        table: the annotations, one row per id (ANNOTATIONS).
        voices: per id and annotator, of the texts that several annotated (ANNOTATIONS).
        since: when each label was introduced; annotations of before that are left out of it.

    Returns:
        JSON-able; the keys stand in docs/reference/annotators.md.
    """
    evidence = evidence_of(table, voices, since)
    if evidence is None or len(evidence.names) < 2:
        return {"false_discovery_rate": FALSE_DISCOVERY_RATE, "periods": [], "annotators": [],
                "label_tests": 0, "labels": []}  # fmt: skip
    cells = cells_of(evidence)
    n_tests, labels = label_rates(evidence, cells)
    return {
        "false_discovery_rate": FALSE_DISCOVERY_RATE, "periods": evidence.periods,
        "annotators": _against_the_others(evidence, cells), "label_tests": n_tests,
        "labels": labels,
    }  # fmt: skip


def _against_the_others(evidence: Evidence, cells: Cells) -> list[dict[str, Any]]:
    """The first question: does he differ from the others on the same texts."""
    n, n_rows = len(evidence.names), len(evidence.annotator)
    usual = 2 * (cells.k - cells.given) > cells.m - 1  # what most of the others said
    hit = np.bincount(cells.row[usual & cells.given], minlength=n_rows)
    extra = np.bincount(cells.row[~usual & cells.given], minlength=n_rows)
    missed = np.bincount(cells.row[usual & ~cells.given], minlength=n_rows)
    who, shared = evidence.annotator, evidence.shared
    deciding, p = _differs(evidence, extra + missed)
    enough = deciding >= MIN_DECIDING_TEXTS
    q = np.full(n, np.nan)
    q[enough] = benjamini_hochberg(p[enough])
    tp, fp, fn = (np.bincount(who, weights=one, minlength=n) for one in (hit, extra, missed))
    f1 = _ratio(2 * tp, 2 * tp + fp + fn)
    error = (2 * hit - f1[who] * (2 * hit + extra + missed)) ** 2
    deviation = _ratio(np.sqrt(np.bincount(who, error, minlength=n)), 2 * tp + fp + fn)
    precision, recall = _ratio(tp, tp + fp), _ratio(tp, tp + fn)
    texts, several = np.bincount(who, minlength=n), np.bincount(who[shared], minlength=n)
    over_time = _over_time(evidence, hit, extra + missed)
    return [
        {"annotator": name, "texts": int(texts[i]), "shared_texts": int(several[i]),
         "precision": _number(precision[i]), "recall": _number(recall[i]), "f1": _number(f1[i]),
         "interval": _interval(f1[i], deviation[i]), "deciding_texts": int(deciding[i]),
         "p": _number(p[i]) if enough[i] else None, "q": _number(q[i]),
         "differs": bool(q[i] <= FALSE_DISCOVERY_RATE), "by_period": over_time[i]}
        for i, name in enumerate(evidence.names)
    ]  # fmt: skip


def _differs(evidence: Evidence, distance: Codes) -> tuple[Codes, Floats]:
    """Permutation test within texts: is an annotator's distance larger than his colleagues'.

    Returns:
        Per annotator the texts whose annotators differ unequally, and the one-sided p-value.
    """
    rows = np.flatnonzero(evidence.shared)
    _, text = np.unique(evidence.codes.id[rows], return_inverse=True)
    text = text.reshape(-1)
    d = distance[rows].astype(np.float64)
    mean = (np.bincount(text, d) / np.bincount(text))[text] if len(rows) else d
    off = d - mean
    moments = [
        (np.bincount(text, off**power) / np.bincount(text))[text] if len(rows) else d
        for power in (2, 3)
    ]
    n, who = len(evidence.names), evidence.annotator[rows]
    deciding = np.bincount(who[moments[0] > 0], minlength=n)
    above = np.bincount(who, off, minlength=n)
    variance, third = (np.bincount(who, one, minlength=n) for one in moments)
    deviation = np.sqrt(np.where(deciding > 0, variance, 1.0))
    return deciding, upper_tail((above - 0.5) / deviation, third / deviation**3)


def _over_time(evidence: Evidence, hit: Codes, wrong: Codes) -> list[list[dict[str, Any]]]:
    n_periods, n = len(evidence.periods), len(evidence.names)
    place = evidence.annotator * n_periods + evidence.period
    size = n * n_periods
    texts = np.bincount(place[evidence.shared], minlength=size)
    hits = 2.0 * np.bincount(place, hit, minlength=size)
    f1 = _ratio(hits, hits + np.bincount(place, wrong, minlength=size))
    return [
        [{"period": evidence.periods[j], "shared_texts": int(texts[i * n_periods + j]),
          "f1": _number(f1[i * n_periods + j])}
         for j in range(n_periods) if texts[i * n_periods + j]]
        for i in range(n)
    ]  # fmt: skip


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    quotient: Floats = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return quotient


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _interval(f1: float, deviation: float) -> list[float] | None:
    if not np.isfinite(deviation):
        return None
    return [float(max(0.0, f1 - _Z * deviation)), float(min(1.0, f1 + _Z * deviation))]
