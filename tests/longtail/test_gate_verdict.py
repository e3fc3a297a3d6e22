"""The verdict as data: JSON and back, no promotion without proof, overrides."""

from datetime import UTC, datetime

import pytest
from gate_case import POLICY, WIN, not_a_number, replaced, with_arm
from pydantic import ValidationError

from longtail.config import GatePolicy
from longtail.errors import ConfigError
from longtail.gate import RuleResult, Verdict, approve, decide, override, reject, with_rule

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def test_json_has_exactly_the_agreed_keys_and_comes_back():
    verdict = decide(WIN, POLICY)
    data = verdict.model_dump(mode="json")
    assert set(data) == {
        "decision", "first_release", "champion_mode", "reasons", "looks", "rules",
        "labels_won", "labels_lost", "ladder", "override", "approval", "policy", "arms",
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


SERVED = RuleResult(
    name="served_as_evaluated", passed=True, severity="block", value=0.1, threshold=1.0, detail="a."
)


def test_an_approval_stays_in_the_record_and_is_no_override():
    verdict = approve(decide(WIN, POLICY), " Ada ", "I have read the tail.", NOON)
    assert (verdict.decision, verdict.override, verdict.approval.by) == ("promote", None, "Ada")
    assert verdict.reasons[0] == "Approved by Ada, 2026-03-02: I have read the tail."
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_a_block_is_not_approved_and_a_signature_is_needed():
    with pytest.raises(ConfigError, match="only overridden"):
        approve(decide(replaced("bce", 0.99), POLICY), "Ada", "why", NOON)
    for decided in (approve, reject):
        with pytest.raises(ConfigError, match="a reason"):
            decided(decide(WIN, POLICY), "Ada", " ", NOON)


def test_a_rejection_is_a_block_with_the_persons_words_that_can_be_overridden():
    verdict = reject(decide(WIN, POLICY), "Ada", "The tail is worse by eye", NOON)
    assert verdict.decision == "block"
    assert verdict.reasons[0] == "Rejected by Ada, 2026-03-02: The tail is worse by eye."
    assert [rule.name for rule in verdict.failed] == ["approved"]
    assert override(verdict, "Bo", "It is not", NOON).decision == "promote"


def test_a_check_made_again_replaces_its_pass_but_not_its_failure():
    again = SERVED.model_copy(update={"value": 0.2})
    verdict = with_rule(with_rule(decide(WIN, POLICY), SERVED), again)
    assert [r.value for r in verdict.rules if r.name == SERVED.name] == [0.2]

    failed = with_rule(decide(WIN, POLICY), SERVED.model_copy(update={"passed": False}))
    overridden = with_rule(override(failed, "Ada", "A full disk", NOON), again)
    assert [r.passed for r in overridden.rules if r.name == SERVED.name] == [False, True]
    assert overridden.decision == "promote"


def test_a_failed_check_takes_an_approval_back():
    approved = approve(decide(WIN, POLICY), "Ada", "why", NOON)
    verdict = with_rule(approved, SERVED.model_copy(update={"passed": False}))
    assert (verdict.decision, verdict.approval) == ("block", None)
    with pytest.raises(ValidationError, match="approval"):
        Verdict.model_validate({**dict(verdict), "approval": approved.approval})
