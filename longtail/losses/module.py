"""The losses as one ``nn.Module``.

For whoever trains with it: calling the module gives the **sum** over the known cells, not a mean.
A mean per micro-batch is wrong as soon as gradients are accumulated or several processes share a
step, because the parts hold different numbers of known cells. So take

    total = loss.sum(logits, targets, known)      # differentiable, shape ()
    cells = loss.cells(targets, known)            # int64, shape ()

for every micro-batch and divide ``total`` by the ``cells`` of *all* micro-batches of the optimiser
step, over all processes. ``loss.mean`` does it for a step of one micro-batch on one process.

Two terms are no sum over texts: ``weight_norm="by_batch"`` divides by the largest weight of the
tensor it is given, and ``form="two_way"`` compares its texts with each other. With them a step cut
into micro-batches is another loss than the whole step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from longtail.losses import forms, terms
from longtail.losses.spec import LossSpec


class MultiLabelLoss(nn.Module):
    """A loss of the family that :class:`~longtail.losses.spec.LossSpec` describes.

    All state is in buffers, so ``.to()`` and ``state_dict`` carry it. Half precision logits are
    computed in float32, float64 stays float64; the caller's tensors are never changed.

    Attributes:
        spec: the terms.
        support: buffer (L,), n of each label, clamped to [1, N − 1].
        bias: buffer (L,), b = −κ ln(N/n − 1).
        label_weight: buffer (L,): 1/n for ``rebalance``, else the weight of a cell of the label
            (1 where the weight is made of the text's positives, or there is none).
        mu: buffer (), μ of the rebalancing; 0 where there is none.
    """

    support: Tensor
    bias: Tensor
    label_weight: Tensor
    mu: Tensor

    def __init__(
        self,
        spec: LossSpec,
        support: Tensor,
        texts: Tensor,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take over the statistics of the training set.

        Args:
            spec: the terms; with ``rebalance``, ``rebalance_mu`` must be a number.
            support: n, positives of each label in train, shape (L,).
            texts: N, texts in train for which the label is known, shape (L,) or ().
            dtype: type of the buffers; float64 is for checking the numbers.

        Raises:
            ValueError: no label, shapes that do not fit, or no μ.
        """
        super().__init__()
        if spec.reweighting == "rebalance" and spec.rebalance_mu is None:
            raise ValueError("rebalance_mu is None: take it from the training set (mu_from_data)")
        if support.ndim != 1 or len(support) == 0 or texts.shape not in {(), support.shape}:
            raise ValueError(
                f"support has shape {tuple(support.shape)} and texts {tuple(texts.shape)}; "
                "expected (L,) with at least one label, and (L,) or ()"
            )
        self.spec = spec
        # At least 2 texts, else there is no n between 1 and N - 1.
        total = texts.detach().to(torch.float64).clamp(min=2.0).expand_as(support)
        n = torch.minimum(support.detach().to(torch.float64).clamp(min=1.0), total - 1.0)
        self.register_buffer("support", n.to(dtype))
        self.register_buffer("bias", (-spec.init_bias * torch.log(total / n - 1.0)).to(dtype))
        self.register_buffer("label_weight", _label_weight(spec, n, total).to(dtype))
        self.register_buffer("mu", torch.tensor(spec.rebalance_mu or 0.0, dtype=dtype))

    def forward(self, logits: Tensor, targets: Tensor, known: Tensor | None = None) -> Tensor:
        """Sum of the loss over the known cells, times ``loss_weight``.

        Args:
            logits: (B, L), any floating type.
            targets: (B, L), 0 or 1 in any type.
            known: bool (B, L), False where nobody knows whether the label holds; None: all known.

        Returns:
            Shape (), float32 (float64 for float64 logits). An unknown cell adds nothing, and its
            logit gets the gradient 0, whatever it holds. An empty batch gives 0.

        Raises:
            ValueError: the shapes do not fit.
        """
        self._check_shapes(logits, targets, known)
        z = logits.to(torch.promote_types(logits.dtype, torch.float32))
        positive = targets > 0.5
        if known is not None:
            known = known.bool()
            positive = positive & known
            # Before any arithmetic: a NaN there would reach the gradient through 0 · NaN.
            z = torch.where(known, z, 0.0)
        if self.spec.form == "pointwise":
            return self._per_cell(z, positive.to(z.dtype), known).sum()
        return self._compared(z + self.bias.to(z.dtype), positive, known) * self.spec.loss_weight

    def sum(self, logits: Tensor, targets: Tensor, known: Tensor | None = None) -> Tensor:
        """The same as calling the module, under the name that says what it is."""
        total: Tensor = self(logits, targets, known)
        return total

    def cells(self, targets: Tensor, known: Tensor | None = None) -> Tensor:
        """Number of known cells, by which a sum is to be divided; int64, shape ()."""
        if known is None:
            return torch.tensor(targets.numel(), device=targets.device)
        return known.bool().sum()

    def mean(self, logits: Tensor, targets: Tensor, known: Tensor | None = None) -> Tensor:
        """Mean over the known cells of one batch; 0 where none is known."""
        return self.sum(logits, targets, known) / self.cells(targets, known).clamp(min=1)

    def extra_repr(self) -> str:
        """The terms, for ``print``."""
        return f"labels={len(self.support)}, {self.spec}"

    def _compared(self, z: Tensor, positive: Tensor, known: Tensor | None) -> Tensor:
        """Sum of a form in which cells compete, shape ()."""
        negative = ~positive if known is None else known & ~positive
        if self.spec.form == "zlpr":
            return forms.zlpr(z, positive, negative)
        return forms.two_way(z, positive, negative, self.spec.two_way_temperature)

    def _per_cell(self, z: Tensor, y: Tensor, known: Tensor | None) -> Tensor:
        """The loss of every cell, (B, L), 0 where unknown."""
        spec = self.spec
        margin = terms.truth_margin(z, y, self.bias.to(z.dtype), spec.neg_scale)
        cell, log_miss = terms.log_likelihood(margin, y, spec.negative_shift)
        if spec.focal:
            cell = cell * terms.focal_factor(log_miss, self._gamma(y))
        cell = cell.mul_(self._scale(y, known))
        return cell if known is None else torch.where(known, cell, 0.0)

    def _gamma(self, y: Tensor) -> float | Tensor:
        of_positives, of_negatives = self.spec.focal_gamma, self.spec.focal_gamma_negatives
        if of_negatives is None or of_negatives == of_positives:
            return of_positives
        return terms.by_truth(y, of_positives, of_negatives)

    def _scale(self, y: Tensor, known: Tensor | None) -> float | Tensor:
        """What no gradient flows through: −α_t, 1/λ, the weight of a cell and of the whole."""
        spec = self.spec
        alpha = (spec.focal_alpha, 1.0 - spec.focal_alpha) if spec.focal else (1.0, 1.0)
        of_positives = -spec.loss_weight * alpha[0]
        of_negatives = -spec.loss_weight * alpha[1]
        if spec.negatives_divided:
            of_negatives /= spec.neg_scale
        scale: float | Tensor = of_positives
        if of_positives != of_negatives:
            scale = terms.by_truth(y, of_positives, of_negatives)
        return scale if spec.reweighting == "none" else self._weight(y, known) * scale

    def _weight(self, y: Tensor, known: Tensor | None) -> Tensor:
        """Weights of the cells, broadcastable to (B, L)."""
        spec = self.spec
        label_weight = self.label_weight.to(y.dtype)
        if spec.reweighting == "rebalance":
            weight = terms.rebalance_weight(
                y, label_weight, spec.rebalance_alpha, spec.rebalance_beta, self.mu.to(y.dtype)
            )
        elif spec.reweighting == "class_balanced" and spec.class_balance_mode != "by_class":
            weight = terms.class_balanced_text_weight(
                y, self.support.to(y.dtype), spec.class_balance_beta, spec.class_balance_mode
            )
        else:
            weight = label_weight
        if spec.weight_norm == "by_instance":
            return terms.normalise_by_instance(weight.expand_as(y), known)
        if spec.weight_norm == "by_batch":
            return terms.normalise_by_batch(weight.expand_as(y), known)
        return weight

    def _check_shapes(self, logits: Tensor, targets: Tensor, known: Tensor | None) -> None:
        shapes = {logits.shape, targets.shape} | ({known.shape} if known is not None else set())
        if len(shapes) > 1 or logits.ndim != 2 or logits.shape[1] != len(self.support):
            raise ValueError(
                f"logits have shape {tuple(logits.shape)}, targets {tuple(targets.shape)}"
                + (f", known {tuple(known.shape)}" if known is not None else "")
                + f"; expected the same (texts, {len(self.support)})"
            )


def _label_weight(spec: LossSpec, n: Tensor, total: Tensor) -> Tensor:
    if spec.reweighting == "rebalance":
        return 1.0 / n
    if spec.reweighting == "inverse":
        return total / n
    if spec.reweighting == "sqrt_inverse":
        return torch.sqrt(total / n)
    if spec.reweighting == "class_balanced" and spec.class_balance_mode == "by_class":
        return terms.class_balanced_weight(n, spec.class_balance_beta)
    return torch.ones_like(n)
