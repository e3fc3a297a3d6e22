"""From a loss's settings and the training set's statistics to the module."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike, NDArray

from longtail.config import LossSettings
from longtail.errors import DataError
from longtail.losses.module import MultiLabelLoss
from longtail.losses.spec import LossSpec, resolve_spec


def build_loss(
    settings: LossSettings | LossSpec,
    *,
    support: ArrayLike,
    n_texts: int,
    y: sp.csr_array | None = None,
    known: Any | None = None,
    dtype: torch.dtype = torch.float32,
) -> MultiLabelLoss:
    """The loss module for a training set.

    Args:
        settings: a preset with options, or a spec.
        support: positives of each label in train, shape (L,).
        n_texts: number of training texts.
        y: training labels (n_texts, L); read only where μ must come from the data.
        known: bool (n_texts, L), array or sparse; False where it is not known whether the label
            holds. With it N is counted per label over the known cells. None: all known.
        dtype: type of the module's buffers.

    Raises:
        ConfigError: an impossible option.
        DataError: there is no label; or μ is to come from data without a positive.
        ValueError: μ is to come from the data and ``y`` is None, or shapes that do not fit.
    """
    spec = resolve_spec(settings)
    counts = np.asarray(support, dtype=np.float64)
    if counts.size == 0:
        raise DataError("the training set has no label, so there is nothing to learn")
    texts: NDArray[np.float64] = np.full(counts.shape, n_texts, dtype=np.float64)
    if known is not None:
        texts = np.asarray(known.sum(axis=0), dtype=np.float64).reshape(-1)
    if spec.reweighting == "rebalance" and spec.rebalance_mu is None:
        if y is None:
            raise ValueError("rebalance_mu is None: pass y, the training labels, to take it from")
        positives = y if known is None else _where_known(y, known)
        mu = mu_from_data(positives, counts, n_texts=texts)
        spec = dataclasses.replace(spec, rebalance_mu=mu)
    return MultiLabelLoss(spec, torch.from_numpy(counts), torch.from_numpy(texts), dtype=dtype)


def _where_known(y: sp.csr_array, known: Any) -> sp.csr_array:
    rows, columns = y.nonzero()
    kept = np.asarray(known[rows, columns]).reshape(-1).astype(bool)
    cells = (np.ones(int(kept.sum()), dtype=bool), (rows[kept], columns[kept]))
    return sp.csr_array(cells, shape=y.shape)


def mu_from_data(y: sp.csr_array, support: ArrayLike, *, n_texts: ArrayLike | None = None) -> float:
    """μ of the rebalancing: midpoint of mean and median of r over the positive cells.

    r = (1/n_i) / Σ_{j: y_j = 1} 1/n_j is 1 for a text with one label and small for a common label
    beside a rare one, so where its mass lies differs from data set to data set; the midpoint puts
    the steep part of the map there.

    Args:
        y: training labels (n_texts, L).
        support: n of each label in train, shape (L,).
        n_texts: N, of all labels or of each, to clamp n at N − 1; by default the rows of ``y``.

    Raises:
        DataError: no text has a label.
    """
    rows, columns = y.nonzero()
    if len(rows) == 0:
        raise DataError(
            "no text of the training set has a label, so μ of the rebalancing cannot be taken "
            "from it; check the labels of the training split"
        )
    most = np.maximum(np.asarray(y.shape[0] if n_texts is None else n_texts) - 1, 1)
    inverse = 1.0 / np.clip(np.asarray(support, dtype=np.float64), 1, most)
    of_cell = inverse[columns]
    ratio = of_cell / np.bincount(rows, weights=of_cell, minlength=y.shape[0])[rows]
    return float((ratio.mean() + np.median(ratio)) / 2)
