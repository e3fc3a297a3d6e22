"""A verdict that waits: kept on the disk, decided once, and nothing that looks promoted before."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from longtail import storage
from longtail.config import GatePolicy
from longtail.errors import ConfigError
from longtail.gate import RuleResult, Verdict
from longtail.report import PENDING
from tasks.decisions import (
    Decision,
    Waiting,
    ask_again,
    asks,
    decide,
    decided_verdict,
    forget,
    is_waiting,
    keep_waiting,
    lapsed,
    read_ticket,
    read_waiting,
    run_of,
    waiting_alike,
)
from tasks.handles import DatasetHandle, RunHandle
from tasks.run import open_run
from tasks.unchanged import JUDGED_BY

NOW = dt.datetime(2026, 11, 23, 6, 0, tzinfo=dt.UTC)
NUMBER = "0b5ad9a1-8f4e-4a5e-9f0b-2a46a1c3a001"


def rule(name: str, passed: bool = True) -> RuleResult:
    return RuleResult(
        name=name, passed=passed, severity="block", value=0.1, threshold=0.0, detail=f"{name}."
    )


def verdict(*rules: RuleResult, **changes) -> Verdict:
    rules = (rule("candidate_scored"), *rules)
    failed = [one.detail for one in rules if not one.passed]
    values = {
        "decision": "block" if failed else "promote",
        "first_release": False,
        "champion_mode": "refresh",
        "reasons": tuple(failed or ["Better."]),
        "looks": 1,
        "rules": rules,
        "policy": GatePolicy().model_dump(mode="json"),
        "arms": {"champion": "1"},
    }
    return Verdict(**(values | changes))


PASSING, BLOCKED = verdict(), verdict(rule("micro_f1", passed=False))


def decision(word: str, by: str = "Ada") -> Decision:
    return Decision(decision=word, by=by, reason="I have read it", at=NOW)


@pytest.fixture
def run(tmp_path) -> RunHandle:
    return open_run("tickets", tmp_path / "store", None, GatePolicy())


def dataset(run: RunHandle) -> DatasetHandle:
    return DatasetHandle(
        directory=run.model_store, fingerprint="f00d", version=3, n_texts=400, n_labels=20
    )


def suspend(run: RunHandle, given: Verdict = PASSING, days: float = 7.0) -> Waiting:
    waiting = Waiting(
        verdict=given,
        dataset=dataset(run),
        since=NOW,
        until=NOW + dt.timedelta(days=days),
        flow_run=NUMBER,
    )
    keep_waiting(run, waiting)
    return waiting


@pytest.mark.parametrize(
    ("given", "approval", "expected"),
    [
        (PASSING, "never", False),
        (BLOCKED, "never", False),
        (PASSING, "on_override", False),
        (BLOCKED, "on_override", True),
        (PASSING, "required", True),
        (BLOCKED, "required", True),
        (verdict(rule("served_as_evaluated", passed=False)), "required", False),
        (verdict(rule("thresholds_as_evaluated", passed=False)), "on_override", False),
        (verdict(rule("x", passed=False), arms={}), "required", False),
        (verdict(arms={}, first_release=True), "required", True),
    ],
)
def test_a_person_is_asked_about_what_can_be_published(given, approval, expected):
    assert asks(given, approval) is expected


def test_a_suspended_run_is_found_by_its_flow_run_and_does_not_look_promoted(run):
    waiting = suspend(run)
    found = run_of(read_ticket(run.model_store, NUMBER), run.store, run.name)

    assert read_waiting(found) == waiting
    assert found.directory == run.directory
    assert is_waiting(run.directory)
    assert not (run.directory / "verdict.json").exists()
    assert read_ticket(run.model_store, "another") is None


def test_the_run_is_found_where_the_store_is_mounted_now(run, tmp_path):
    suspend(run)
    moved = tmp_path / "elsewhere"
    run.store.rename(moved)
    found = run_of(read_ticket(moved / "tickets", NUMBER), moved, "tickets")

    assert (found.store, found.id) == (moved, run.id)
    assert read_waiting(found).verdict == PASSING


def test_a_run_of_the_command_line_waits_without_a_ticket(run):
    keep_waiting(run, Waiting(verdict=PASSING, dataset=dataset(run), since=NOW))
    assert is_waiting(run.directory)
    assert not (run.model_store / "waiting").exists()


def test_the_first_decision_stands(run):
    suspend(run)
    assert decide(run, decision("reject")).decided.decision == "reject"
    assert decide(run, decision("approve", by="Bo")).decided == decision("reject")
    assert read_waiting(run).decided == decision("reject")


def test_what_was_carried_out_does_not_wait(run):
    suspend(run)
    storage.write_json(run.directory / "verdict.json", PASSING.model_dump(mode="json"))
    assert read_waiting(run) is None
    with pytest.raises(ConfigError, match="no verdict waits"):
        decide(run, decision("approve"))
    forget(run, NUMBER)
    assert read_ticket(run.model_store, NUMBER) is None


def test_approving_a_pass_is_no_override_and_approving_a_block_is_one(run):
    suspend(run)
    approved = decided_verdict(decide(run, decision("approve")))
    assert (approved.override, approved.approval.by) == (None, "Ada")

    blocked = Waiting(verdict=BLOCKED, dataset=dataset(run), since=NOW, decided=decision("approve"))
    overridden = decided_verdict(blocked)
    assert (overridden.approval, overridden.override.by) == (None, "Ada")
    assert overridden.decision == "promote"


def test_a_rejection_is_a_block_with_name_and_reason(run):
    suspend(run)
    rejected = decided_verdict(decide(run, decision("reject")))
    assert rejected.decision == "block"
    assert rejected.reasons[0] == "Rejected by Ada, 2026-11-23: I have read it."


def test_nobody_has_decided_yet(run):
    with pytest.raises(ConfigError, match="nobody has decided"):
        decided_verdict(suspend(run))


def test_each_question_has_a_number_of_its_own(run):
    assert ask_again(run, suspend(run)).asked == 2
    assert read_waiting(run).asked == 2


def test_what_nobody_decided_in_time_is_a_block_a_day_later(run):
    waiting = suspend(run, days=2.0)
    assert lapsed(run.store, run.name, waiting.until + dt.timedelta(hours=23)) == []

    ((found, late),) = lapsed(run.store, run.name, waiting.until + dt.timedelta(days=1))
    assert found.directory == run.directory
    verdict = decided_verdict(late)
    assert verdict.decision == "block"
    assert verdict.reasons[0] == ("Nobody decided by 2026-11-25 06:00 UTC, so the champion stays.")


def test_what_somebody_decided_does_not_lapse(run):
    waiting = suspend(run, days=2.0)
    decide(run, decision("approve"))
    assert lapsed(run.store, run.name, waiting.until + dt.timedelta(days=9)) == []
    assert read_ticket(run.model_store, NUMBER) is not None


def test_a_ticket_that_leads_nowhere_goes(run):
    suspend(run)
    (run.directory / PENDING).unlink()
    assert lapsed(run.store, run.name, NOW) == []
    assert list(Path(run.model_store / "waiting").iterdir()) == []


def test_a_ticket_of_what_was_decided_stays_until_nobody_can_resume_its_run(run):
    waiting = suspend(run, days=2.0)
    storage.write_json(run.directory / "verdict.json", PASSING.model_dump(mode="json"))
    assert lapsed(run.store, run.name, waiting.until) == []
    assert read_ticket(run.model_store, NUMBER) is not None
    assert lapsed(run.store, run.name, waiting.until + dt.timedelta(days=1)) == []
    assert read_ticket(run.model_store, NUMBER) is None


def test_nobody_is_asked_the_same_thing_twice(run):
    suspend(run)
    pending = read_waiting(run)
    until = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    keep_waiting(run, pending.model_copy(update={"until": until}))
    storage.write_json(run.directory / JUDGED_BY, {"key": "same"})
    again = open_run("tickets", run.store, None, GatePolicy())

    assert waiting_alike(again, "other") is None
    standing = waiting_alike(again, "same")
    assert (standing.directory, standing.run) == (run.directory, run.id)
    assert "whose verdict waits for a decision" in standing.sentence
    forced = again.model_copy(update={"stages": again.stages.model_copy(update={"force": True})})
    assert waiting_alike(forced, "same") is None
    decide(run, decision("reject"))
    killed = waiting_alike(again, "same").sentence
    assert "Ada has decided about (reject), which was not carried out yet" in killed
    assert f"if flow run {NUMBER} has crashed, retry it" in killed
    storage.write_json(run.directory / "verdict.json", PASSING.model_dump(mode="json"))
    assert waiting_alike(again, "same") is None


def test_a_suspended_runs_directory_is_not_moved(tmp_path):
    store, out = tmp_path / "store", str(tmp_path / "out")
    suspend(open_run("tickets", store, out, GatePolicy()))
    with pytest.raises(ConfigError, match="waits here for a person's decision"):
        open_run("tickets", store, out, GatePolicy())
