"""A verdict that waits for a person: asked on the command line, approved, and never out of date.

What a suspended run of a deployment does is tested against a real server and worker, in
tests/integration/test_approval.py.
"""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.approval import Answer, close_lapsed, question
from flows.cli import main
from flows.config import RetrainConfig
from flows.outcome import outcome
from longtail import storage
from longtail.config import PublishSettings
from longtail.gate import Verdict
from longtail.serve_check import ServeCheck
from tasks.decisions import Decision, Waiting, decide, is_waiting, keep_waiting, read_waiting
from tasks.handles import DatasetHandle, RunHandle
from tasks.publishing import open_promotions
from tasks.run import RUN, read_run

pytestmark = pytest.mark.slow

NAME = "smoke"
PROFILE = Path(__file__).parents[2] / "deployments" / "profiles" / "smoke.yaml"
NOW = dt.datetime(2026, 11, 23, 6, 0, tzinfo=dt.UTC)
WHO = ("--by", "amara", "--reason", "I have read the tail")


@pytest.fixture
def run(week_one, week_two, tmp_path) -> RunHandle:
    """Week two's run as it would be had it stopped before the promotion, with a store to change."""
    store = shutil.copytree(week_one.snapshot, tmp_path / "store")
    directory = shutil.copytree(week_two.directory, tmp_path / "run")
    about = storage.read_json(directory / RUN)
    storage.write_json(directory / RUN, {**about, "store": str(store)})
    return read_run(directory)


@pytest.fixture
def served(monkeypatch):
    """Loading the bundle in a fresh process takes seconds, and test_overrule.py has done it."""
    check = ServeCheck(passed=True, largest_difference=0.0, n=1)
    monkeypatch.setattr("tasks.publish.run_serve_check", lambda *_: check)


def wait(run: RunHandle, until: dt.datetime | None = None, flow_run: str | None = None) -> Waiting:
    verdict = Verdict.model_validate(storage.read_json(run.directory / "verdict.json"))
    (run.directory / "verdict.json").unlink()
    dataset = DatasetHandle(
        directory=run.model_store, fingerprint="f00d", version=2, n_texts=1, n_labels=1
    )
    waiting = Waiting(verdict=verdict, dataset=dataset, since=NOW, until=until, flow_run=flow_run)
    keep_waiting(run, waiting)
    return waiting


def promotions(run: RunHandle):
    return open_promotions(PublishSettings(), run.store, NAME)


def approve(run: RunHandle) -> int:
    return main(["promote", str(run.directory), *WHO])


def test_a_passing_verdict_that_waited_is_approved_and_not_overridden(run, served, capsys):
    wait(run)

    assert approve(run) == 0
    entry = promotions(run).log()[-1]
    assert promotions(run).champion().number == entry.to_version == 2
    assert (entry.by, entry.override) == ("amara", None)
    assert (entry.approval["by"], entry.approval["reason"]) == ("amara", WHO[-1])
    assert storage.read_json(run.directory / "verdict.json")["approval"]["by"] == "amara"
    assert "WAITS" not in (run.directory / "report.html").read_text(encoding="utf-8")
    assert "Approved by amara" in (run.directory / "verdict.md").read_text(encoding="utf-8")
    assert "Approved by amara" in " ".join(capsys.readouterr().out.split())

    assert approve(run) == 2
    assert promotions(run).champion().number == 2


def test_an_approval_of_a_verdict_about_another_champion_is_refused(run, served):
    waiting = wait(run)
    verdict = waiting.verdict.model_copy(update={"arms": {"champion": "7"}})
    keep_waiting(run, waiting.model_copy(update={"verdict": verdict}))
    versions = promotions(run).registry.find(2)

    assert approve(run) == 3
    reasons = storage.read_json(run.directory / "verdict.json")["reasons"]
    assert reasons[0].startswith("The champion changed while this waited for a decision: ")
    assert "version 7, but the champion is now version 1" in reasons[0]
    assert promotions(run).champion().number == 1
    assert versions is promotions(run).registry.find(2) is None


def test_a_run_killed_after_its_promotion_is_not_out_of_date(run, served):
    wait(run)
    assert approve(run) == 0
    (run.directory / "verdict.json").unlink()

    assert approve(run) == 0
    assert storage.read_json(run.directory / "verdict.json")["decision"] == "promote"
    assert len(promotions(run).log()) == 2


def test_who_comes_second_with_another_decision_is_told(run, capsys):
    wait(run)
    decide(run, Decision(decision="reject", by="Bo", reason="No.", at=NOW))

    assert approve(run) == 2
    assert "decided otherwise, Bo has: No." in capsys.readouterr().err
    assert promotions(run).champion().number == 1


def test_a_retrain_without_a_server_ends_waiting_and_a_command_decides(week_one, tmp_path, capsys):
    from prefect.client.orchestration import get_client

    store = shutil.copytree(week_one.snapshot, tmp_path / "store")
    out = tmp_path / "out"
    profile = ["--config", str(PROFILE), "--store", str(store)]
    more = ["--set", "data.path=null", "--set", "approval=required", "--set", "training.epochs=1"]
    assert main(["retrain", *profile, "--out", str(out), *more]) == 3

    said = " ".join(capsys.readouterr().out.split())
    assert "A PERSON DECIDES" in said
    assert f"longtail promote {out} --by NAME --reason WHY" in said
    assert is_waiting(out)
    served = [rule.name for rule in read_waiting(read_run(out)).verdict.rules]
    assert "served_as_evaluated" in served
    assert "WAITS FOR A DECISION" in (out / "report.html").read_text(encoding="utf-8")
    assert "WAITS FOR A DECISION" in (out / "verdict.md").read_text(encoding="utf-8")
    with get_client(sync_client=True) as client:
        waits = [one for one in client.read_flow_runs() if one.state_name == "Waiting"]
    (mine,) = [one for one in waits if str(out) in one.state.message]
    assert mine.state_type.value == "FAILED"

    assert main(["report", str(out)]) == 0
    assert main(["promote", str(out), *WHO]) == 0
    entry = open_promotions(PublishSettings(), store, NAME).log()[-1]
    assert (entry.by, entry.to_version) == ("amara", 2)


def test_what_nobody_decided_is_closed_by_the_next_run(run, week_two):
    until = dt.datetime.now(dt.UTC) - dt.timedelta(days=2)
    wait(run, until, flow_run="0b5ad9a1-8f4e-4a5e-9f0b-2a46a1c3a001")
    close_lapsed(RetrainConfig(name=NAME, store=str(run.store)))

    verdict = storage.read_json(run.directory / "verdict.json")
    assert verdict["decision"] == "block"
    assert verdict["reasons"][0].startswith("Nobody decided by ")
    assert "Nobody decided by" in (run.directory / "report.html").read_text(encoding="utf-8")
    assert list((run.model_store / "waiting").glob("*.json")) == []
    assert promotions(run).champion().number == 1


# ── the form and the messages ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("missing", ["decision", "by", "reason"])
def test_the_form_has_no_defaults(missing):
    whole = {"decision": "approve", "by": " Ada ", "reason": "why"}
    assert Answer(**whole).by == "Ada"
    for value in ("", "  ", None):
        with pytest.raises(ValidationError):
            Answer(**{**whole, missing: value})
    with pytest.raises(ValidationError):
        Answer(**{key: value for key, value in whole.items() if key != missing})
    schema = Answer.model_json_schema()
    assert set(schema["required"]) == set(whole)
    assert schema["properties"]["reason"]["pattern"] == r"\S"


def test_the_verdict_stands_above_the_form(run):
    waiting = wait(run, NOW)
    said = question(run, waiting)
    assert said.startswith("# smoke: the gate says PROMOTE")
    for rule in waiting.verdict.rules:
        assert rule.name in said
    assert "report.html" in said
    assert "Without a decision by 2026-11-23 06:00 UTC the champion stays" in said


def test_a_final_message_is_a_sentence_or_two_with_the_report(week_two, week_three):
    states = {}
    for week in (week_two, week_three):
        verdict = Verdict.model_validate(week.read("verdict.json"))
        states[verdict.decision] = outcome(read_run(week.directory), verdict, ["MLflow is down."])
    promoted, blocked = states["promote"], states["block"]
    assert (promoted.name, blocked.name) == ("Promoted", "Blocked")
    assert promoted.message.startswith("smoke: the candidate is live. ")
    assert blocked.message.startswith(
        f"smoke: the candidate does not go live. {week_three.blocking[0]}"
    )
    for state, week in ((promoted, week_two), (blocked, week_three)):
        assert state.message.endswith(f"MLflow is down. Report: {week.directory / 'report.html'}")
        assert len(state.message) < 600 + len(str(week.directory))
