"""The search for label errors as the audit runs it: which labels, which texts, and in words."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.audit import label_errors
from longtail.audit.candidates import Candidate
from longtail.audit.rare import label_units
from longtail.config import AuditSettings
from longtail.hashing import stable_hash
from longtail.labels import LabelSpace, support

logger = logging.getLogger(__name__)

MAX_CELLS = 2_000
"""Cells that are listed at most: more than anybody looks through, the likeliest first."""

_WORST_TEXTS = 200
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class SearchedLabels:
    """What the search found.

    Attributes:
        texts: texts that were searched.
        labels: names of the labels that were searched.
        excluded: names of those too rare to be, or that nearly every text has.
        wrong: suspected cells whose label is there; missing: those where it is not. All of them,
            listed or not.
        per_label: counts of each searched label with a suspect, the most suspects first.
        worst_texts: the texts with the lowest label quality, with it.
        candidates: at most MAX_CELLS.
    """

    texts: int
    labels: tuple[str, ...]
    excluded: tuple[str, ...]
    wrong: int
    missing: int
    per_label: tuple[dict[str, Any], ...]
    worst_texts: tuple[tuple[str, float], ...]
    candidates: tuple[Candidate, ...]

    def as_json(self) -> dict[str, Any]:
        """The section of ``audit.json``."""
        return {
            "texts": self.texts,
            "labels": len(self.labels),
            "excluded": self.excluded,
            "wrong": self.wrong,
            "missing": self.missing,
            "per_label": self.per_label,
            "worst_texts": [{"id": name, "score": round(s, 4)} for name, s in self.worst_texts],
            "listed": [one.as_json() for one in self.candidates],
        }


def search_label_errors(
    texts: Sequence[str],
    y: sp.csr_array,
    space: LabelSpace,
    *,
    ids: Sequence[str],
    units: NDArray[np.int64],
    settings: AuditSettings,
    known: Bools | None = None,
) -> SearchedLabels | None:
    """Search the labels that are frequent enough, over at most ``settings.max_texts`` texts.

    Args:
        texts: n texts.
        y: bool CSR (n, L).
        space: names of the L labels.
        ids: unique id of each text.
        units: int64 (n,); a unit is never divided between folds.
        settings: folds and limits.
        known: bool (n, L); unknown cells are neither trained on nor searched.

    Returns:
        None where no label is frequent enough.
    """
    rows = sampled(ids, settings.max_texts)
    part, bound = sp.csr_array(y[rows]), units[rows]
    columns = _searchable(part, bound, settings)
    if not len(columns):
        logger.info("audit: no label has the %d texts to be searched", settings.min_label_texts)
        return None
    names, ids_of = [space.names[at] for at in columns], [ids[row] for row in rows]
    cells = sp.csr_array(part[:, columns])
    seen = None if known is None else known[np.ix_(rows, columns)]
    decisions = label_errors.held_out_decisions(
        [texts[row] for row in rows], cells,
        ids=ids_of, units=bound, folds=settings.folds, known=seen,
    )  # fmt: skip
    probabilities = label_errors.calibrate(decisions, cells, seen)
    joint = label_errors.confident_joint(probabilities, cells, seen)
    found = label_errors.suspects(probabilities, cells, joint, seen)
    quality = label_errors.text_scores(probabilities, cells, seen)
    taken = set(columns.tolist())
    return SearchedLabels(
        texts=len(rows),
        labels=tuple(names),
        excluded=tuple(name for at, name in enumerate(space.names) if at not in taken),
        wrong=int(found.given.sum()),
        missing=int((~found.given).sum()),
        per_label=_per_label(found, joint, names, support(cells)),
        worst_texts=tuple(
            (ids_of[row], float(quality[row]))
            for row in np.argsort(quality, kind="stable")[:_WORST_TEXTS].tolist()
        ),
        candidates=_candidates(found, ids_of, names),
    )


def sampled(ids: Sequence[str], at_most: int) -> NDArray[np.int64]:
    """The rows to search, ascending; the same ids give the same sample in any order."""
    if len(ids) <= at_most:
        return np.arange(len(ids))
    order = np.argsort(stable_hash(ids, seed=1), kind="stable")
    rows: NDArray[np.int64] = np.sort(order[:at_most])
    return rows


def _searchable(
    y: sp.csr_array, units: NDArray[np.int64], settings: AuditSettings
) -> NDArray[np.int64]:
    """Columns with enough texts that have the label, in every fold, and that do not have it."""
    texts = support(y)
    enough = (texts >= settings.min_label_texts) & (y.shape[0] - texts >= settings.min_label_texts)
    return np.flatnonzero(enough & (label_units(y, units) >= settings.folds))


def _per_label(
    found: label_errors.Suspects,
    joint: label_errors.Joint,
    names: Sequence[str],
    texts: NDArray[np.int64],
) -> tuple[dict[str, Any], ...]:
    n = len(names)
    wrong = np.bincount(found.labels[found.given], minlength=n)
    missing = np.bincount(found.labels[~found.given], minlength=n)
    order = np.lexsort((np.arange(n), -(wrong + missing)))
    return tuple(
        {"label": names[at], "texts": int(texts[at]), "wrong": int(wrong[at]),
         "missing": int(missing[at]), "confident_joint": joint.counts[at].tolist()}
        for at in order.tolist() if wrong[at] + missing[at]
    )  # fmt: skip


def _candidates(
    found: label_errors.Suspects, ids: Sequence[str], names: Sequence[str]
) -> tuple[Candidate, ...]:
    made = []
    for at in range(min(len(found), MAX_CELLS)):
        given, confidence = bool(found.given[at]), float(found.confidence[at])
        chance = confidence if given else 1 - confidence
        made.append(
            Candidate(
                id=ids[int(found.rows[at])],
                label=names[int(found.labels[at])],
                action="remove" if given else "add",
                kind="label error",
                score=1 - confidence,
                evidence="a linear model that has not seen the text gives it the label with a "
                f"probability of {_percent(chance)}",
            )
        )
    return tuple(made)


def _percent(chance: float) -> str:
    if chance > 0.999:
        return "more than 99.9%"
    return "less than 0.1%" if chance < 0.001 else f"{chance:.1%}"
