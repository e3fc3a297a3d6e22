"""The equations of the losses as small functions on tensors.

Shapes: B texts, L labels. ``y`` is the matrix of positives as numbers 0 and 1, shape (B, L), in
the floating type of the computation; a cell that is not known is 0 in it. Nothing here looks at
the values of a tensor to decide what to do, so that ``torch.compile`` sees one graph; and nothing
is a matrix product, which autocast would take in half precision. What is changed in place was made
in the same line: that spares large batches much of their memory traffic.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

from longtail.losses.spec import ClassBalanceMode


def by_truth(y: Tensor, of_positives: float, of_negatives: float) -> Tensor:
    """One number for positives and one for negatives; the shape and type of ``y``.

    ``torch.where`` on two Python numbers would round them to float32.
    """
    return (y * (of_positives - of_negatives)).add_(of_negatives)


def truth_margin(logits: Tensor, y: Tensor, bias: Tensor, neg_scale: float) -> Tensor:
    """Log-odds that the adjusted logit gives to the truth: z + b, or −λ(z + b) for negatives.

    Negative-tolerant regularisation, Wu et al. (ECCV 2020): the bias starts each label at its
    prior, the scale leaves a negative alone once it is far enough on its side.

    Args:
        logits: (B, L), unchanged.
        y: (B, L).
        bias: b of each label, (L,).
        neg_scale: λ.
    """
    return (logits + bias).mul_(by_truth(y, 1.0, -neg_scale))


def log_likelihood(margin: Tensor, y: Tensor, shift: float) -> tuple[Tensor, Tensor]:
    """Logarithms of p_t and of 1 − p_t, both (B, L).

    p_t is σ(margin); for negatives it is raised by the probability shift of Ridnik et al. (ICCV
    2021), eq. 5, so that 1 − p_t = max(p − shift, 0).
    """
    of_truth = logsigmoid(margin)
    of_miss = of_truth - margin
    if shift > 0.0:
        # The smallest number stands for 0, whose logarithm has no gradient.
        miss = (torch.sigmoid(-margin) - shift).clamp(min=torch.finfo(margin.dtype).tiny)
        positive = y > 0
        of_truth = torch.where(positive, of_truth, torch.log1p(-miss))
        of_miss = torch.where(positive, of_miss, torch.log(miss))
    return of_truth, of_miss


def focal_factor(log_miss: Tensor, gamma: float | Tensor) -> Tensor:
    """(1 − p_t)^γ from ln(1 − p_t), Lin et al. (ICCV 2017), eq. 4.

    The power itself would have an infinite slope at p_t = 1 for γ < 1.
    """
    return (log_miss * gamma).exp_()


def rebalance_weight(
    y: Tensor, inverse_support: Tensor, alpha: float, beta: float, mu: Tensor
) -> Tensor:
    """α + σ(β(r − μ)), r = (1/n_i) / Σ_{j: y_j = 1} 1/n_j; Wu et al. (ECCV 2020).

    Args:
        y: (B, L).
        inverse_support: 1/n of each label, (L,).
        alpha: the smallest weight.
        beta: steepness of the map.
        mu: r at which the map is half way, shape ().

    Returns:
        (B, L); 1 for a text without positives, whose r does not exist.
    """
    total = (y * inverse_support).sum(dim=1, keepdim=True)
    # Without positives r = 1/0 is infinite and σ(∞) = 1: without α, that is the weight.
    smallest = alpha * total.sign()
    return (inverse_support * (beta / total)).sub_(mu, alpha=beta).sigmoid_().add_(smallest)


def class_balanced_weight(n: Tensor, beta: float) -> Tensor:
    """(1 − β)/(1 − β^n), one over the effective number of samples; Cui et al. (CVPR 2019)."""
    # expm1 keeps the digits that 1 − β^n loses where β is near 1 and n small.
    return (beta - 1.0) / torch.expm1(n * math.log(beta))


def class_balanced_text_weight(
    y: Tensor, support: Tensor, beta: float, mode: ClassBalanceMode
) -> Tensor:
    """One class-balanced weight per text, made of its positives.

    Args:
        y: (B, L).
        support: n of each label, (L,).
        beta: β of the effective number of samples.
        mode: ``average_n``, ``average_w`` or ``min_n``.

    Returns:
        (B, 1); 1 for a text without positives.
    """
    count = y.sum(dim=1, keepdim=True)
    divisor = count.clamp(min=1)
    if mode == "average_w":
        weights = class_balanced_weight(support, beta)
        weight = (y * weights).sum(dim=1, keepdim=True) / divisor
    elif mode == "average_n":
        mean = (y * support).sum(dim=1, keepdim=True) / divisor
        weight = class_balanced_weight(torch.where(count > 0, mean, 1.0), beta)
    else:
        smallest = torch.where(y > 0, support, torch.inf).amin(dim=1, keepdim=True)
        weight = class_balanced_weight(torch.where(count > 0, smallest, 1.0), beta)
    return torch.where(count > 0, weight, 1.0)


def normalise_by_instance(weight: Tensor, known: Tensor | None) -> Tensor:
    """Weights divided by the largest among the known cells of their text; (B, L)."""
    return weight / _largest_per_text(weight, known)


def normalise_by_batch(weight: Tensor, known: Tensor | None) -> Tensor:
    """Weights divided by the largest among the known cells of the batch; (B, L)."""
    largest = _largest_per_text(weight, known)
    # The appended number keeps the maximum of an empty batch defined.
    smallest_number = torch.finfo(weight.dtype).tiny
    return weight / pad(largest.flatten(), (0, 1), value=smallest_number).amax()


def _largest_per_text(weight: Tensor, known: Tensor | None) -> Tensor:
    if known is not None:
        weight = torch.where(known, weight, 0.0)
    largest = weight.amax(dim=1, keepdim=True)
    return torch.where(largest > 0, largest, 1.0)
