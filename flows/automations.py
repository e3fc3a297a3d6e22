"""What the deployments need on a Prefect server beside themselves, made by one idempotent call.

The global concurrency limit of the GPU; automations that tell a team what happened, and one that
tells it of automations that could not act.

All triggers are such that Prefect writes before it reads: one with ``after`` reads first, and on
SQLite then fails as locked, which has every other automation of the same event act once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.deployment import NotificationSettings, Occasion
from flows.server_pages import read_all
from longtail.errors import ConfigError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

PREFIX = "longtail: "
"""What the names of our automations begin with; what is called so and not ours any more goes."""
CHANNEL = "longtail-channel-"
STARTER = "retrain on annotations"
"""The event trigger of that deployment: deploying makes it, and it comes and goes with it."""
GPU = "gpu"
SKIP = f"{PREFIX}skip late looks at the inbox"
ALERT = f"{PREFIX}an automation could not act"
_MESSAGE = "{{ event.payload.validated_state.message }}"
_PAGE = "{{ flow_run | ui_url }}"
_RUNS = ("retrain", "predict", "compare", "rollback")
_WAITS = "The verdict waits for a person. Read it on the run's page, and press Resume to decide."
_LATE = (
    "No worker has taken the run: start one with `prefect worker start --pool longtail` on the "
    "machine that trains."
)
# Occasion: what it is called, state names, tags of the runs, the sentence, seconds of quiet.
_TOLD: Mapping[Occasion, Sequence[tuple[str, Sequence[str], Sequence[str], str, int]]] = {
    "promoted": [("promoted", ["Promoted"], _RUNS, _MESSAGE, 0)],
    "blocked": [("blocked", ["Blocked"], _RUNS, _MESSAGE, 0)],
    "quarantined": [("too many rows in quarantine", ["Quarantined"], _RUNS, _MESSAGE, 0)],
    "waiting": [("waits for approval", ["Suspended"], _RUNS, _WAITS, 0)],
    "failed": [
        ("failed", ["Failed", "Crashed", "TimedOut"], _RUNS, _MESSAGE, 0),
        ("late", ["Late"], _RUNS, _LATE, 0),
        # It looks every few minutes; the same trouble is told every six hours.
        ("watching failed", ["Failed", "Crashed", "TimedOut", "Late"], ["watch"], _MESSAGE, 21600),
    ],
}


def automations(told: NotificationSettings, channels: Sequence[str]) -> list[dict[str, Any]]:
    """The automations as data.

    Args:
        told: of what the channels are told.
        channels: ids of the notification blocks.
    """
    made = [_skip_late_looks()]
    if not channels:
        return made
    for occasion in told.on:
        for name, states, tags, sentence, quiet in _TOLD[occasion]:
            trigger = _flow_runs(states, tags, quiet)
            subject = f"Longtail: {{{{ flow_run.name }}}} {name}"
            actions = _notify(channels, subject, f"{sentence}\n{_PAGE}")
            made.append({"name": PREFIX + name, "trigger": trigger, "actions": actions})
    return [*made, _alert(channels)]


def set_up(told: NotificationSettings, client: SyncPrefectClient) -> list[str]:
    """Create what is missing, update what is there, remove what the profile no longer names.

    Args:
        told: the profile's notifications.
        client: of the server that Prefect's settings name.

    Returns:
        Sentences that say what there is now.

    Raises:
        ConfigError: a channel's URL names an unset variable, or is none that apprise knows.
    """
    urls = told.resolved()
    for number, url in enumerate(urls, start=1):
        _check_url(number, url)
    said = [_set_up_limit(client)]
    channels = _set_up_channels(urls)
    wanted = automations(told, channels)
    removed = _set_up_automations(wanted, client)
    _remove_channels(len(urls), client)
    names = ", ".join(one["name"].removeprefix(PREFIX) for one in wanted)
    said.append(f"Automations, for {len(urls)} channel(s): {names}.")
    if removed:
        said.append(f"Removed: {', '.join(removed)}.")
    if not urls:
        said.append(
            "Nobody is told of anything yet: name a channel in the profile, under deployment: "
            "notifications: urls."
        )
    return said


def _set_up_limit(client: SyncPrefectClient) -> str:
    """One training at a time; a number that the team has set for more GPUs stays."""
    from prefect.client.schemas.actions import (
        GlobalConcurrencyLimitCreate,
        GlobalConcurrencyLimitUpdate,
    )
    from prefect.exceptions import ObjectNotFound

    try:
        limit = client.read_global_concurrency_limit_by_name(GPU)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU, limit=1))
        return f"Concurrency limit {GPU}: 1 training at a time."
    if not limit.active:
        client.update_global_concurrency_limit(GPU, GlobalConcurrencyLimitUpdate(active=True))
    return f"Concurrency limit {GPU}: {limit.limit} training at a time."


def _set_up_channels(urls: Sequence[str]) -> list[str]:
    """One notification block for each URL; the ids.

    Slack's block hands any URL to apprise; there is none in Prefect that is named so.
    """
    from prefect.blocks.notifications import SlackWebhook
    from pydantic import SecretStr

    blocks = [SlackWebhook(url=SecretStr(url)) for url in urls]
    return [
        str(block.save(f"{CHANNEL}{number}", overwrite=True))
        for number, block in enumerate(blocks, start=1)
    ]


def _remove_channels(kept: int, client: SyncPrefectClient) -> None:
    """Last, because automations that are gone by now referred to them."""
    for block in client.read_block_documents(include_secrets=False):
        number = (block.name or "").removeprefix(CHANNEL)
        if (block.name or "").startswith(CHANNEL) and number.isdigit() and int(number) > kept:
            client.delete_block_document(block.id)


def _set_up_automations(
    wanted: Sequence[Mapping[str, Any]], client: SyncPrefectClient
) -> list[str]:
    """Bring the server's automations of our prefix to what is wanted; the names of those gone."""
    from prefect.events.schemas.automations import AutomationCore

    every = read_all(client, "/automations/filter")
    ours = [one for one in every if one["name"].startswith(PREFIX)]
    known = {one["name"]: one for one in ours}
    for content in wanted:
        old = known.get(content["name"])
        if old is None:
            client.create_automation(AutomationCore.model_validate(content))
        else:  # one that a person has switched off stays so
            made = AutomationCore.model_validate({**content, "enabled": old["enabled"]})
            client.update_automation(UUID(old["id"]), made)
    names = {content["name"] for content in wanted}
    gone = [one for one in ours if one["name"] not in names or known[one["name"]] is not one]
    for one in gone:
        client.delete_automation(UUID(one["id"]))
    return sorted(one["name"].removeprefix(PREFIX) for one in gone)


def _skip_late_looks() -> dict[str, Any]:
    """While no worker is there, looks at the inbox would pile up, and all be made afterwards."""
    trigger = _flow_runs(["Late"], ["watch"])
    said = "No worker took it in time; the next look sees what this one would have seen."
    action = {"type": "change-flow-run-state", "state": "CANCELLED", "name": "Skipped"}
    return {"name": SKIP, "trigger": trigger, "actions": [{**action, "message": said}]}


def _alert(channels: Sequence[str]) -> dict[str, Any]:
    """An automation that fails says so in an event alone, such as a run that could not start."""
    trigger = _trigger(["prefect.automation.action.failed"])
    # Not of itself: a channel that is down would have it go round for ever.
    trigger["match"] = {"prefect.resource.name": f"!{ALERT}"}
    body = (
        "{{ event.resource.name }}: {{ event.payload.reason }}. If it was to start a run, the "
        "event lacked a part of what the run needs, or a value was refused; nothing has started.\n"
        "{{ event.resource | ui_resource_events_url }}"
    )
    actions = _notify(channels, "Longtail: an automation could not act", body)
    return {"name": ALERT, "trigger": trigger, "actions": actions}


def _trigger(events: Sequence[str], quiet: int = 0) -> dict[str, Any]:
    return {"type": "event", "posture": "Reactive", "expect": list(events), "threshold": 1,
            "within": quiet}  # fmt: skip


def _flow_runs(states: Sequence[str], tags: Sequence[str], quiet: int = 0) -> dict[str, Any]:
    trigger = _trigger([f"prefect.flow-run.{state}" for state in states], quiet)
    trigger["match"] = {"prefect.resource.id": "prefect.flow-run.*"}
    trigger["match_related"] = {
        "prefect.resource.role": "tag",
        "prefect.resource.id": [f"prefect.tag.{tag}" for tag in tags],
    }
    return trigger


def _notify(channels: Sequence[str], subject: str, body: str) -> list[dict[str, Any]]:
    action = {"type": "send-notification", "subject": subject, "body": body}
    return [{**action, "block_document_id": channel} for channel in channels]


def _check_url(number: int, url: str) -> None:
    from apprise import Apprise

    if Apprise.instantiate(url, suppress_exceptions=True) is None:
        scheme = url.partition("://")[0] if "://" in url else "no scheme"
        raise ConfigError(  # the rest of the URL may be a secret
            f"deployment.notifications.urls, number {number} ({scheme}): not a URL that apprise "
            "knows; expected one such as mailto://…, slack://… or json://HOST/PATH"
        )
