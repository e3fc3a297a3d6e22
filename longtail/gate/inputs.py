"""What the gate looks at, and when an arm can be judged at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from longtail.config import GatePolicy
from longtail.evaluation import ArmEvaluation, TestSet
from longtail.labels import LabelGroups

CANDIDATE, BCE, MATCHED, LINEAR = "candidate", "bce", "matched", "linear"
CHAMPION, BEST_CHAMPION = "champion", "best_champion"
_TITLES = {
    CANDIDATE: "the candidate",
    BCE: "the BCE baseline",
    MATCHED: "the same combination with the BCE encoder",
    LINEAR: "the linear arm",
    CHAMPION: "the champion",
    BEST_CHAMPION: "the best champion of the last twelve months",
}
ChampionState = Literal["none", "scored", "unreadable"]


class UncheckedError(Exception):
    """A rule could not be checked; the message says why. It counts as failed."""


class LeakCheck(Protocol):
    """How much of the test set stood among an arm's training texts."""

    @property
    def test_ids(self) -> int:
        """Test ids among the training ids."""

    @property
    def test_units(self) -> int:
        """Units of the test set with a text among the training texts."""

    @property
    def test_texts(self) -> int:
        """Test texts repeated, exactly or nearly, among the training texts."""


@dataclass(frozen=True, kw_only=True)
class GateInputs:
    """Everything a verdict is made from.

    Attributes:
        test: the test set of this run.
        groups: label groups, fixed on the training support before anything was scored.
        arms: ``candidate``, ``bce``, ``matched`` and ``linear`` on the test set; None or absent:
            not scored.
        leaks: per arm and reference what the leak check found; None or absent: not checked.
        champion_state: ``none`` only when the registry was read and holds no champion;
            ``scored`` when there is one and it was scored on this test set; else ``unreadable``.
        champion_error: why the champion could not be scored.
        best_champion_error: why the best champion could not; its reference is None then.
        references: releases to hold the candidate against, scored on this test set. With a
            champion both ``champion`` and ``best_champion`` (of the last twelve months) are
            needed; where the champion is itself the best, give its evaluation twice.
        looks: how often this test set has been used for a verdict, this time included.
        versions: version or fingerprint of each arm, for the record.
        ladder: (key, name, evaluation) from the plainest arm to the candidate, to show where the
            gain comes from; no rule depends on it.
        run: directory of the run, for the command that overrides a block.
    """

    test: TestSet
    groups: LabelGroups
    arms: Mapping[str, ArmEvaluation | None]
    leaks: Mapping[str, LeakCheck | None]
    champion_state: ChampionState
    champion_error: str | None = None
    best_champion_error: str | None = None
    references: Mapping[str, ArmEvaluation | None] = field(default_factory=dict)
    looks: int
    versions: Mapping[str, str] = field(default_factory=dict)
    ladder: Sequence[tuple[str, str, ArmEvaluation]] = ()
    run: str = "RUN"

    def evaluation(self, name: str) -> ArmEvaluation | None:
        """The evaluation of an arm or reference, if there is one."""
        return self.arms[name] if name in self.arms else self.references.get(name)


def title(name: str) -> str:
    """An arm's name in a sentence."""
    return _TITLES.get(name, f"release {name!r}")


def arms_to_judge(inputs: GateInputs, policy: GatePolicy) -> list[str]:
    """Names of all arms and references whose evaluation the rules need."""
    arms = [CANDIDATE, policy.baseline]
    if shows_the_loss(inputs, policy):
        arms.append(MATCHED)
    if policy.linear != "off":
        arms.append(LINEAR)
    return arms + references_to_judge(inputs)


def shows_the_loss(inputs: GateInputs, policy: GatePolicy) -> bool:
    """Whether the candidate is compared, beside the baseline, with itself without its loss."""
    return policy.baseline != MATCHED and inputs.arms.get(MATCHED) is not None


def references_to_judge(inputs: GateInputs) -> list[str]:
    """Names of the releases to compare with; the best one only if it is not the champion."""
    champion, best = (inputs.references.get(name) for name in (CHAMPION, BEST_CHAMPION))
    same = champion is not None and best is not None and champion.fingerprint == best.fingerprint
    return [name for name in inputs.references if not (same and name == BEST_CHAMPION)]


def usable(inputs: GateInputs, name: str) -> ArmEvaluation:
    """The evaluation of an arm, if it can be judged.

    Raises:
        UncheckedError: it is missing, not finite, out of range, of other test rows, or, unless
            it is a release of another label set, does not know every label.
    """
    arm = inputs.evaluation(name)
    if arm is None:
        raise UncheckedError(f"{title(name)} was not scored")
    if not arm.finite:
        raise UncheckedError(f"{title(name)} has a probability or threshold that is not a number")
    if not arm.in_range:
        raise UncheckedError(f"{title(name)} has a probability outside 0 to 1")
    if arm.test_fingerprint != inputs.test.fingerprint or arm.labels != inputs.test.labels:
        raise UncheckedError(
            f"{title(name)} was scored on other test rows or labels (fingerprint "
            f"{arm.test_fingerprint[:12]}, the test set's is {inputs.test.fingerprint[:12]})"
        )
    if name not in inputs.references and not arm.scored.all():
        raise UncheckedError(f"{title(name)} does not know every label of the test set")
    return arm
