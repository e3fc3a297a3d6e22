"""prefect.yaml as data; on a real server: tests/integration."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
    module, _, function = deployment["entrypoint"].rpartition(".")
    assert (
        f"\ndef {function}(config: RetrainConfig)"
        in (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
    )


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
