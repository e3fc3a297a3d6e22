"""The event annotations.landed starts a retrain of what its payload names."""

from __future__ import annotations

import time

import pytest

pytestmark = pytest.mark.integration


def test_the_run_has_the_parameters_of_the_payload(served):
    payload = {"name": "landed", "path": "inbox/nowhere.jsonl", "batch": "1", "annotations": 12}
    known = {run["id"] for run in served.runs("retrain-on-annotations")}
    served.emit("annotations.landed", "longtail.inbox.landed", payload)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        runs = [run for run in served.runs("retrain-on-annotations") if run["id"] not in known]
        if runs:
            break
        time.sleep(0.3)
    (run,) = runs
    config = run["parameters"]["config"]
    assert config["name"] == "landed"
    assert config["data"]["path"] == "inbox/nowhere.jsonl"
    ended = served.wait(run["id"], "Failed", timeout=60)
    assert "nowhere.jsonl" in ended["state"]["message"]
