"""The candidate against each opponent, all on the same bootstrap draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from longtail import storage
from longtail.config import GROUPS, GatePolicy
from longtail.evaluation import ArmEvaluation, slice_counts
from longtail.gate.inputs import (
    CANDIDATE,
    GateInputs,
    UncheckedError,
    arms_to_judge,
    title,
    usable,
)
from longtail.labels import LabelGroups
from longtail.metrics import Bools, Counts, Floats, recognised
from longtail.significance import Gain, gain_of, resample, sum_by_unit

_ALL = "all"


@dataclass(frozen=True)
class Comparison:
    """The candidate against one opponent on the labels that both know.

    Pairs are (candidate, opponent).

    Attributes:
        opponent: name of the arm or release.
        overall: micro-F1 over the shared labels.
        groups: F1 within each label group, small groups judged together.
        labels: size of today's label set.
        shared: labels that both know.
        with_positives: shared labels with known test positives.
        recognised: labels with F1 > 0.
        recognised_twice: labels with at least two true positives.
        won: labels that only the candidate recognises.
        lost: labels that only the opponent recognises.
    """

    opponent: str
    overall: Gain
    groups: Mapping[str, Gain]
    labels: int
    shared: int
    with_positives: int
    recognised: tuple[int, int]
    recognised_twice: tuple[int, int]
    won: tuple[str, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True)
class _Prepared:
    """Counts per unit of both sides: shape (units, slices, 2 sides, 3)."""

    names: tuple[str, ...]
    shared: Bools
    counts: Counts


def compare_all(inputs: GateInputs, policy: GatePolicy) -> dict[str, Comparison | Exception]:
    """Compare the candidate with every opponent the policy asks for.

    One set of draws serves all. What cannot be compared is an exception in the result, for the
    rules that need it to fail with its message.
    """
    prepared: dict[str, _Prepared] = {}
    failed: dict[str, Comparison | Exception] = {}
    for name in arms_to_judge(inputs, policy):
        if name != CANDIDATE:
            try:
                prepared[name] = _prepare(inputs, name, policy.min_group_positives)
            except Exception as error:  # noqa: BLE001 - whatever went wrong, its rules must fail
                failed[name] = error
    try:
        return failed | _compare(inputs, policy, prepared)
    except Exception as error:  # noqa: BLE001 - as above
        return failed | dict.fromkeys(prepared, error)


def merge_small_groups(
    groups: LabelGroups, shared: Bools, positives: Counts, minimum: int
) -> dict[str, Bools]:
    """Label slices with enough test positives each, from the rarest group upward.

    A group with too few is joined with the next more common one; what is left at HEAD joins the
    slice below it.

    Args:
        groups: group of each label.
        shared: shape (labels,); labels that take part.
        positives: known test positives of each label, shape (labels,).
        minimum: test positives a slice needs.

    Returns:
        Label membership of each slice, such as "HEAD" and "MEDIUM+TAIL", in that order.

    Raises:
        UncheckedError: all groups together have too few.
    """
    of_label = np.asarray(groups.of_label)
    slices: list[list[str]] = []
    pending: list[str] = []
    for group in reversed(GROUPS):
        pending.insert(0, group)
        if positives[np.isin(of_label, pending) & shared].sum() >= minimum:
            slices.insert(0, pending)
            pending = []
    if not slices:
        found = int(positives[shared].sum())
        raise UncheckedError(
            f"the labels to compare have {found:,} test positives, at least {minimum:,} are needed"
        )
    slices[0] = pending + slices[0]
    return {"+".join(names): np.isin(of_label, names) & shared for names in slices}


def _prepare(inputs: GateInputs, opponent: str, minimum: int) -> _Prepared:
    ours, theirs = usable(inputs, CANDIDATE), usable(inputs, opponent)
    shared = theirs.scored if opponent in inputs.references else np.ones_like(theirs.scored)
    if not shared.any():
        raise UncheckedError(f"the candidate and {title(opponent)} have no label in common")
    positives = ours.label_counts[:, 0] + ours.label_counts[:, 2]
    slices = {_ALL: shared, **merge_small_groups(inputs.groups, shared, positives, minimum)}
    member = np.stack(list(slices.values()), axis=1)
    sides = [slice_counts(inputs.test, arm, member) for arm in (ours, theirs)]
    counts = sum_by_unit(np.stack(sides, axis=2), inputs.test.units)
    return _Prepared(tuple(slices), shared, counts)


def _compare(
    inputs: GateInputs, policy: GatePolicy, prepared: Mapping[str, _Prepared]
) -> dict[str, Comparison | Exception]:
    if not prepared:
        return {}
    flat = [side.counts.reshape(len(side.counts), -1) for side in prepared.values()]
    sums = resample(np.concatenate(flat, axis=1), policy.draws, _seed(inputs))
    ends = np.cumsum([part.shape[1] for part in flat])[:-1]
    parts = np.split(sums, ends, axis=1)
    return {
        name: _comparison(inputs, name, side, part, policy)
        for (name, side), part in zip(prepared.items(), parts, strict=True)
    }


def _comparison(
    inputs: GateInputs, name: str, side: _Prepared, sums: Floats, policy: GatePolicy
) -> Comparison:
    # The rules against the baselines are about how a model was made, the others about the model.
    deviation = policy.deviation_of(name)
    drawn = sums.reshape(len(sums), *side.counts.shape[1:])
    total = side.counts.sum(axis=0)
    gains = {
        slice_name: gain_of(
            total[at, 0],
            total[at, 1],
            drawn[:, at, 0],
            drawn[:, at, 1],
            confidence=policy.confidence,
            deviation=deviation,
        )
        for at, slice_name in enumerate(side.names)
    }
    ours, theirs = usable(inputs, CANDIDATE), usable(inputs, name)
    found = [recognised(arm.label_counts) & side.shared for arm in (ours, theirs)]
    with_positives = (ours.label_counts[:, 0] + ours.label_counts[:, 2] > 0) & side.shared
    return Comparison(
        opponent=name,
        overall=gains.pop(_ALL),
        groups=gains,
        labels=len(side.shared),
        shared=int(side.shared.sum()),
        with_positives=int(with_positives.sum()),
        recognised=(int(found[0].sum()), int(found[1].sum())),
        recognised_twice=(_twice(ours, side.shared), _twice(theirs, side.shared)),
        won=_names(inputs, found[0] & ~found[1]),
        lost=_names(inputs, found[1] & ~found[0]),
    )


def _twice(arm: ArmEvaluation, shared: Bools) -> int:
    return int((recognised(arm.label_counts, 2) & shared).sum())


def _names(inputs: GateInputs, chosen: Bools) -> tuple[str, ...]:
    return tuple(inputs.test.labels[j] for j in np.flatnonzero(chosen))


def _seed(inputs: GateInputs) -> int:
    """The same evaluations always give the same draws, and nobody chooses them."""
    arms = {**inputs.references, **inputs.arms}
    prints = {name: None if arm is None else arm.fingerprint for name, arm in arms.items()}
    return int(storage.fingerprint(inputs.test.fingerprint, prints)[:16], 16)
