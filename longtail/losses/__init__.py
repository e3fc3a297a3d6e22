"""Distribution-balanced loss and its family, binary cross-entropy included.

* :mod:`longtail.losses.spec` says what a loss is made of, as data; it does not import torch.
* :mod:`longtail.losses.terms` holds the equations on tensors.
* :mod:`longtail.losses.module` puts them together as an ``nn.Module``.
* :mod:`longtail.losses.build` takes the statistics from the training set.

Everything public can be imported from here; what needs torch is loaded on first use, so that a
configuration can be checked without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from longtail.losses.spec import PRESETS, LossSpec, from_article_config, resolve_spec

if TYPE_CHECKING:
    from longtail.losses.build import build_loss, mu_from_data
    from longtail.losses.module import MultiLabelLoss

__all__ = [
    "PRESETS",
    "LossSpec",
    "MultiLabelLoss",
    "build_loss",
    "from_article_config",
    "mu_from_data",
    "resolve_spec",
]

_HEAVY = {
    "MultiLabelLoss": "longtail.losses.module",
    "build_loss": "longtail.losses.build",
    "mu_from_data": "longtail.losses.build",
}


def __getattr__(name: str) -> Any:
    if name not in _HEAVY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HEAVY[name]), name)
