"""The verdict as data: what was decided, by which rules, and who overrode it."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from longtail.errors import ConfigError
from longtail.gate.ladder import LadderStep

Severity = Literal["block", "warn", "info"]
CANDIDATE_RULE = "candidate_scored"
APPROVED_RULE = "approved"
LIVE_RULE, OUTDATED_RULE = "live_model", "live_model_outdated"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RuleResult(_Record):
    """One rule with its number.

    Attributes:
        name: docs/reference/gate.md says what each name compares.
        passed: a rule that could not be checked has not passed.
        severity: only ``block`` decides; ``warn`` is said aloud, ``info`` is shown.
        value: what was measured, F1 and shares in [0, 1]; None where there is no number.
        threshold: what it was measured against.
        detail: the sentence for people.
    """

    name: str = Field(min_length=1)
    passed: bool
    severity: Severity
    value: float | None
    threshold: float | None
    detail: str

    @field_validator("value", "threshold")
    @classmethod
    def _no_nan_in_json(cls, value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None


class _Signed(_Record):
    by: str
    reason: str
    at: AwareDatetime

    @field_validator("by", "reason")
    @classmethod
    def _says_something(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("must not be empty")
        return text.strip()


class Override(_Signed):
    """Who let a blocked candidate pass, why and when."""


class Approval(_Signed):
    """Who agreed to what the gate would promote, why and when."""


class Verdict(_Record):
    """PROMOTE or BLOCK, with everything that led to it; the content of ``verdict.json``.

    It cannot be built to say ``promote`` unless there are blocking rules and all of them passed,
    or a person overrode them.

    Attributes:
        decision: what happens to the candidate.
        first_release: the registry was read and holds no champion.
        champion_mode: whether the champion had to be beaten or only matched.
        reasons: sentences for people: how the arms stand to the live model, where there is one,
            then what decided, then warnings.
        looks: how often this test set has been used for a verdict, this time included.
        rules: every rule, in the order of the page.
        labels_won: labels the candidate recognises and the baseline does not.
        labels_lost: the reverse.
        ladder: from the plainest arm to the candidate, what each step adds; may be empty.
        override: set when a person overrode a BLOCK.
        approval: set when a person was asked about a PROMOTE and agreed.
        policy: the :class:`longtail.config.GatePolicy` as it was, kept as plain data so that an
            old verdict stays readable when the policy grows.
        arms: version or fingerprint of each arm.
    """

    decision: Literal["promote", "block"]
    first_release: bool
    champion_mode: Literal["refresh", "improve"]
    reasons: tuple[str, ...]
    looks: int
    rules: tuple[RuleResult, ...]
    labels_won: tuple[str, ...] = ()
    labels_lost: tuple[str, ...] = ()
    ladder: tuple[LadderStep, ...] = ()
    override: Override | None = None
    approval: Approval | None = None
    policy: dict[str, Any]
    arms: dict[str, str]

    @model_validator(mode="after")
    def _promotes_only_what_passed(self) -> Verdict:
        if self.decision == "promote" and self.override is None and not all_passed(self.rules):
            raise ValueError("a verdict with a failed rule, or without rules, cannot promote")
        if self.approval is not None and (self.decision == "block" or self.override is not None):
            raise ValueError("an approval stands in a promotion that nobody had to override")
        if self.override is not None and (self.decision == "block" or all_passed(self.rules)):
            raise ValueError("an override turns a block into a promotion, nothing else")
        return self

    @property
    def failed(self) -> tuple[RuleResult, ...]:
        """The blocking rules that did not pass."""
        return tuple(r for r in self.rules if r.severity == "block" and not r.passed)

    @property
    def warnings(self) -> tuple[RuleResult, ...]:
        """The warning rules that did not pass."""
        return tuple(r for r in self.rules if r.severity == "warn" and not r.passed)

    @property
    def live(self) -> str:
        """How the arms stand to the live model; empty where none was compared."""
        return next((rule.detail for rule in self.rules if rule.name == LIVE_RULE), "")

    @property
    def outdated(self) -> str:
        """That the live model stays although it is worse; empty where that is not the case."""
        return next((rule.detail for rule in self.warnings if rule.name == OUTDATED_RULE), "")


def all_passed(rules: tuple[RuleResult, ...]) -> bool:
    """Whether there are blocking rules and every one of them passed."""
    blocking = [rule.passed for rule in rules if rule.severity == "block"]
    return bool(blocking) and all(blocking)


def override(verdict: Verdict, by: str, reason: str, at: datetime) -> Verdict:
    """Let a blocked candidate pass in a person's name; the rules stay as they fell.

    Args:
        verdict: a BLOCK.
        by: who takes the decision.
        reason: why, in words.
        at: when, with a time zone.

    Raises:
        ConfigError: the verdict is no BLOCK, name or reason is empty, the time has no zone, or
            there is no sound candidate: one that was not scored, or whose probabilities are not
            numbers, cannot be published whoever asks.
    """
    if verdict.decision != "block":
        raise ConfigError("only a BLOCK can be overridden; this verdict already says promote")
    if not (by.strip() and reason.strip()):
        raise ConfigError("an override needs the name of a person and a reason; both stay for ever")
    if at.tzinfo is None:
        raise ConfigError(f"the override's time {at.isoformat()} needs a time zone")
    sound = [rule.passed for rule in verdict.rules if rule.name == CANDIDATE_RULE]
    if not (sound and all(sound)):
        raise ConfigError(
            f"rule {CANDIDATE_RULE} failed, so there is no sound model to publish; train again"
        )
    record = Override(by=by, reason=reason, at=at)
    spoken = f"Promoted by {record.by} against the gate, {at:%Y-%m-%d}: {record.reason}"
    changed = {"decision": "promote", "override": record, "reasons": (spoken, *verdict.reasons)}
    return Verdict.model_validate({**dict(verdict), **changed})


def approve(verdict: Verdict, by: str, reason: str, at: datetime) -> Verdict:
    """A passing verdict with the name of the person who agreed to it.

    Args:
        verdict: a PROMOTE.
        by: who takes the decision.
        reason: why, in words.
        at: when, with a time zone.

    Raises:
        ConfigError: the verdict is a BLOCK, which takes an override, or name or reason is empty.
    """
    if verdict.decision != "promote":
        raise ConfigError("a BLOCK cannot be approved, only overridden")
    _check_signature(by, reason)
    record = Approval(by=by, reason=reason, at=at)
    spoken = f"Approved by {record.by}, {at:%Y-%m-%d}: {record.reason}"
    changed = {"approval": record, "reasons": (spoken, *verdict.reasons)}
    return Verdict.model_validate({**dict(verdict), **changed})


def reject(verdict: Verdict, by: str, reason: str, at: datetime) -> Verdict:
    """A BLOCK in a person's name: whatever the gate said, the champion stays.

    Args:
        verdict: any.
        by: who takes the decision.
        reason: why, in words.
        at: when.

    Raises:
        ConfigError: name or reason is empty.
    """
    _check_signature(by, reason)
    why = f"Rejected by {by.strip()}, {at:%Y-%m-%d}: {reason.strip()}"
    return disapprove(verdict, why if why.endswith((".", "!", "?")) else f"{why}.")


def disapprove(verdict: Verdict, why: str) -> Verdict:
    """A BLOCK because the person who was asked did not agree, or did not answer.

    Args:
        verdict: any.
        why: the sentence for people.
    """
    rule = RuleResult(
        name=APPROVED_RULE, passed=False, severity="block", value=None, threshold=None, detail=why
    )
    return with_rule(verdict, rule)


def with_rule(verdict: Verdict, rule: RuleResult) -> Verdict:
    """The verdict with one more rule, checked after the gate; a failed blocking one blocks.

    A check that is made again takes the place of its earlier pass; an earlier failure stays in the
    record.

    Args:
        verdict: what the gate decided.
        rule: such as the check of the bundle in a fresh process.
    """
    kept = (old for old in verdict.rules if old.name != rule.name or not old.passed)
    changed: dict[str, Any] = {"rules": (*kept, rule)}
    if rule.severity == "block" and not rule.passed:
        warnings = tuple(f"Warning: {warning.detail}" for warning in verdict.warnings)
        earlier = tuple(failed.detail for failed in verdict.failed)
        live = (verdict.live,) if verdict.live else ()
        reasons = (rule.detail, *live, *earlier, *warnings)
        changed |= {"decision": "block", "override": None, "approval": None, "reasons": reasons}
    return Verdict.model_validate({**dict(verdict), **changed})


def _check_signature(by: str, reason: str) -> None:
    if not (by.strip() and reason.strip()):
        raise ConfigError("a decision needs the name of a person and a reason; both stay for ever")
