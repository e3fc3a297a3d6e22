"""Choosing one of several trained losses, by validation alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail import metrics
from longtail.cuts import Known, Probabilities
from longtail.thresholds import decide


@dataclass(frozen=True)
class OnValidation:
    """What an arm achieves on the validation texts, at its own thresholds.

    Attributes:
        micro_f1: over all labels.
        macro_f1: mean of the labels' F1.
        recognised_labels: labels with F1 above 0.
    """

    micro_f1: float
    macro_f1: float
    recognised_labels: int


def on_validation(
    y: sp.csr_array,
    probabilities: Probabilities,
    thresholds: NDArray[np.float64],
    known: Known = None,
) -> OnValidation:
    """Score an arm on validation.

    Args:
        y: labels (n, L).
        probabilities: (n, L), in [0, 1].
        thresholds: (L,); a label is given where its probability is above.
        known: bool (n, L), False where it is not known whether the label holds.
    """
    counts = metrics.label_counts(y.toarray(), decide(probabilities, thresholds), known)
    return OnValidation(
        micro_f1=float(metrics.f1(counts.sum(axis=0))),
        macro_f1=float(metrics.f1(counts).mean()),
        recognised_labels=int(np.count_nonzero(metrics.recognised(counts))),
    )


def preferred(shortlist: Sequence[OnValidation], baseline: OnValidation) -> int:
    """Which of a shortlist validation prefers.

    Of those that recognise at least as many labels as the baseline the one with the highest
    micro-F1; where none does, the one with the highest micro-F1 of all. Of equals the first.
    """
    needed = baseline.recognised_labels
    return max(
        range(len(shortlist)),
        key=lambda at: (shortlist[at].recognised_labels >= needed, shortlist[at].micro_f1, -at),
    )
