"""Thresholds that turn probabilities into labels, fitted on validation only.

A label is given where p > t, compared in float64. Of cuts that are equally good the highest is
taken. Unknown cells are left out of every count. What each policy is for is told in
``docs/reference/thresholds.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from longtail.config import GROUPS, Group, ThresholdSettings
from longtail.cuts import Known, Labels, Probabilities, Scores, f1, jointly_best, ratio
from longtail.label_cuts import cuts_of_labels
from longtail.labels import LabelGroups

GRID: NDArray[np.float64] = np.arange(5, 65) / 100.0
"""The article's cuts, 0.05 to 0.64 in steps of 0.01."""


@dataclass(frozen=True, eq=False)
class Thresholds:
    """One threshold per label, whatever the policy.

    Attributes:
        values: (L,), float64; label j is given where p > values[j].
        policy: how they were fitted.
        by_group: the cut of each label group, groups without labels included; under ``label``
            what a label has without a cut of its own.
        fallbacks: groups that could not have a cut of their own, and why; under ``label`` also
            how many labels of the group could not.
        validation_micro_f1: overall micro-F1 on the data they were fitted on, hence optimistic.
        on_group_cut: under ``label``, the columns of the labels that have too few validation
            positives for a cut of their own.
    """

    values: NDArray[np.float64]
    policy: str
    by_group: Mapping[Group, float]
    fallbacks: Mapping[Group, str]
    validation_micro_f1: float
    on_group_cut: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "policy": self.policy,
            "by_group": dict(self.by_group),
            "fallbacks": dict(self.fallbacks),
            "validation_micro_f1": self.validation_micro_f1,
            "on_group_cut": list(self.on_group_cut),
            "values": self.values.tolist(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Thresholds:
        """Back from :meth:`to_json`."""
        return cls(
            values=np.asarray(value["values"], dtype=np.float64),
            policy=value["policy"],
            by_group=dict(value["by_group"]),
            fallbacks=dict(value["fallbacks"]),
            validation_micro_f1=value["validation_micro_f1"],
            on_group_cut=tuple(value.get("on_group_cut", ())),
        )


def fit_thresholds(
    y: sp.csr_array,
    probabilities: Probabilities,
    groups: LabelGroups,
    settings: ThresholdSettings,
    known: Known = None,
) -> Thresholds:
    """Fit the thresholds of one arm on validation data.

    A group without a validation positive has nothing to be fitted on and takes the global cut.
    Where the model tells a group's labels no better than chance, its optimum is to give them to
    every text (Lipton, Elkan and Naryanaswamy 2014, "Optimal thresholding of classifiers to
    maximize F1 measure"), so under ``group`` and ``label`` a cut may cost the whole no more than
    ``max_micro_f1_cost``. Under ``label`` a label with fewer than ``min_label_positives``, or
    without a text that is known to lack it, takes its group's. ``fallbacks`` says so of each.

    Args:
        y: labels (n, L).
        probabilities: (n, L), in [0, 1].
        groups: HEAD, MEDIUM and TAIL of the L labels.
        settings: the policy.
        known: bool (n, L), False where it is not known whether the label holds.

    Raises:
        DataError: a probability is NaN or outside [0, 1].
        ValueError: the shapes do not fit.
    """
    scores = Scores.of(y, probabilities, known)
    parts = {
        group: _scores_of_columns(y, probabilities, known, groups.columns(group))
        for group in GROUPS
    }
    by_group, fallbacks = _POLICIES[settings.policy](scores, parts, settings.max_micro_f1_cost)
    values = np.asarray([by_group[group] for group in groups.of_label], dtype=np.float64)
    few = np.zeros(len(values), dtype=bool)
    if settings.policy == "label":
        positives = _known_positives(y, known)
        few = positives < settings.min_label_positives
        if known is not None:
            # With nothing to tell its positives from, a label would be given to every text.
            few |= np.count_nonzero(known, axis=0) == positives
        cuts = cuts_of_labels(y, probabilities, values, known, settings.label_folds)
        values = np.where(few, values, cuts)
        what = _too_little(settings.min_label_positives, known)
        fallbacks = _on_group_cut(few, groups, what) | fallbacks
    return Thresholds(
        values=values,
        policy=settings.policy,
        by_group=by_group,
        fallbacks=fallbacks,
        validation_micro_f1=_micro_f1(y, decide(probabilities, values), known),
        on_group_cut=tuple(np.flatnonzero(few).tolist()),
    )


def best_global_threshold(
    y: Labels, probabilities: Probabilities, known: Known = None
) -> tuple[float, float]:
    """The cut that maximises micro-F1, over all distinct scores, by one sort.

    Args:
        y: labels (n, L), sparse or dense.
        probabilities: (n, L), in [0, 1].
        known: bool (n, L) or None.

    Returns:
        The cut and its micro-F1. Without a positive, the cut that gives nothing (1.0) and 0. A
        cut below 0 gives every label: the best there is where a positive has the score 0.

    Raises:
        DataError: a probability is NaN or outside [0, 1].
        ValueError: the shapes do not fit.
    """
    return Scores.of(y, probabilities, known).cuts().best()


def decide(probabilities: Probabilities, values: ArrayLike) -> NDArray[np.bool_]:
    """Labels given: p > t, compared in float64.

    A cut between two neighbouring float32 numbers is neither of them: in float32 it would be
    rounded onto one of the two and might no longer separate them.

    Args:
        probabilities: (n, L), any floating type.
        values: thresholds, (L,) or one number.

    Returns:
        bool (n, L).
    """
    decided: NDArray[np.bool_] = probabilities > np.asarray(values, dtype=np.float64)
    return decided


def threshold_curve(
    y: Labels,
    probabilities: Probabilities,
    points: int | Sequence[float] = 99,
    known: Known = None,
) -> dict[str, list[float]]:
    """Micro precision, recall and F1 against one global threshold.

    Args:
        y: labels (n, L).
        probabilities: (n, L), in [0, 1].
        points: thresholds, or how many of them, evenly spaced inside (0, 1).
        known: bool (n, L) or None.

    Returns:
        Lists ``threshold``, ``micro_precision``, ``micro_recall`` and ``micro_f1`` of one length;
        a 0/0 is 0.
    """
    if isinstance(points, int):
        points = np.linspace(0.0, 1.0, points + 2)[1:-1].tolist()
    cuts = np.asarray(points, dtype=np.float64)
    scores = Scores.of(y, probabilities, known)
    true_positives, given = scores.at(cuts)
    positives = np.full_like(given, len(scores.of_positives))
    return {
        "threshold": cuts.tolist(),
        "micro_precision": ratio(true_positives, given).tolist(),
        "micro_recall": ratio(true_positives, positives).tolist(),
        "micro_f1": scores.f1_at(cuts).tolist(),
    }


_ByGroup = dict[Group, float]
_Fallbacks = dict[Group, str]
_Parts = Mapping[Group, Scores]


def _fit_global(scores: Scores, parts: _Parts, _: float) -> tuple[_ByGroup, _Fallbacks]:
    return dict.fromkeys(parts, scores.cuts().best()[0]), {}


def _fit_grid(scores: Scores, parts: _Parts, _: float) -> tuple[_ByGroup, _Fallbacks]:
    downwards = GRID[::-1]
    best = float(downwards[np.argmax(scores.f1_at(downwards))])
    return dict.fromkeys(parts, best), {}


def _fit_group(scores: Scores, parts: _Parts, max_cost: float) -> tuple[_ByGroup, _Fallbacks]:
    fallbacks = _without_positives(parts)
    overall = scores.cuts().best()[0]
    cuts = dict.fromkeys(parts, overall)
    for group, part in parts.items():
        if group not in fallbacks:
            cuts[group], cost = _own_best(scores, part, overall, max_cost)
            if cost > max_cost:
                used = (
                    "the global cut is used" if cuts[group] == overall else "a higher one is used"
                )
                fallbacks[group] = (
                    f"its own best cut would cost {100 * cost:.1f} points of overall micro-F1, "
                    f"more than {100 * max_cost:g}: {used}"
                )
    return cuts, fallbacks


def _own_best(scores: Scores, part: Scores, overall: float, max_cost: float) -> tuple[float, float]:
    """The best cut for a part that is not too dear to the whole, and what its very best costs.

    The price is in overall micro-F1, the other parts being at the overall cut, which costs nothing
    and is taken where every affordable cut misses all of the part's positives.
    """
    found = part.cuts()
    elsewhere = [
        whole - own for whole, own in zip(scores.at(overall), part.at(overall), strict=True)
    ]
    cost = scores.f1_at(overall) - f1(
        elsewhere[0] + found.true_positives, elsewhere[1] + found.given, len(scores.of_positives)
    )
    own = f1(found.true_positives, found.given, found.positives)
    best = int(np.argmax(np.where(cost <= max_cost, own, -1.0)))
    cut = float(found.thresholds[best]) if own[best] > 0 else overall
    return cut, float(cost[np.argmax(own)])


def _fit_group_joint(scores: Scores, parts: _Parts, _: float) -> tuple[_ByGroup, _Fallbacks]:
    fallbacks = _without_positives(parts)
    overall = scores.cuts().best()[0]
    fitted = [group for group in parts if group not in fallbacks]
    given = sum(int(parts[group].at(overall)[1]) for group in fallbacks)
    best = jointly_best([parts[group].cuts() for group in fitted], given)
    return dict.fromkeys(parts, overall) | dict(zip(fitted, best, strict=True)), fallbacks


_POLICIES: dict[str, Callable[[Scores, _Parts, float], tuple[_ByGroup, _Fallbacks]]] = {
    "global": _fit_global,
    "grid": _fit_grid,
    "group": _fit_group,
    "group_joint": _fit_group_joint,
    "label": _fit_group,
}


def _without_positives(parts: _Parts) -> _Fallbacks:
    return {
        group: "no validation positives: the global cut is used"
        for group, part in parts.items()
        if len(part.of_positives) == 0
    }


def _too_little(least: int, known: Known) -> str:
    what = f"fewer than {least} validation positives" if least > 1 else "no validation positive"
    return what if known is None else f"{what} or no known negative"


def _on_group_cut(few: NDArray[np.bool_], groups: LabelGroups, what: str) -> _Fallbacks:
    inside = {group: few[groups.columns(group)] for group in GROUPS}
    return {
        group: f"{int(some.sum())} of {len(some)} labels with {what}: they have the group's cut"
        for group, some in inside.items()
        if some.any()
    }


def _known_positives(y: sp.csr_array, known: Known) -> NDArray[np.int64]:
    rows, columns = y.nonzero()
    if known is not None:
        columns = columns[known[rows, columns]]
    return np.bincount(columns, minlength=y.shape[1]).astype(np.int64)


def _micro_f1(y: sp.csr_array, decided: NDArray[np.bool_], known: Known) -> float:
    given = decided if known is None else decided & known
    denominator = int(given.sum()) + int(_known_positives(y, known).sum())
    return 2 * int(given[y.nonzero()].sum()) / max(denominator, 1)


def _scores_of_columns(
    y: sp.csr_array, probabilities: Probabilities, known: Known, columns: NDArray[np.int64]
) -> Scores:
    part = known[:, columns] if known is not None else None
    return Scores.of(y[:, columns], probabilities[:, columns], part)
