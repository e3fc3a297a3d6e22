"""One arm's probabilities on one test set, as numbers: overall, per label group and per label."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail import metrics
from longtail.config import GROUPS
from longtail.labels import LabelGroups
from longtail.metrics import Bools, Counts, Floats, Scores
from longtail.storage import finite
from longtail.summaries import OVERALL, Values, group_values, overall_values, table2_values
from longtail.thresholds import decide


@dataclass(frozen=True, eq=False)
class TestSet:
    """The texts every arm is judged on, with their truth.

    Attributes:
        ids: unique text ids, row order.
        units: shape (texts,); texts of one unit are resampled together.
        cohort: shape (texts,); 0 is the original cohort of the split ledger.
        y: truth, boolean CSR of shape (texts, labels).
        labels: label names, column order.
        known: shape (texts, labels); cells whose truth is known. None: all of them.
    """

    __test__ = False  # the name is the field's; pytest shall not collect it

    ids: tuple[str, ...]
    units: NDArray[np.int64]
    cohort: NDArray[np.int64]
    y: sp.csr_array
    labels: tuple[str, ...]
    known: Bools | None = None

    def __post_init__(self) -> None:
        shape = (len(self.ids), len(self.labels))
        if self.y.shape != shape:
            raise ValueError(f"y has shape {self.y.shape}, not {shape} as ids and labels say")
        if self.known is not None and self.known.shape != shape:
            raise ValueError(f"known has shape {self.known.shape}, not {shape}")
        for name, values in (("units", self.units), ("cohort", self.cohort)):
            if values.shape != shape[:1]:
                raise ValueError(f"{name} has shape {values.shape}, not {shape[:1]}")
        for name, names in (("ids", self.ids), ("labels", self.labels)):
            if len(set(names)) != len(names):
                raise ValueError(f"{name} of the test set are not unique")

    def without(self, ids: Collection[str]) -> TestSet:
        """The test set without some of its texts."""
        left_out = set(ids)
        rows = np.array([name not in left_out for name in self.ids], dtype=bool)
        return replace(
            self,
            ids=tuple(name for name in self.ids if name not in left_out),
            units=self.units[rows],
            cohort=self.cohort[rows],
            y=self.y[rows],
            known=None if self.known is None else self.known[rows],
        )

    @cached_property
    def positives(self) -> sp.csr_array:
        """The known positives, canonical boolean CSR of shape (texts, labels)."""
        truth = self.y.toarray().astype(bool)
        return sp.csr_array(truth if self.known is None else truth & self.known)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of ids, labels, truth and known cells, all in their order."""
        digest = hashlib.sha256(json.dumps([self.ids, self.labels]).encode())
        digest.update(self.positives.indptr.astype("<i8").tobytes())
        digest.update(self.positives.indices.astype("<i8").tobytes())
        if self.known is not None:
            digest.update(np.packbits(self.known).tobytes())
        return digest.hexdigest()

    @property
    def known_cells(self) -> int:
        """Number of cells whose truth is known."""
        if self.known is None:
            return len(self.ids) * len(self.labels)
        return int(np.count_nonzero(self.known))


@dataclass(frozen=True, eq=False)
class ArmEvaluation:
    """What one arm achieves on a test set.

    Metrics that cannot be computed are NaN here and null in JSON; if any probability is not
    finite, that is all of them.

    Attributes:
        arm: such as "candidate" or "bce".
        test_fingerprint: of the test set it was scored on.
        labels: label names, column order.
        scored: shape (labels,); labels the arm knows. The others count as never given.
        thresholds: shape (labels,); a label is given where probability > threshold.
        decided: given labels in known cells, boolean CSR of shape (texts, labels).
        finite: whether every probability and threshold is a finite number.
        in_range: whether every probability lies in [0, 1].
        label_counts: TP, FP, FN per label, shape (labels, 3).
        text_counts: TP, FP, FN per text and label group, shape (texts, 3 groups, 3).
        average_precision: per label, shape (labels,); NaN without positives.
        overall: metrics over all labels and texts.
        groups: metrics within HEAD, MEDIUM and TAIL.
        table2: the same with the arm's ZERO labels taken out and shown apart.
        original_cohort: the overall metrics on the texts of cohort 0.
    """

    arm: str
    test_fingerprint: str
    labels: tuple[str, ...]
    scored: Bools
    thresholds: Floats
    decided: sp.csr_array
    finite: bool
    in_range: bool
    label_counts: Counts
    text_counts: Counts
    average_precision: Floats
    overall: Values
    groups: Mapping[str, Values]
    table2: Mapping[str, Values]
    original_cohort: Values

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the test set and every decision on it; seeds the gate's bootstrap."""
        digest = hashlib.sha256(f"{self.test_fingerprint} {self.finite} {self.in_range}".encode())
        digest.update(np.packbits(self.scored).tobytes())
        digest.update(self.decided.indptr.astype("<i8").tobytes())
        digest.update(self.decided.indices.astype("<i8").tobytes())
        return digest.hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The arm's entry of ``metrics.json``, plain Python values without NaN."""
        counts = self.label_counts
        per_label = {
            "true_positives": counts[:, 0].tolist(),
            "false_positives": counts[:, 1].tolist(),
            "false_negatives": counts[:, 2].tolist(),
            "precision": metrics.precision(counts).tolist(),
            "recall": metrics.recall(counts).tolist(),
            "f1": metrics.f1(counts).tolist(),
            "average_precision": self.average_precision.tolist(),
            "threshold": self.thresholds.tolist(),
        }
        result: dict[str, Any] = finite(
            {
                "overall": self.overall,
                "groups": self.groups,
                "table2": self.table2,
                "original_cohort": self.original_cohort,
                "per_label": per_label,
            }
        )
        return result


def evaluate(
    test: TestSet,
    arm: str,
    probabilities: Scores,
    thresholds: Floats,
    groups: LabelGroups,
    *,
    scored_labels: Sequence[str] | None = None,
) -> ArmEvaluation:
    """Score one arm on the test set.

    Args:
        test: texts, truth and units.
        arm: name of the arm.
        probabilities: shape (texts, labels), rows and columns as in ``test``.
        thresholds: shape (labels,); a label is given where probability > threshold.
        groups: label groups, fixed on the training support.
        scored_labels: labels the arm knows, for a champion of another label set; the others
            count as never given. None: all labels.

    Raises:
        ValueError: a shape does not fit the test set.
    """
    shape = (len(test.ids), len(test.labels))
    if probabilities.shape != shape or thresholds.shape != shape[1:]:
        raise ValueError(
            f"{arm}: probabilities {probabilities.shape} and thresholds {thresholds.shape} do "
            f"not fit the test set of {shape[0]} texts and {shape[1]} labels"
        )
    if len(groups.of_label) != shape[1]:
        raise ValueError(f"groups of {len(groups.of_label)} labels, the test set has {shape[1]}")
    names = set(test.labels if scored_labels is None else scored_labels)
    scored = np.array([label in names for label in test.labels], dtype=bool)
    scores = np.where(scored, probabilities, probabilities.dtype.type(0))
    return _evaluate(test, arm, scores, thresholds.astype(np.float64), groups, scored=scored)


def slice_counts(test: TestSet, arm: ArmEvaluation, member: Bools) -> Counts:
    """Counts of each text within slices of the labels, to compare arms on shared labels.

    Args:
        test: the test set the arm was evaluated on.
        arm: its evaluation.
        member: shape (labels, slices); which labels a slice takes in.

    Returns:
        TP, FP, FN of shape (texts, slices, 3).
    """
    columns = member.astype(np.int64)
    given, positive = arm.decided.astype(np.int64), test.positives.astype(np.int64)
    hits = given.multiply(positive) @ columns
    return np.stack([hits, given @ columns - hits, positive @ columns - hits], axis=-1)


def _evaluate(
    test: TestSet,
    arm: str,
    scores: Scores,
    thresholds: Floats,
    groups: LabelGroups,
    *,
    scored: Bools,
) -> ArmEvaluation:
    y = test.positives.toarray()
    decided = decide(scores, thresholds) & scored
    if test.known is not None:
        decided &= test.known
    counts = metrics.label_counts(y, decided)
    is_finite = bool(np.isfinite(scores).all() and not np.isnan(thresholds).any())
    overall, cohort, precision = _over_all_labels(test, y, decided, scores if is_finite else None)
    by_group = {str(name): groups.columns(name) for name in GROUPS}
    within = [metrics.text_counts(y[:, at], decided[:, at]) for at in by_group.values()]
    zero = (counts[:, 0] == 0) & (counts[:, 2] > 0)
    return ArmEvaluation(
        arm=arm,
        test_fingerprint=test.fingerprint,
        labels=test.labels,
        scored=scored,
        thresholds=thresholds,
        decided=sp.csr_array(decided),
        finite=is_finite,
        in_range=bool(((scores >= 0) & (scores <= 1)).all()),
        label_counts=counts,
        text_counts=np.stack(within, axis=1),
        average_precision=precision,
        overall=overall,
        groups={name: group_values(counts[at], is_finite) for name, at in by_group.items()},
        table2=table2_values(counts, by_group, zero, is_finite),
        original_cohort=cohort,
    )


def _over_all_labels(
    test: TestSet, y: Bools, decided: Bools, scores: Scores | None
) -> tuple[Values, Values, Floats]:
    """Metrics of all texts and of the original cohort, average precision per label."""
    undefined: Values = dict.fromkeys(OVERALL, float("nan"))
    if scores is None:
        return undefined, undefined, np.full(len(test.labels), np.nan)
    precision = metrics.average_precision(y, scores, test.known)
    overall = overall_values(y, decided, scores, test.known)
    original = test.cohort == 0
    if original.all():
        return overall, overall, precision
    if not original.any():
        return overall, undefined, precision
    known = None if test.known is None else test.known[original]
    cohort = overall_values(y[original], decided[original], scores[original], known)
    return overall, cohort, precision
