"""From the encoder to the candidate: sums of ever more sources of evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.config import CombinationSettings
from longtail.cuts import Known
from longtail.models.combination import CrossFitted, Evidence, Fitting, cross_fit
from longtail.models.evidence import BaselineLogits, EncoderLogits, LinearDecisions, Scores
from longtail.models.label_names import LabelNames, NameWords
from longtail.models.neighbours import Neighbours

ENCODER, BCE, LINEAR = EncoderLogits.name, BaselineLogits.name, LinearDecisions.name
NEIGHBOURS = Neighbours.name
SUMS = (
    ("linear", "the linear arm", (ENCODER, LINEAR)),
    ("neighbours", "similar texts", (NEIGHBOURS,)),
    ("names", "the labels' names", (LabelNames.name, NameWords.name)),
    ("both_encoders", "the encoder trained with BCE", (BCE,)),
)
"""What is added to the sum of evidence, step by step: key, name and sources."""


@dataclass(frozen=True, eq=False)
class Stacking:
    """The validation texts that combinations are fitted on, whatever the sources.

    Attributes:
        y: labels, bool (n, L).
        known: bool (n, L), False where it is not known whether the label holds; None: all known.
        units: texts of one unit stay together in a fold, int64 (n,).
        support: training texts of each label, int64 (L,).
        pairs: what :func:`longtail.models.combination.cooccurrence` gave; None leaves it out.
        settings: folds, and from how many texts on to learn.
    """

    y: sp.csr_array
    known: Known
    units: NDArray[np.int64]
    support: NDArray[np.int64]
    pairs: sp.csr_array | None
    settings: CombinationSettings

    def fit(self, evidence: Evidence, method: Fitting = "auto") -> CrossFitted:
        """A combination of some sources; see :func:`longtail.models.combination.cross_fit`."""
        return cross_fit(
            evidence, self.y, self.known, self.units, self.support, self.pairs, self.settings,
            method=method,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Sum:
    """One step: the weighted sum of some sources.

    Attributes:
        key: short name for files and programs.
        name: for people: what this step adds.
        sources: all that are added up.
        out_of_fold: probabilities of the validation texts, float32 (n, L).
        test: probabilities of the test texts, float32 (m, L).
    """

    key: str
    name: str
    sources: tuple[str, ...]
    out_of_fold: Scores
    test: Scores


def sums(stacking: Stacking, evidence: Evidence, on_test: Evidence) -> Iterator[Sum]:
    """Sums of ever more sources, so that each one's part in the gain can be told.

    A step that would add nothing is left out.

    Args:
        stacking: the validation texts.
        evidence: float32 (n, L) of each source there is for them.
        on_test: the same for the test texts.
    """
    added: list[str] = []
    for key, name, sources in SUMS:
        new = [source for source in sources if source in evidence and source not in added]
        if not set(new) - {ENCODER}:
            continue
        added += new
        fitted = stacking.fit({source: evidence[source] for source in added}, "weighted sum")
        yield Sum(key, name, tuple(added), fitted.out_of_fold, probabilities_of(fitted, on_test))


def without_the_loss(evidence: Evidence, bce: Evidence) -> dict[str, Scores]:
    """The same evidence without what was trained with the candidate's loss.

    Args:
        evidence: of the candidate's sources.
        bce: logits of the BCE encoder, and the vote of the texts that are near to it, if any.
    """
    rest = {name: scores for name, scores in evidence.items() if name != ENCODER}
    near = {NEIGHBOURS: bce[NEIGHBOURS]} if NEIGHBOURS in rest else {}
    return {BCE: bce[BCE], **rest, **near}


def probabilities_of(fitted: CrossFitted, on_test: Evidence) -> Scores:
    """Test probabilities of a combination, from evidence that may have more than it asks for."""
    sources = fitted.combination.sources
    return fitted.combination.probabilities({name: on_test[name] for name in sources})
