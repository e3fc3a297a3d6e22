"""The deployments on a real server: scheduled runs, refused parameters, nothing of this machine."""

from __future__ import annotations

import json
import time
import urllib.error
from pathlib import Path

import pytest

from flows.config import RetrainConfig

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.integration
PULL = [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $LONGTAIL_HOME }}"}}]


def test_the_weekly_deployment_gets_scheduled_runs(served):
    """With SQLAlchemy 2.1 everything else works and no run is ever scheduled."""
    deadline = time.monotonic() + 75
    while not (runs := served.runs("retrain-weekly")) and time.monotonic() < deadline:
        time.sleep(1)
    assert runs
    assert {run["state_type"] for run in runs} == {"SCHEDULED"}
    assert all("T06:00:00" in run["expected_start_time"] for run in runs)


def test_the_form_refuses_what_the_flow_would(served):
    manual = served.deployment("retrain-manual")
    assert manual["enforce_parameter_schema"] is True
    properties = manual["parameter_openapi_schema"]["definitions"]["RetrainConfig"]["properties"]
    assert set(properties) == set(RetrainConfig.model_fields)
    before = len(served.runs("retrain-manual"))
    with pytest.raises(urllib.error.HTTPError) as refused:
        served.run("retrain-manual", {"config": {"training": {"epochs": 0}}})
    with refused.value as response:
        assert response.code == 409
        assert "epochs" in response.read().decode()
    assert len(served.runs("retrain-manual")) == before


def test_a_deployment_carries_no_directory_of_the_deployer(served):
    for deployment in served.api("/deployments/filter", {}):
        assert deployment["pull_steps"] == PULL
        assert str(ROOT) not in json.dumps(deployment)


def test_deploying_again_changes_no_number(served):
    before = {deployment["id"] for deployment in served.api("/deployments/filter", {})}
    done = served.local("deploy")
    assert done.returncode == 0, done.stdout
    assert {one["id"] for one in served.api("/deployments/filter", {})} == before
