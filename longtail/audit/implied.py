"""Labels that others imply: nearly every text with the one has the other as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.audit.candidates import Candidate, Kind
from longtail.labels import LabelSpace

_Z_95 = 1.6448536269514722
"""Of the one-sided 95 % bound."""

_ROWS = 8192


@dataclass(frozen=True)
class Implication:
    """A label that implies another.

    Attributes:
        label: the one.
        implies: the other.
        texts: texts with the label where the other one is known.
        both: those that have the other one too.
        lower: Wilson's one-sided 95 % lower bound of the share, in [0, 1].
        prevalence: share of the other label among all texts where it is known.
        source: ``data``: found by the share; ``taxonomy``: the taxonomy calls it a parent.
        mutual: whether the other one implies this one as well.
        missing: rows that have the label and lack the other.
    """

    label: str
    implies: str
    texts: int
    both: int
    lower: float
    prevalence: float
    source: Literal["data", "taxonomy"]
    mutual: bool
    missing: tuple[int, ...]

    @property
    def share(self) -> float:
        """Share of the label's texts that have the other one, in [0, 1]."""
        return self.both / self.texts if self.texts else 0.0


def find_implied(
    y: sp.csr_array,
    space: LabelSpace,
    *,
    share: float,
    texts: int,
    known: NDArray[np.bool_] | None = None,
    parents: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Implication, ...]:
    """Find A ⇒ B where at least ``share`` of A's texts have B, and what breaks it.

    A label that nearly all texts have is implied by everything and says nothing: the lower bound
    has to be above the share of B among all texts.

    Args:
        y: bool CSR (n, L).
        space: names of the L labels.
        share: smallest share, in (0, 1).
        texts: fewest texts of A.
        known: bool (n, L); only texts where B is known count for A ⇒ B.
        parents: parents of each label by the taxonomy; they are implied whatever the share.

    Returns:
        By the taxonomy first, then by share and number of texts.
    """
    counts, both, prevalence = _counts(y, known)
    shares = both / np.maximum(counts, 1)
    lower = wilson_lower(both, counts)
    holds = (counts >= texts) & (shares >= share) & (lower > prevalence[None, :])
    np.fill_diagonal(holds, False)
    named = _parent_cells(space, parents)
    found = []
    for a, b in np.argwhere(holds | named).tolist():
        found.append(
            Implication(
                label=space.names[a],
                implies=space.names[b],
                texts=int(counts[a, b]),
                both=int(both[a, b]),
                lower=float(lower[a, b]),
                prevalence=float(prevalence[b]),
                source="taxonomy" if named[a, b] else "data",
                mutual=bool((holds | named)[b, a]),
                missing=_missing(y, known, a, b) if both[a, b] < counts[a, b] else (),
            )
        )
    order = {"taxonomy": 0, "data": 1}
    return tuple(
        sorted(found, key=lambda o: (order[o.source], -o.share, -o.texts, o.label, o.implies))
    )


def wilson_lower(hits: Any, n: Any) -> NDArray[np.float64]:
    """Lower end of Wilson's score interval (1927), one-sided 95 %; 0 where n is 0."""
    n = np.asarray(n, dtype=np.float64)
    safe = np.maximum(n, 1.0)
    p = np.asarray(hits, dtype=np.float64) / safe
    z2 = _Z_95**2
    centre = p + z2 / (2 * safe)
    spread = _Z_95 * np.sqrt(p * (1 - p) / safe + z2 / (4 * safe**2))
    bound = (centre - spread) / (1 + z2 / safe)
    result: NDArray[np.float64] = np.where(n > 0, np.maximum(bound, 0.0), 0.0)
    return result


def implied_candidates(found: Sequence[Implication], ids: Sequence[str]) -> list[Candidate]:
    """A missing label for every text that breaks an implication."""
    made = []
    for one in found:
        kind: Kind = "taxonomy" if one.source == "taxonomy" else "implied"
        why = (
            f"{one.both} of {one.texts} texts with {one.label!r} have {one.implies!r} too "
            f"({one.share:.1%}, at least {one.lower:.1%})"
        )
        if one.source == "taxonomy":
            why = f"the taxonomy calls {one.implies!r} a parent of {one.label!r}"
        score = 1.0 if one.source == "taxonomy" else one.lower
        made += [Candidate(ids[row], one.implies, "add", kind, score, why) for row in one.missing]
    return made


def as_json(found: Sequence[Implication], ids: Sequence[str], listed: int) -> dict[str, Any]:
    """The section of ``audit.json``."""
    return {
        "implications": len(found),
        "missing": sum(len(one.missing) for one in found),
        "listed": [
            {
                "label": one.label, "implies": one.implies, "texts": one.texts, "both": one.both,
                "share": one.share, "lower": one.lower, "prevalence": one.prevalence,
                "source": one.source, "mutual": one.mutual, "missing": len(one.missing),
                "missing_ids": [ids[row] for row in one.missing[:listed]],
            }
            for one in found[:listed]
        ],
    }  # fmt: skip


def _counts(
    y: sp.csr_array, known: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Texts with A where B is known (L, L), those with both (L, L), prevalence of B (L,)."""
    cells = sp.csr_array(y, dtype=np.int64)
    both = np.asarray((cells.T @ cells).toarray())
    support = np.asarray(cells.sum(axis=0)).ravel()
    if known is None:
        counts = np.broadcast_to(support[:, None], both.shape).copy()
        return counts, both, support / max(1, y.shape[0])
    counts = np.zeros(both.shape, dtype=np.int64)
    for start in range(0, y.shape[0], _ROWS):
        rows = slice(start, start + _ROWS)
        counts += cells[rows].T @ known[rows].astype(np.int64)
    return counts, both, support / np.maximum(known.sum(axis=0), 1)


def _parent_cells(
    space: LabelSpace, parents: Mapping[str, Sequence[str]] | None
) -> NDArray[np.bool_]:
    named = np.zeros((len(space), len(space)), dtype=bool)
    for label, above in (parents or {}).items():
        for parent in above:
            if label in space.index and parent in space.index:
                named[space.index[label], space.index[parent]] = True
    return named


def _missing(y: sp.csr_array, known: NDArray[np.bool_] | None, a: int, b: int) -> tuple[int, ...]:
    lacking = y[:, [a]].toarray().ravel() & ~y[:, [b]].toarray().ravel()
    if known is not None:
        lacking &= known[:, b]
    return tuple(np.flatnonzero(lacking).tolist())
