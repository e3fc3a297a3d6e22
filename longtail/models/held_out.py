"""Evidence for texts that the sources have not seen: validation and test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from longtail.known import stacked
from longtail.models.ensemble import fit_sources
from longtail.models.evidence import Annotated, Scores, Source
from longtail.models.reading import Reading


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What sources say of validation and test texts.

    Attributes:
        validation: float32 (n, L) by source; the sources remember the training texts.
        test: float32 (m, L) by source; the sources remember training and validation texts.
        notes: a sentence for each source that was left out.
    """

    validation: dict[str, Scores]
    test: dict[str, Scores]
    notes: list[str]


def held_out_evidence(
    make: Callable[[], Sequence[Source]], train: Annotated, validation: Annotated, test: Reading
) -> HeldOut:
    """Ask sources about validation and test texts, each time with what comes before in memory.

    Args:
        make: gives the sources, not yet fitted; called twice.
        train: training texts.
        validation: validation texts.
        test: what the encoders say of the test texts.
    """
    learning, notes = fit_sources(make(), train)
    made = [source for source in make() if source.name in learning]
    serving, _ = fit_sources(made, together(train, validation))
    return HeldOut(
        {name: source.score(validation.reading) for name, source in learning.items()},
        {name: source.score(test) for name, source in serving.items()},
        notes,
    )


def together(first: Annotated, second: Annotated) -> Annotated:
    """Annotated texts, one set below the other."""
    one, other = first.reading, second.reading
    reading = Reading(
        [*one.texts, *other.texts],
        {name: np.concatenate([one.logits[name], other.logits[name]]) for name in one.logits},
        {name: np.concatenate([one.vectors[name], other.vectors[name]]) for name in one.vectors},
        None
        if one.meaning is None or other.meaning is None
        else np.concatenate([one.meaning, other.meaning]),
    )
    shapes = [first.y.shape, second.y.shape]
    return Annotated(
        reading,
        sp.csr_array(sp.vstack([first.y, second.y])),
        [*first.ids, *second.ids],
        np.concatenate([first.units, second.units]),
        stacked(shapes, [first.known, second.known]),
    )
