"""Annotators who give a label more or less often than the others would.

docs/reference/annotators.md says what is tested, what is flagged and what it cannot tell.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtail.annotations.row_codes import Codes
from longtail.annotator_evidence import Cells, Evidence
from longtail.multiple_tests import Floats, benjamini_hochberg, two_sided

FALSE_DISCOVERY_RATE = 0.05
MIN_EXPECTED = 5.0
_CELLS_AT_ONCE = 4_000_000


def label_rates(evidence: Evidence, cells: Cells) -> tuple[int, list[dict[str, Any]]]:
    """The second question: does he give a label more or less often than the others would.

    Returns:
        How many tests were made, and the findings, strongest first.
    """
    n_labels, wide = len(evidence.codes.names), len(evidence.periods) * len(evidence.names)
    step = max(1, _CELLS_AT_ONCE // wide)
    tests = [
        _tests(evidence, cells, at, min(at + step, n_labels)) for at in range(0, n_labels, step)
    ]
    tested = np.concatenate([np.empty((7, 0)), *tests], axis=1)
    p = tested[-1]
    q = benjamini_hochberg(p)
    periods = [*evidence.periods, "all"] if len(evidence.periods) > 1 else ["all"]
    flagged = np.flatnonzero(q <= FALSE_DISCOVERY_RATE)
    findings = []
    for i in flagged[np.argsort(p[flagged], kind="stable")]:
        period, who, label, given, expected, texts = tested[:-1, i].tolist()
        findings.append(
            {"annotator": evidence.names[int(who)],
             "label": evidence.codes.names[int(label)].as_py(), "period": periods[int(period)],
             "given": int(given), "expected": expected, "texts": int(texts), "p": float(p[i]),
             "q": float(q[i])}
        )  # fmt: skip
    return len(p), findings


def _tests(evidence: Evidence, cells: Cells, start: int, stop: int) -> Floats:
    """Test the labels from ``start`` to ``stop`` wherever there is enough to test.

    Returns:
        Shape (7, tests): period (one after the last: all of them), annotator, label, how often it
        was given, how often expected, texts, p-value.
    """
    found, mean, variance, third, texts = _strata(evidence, cells, start, stop)
    if len(evidence.periods) > 1:
        found, mean, variance, third, texts = (
            np.concatenate([one, one.sum(axis=0, keepdims=True)])
            for one in (found, mean, variance, third, texts)
        )
    at = np.nonzero((mean >= MIN_EXPECTED) & (variance >= MIN_EXPECTED))
    p = two_sided(found[at], mean[at], variance[at], third[at])
    return np.stack([at[0], at[1], at[2] + start, found[at], mean[at], texts[at], p])


def _strata(
    evidence: Evidence, cells: Cells, start: int, stop: int
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """How often each label was given, and three moments of it if the annotator did not matter.

    Returns:
        Found, mean, variance, third moment and texts, each of shape (periods, annotators, labels).
    """
    shape = (len(evidence.periods), len(evidence.names), stop - start)
    inside = (cells.label >= start) & (cells.label < stop)
    place = _place(evidence, cells.row[inside], cells.label[inside] - start, shape[2])
    share = (cells.k / cells.m)[inside]
    variance = share * (1 - share)
    given, ones = cells.given[inside], np.ones(len(share))
    found, mean, spread, third, texts = (
        np.bincount(place, one, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)
        for one in (given, share, variance, variance * (1 - 2 * share), ones)
    )
    sums = (found, mean, spread, third, texts)
    since = evidence.since[start:stop]
    for at in np.unique(since):
        chosen = np.flatnonzero(since == at)
        knows = ~evidence.shared & (evidence.codes.date >= at)
        for total, part in zip(sums, _alone(evidence, knows, start, shape), strict=True):
            total[:, :, chosen] += part[:, :, chosen]
    return sums


def _alone(
    evidence: Evidence, knows: NDArray[np.bool_], start: int, shape: tuple[int, int, int]
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """The moments of texts of one annotator: hypergeometric within each period."""
    codes, size = evidence.codes, shape[0] * shape[1]
    label = codes.pair_label - start
    pairs = knows[codes.pair_row] & (label >= 0) & (label < shape[2])
    place = _place(evidence, codes.pair_row[pairs], label[pairs], shape[2])
    found = np.bincount(place, minlength=size * shape[2]).reshape(shape)
    who = (evidence.period * shape[1] + evidence.annotator)[knows]
    own = np.bincount(who, minlength=size).reshape(shape[0], shape[1], 1)
    total = own.sum(axis=1, keepdims=True)
    given = found.sum(axis=1, keepdims=True)
    mean = own * given / np.maximum(total, 1)
    left = (1 - given / np.maximum(total, 1)) * (total - own) / np.maximum(total - 1, 1)
    variance = mean * left
    skew = (total - 2 * given) * (total - 2 * own) / np.maximum(total * (total - 2), 1)
    texts = np.broadcast_to(own, found.shape)
    return found.astype(float), mean, variance, variance * skew, texts.astype(float)


def _place(evidence: Evidence, row: Codes, label: Codes, n_labels: int) -> Codes:
    who = evidence.period[row] * len(evidence.names) + evidence.annotator[row]
    places: Codes = who * n_labels + label
    return places
