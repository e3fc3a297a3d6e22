"""Losses in which cells are compared with each other, instead of each with its own truth.

Both are made of the smooth maximum ln Σ exp of the logits of negatives, and of the negated logits
of positives. ``z`` are the adjusted logits (B, L); ``positive`` and ``negative`` are bool (B, L)
and leave out the cells that are not known. The results are sums as :mod:`longtail.losses.module`
explains: divided by the number of known cells, they are the papers' means.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

# Stands for the −∞ of an empty sum: −∞ itself has no gradient.
_NOTHING = -1e30


def zlpr(z: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Σ over texts of K·[ln(1 + Σ_neg e^z) + ln(1 + Σ_pos e^−z)], K the text's known cells.

    Su et al., *ZLPR: A Novel Loss for Multi-label Classification* (2022), eq. 5: every positive is
    to lie above 0 and every negative below. Its cut is z = 0.

    Returns:
        Shape (). Without unknown cells, the mean over cells is the paper's mean over texts.
    """
    cells = (positive | negative).sum(dim=1)
    worst_negative = _log_sum_exp(z, negative, dim=1)
    worst_positive = _log_sum_exp(-z, positive, dim=1)
    return (cells * (_softplus(worst_negative) + _softplus(worst_positive))).sum()


def two_way(z: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """K·[mean over texts + mean over labels] of ln(1 + e^n · e^p), K the known cells of the batch.

    n = ln Σ_neg e^z and p = T ln Σ_pos e^(−z/T), over the labels of a text, and over the texts of
    the batch for a label. Kobayashi, *Two-Way Multi-Label Loss* (CVPR 2023): positives are to lie
    above the negatives of the same text, and of the same label; there is no cut of its own. The
    means are over the texts and the labels that have a positive in the batch, as in the paper, so
    the second depends on who else is in it.

    Args:
        z: (B, L).
        positive: bool (B, L).
        negative: bool (B, L).
        temperature: T.

    Returns:
        Shape ().
    """
    total = z.new_zeros(())
    for dim in (1, 0):
        worst_negative = _log_sum_exp(z, negative, dim)
        worst_positive = _log_sum_exp(z / -temperature, positive, dim) * temperature
        present = positive.any(dim=dim).sum().clamp(min=1)
        total = total + _softplus(worst_negative + worst_positive).sum() / present
    return (positive | negative).sum() * total


def _log_sum_exp(values: Tensor, of: Tensor, dim: int) -> Tensor:
    return torch.logsumexp(torch.where(of, values, _NOTHING), dim=dim)


def _softplus(x: Tensor) -> Tensor:
    # torch's own softplus is cut to x above 20.
    return -logsigmoid(-x)
