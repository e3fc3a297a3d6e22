"""Made readings and made evidence of several sources, some of which know something."""

import numpy as np
import scipy.sparse as sp
import torch
from tiny_case import SPACE, tiny_encoder

from longtail.config import CombinationSettings
from longtail.encoder import build_classifier
from longtail.models.evidence import Annotated
from longtail.models.reading import Reading, unit

SETTINGS = CombinationSettings(folds=3, min_texts=50, candidates=8)
L = 20


def classifier(seed, names=SPACE.names):
    """A tiny classifier whose layers all tiny ones share, but for its head and last layer."""
    model = build_classifier(tiny_encoder(), names, seed=0)
    torch.manual_seed(seed)
    torch.nn.init.normal_(model.classifier.weight)
    torch.nn.init.normal_(model.classifier.bias)
    for weights in model.bert.encoder.layer[-1].parameters():
        torch.nn.init.normal_(weights, std=0.2)
    return model.eval()


def reading(texts, width=5, seed=0, names=("encoder",)):
    """A reading whose vectors are random."""
    random = np.random.default_rng(seed)

    def made():
        return unit(random.normal(size=(len(texts), width)).astype(np.float32))

    return Reading(list(texts), {}, {name: made() for name in names}, made())


def annotated(n, labels=4, seed=0, known=None, units=None):
    """Annotated texts with random vectors and labels."""
    y = sp.csr_array(np.random.default_rng(seed + 100).random((n, labels)) < 0.4)
    texts = [f"text {seed} {row}" for row in range(n)]
    units = np.arange(n) if units is None else np.asarray(units)
    return Annotated(reading(texts, seed=seed), y, [f"t{row}" for row in range(n)], units, known)


def truth(n, labels=L, seed=0):
    """Long-tailed labels, bool (n, L)."""
    share = 0.4 / np.arange(1, labels + 1) ** 0.7
    return np.random.default_rng(seed).random((n, labels)) < share


def source(y, strength, seed, scale=1.0):
    """Values that tell positives from negatives, the better the higher the strength."""
    noise = np.random.default_rng(seed).normal(size=y.shape)
    return (scale * (strength * np.where(y, 1.0, -1.0) + noise)).astype(np.float32)


def evidence(y, **strengths):
    """Evidence of sources by their strength, in an order of their own."""
    return {name: source(y, strength, 7 + at) for at, (name, strength) in
            enumerate(strengths.items())}  # fmt: skip


def lopsided(y):
    """Evidence of which one source knows the common labels, another one the rare ones."""
    found = evidence(y, encoder=1.2, bce=0.7, linear=1.0)
    for name, columns in (("encoder", slice(6, None)), ("linear", slice(0, 6))):
        found[name][:, columns] -= (found[name] - source(y, 0.1, 50))[:, columns]
    return found
