"""Annotators who differ from the others: on the same texts, and in how often they give a label.

docs/reference/annotators.md says what is tested, what is flagged and what it cannot tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail.annotations.row_codes import Codes, RowCodes, row_codes
from longtail.annotations.schema import ANNOTATIONS
from longtail.multiple_tests import Floats, benjamini_hochberg, two_sided, upper_tail
from longtail.voices import periods_of, shared_voices, since_of

FALSE_DISCOVERY_RATE = 0.05
MIN_DECIDING_TEXTS = 20
MIN_EXPECTED = 5.0
_Z = 1.959963984540054  # two-sided 95 %


@dataclass(frozen=True)
class _Evidence:
    """All annotations in question: those of shared texts, and one per other text.

    Attributes:
        codes: of all rows.
        shared: which rows are of a text that several annotated.
        annotator: number of each row's annotator.
        names: the annotators, sorted, None (nobody named) first.
        period: number of each row's period.
        periods: their names.
        since: when each label was introduced.
    """

    codes: RowCodes
    shared: NDArray[np.bool_]
    annotator: Codes
    names: list[str | None]
    period: Codes
    periods: list[str | None]
    since: Codes


@dataclass(frozen=True)
class _Cells:
    """The labels of shared texts, each against every annotator who could know it.

    Attributes:
        row: row of the annotator.
        label: a label that someone gave the row's text.
        m: how many of the text's annotators could know it, at least two.
        k: how many of those gave it.
        given: whether this one did.
    """

    row: Codes
    label: Codes
    m: Codes
    k: Codes
    given: NDArray[np.bool_]


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
    evidence = _evidence(table, voices, since)
    if evidence is None or len(evidence.names) < 2:
        return {"false_discovery_rate": FALSE_DISCOVERY_RATE, "periods": [], "annotators": [],
                "label_tests": 0, "labels": []}  # fmt: skip
    cells = _cells(evidence)
    n_tests, labels = _label_rates(evidence, cells)
    return {
        "false_discovery_rate": FALSE_DISCOVERY_RATE, "periods": evidence.periods,
        "annotators": _against_the_others(evidence, cells), "label_tests": n_tests,
        "labels": labels,
    }  # fmt: skip


def _evidence(
    table: pa.Table, voices: pa.Table, since: Mapping[str, datetime | None] | None
) -> _Evidence | None:
    several = shared_voices(voices)
    alone = table.select(ANNOTATIONS.names).cast(ANNOTATIONS)
    is_alone = pc.invert(pc.is_in(alone["id"], pc.unique(several["id"])))
    alone = alone.filter(pc.and_(is_alone, pc.is_valid(alone["labels"])))
    rows = pa.concat_tables([several, alone])
    if rows.num_rows == 0:
        return None
    codes = row_codes(rows)
    names = sorted(
        pc.unique(rows["annotator"]).to_pylist(), key=lambda name: (name is not None, name or "")
    )
    number = {name: i for i, name in enumerate(names)}
    encoded = rows["annotator"].combine_chunks().dictionary_encode(null_encoding="encode")
    order = np.array([number[name] for name in encoded.dictionary.to_pylist()], dtype=np.int64)
    period, periods = periods_of(codes.date)
    return _Evidence(
        codes, np.arange(rows.num_rows) < several.num_rows, order[encoded.indices.to_numpy()],
        names, period, periods, since_of(codes.names, since),
    )  # fmt: skip


def _cells(evidence: _Evidence) -> _Cells:
    """Write out the shared texts: each of their labels against each of their annotators."""
    codes, n_labels = evidence.codes, max(len(evidence.codes.names), 1)
    rows = np.flatnonzero(evidence.shared)
    rows = rows[np.argsort(codes.id[rows], kind="stable")]
    n_rows = np.bincount(codes.id[rows], minlength=codes.n_ids)
    start = np.concatenate([[0], np.cumsum(n_rows)])[:-1]
    pairs = evidence.shared[codes.pair_row]
    keys = codes.pair_row[pairs] * n_labels + codes.pair_label[pairs]
    texts = np.unique(codes.id[codes.pair_row[pairs]] * n_labels + codes.pair_label[pairs])
    unit, label = texts // n_labels, texts % n_labels
    cell = np.repeat(np.arange(len(texts)), n_rows[unit])
    within = np.arange(len(cell)) - np.repeat(np.cumsum(n_rows[unit]) - n_rows[unit], n_rows[unit])
    row = rows[start[unit[cell]] + within]
    knows = codes.date[row] >= evidence.since[label[cell]]
    given = np.isin(row * n_labels + label[cell], keys) & knows
    m = np.bincount(cell[knows], minlength=len(texts))
    k = np.bincount(cell[given], minlength=len(texts))
    kept = knows & (m[cell] > 1)
    return _Cells(row[kept], label[cell[kept]], m[cell[kept]], k[cell[kept]], given[kept])


def _against_the_others(evidence: _Evidence, cells: _Cells) -> list[dict[str, Any]]:
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


def _differs(evidence: _Evidence, distance: Codes) -> tuple[Codes, Floats]:
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


def _over_time(evidence: _Evidence, hit: Codes, wrong: Codes) -> list[list[dict[str, Any]]]:
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


def _label_rates(evidence: _Evidence, cells: _Cells) -> tuple[int, list[dict[str, Any]]]:
    """The second question: does he give a label more or less often than the others would.

    Returns:
        How many tests were made, and the findings, strongest first.
    """
    found, mean, variance, third, texts = _strata(evidence, cells)
    if len(evidence.periods) > 1:
        found, mean, variance, third, texts = (
            np.concatenate([one, one.sum(axis=0, keepdims=True)])
            for one in (found, mean, variance, third, texts)
        )
    tested = np.nonzero((mean >= MIN_EXPECTED) & (variance >= MIN_EXPECTED))
    p = two_sided(found[tested], mean[tested], variance[tested], third[tested])
    q = benjamini_hochberg(p)
    periods: list[str | None] = [*evidence.periods, "all"]
    if len(evidence.periods) == 1:
        periods = ["all"]
    names = evidence.codes.names.to_pylist()
    flagged = np.flatnonzero(q <= FALSE_DISCOVERY_RATE)
    flagged = flagged[np.argsort(p[flagged], kind="stable")]
    findings = []
    for i in flagged:
        cell = period, who, label = tuple(int(axis[i]) for axis in tested)
        findings.append(
            {"annotator": evidence.names[who], "label": names[label], "period": periods[period],
             "given": int(found[cell]), "expected": float(mean[cell]), "texts": int(texts[cell]),
             "p": float(p[i]), "q": float(q[i])}
        )  # fmt: skip
    return len(p), findings


def _strata(evidence: _Evidence, cells: _Cells) -> tuple[Floats, ...]:
    """How often each label was given, and three moments of it if the annotator did not matter.

    Returns:
        Found, mean, variance, third moment and texts, each of shape (periods, annotators, labels).
    """
    shape = (len(evidence.periods), len(evidence.names), len(evidence.codes.names))
    size = int(np.prod(shape))
    place = _place(evidence, cells.row, cells.label)
    share = cells.k / cells.m
    variance = share * (1 - share)
    sums = [
        np.bincount(place, one, minlength=size).reshape(shape).astype(np.float64)
        for one in (cells.given, share, variance, variance * (1 - 2 * share), np.ones(len(share)))
    ]
    for at in np.unique(evidence.since):
        chosen = np.flatnonzero(evidence.since == at)
        knows = ~evidence.shared & (evidence.codes.date >= at)
        for total, part in zip(sums, _alone(evidence, knows, shape, chosen), strict=True):
            total[:, :, chosen] += part
    return tuple(sums)


def _alone(
    evidence: _Evidence, knows: NDArray[np.bool_], shape: tuple[int, ...], chosen: Codes
) -> tuple[Floats, ...]:
    """The moments of texts of one annotator: hypergeometric within each period."""
    codes = evidence.codes
    pairs = knows[codes.pair_row]
    place = _place(evidence, codes.pair_row[pairs], codes.pair_label[pairs])
    found = np.bincount(place, minlength=int(np.prod(shape))).reshape(shape)[:, :, chosen]
    own = np.bincount((evidence.period * shape[1] + evidence.annotator)[knows],
                      minlength=shape[0] * shape[1]).reshape(shape[:2])[:, :, None]  # fmt: skip
    total = own.sum(axis=1, keepdims=True)
    given = found.sum(axis=1, keepdims=True)
    mean = own * given / np.maximum(total, 1)
    left = (1 - given / np.maximum(total, 1)) * (total - own) / np.maximum(total - 1, 1)
    variance = mean * left
    skew = (total - 2 * given) * (total - 2 * own) / np.maximum(total * (total - 2), 1)
    texts = np.broadcast_to(own, found.shape)
    return found.astype(float), mean, variance, variance * skew, texts.astype(float)


def _place(evidence: _Evidence, row: Codes, label: Codes) -> Codes:
    who = evidence.period[row] * len(evidence.names) + evidence.annotator[row]
    places: Codes = who * len(evidence.codes.names) + label
    return places


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    quotient: Floats = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return quotient


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _interval(f1: float, deviation: float) -> list[float] | None:
    if not np.isfinite(deviation):
        return None
    return [float(max(0.0, f1 - _Z * deviation)), float(min(1.0, f1 + _Z * deviation))]
