"""A person decides about a suspended run: what the form shows and refuses, and what follows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from longtail import storage
from longtail.config import PublishSettings
from tasks.publishing import open_promotions

pytestmark = pytest.mark.integration

BLOCKING = {"min_test_texts": 50, "min_group_positives": 20, "floors": {"micro_f1": 0.999}}


def suspended(served, name: str, **changes: Any) -> str:
    """A run that waits for a decision, and whose form is there."""
    number = served.run("retrain-manual", served.smoke(name, **changes))
    served.wait(number, "Suspended", timeout=240)
    deadline = time.monotonic() + 30
    while not form_of(served, number)["schema"]:  # Prefect keeps it after the state
        assert time.monotonic() < deadline, "suspended without a form"
        time.sleep(0.3)
    return number


def form_of(served, number: str) -> dict[str, Any]:
    """What the form is made of: its schema and the description above it; None until it is kept."""
    keys = served.flow_run(number)["state"]["state_details"]["run_input_keyset"]
    asked = {"prefix": "suspended", "limit": 10}
    inputs = served.api(f"/flow_runs/{number}/input/filter", asked)
    kept = {one["key"]: one["value"] for one in inputs}
    found = {what: kept.get(keys[what]) for what in ("description", "schema")}
    return {what: value and json.loads(value) for what, value in found.items()}


def answer(served, number: str, **values: str) -> Any:
    """Post what the form posts."""
    return served.api(f"/flow_runs/{number}/resume", {"run_input": values})


def log_of(served, name: str) -> list[Any]:
    return open_promotions(PublishSettings(), served.home / "longtail-store", name).log()


def test_a_run_waits_with_its_verdict_until_somebody_says_who_and_why(served):
    number = suspended(served, "asked", approval="required")
    form = form_of(served, number)
    assert "asked: the gate says" in form["description"]
    assert "served_as_evaluated" in form["description"]
    assert set(form["schema"]["required"]) == {"decision", "by", "reason"}

    whole = {"decision": "approve", "by": "Ada", "reason": "I have read the tail."}
    for incomplete in ({}, {**whole, "reason": ""}, {**whole, "by": "  "}, {"by": "Ada"}):
        assert answer(served, number, **incomplete)["status"] == "REJECT"
    assert served.flow_run(number)["state"]["name"] == "Suspended"
    assert log_of(served, "asked") == []

    assert answer(served, number, **whole)["status"] == "ACCEPT"
    run = served.wait(number, "Promoted", timeout=120)
    (entry,) = log_of(served, "asked")
    signed = entry.approval or entry.override
    assert (entry.by, signed["by"], signed["reason"]) == ("Ada", "Ada", "I have read the tail.")
    assert "by Ada" in run["state"]["message"]
    assert list((served.home / "longtail-store" / "asked" / "waiting").glob("*.json")) == []


def test_a_block_is_overridden_and_what_waited_beside_it_is_out_of_date(served):
    blocking = {"approval": "on_override", "gate": BLOCKING}
    first = suspended(served, "overridden", **blocking)
    (directory,) = (served.home / "longtail-store" / "overridden" / "runs").iterdir()
    second = suspended(served, "overridden", stages={"force": True}, **blocking)

    command = [sys.executable, "-m", "flows.cli", "promote", str(directory), "--by", "Bo",
               "--reason", "The floor is a mistake"]  # fmt: skip
    done = subprocess.run(
        command, env=dict(served.environment), check=False, capture_output=True, text=True,
        timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert served.flow_run(first)["state"]["name"] == "Promoted"
    (entry,) = log_of(served, "overridden")
    assert (entry.decision, entry.override["by"]) == ("promote", "Bo")

    late = {"decision": "approve", "by": "Ada", "reason": "So do I"}
    assert answer(served, second, **late)["status"] == "ACCEPT"
    run = served.wait(second, "Blocked", timeout=120)
    assert "The champion changed while this waited" in run["state"]["message"]
    assert len(log_of(served, "overridden")) == 1


def test_a_rejection_is_a_block_in_the_persons_words(served):
    number = suspended(served, "rejected", approval="required")
    answer(served, number, decision="reject", by="Ada", reason="Not before the audit")
    run = served.wait(number, "Blocked", timeout=120)
    assert "Rejected by Ada" in run["state"]["message"]
    assert "Not before the audit" in run["state"]["message"]
    (directory,) = (served.home / "longtail-store" / "rejected" / "runs").iterdir()
    assert storage.read_json(directory / "verdict.json")["decision"] == "block"
    assert log_of(served, "rejected") == []
