"""What people are told first of a blocked candidate."""

from __future__ import annotations

import datetime as dt

import pytest

from flows.outcome import outcome
from longtail.gate import RuleResult, Verdict, override, reject, with_rule
from tasks.handles import RunHandle

NOW = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)


def failed(name, detail):
    return RuleResult(
        name=name, passed=False, severity="block", value=None, threshold=None, detail=detail
    )


SCORED = RuleResult(
    name="candidate_scored", passed=True, severity="block", value=None, threshold=None, detail="It."
)


@pytest.fixture
def blocked():
    rule = failed("bce_label_coverage", "Too few labels.")
    return Verdict(
        decision="block", reasons=(rule.detail,), rules=(rule,), first_release=True, policy={},
        champion_mode="refresh", looks=1,
        arms={},
    )  # fmt: skip


@pytest.fixture
def run(tmp_path):
    return RunHandle(
        id="r", name="desk", directory=tmp_path / "desk" / "runs" / "r", store=tmp_path,
        started_at="",
    )  # fmt: skip


def test_a_persons_words_come_before_the_rules_that_led_to_them(run, blocked):
    said = outcome(run, reject(blocked, "Ada", "Not yet", NOW), []).message
    assert said.startswith("desk: the candidate does not go live. Rejected by Ada, 2026-11-23")
    assert "1 more rule failed too." in said


def test_another_champion_comes_before_the_rules_that_were_overridden(run, blocked):
    stale = with_rule(blocked, failed("champion_unchanged", "The champion changed."))
    said = outcome(run, stale, []).message
    assert said.startswith("desk: the candidate does not go live. The champion changed.")


def test_a_live_model_that_stays_although_it_is_worse_is_told_with_the_command(run, blocked):
    finding = RuleResult(
        name="live_model_outdated", passed=False, severity="warn", value=0.01, threshold=0.0,
        detail="The live model is worse. longtail promote runs/r --by NAME --reason WHY",
    )  # fmt: skip
    stays = with_rule(blocked, finding)
    said = outcome(run, stays, []).message
    assert said.startswith(
        f"desk: the candidate does not go live. Too few labels. {finding.detail}"
    )
    promoted = override(with_rule(stays, SCORED), "Ada", "It is better", NOW)
    assert "is worse" not in outcome(run, promoted, []).message.removeprefix("desk: ")


def test_without_them_the_first_rule_is_told(run, blocked):
    said = outcome(run, blocked, ["MLflow is down."]).message
    assert said.startswith("desk: the candidate does not go live. Too few labels. MLflow is down.")
