"""Sources of evidence about (text, label) pairs, each a small class of one protocol.

A source says of each text how much speaks for each label, in whatever unit it likes: higher is
more. What its numbers are worth is learned by :mod:`longtail.models.combination`. A new source is
a class like those here, named in ``longtail.models.ensemble.SOURCES``. See
``docs/reference/combination.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.baselines import LinearBaseline
from longtail.models.reading import Reading

Scores = NDArray[np.float32]


class MissingEvidenceError(Exception):
    """A source has nothing to say here; the message says why. It is left out."""


@dataclass(frozen=True, eq=False)
class Annotated:
    """Annotated texts that sources learn from.

    Attributes:
        reading: what the encoders say of the n texts.
        y: labels, bool (n, L).
        ids: of the texts.
        units: texts of one unit are near-duplicates or belong to one group, int64 (n,).
        known: bool (n, L), False where it is not known whether the label holds; None: all known.
    """

    reading: Reading
    y: sp.csr_array
    ids: Sequence[str]
    units: NDArray[np.int64]
    known: NDArray[np.bool_] | None = None


class Source(Protocol):
    """Evidence of one kind."""

    name: ClassVar[str]

    def fit(self, memory: Annotated) -> Self:
        """Learn from annotated texts.

        Raises:
            MissingEvidenceError: there is nothing to learn from.
        """

    def score(self, reading: Reading) -> Scores:
        """Evidence for each label, float32 (n, L); finite."""

    def save(self, directory: Path) -> None:
        """Write what :meth:`load` needs, as plain data."""

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            StoreError: it is not whole.
        """


class EncoderLogits:
    """The logits of the encoder that was trained with the candidate's loss."""

    name: ClassVar[str] = "encoder"

    def fit(self, memory: Annotated) -> Self:  # noqa: ARG002 - trained by longtail.training
        """The encoder is trained elsewhere."""
        return self

    def score(self, reading: Reading) -> Scores:
        """The logits, (n, L)."""
        return reading.logits[self.name]

    def save(self, directory: Path) -> None:
        """The weights are in the bundle's own files."""

    @classmethod
    def load(cls, directory: Path) -> Self:  # noqa: ARG003
        """Nothing to read."""
        return cls()


class BaselineLogits(EncoderLogits):
    """The logits of the encoder that was trained with binary cross-entropy."""

    name: ClassVar[str] = "bce"


class LinearDecisions:
    """The decision values of the linear arm over words.

    Args:
        model: a fitted one, or one to be fitted.
    """

    name: ClassVar[str] = "linear"

    def __init__(self, model: LinearBaseline) -> None:
        self.model = model

    def fit(self, memory: Annotated) -> Self:
        """Fit the linear arm."""
        self.model.fit(memory.reading.texts, memory.y, memory.known)
        return self

    def score(self, reading: Reading) -> Scores:
        """The decision values, (n, L)."""
        return self.model.decisions(reading.texts)

    def save(self, directory: Path) -> None:
        """Write the linear arm."""
        self.model.save(directory)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the linear arm."""
        return cls(LinearBaseline.load(directory))
