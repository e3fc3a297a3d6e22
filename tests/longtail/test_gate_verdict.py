"""The verdict as data: JSON and back, no promotion without proof, overrides."""

from datetime import UTC, datetime

import pytest
from gate_case import POLICY, WIN, not_a_number, replaced, with_arm
from pydantic import ValidationError

from longtail.config import GatePolicy
from longtail.errors import ConfigError
from longtail.gate import RuleResult, Verdict, decide, override

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def test_json_has_exactly_the_agreed_keys_and_comes_back():
    verdict = decide(WIN, POLICY)
    data = verdict.model_dump(mode="json")
    assert set(data) == {
        "decision", "first_release", "champion_mode", "reasons", "looks", "rules",
        "labels_won", "labels_lost", "override", "policy", "arms",
    }  # fmt: skip
    assert set(data["rules"][0]) == {
        "name", "passed", "severity", "value", "threshold", "detail",
    }  # fmt: skip
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    assert GatePolicy.model_validate(verdict.policy) == POLICY


def test_a_promotion_without_proof_cannot_be_built():
    data = decide(replaced("bce", 0.99), POLICY).model_dump()
    for rules in (data["rules"], [], [r for r in data["rules"] if r["severity"] == "info"]):
        with pytest.raises(ValidationError, match="cannot promote"):
            Verdict.model_validate({**data, "decision": "promote", "rules": rules})


def test_an_override_promotes_and_stays_in_the_record():
    blocked = decide(replaced("bce", 0.99), POLICY)
    verdict = override(blocked, " Ada ", "The BCE arm knows the test texts by heart.", NOON)
    assert verdict.decision == "promote"
    assert verdict.rules == blocked.rules
    assert verdict.override.by == "Ada"
    assert verdict.reasons[0] == (
        "Promoted by Ada against the gate, 2026-03-02: The BCE arm knows the test texts by heart."
    )
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    assert blocked.decision == "block"


@pytest.mark.parametrize(("by", "reason"), [("", "why"), ("Ada", ""), ("  ", "why"), ("Ada", " ")])
def test_an_override_needs_a_name_and_a_reason(by, reason):
    with pytest.raises(ConfigError, match="name of a person and a reason"):
        override(decide(replaced("bce", 0.99), POLICY), by, reason, NOON)


def test_an_override_needs_a_time_zone():
    with pytest.raises(ConfigError, match="time zone"):
        override(decide(replaced("bce", 0.99), POLICY), "Ada", "why", NOON.replace(tzinfo=None))


def test_a_promotion_cannot_be_overridden():
    with pytest.raises(ConfigError, match="already says promote"):
        override(decide(WIN, POLICY), "Ada", "why", NOON)


@pytest.mark.parametrize("broken", [not_a_number("candidate"), with_arm(WIN, "candidate", None)])
def test_nobody_can_publish_a_candidate_that_is_not_there(broken):
    with pytest.raises(ConfigError, match="no sound model"):
        override(decide(broken, POLICY), "Ada", "why", NOON)


def test_a_forged_override_is_refused():
    promoted, blocked = decide(WIN, POLICY), decide(replaced("bce", 0.99), POLICY)
    record = {"by": "Ada", "reason": "why", "at": NOON}
    for verdict in (promoted, blocked):
        with pytest.raises(ValidationError, match="override"):
            Verdict.model_validate({**dict(verdict), "override": record})


def test_rule_results_never_carry_nan_into_json():
    rule = RuleResult(
        name="x", passed=False, severity="block", value=float("nan"), threshold=1.0, detail="d"
    )
    assert rule.value is None
