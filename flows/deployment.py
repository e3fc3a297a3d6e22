"""What a profile says about the deployments, and the deployments as that profile makes them.

``deployments/prefect.yaml`` is what is deployed; a profile changes its parameters and its schedule.
"""

from __future__ import annotations

import json
import os
import re
import zoneinfo
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from flows.config import DEPLOYMENT, RetrainConfig, load_config
from longtail.config import Settings, WatchSettings
from longtail.errors import ConfigError

Occasion = Literal["promoted", "blocked", "failed", "quarantined", "waiting"]
WEEKLY = "retrain-weekly"
WATCH = "watch"
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def _check_cron(cron: str) -> str:
    if len(cron.split()) != 5 and not cron.startswith("@"):
        raise ValueError(
            f"{cron!r} is not a cron expression: expected minute, hour, day of the month, month "
            "and day of the week, such as '0 6 * * 1'"
        )
    return cron


def _check_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"{name!r} is no time zone; expected a name such as Europe/Berlin or UTC"
        ) from error
    return name


class ScheduleSettings(Settings):
    """When retrain-weekly starts."""

    cron: Annotated[str, AfterValidator(_check_cron)] = Field(
        "0 6 * * 1", description="Minute, hour, day of the month, month, day of the week."
    )
    timezone: Annotated[str, AfterValidator(_check_zone)] = Field(
        "UTC", description="Time zone of the cron expression; summer time is followed."
    )


class NotificationSettings(Settings):
    """Whom to tell what, through Prefect's automations."""

    urls: tuple[str, ...] = Field(
        (),
        description="apprise URLs, one for each channel; ${NAME} is the value of that environment "
        "variable, so that no secret needs to stand in the file.",
    )
    on: tuple[Occasion, ...] = Field(
        ("promoted", "blocked", "failed", "quarantined", "waiting"),
        description="What is told. waiting: a verdict waits for a person.",
    )

    def resolved(self, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
        """The URLs with the values of the environment variables that they name.

        Raises:
            ConfigError: a variable is not set.
        """
        return tuple(_resolve(url, environment) for url in self.urls)


class DeploymentSettings(Settings):
    """When runs start by themselves and who is told; not a part of a retrain's configuration."""

    schedule: ScheduleSettings = ScheduleSettings()
    notifications: NotificationSettings = NotificationSettings()
    watch: WatchSettings = WatchSettings()


def load_deployment(file: str | None) -> DeploymentSettings:
    """The section ``deployment`` of a profile; the defaults without one."""
    return load_config(file, model=DeploymentSettings, section=DEPLOYMENT)


def rendered(prefect_file: Mapping[str, Any], profile: str | None) -> dict[str, Any]:
    """The content of ``prefect.yaml`` with a profile's parameters and schedule.

    Args:
        prefect_file: the file as it was read.
        profile: YAML file of a ``RetrainConfig``, with a section ``deployment``.

    Raises:
        ConfigError: the profile is not a valid one.
    """
    content: dict[str, Any] = json.loads(json.dumps(prefect_file))  # anchors share values
    if profile is None:
        _watch_of(content)["schedules"] = []
        return content
    given: RetrainConfig = load_config(profile)
    config = given.model_dump(mode="json", exclude_unset=True)
    if given.data.path is not None:  # else the file's own name would be another export's
        config["name"] = given.model_name
    settings = load_deployment(profile)
    for deployment in content["deployments"]:
        _configure(deployment, config)
        _start(deployment, settings)
    return content


def _start(deployment: dict[str, Any], settings: DeploymentSettings) -> None:
    """When the deployment starts by itself: what the profile does not say stays as in the file.

    Whether a schedule is active is said of none, so that one that a person has paused stays so.
    """
    if deployment["name"] == WEEKLY and "schedule" in settings.model_fields_set:
        deployment["schedules"][0] |= settings.schedule.model_dump()
    if deployment["name"] != WATCH:
        return
    if "watch" not in settings.model_fields_set:
        deployment["schedules"] = []
    else:
        deployment["schedules"][0].pop("active", None)  # active when new
        watched = settings.watch.model_dump(exclude_unset=True)
        deployment["parameters"]["config"]["watch"] |= watched


def _watch_of(content: Mapping[str, Any]) -> dict[str, Any]:
    return next(one for one in content["deployments"] if one["name"] == WATCH)


def _configure(deployment: dict[str, Any], config: Mapping[str, Any]) -> None:
    """Put into a deployment's parameters what the profile says about its flow."""
    parameters = deployment.setdefault("parameters", {})
    shared = {key: config[key] for key in ("name", "store") if key in config}
    flow = deployment["entrypoint"].rpartition(".")[2]
    if flow == "retrain":
        parameters["config"] = _merged(parameters["config"], config)
    elif flow == "predict":
        parameters["config"] = _merged(parameters["config"], shared)
    elif flow == "watch":
        read = {key: value for key, value in config.get("data", {}).items() if key != "path"}
        parameters["config"] = _merged(parameters["config"], {**shared, "data": read})
    elif flow == "compare":
        parameters["config"] = _compared(parameters["config"], config)
    elif flow == "rollback":
        parameters |= shared
    for trigger in deployment.get("triggers", ()):
        # An automation's parameters take the place of the deployment's, key by key at the top.
        event = trigger["parameters"]["config"]
        trigger["parameters"]["config"] = _merged(parameters["config"], event)


def _compared(below: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    sections = ("split", "encoder", "training", "linear", "groups")
    compared = _merged(below, {key: config[key] for key in sections if key in config})
    if "path" in config.get("data", {}):
        compared["data"] = {config["name"]: config["data"]}
    return compared


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings, the second one winning."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = _merged(old, value)  # noqa: PLW2901
        merged[key] = value
    return merged


def _resolve(url: str, environment: Mapping[str, str]) -> str:
    for name in _VARIABLE.findall(url):
        if not environment.get(name):
            raise ConfigError(
                f"deployment.notifications.urls: the environment variable {name} is not set; "
                "export it where you deploy, or take the URL out of the profile"
            )
    return _VARIABLE.sub(lambda found: environment[found[1]], url)
