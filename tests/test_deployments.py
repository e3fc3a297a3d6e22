"""prefect.yaml as data, and on a real server: the weekly deployment gets its scheduled runs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import longtail
from flows.config import RetrainConfig

ROOT = Path(__file__).parents[1]
LOCAL = ROOT / "deployments" / "local.py"
FILE = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())
DEPLOYMENTS = {deployment["name"]: deployment for deployment in FILE["deployments"]}
PULL = [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $LONGTAIL_HOME }}"}}]


def test_there_is_a_weekly_and_a_manual_retrain():
    assert set(DEPLOYMENTS) == {"retrain-weekly", "retrain-manual"}
    (schedule,) = DEPLOYMENTS["retrain-weekly"]["schedules"]
    assert (schedule["cron"], schedule["timezone"]) == ("0 6 * * 1", "UTC")
    assert DEPLOYMENTS["retrain-manual"]["schedules"] == []


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_is_valid_against_the_flow(name):
    deployment = DEPLOYMENTS[name]
    config = RetrainConfig.model_validate(deployment["parameters"]["config"])
    assert config.data.path == "inbox/annotations.csv"
    assert deployment["version"] == longtail.__version__
    assert deployment["enforce_parameter_schema"] is True
    assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
    file, _, function = deployment["entrypoint"].partition(":")
    assert f"\ndef {function}(config: RetrainConfig)" in (ROOT / file).read_text()


def test_prefect_yaml_names_no_directory_of_a_machine():
    assert FILE["pull"] == PULL
    assert "directory: /" not in (ROOT / "deployments" / "prefect.yaml").read_text()


def local(*arguments: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(LOCAL), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


def test_deploying_to_no_server_says_what_to_do():
    environment = {**os.environ, "PREFECT_API_URL": "localhost:4200/api"}
    process = local("deploy", environment=environment)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "expected http://HOST:PORT/api" in output
    assert "Traceback" not in output


class Api:
    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Api]:
    """``local.py up`` on a free port with a Prefect home of its own."""
    home = tmp_path_factory.mktemp("deployments")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home / "prefect"),
        # Set where it is deployed, and yet no deployment may carry it.
        "LONGTAIL_HOME": str(home),
    }
    process = local("up", "--port", str(port), "--home", str(home), environment=environment)
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "press Run on retrain-manual" in line:
                break
        else:
            pytest.fail("".join(lines))
        yield Api(f"http://127.0.0.1:{port}/api")
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    with socket.socket() as gone:
        assert gone.connect_ex(("127.0.0.1", port)) != 0, "the server outlived its command"


@pytest.mark.integration
def test_the_weekly_deployment_gets_scheduled_runs(served):
    """With SQLAlchemy 2.1 everything else works and no run is ever scheduled."""
    weekly = served("/deployments/name/retrain/retrain-weekly")
    wanted = {"deployments": {"id": {"any_": [weekly["id"]]}}}
    deadline = time.monotonic() + 75
    while not (runs := served("/flow_runs/filter", wanted)) and time.monotonic() < deadline:
        time.sleep(1)
    assert runs
    assert {run["state_type"] for run in runs} == {"SCHEDULED"}
    assert all("T06:00:00" in run["expected_start_time"] for run in runs)


@pytest.mark.integration
def test_the_form_refuses_what_the_flow_would(served):
    manual = served("/deployments/name/retrain/retrain-manual")
    assert manual["enforce_parameter_schema"] is True
    properties = manual["parameter_openapi_schema"]["definitions"]["RetrainConfig"]["properties"]
    assert set(properties) == set(RetrainConfig.model_fields)
    wrong = {"parameters": {"config": {"training": {"epochs": 0}}}}
    with pytest.raises(urllib.error.HTTPError) as refused:
        served(f"/deployments/{manual['id']}/create_flow_run", wrong)
    with refused.value as response:
        assert response.code == 409
        assert "epochs" in response.read().decode()


@pytest.mark.integration
def test_a_deployment_carries_no_directory_of_the_deployer(served):
    for deployment in served("/deployments/filter", {}):
        assert deployment["pull_steps"] == PULL
        assert str(ROOT) not in json.dumps(deployment)


@pytest.mark.integration
def test_deploying_again_changes_no_number(served):
    before = {deployment["id"] for deployment in served("/deployments/filter", {})}
    process = local("deploy", environment={**os.environ, "PREFECT_API_URL": served.url})
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert {deployment["id"] for deployment in served("/deployments/filter", {})} == before
