"""Runs of the deployments, from the form's parameters to the outcome."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.integration


def test_a_manual_run_works_in_the_workers_home_and_says_its_outcome(served):
    number = served.run("retrain-manual", served.smoke("by-hand"))
    run = served.wait(number, "Blocked", "Promoted", timeout=180)
    assert "Report: " in run["state"]["message"]
    assert (served.home / "longtail-store" / "by-hand" / "runs").is_dir()
    assert "longtail" in run["tags"]
    assert any("texts" in line for line in served.logs(number))
