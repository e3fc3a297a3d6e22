"""Late fusion: the encoder's logits plus a weight times the linear arm's decision values.

The fused probability of a label is σ(z + a·d): z is the encoder's logit, d the linear arm's
decision value, a ≥ 0 one weight for all labels, chosen on validation. See
``docs/reference/fusion.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special
from numpy.typing import NDArray

from longtail.config import FusionSettings
from longtail.cuts import Known, Labels, Probabilities
from longtail.thresholds import best_global_threshold

_LOWEST = np.finfo(np.float32).tiny
_HIGHEST = np.nextafter(np.float32(1.0), np.float32(0.0))


@dataclass(frozen=True)
class Fusion:
    """The weight that validation chose, and what it was chosen from.

    Attributes:
        weight: a; 0 where fusing does not pay.
        validation_micro_f1: with this weight, at its own best global threshold, hence optimistic.
        alone_micro_f1: the same of the encoder alone.
        curve: (weight, validation micro-F1) of every weight tried, ascending.
        threshold: the cut of ``validation_micro_f1``.
    """

    weight: float
    validation_micro_f1: float
    alone_micro_f1: float
    curve: tuple[tuple[float, float], ...]
    threshold: float


def fuse_logits(
    logits: NDArray[np.float32], decisions: NDArray[np.float32], weight: float
) -> NDArray[np.float32]:
    """Probabilities σ(z + a·d), float32 (n, L).

    Args:
        logits: z of the encoder, (n, L).
        decisions: d of the linear arm, (n, L), columns in the same order.
        weight: a, at least 0.

    Raises:
        ValueError: the shapes differ.
    """
    if logits.shape != decisions.shape:
        raise ValueError(f"logits have shape {logits.shape}, decision values {decisions.shape}")
    fused = np.multiply(decisions, np.float32(weight), dtype=np.float32)
    fused += logits
    result: NDArray[np.float32] = scipy.special.expit(fused, out=fused)
    return result


def fuse(
    probabilities: Probabilities, decisions: NDArray[np.float32], weight: float
) -> NDArray[np.float32]:
    """Probabilities fused with decision values, float32 (n, L); see :func:`fuse_logits`.

    For what only the probabilities are left of. A weight of 0 gives them back as they are.

    Args:
        probabilities: of the encoder, (n, L), in [0, 1].
        decisions: d of the linear arm, (n, L).
        weight: a, at least 0.
    """
    if weight == 0.0:
        return np.asarray(probabilities, dtype=np.float32)
    return fuse_logits(logits_of(probabilities), decisions, weight)


def logits_of(probabilities: Probabilities) -> NDArray[np.float32]:
    """ln(p / (1 − p)), float32; finite for 0 and 1 too: −87.3 and 16.6, float32's own limits."""
    inside = np.clip(np.asarray(probabilities, dtype=np.float32), _LOWEST, _HIGHEST)
    result: NDArray[np.float32] = scipy.special.logit(inside, out=inside)
    return result


def fit_fusion(
    y: Labels,
    probabilities: Probabilities,
    decisions: NDArray[np.float32],
    settings: FusionSettings,
    known: Known = None,
) -> Fusion:
    """Choose the weight by micro-F1 on validation, each at its own best global threshold.

    0 is always tried; of equally good weights the smallest is taken.

    Args:
        y: validation labels (n, L), sparse or dense.
        probabilities: of the encoder alone, (n, L), in [0, 1].
        decisions: of the linear arm, fitted without these texts, (n, L).
        settings: the weights to try.
        known: bool (n, L), False where it is not known whether the label holds.

    Raises:
        DataError: a probability or a decision value is NaN.
        ValueError: the shapes do not fit.
    """
    logits: Any = None
    tried = []
    for weight in sorted({0.0, *settings.weights}):
        fused = probabilities
        if weight > 0.0:
            logits = logits_of(probabilities) if logits is None else logits
            fused = fuse_logits(logits, decisions, weight)
        tried.append((weight, *best_global_threshold(y, fused, known)))
    weight, threshold, best = max(tried, key=lambda found: (found[2], -found[0]))
    curve = tuple((weight, micro_f1) for weight, _, micro_f1 in tried)
    return Fusion(weight, best, alone_micro_f1=curve[0][1], curve=curve, threshold=threshold)
