"""prefect.yaml as data; on a real server: tests/integration."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import longtail
from flows.automations import ALERT, SKIP, automations
from flows.config import CompareConfig, PredictConfig, RetrainConfig, WatchConfig, load_config
from flows.deployment import NotificationSettings, load_deployment, rendered
from longtail.errors import ConfigError
from longtail.yaml_files import read_yaml

ROOT = Path(__file__).parents[1]
LOCAL = ROOT / "deployments" / "local.py"
FILE = read_yaml(ROOT / "deployments" / "prefect.yaml")
PROFILES = sorted((ROOT / "deployments" / "profiles").glob("*.yaml"))
MODELS = {
    "flows.retrain.retrain": RetrainConfig,
    "flows.predict.predict": PredictConfig,
    "flows.compare.compare": CompareConfig,
    "flows.watch.watch": WatchConfig,
}
DEPLOYMENTS = {deployment["name"]: deployment for deployment in FILE["deployments"]}
PULL = [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $LONGTAIL_HOME }}"}}]


def test_there_are_the_deployments_that_the_readme_tells_of():
    readme = (ROOT / "deployments" / "README.md").read_text()
    assert len(DEPLOYMENTS) == 7
    assert all(f"`{name}`" in readme for name in DEPLOYMENTS)
    (schedule,) = DEPLOYMENTS["retrain-weekly"]["schedules"]
    assert (schedule["cron"], schedule["timezone"]) == ("0 6 * * 1", "UTC")
    assert DEPLOYMENTS["retrain-manual"]["schedules"] == []


@pytest.mark.parametrize("profile", [None, *PROFILES], ids=lambda one: one and one.stem)
@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_is_valid_against_its_flow(name, profile):
    content = rendered(FILE, profile and str(profile))
    (deployment,) = (one for one in content["deployments"] if one["name"] == name)
    parameters = deployment["parameters"]
    if (model := MODELS.get(deployment["entrypoint"])) is not None:
        model.model_validate(parameters["config"])
    assert deployment["version"] == longtail.__version__
    assert deployment["enforce_parameter_schema"] is True
    assert "longtail" in deployment["tags"]
    module, _, function = deployment["entrypoint"].rpartition(".")
    text = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
    signature = text.partition(f"\ndef {function}(")[2].partition(")")[0]
    assert all(f"{parameter}:" in signature for parameter in parameters)
    if "retrain" in deployment["tags"]:
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


TEAM = """
name: tickets
data: {path: exports/tickets.csv, label_separator: "|"}
training: {epochs: 3}
deployment:
  schedule: {cron: "30 5 * * 3", timezone: Europe/Berlin}
  watch: {inbox: exports, min_annotations: 20}
  notifications: {urls: ["slack://${TOKEN}/x"], on: [failed]}
"""


@pytest.fixture
def team(tmp_path) -> str:
    (tmp_path / "team.yaml").write_text(TEAM)
    return str(tmp_path / "team.yaml")


def test_a_profile_reaches_every_deployment(team):
    content = rendered(FILE, team)
    found = {one["name"]: one for one in content["deployments"]}
    retrain = {"name": "tickets", "data": {"path": "exports/tickets.csv", "label_separator": "|"},
               "training": {"epochs": 3}}  # fmt: skip
    assert found["retrain-weekly"]["parameters"] == {"config": retrain}
    (schedule,) = found["retrain-weekly"]["schedules"]
    assert (schedule["cron"], schedule["timezone"]) == ("30 5 * * 3", "Europe/Berlin")
    (trigger,) = found["retrain-on-annotations"]["triggers"]
    event = {"name": "{{ event.payload.name }}",
             "data": {"path": "{{ event.payload.path }}", "label_separator": "|"}}  # fmt: skip
    assert trigger["parameters"] == {"config": {**retrain, **event}}
    watch = found["watch"]["parameters"]["config"]
    assert watch["watch"] == {"inbox": "exports", "min_annotations": 20}
    assert watch["data"] == {"label_separator": "|"}
    assert set(found["compare"]["parameters"]["config"]["data"]) == {"tickets"}
    assert found["rollback"]["parameters"]["name"] == "tickets"


def test_rendering_again_changes_nothing(team):
    once = rendered(FILE, team)
    assert rendered(once, team) == once
    plain = rendered(FILE, None)
    assert rendered(plain, None) == plain


def test_no_deployment_says_whether_its_schedule_is_active(team, tmp_path):
    """Prefect then keeps one that a person has paused, and starts with one that is."""
    (tmp_path / "plain.yaml").write_text("name: tickets")
    for profile in (None, str(tmp_path / "plain.yaml"), team):
        content = rendered(FILE, profile)
        schedules = {one["name"]: one["schedules"] for one in content["deployments"]}
        assert len(schedules["watch"]) == (profile == team)
        assert not any("active" in one for found in schedules.values() for one in found)


def test_a_run_does_not_read_the_section_of_the_deployments(team):
    config = load_config(team)
    assert config == RetrainConfig.model_validate(config.model_dump())
    assert not hasattr(config, "deployment")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("schedule: {cron: weekly}", "schedule.cron: 'weekly' is not a cron expression"),
        ("schedule: {timezone: Mars/Base}", "'Mars/Base' is no time zone"),
        ("notifications: {on: [sometimes]}", "notifications.on"),
        ("notification: {}", "notification: no such setting"),
    ],
)
def test_a_mistake_in_the_section_is_told_with_its_key(tmp_path, section, said):
    (tmp_path / "team.yaml").write_text(f"deployment:\n  {section}\n")
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_deployment(str(tmp_path / "team.yaml"))


def test_a_channels_secret_comes_from_the_environment(team):
    told = load_deployment(team).notifications
    assert told.resolved({"TOKEN": "abc"}) == ("slack://abc/x",)
    with pytest.raises(ConfigError, match="variable TOKEN is not set"):
        told.resolved({})


def test_there_is_an_automation_for_each_occasion_and_for_each_channel():
    told = NotificationSettings(on=("promoted", "failed"))
    made = {one["name"]: one for one in automations(told, ["1" * 32, "2" * 32])}
    assert set(made) == {SKIP, ALERT, "longtail: promoted", "longtail: failed", "longtail: late",
                         "longtail: watching failed"}  # fmt: skip
    assert [one["block_document_id"] for one in made[ALERT]["actions"]] == ["1" * 32, "2" * 32]
    assert made[ALERT]["trigger"]["match"] == {"prefect.resource.name": f"!{ALERT}"}
    # One with `after` reads before it writes and fails on SQLite, with all others of its event.
    assert not any("after" in one["trigger"] for one in made.values())
    assert [one["name"] for one in automations(told, [])] == [SKIP]


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
