"""Labels that are too rare to judge, and what to do about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.labels import LabelSpace, support

SPLITS = 3
TEST = 2


@dataclass(frozen=True)
class RareLabel:
    """A label that cannot be judged.

    Attributes:
        label: its name.
        texts: texts that have it.
        units: indivisible groups of texts that have it.
        test_texts: texts of the test set that have it; None without a split.
        reasons: any of ``units`` (fewer than there are splits), ``texts`` (too few to search for
            errors) and ``test`` (none in the test set).
    """

    label: str
    texts: int
    units: int
    test_texts: int | None
    reasons: tuple[str, ...]


def find_rare(
    y: sp.csr_array,
    space: LabelSpace,
    units: NDArray[np.int64],
    *,
    min_texts: int,
    sides: NDArray[np.int8] | None = None,
) -> tuple[RareLabel, ...]:
    """Labels of too few units or texts, or without a test text; the rarest first.

    Args:
        y: bool CSR (n, L).
        space: names of the labels.
        units: int64 (n,); rows of one unit always stand on one side.
        min_texts: fewest texts of a label that is searched for errors.
        sides: int8 (n,), 0 train, 1 validation, 2 test, less than 0 none; None: no split.
            Without a test text there is no test set to miss.
    """
    texts, n_units = support(y), label_units(y, units)
    tested_rows = np.flatnonzero(sides == TEST) if sides is not None else np.zeros(0, np.int64)
    in_test = support(sp.csr_array(y[tested_rows])) if len(tested_rows) else None
    found = []
    for at, name in enumerate(space.names):
        reasons = []
        if n_units[at] < SPLITS:
            reasons.append("units")
        if texts[at] < min_texts:
            reasons.append("texts")
        if in_test is not None and in_test[at] == 0:
            reasons.append("test")
        if reasons:
            tested = None if in_test is None else int(in_test[at])
            found.append(RareLabel(name, int(texts[at]), int(n_units[at]), tested, tuple(reasons)))
    return tuple(sorted(found, key=lambda one: (one.texts, one.label)))


def label_units(y: sp.csr_array, units: NDArray[np.int64]) -> NDArray[np.int64]:
    """In how many units each label stands, int64 (L,)."""
    cells = y.tocoo()
    pairs = np.unique(np.stack([cells.col, units[cells.row]]), axis=1)
    return np.bincount(pairs[0], minlength=y.shape[1])


def as_json(found: Sequence[RareLabel]) -> dict[str, Any]:
    """The section of ``audit.json``."""
    return {
        "labels": len(found),
        **{
            f"too_few_{reason}" if reason != "test" else "not_in_test": sum(
                reason in one.reasons for one in found
            )
            for reason in ("units", "texts", "test")
        },
        "listed": [vars(one) for one in found],
    }
