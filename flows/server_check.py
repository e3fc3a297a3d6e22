"""What is missing or stale on a Prefect server, as sentences that say what to do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from flows.automations import GPU, PREFIX, SKIP, STARTER
from flows.deployment import WATCH
from flows.server_pages import read_all
from tasks.server_slot import stale_slots

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

SILENCE = dt.timedelta(minutes=10)
"""Runs of the deployments give a sign of life every 30 seconds."""
_SET_UP = "run `python deployments/local.py setup`"
_DEPLOY = "run `make deploy`"
_SERVER = "set it for the server as in deployments/README.md and start the server again"


def problems(client: SyncPrefectClient, deployments: Collection[str], pool: str) -> list[str]:
    """Everything that keeps the deployments from running by themselves.

    Args:
        client: of the server.
        deployments: names of those that should be there.
        pool: name of their work pool.
    """
    return [
        *_settings(client),
        *_limit(client),
        *(slot.message for slot in stale_slots([GPU])),
        *_pool(client, pool),
        *_deployments(client, deployments),
        *_automations(client),
        *_late(client),
        *_lost(client),
    ]


def _settings(client: SyncPrefectClient) -> Iterator[str]:
    """What the server was started with; an unknown answer is no problem."""
    from prefect import __version__

    version = client.request("GET", "/admin/version").json()
    if version != __version__:
        yield f"The server is Prefect {version}, this is {__version__}: install the same on both."
    server = client.request("GET", "/admin/settings").json().get("server", {})
    storage = server.get("concurrency", {}).get("lease_storage", "")
    if storage.endswith(".memory"):
        yield (
            "The server keeps the holders of slots in memory: killed, it leaks them. "
            f"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE: {_SERVER}."
        )
    vacuum = server.get("services", {}).get("db_vacuum", {}).get("enabled")
    if vacuum is not True and "flow_runs" not in (vacuum or ()):
        yield (
            "The server never deletes old runs, so its database grows for ever. "
            f"PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,flow_runs: {_SERVER}."
        )


def _limit(client: SyncPrefectClient) -> Iterator[str]:
    from prefect.exceptions import ObjectNotFound

    try:
        limit = client.read_global_concurrency_limit_by_name(GPU)
    except ObjectNotFound:
        yield f"No concurrency limit {GPU}: trainings on several machines overlap; {_SET_UP}."
        return
    if not limit.active:
        yield f"The concurrency limit {GPU} is switched off: {_SET_UP}."


def _pool(client: SyncPrefectClient, pool: str) -> Iterator[str]:
    from prefect.exceptions import ObjectNotFound

    try:
        found = client.read_work_pool(pool)
    except ObjectNotFound:
        yield f"There is no work pool {pool}: {_DEPLOY}."
        return
    if found.is_paused:
        yield f"The work pool {pool} is paused: `prefect work-pool resume {pool}`."
    workers = client.read_workers_for_work_pool(pool)
    if not any(worker.status == "ONLINE" for worker in workers):
        yield (
            f"No worker of {pool} is online, so nothing runs: start one on the machine that "
            f"trains, `LONGTAIL_HOME=DIR prefect worker start --pool {pool}`."
        )


def _deployments(client: SyncPrefectClient, names: Collection[str]) -> Iterator[str]:
    found = {one["name"]: one for one in read_all(client, "/deployments/filter")
             if "longtail" in one["tags"]}  # fmt: skip
    missing = [name for name in names if name not in found]
    if missing:
        yield f"Not deployed: {', '.join(missing)}: {_DEPLOY}."
    for name, deployment in found.items():
        schedules = deployment["schedules"]
        if deployment["paused"]:
            yield f"{name} is paused: resume it on its page."
        elif name != WATCH and schedules and not any(schedule["active"] for schedule in schedules):
            yield f"The schedule of {name} is switched off, so it starts only by hand."


def _automations(client: SyncPrefectClient) -> Iterator[str]:
    found = {one["name"]: one for one in read_all(client, "/automations/filter")}
    if SKIP not in found:
        yield f"The automations are not there: {_SET_UP} with your profile."
    if STARTER not in found:
        yield f"New annotations start nothing, as their automation is not there: {_DEPLOY}."
    for name, automation in found.items():
        if (name == STARTER or name.startswith(PREFIX)) and not automation["enabled"]:
            yield f"The automation {name!r} is switched off."
    if not any(one["type"] == "send-notification" for automation in found.values()
               for one in automation["actions"]):  # fmt: skip
        yield (
            "Nobody is told of anything: name a channel in the profile, under deployment: "
            f"notifications: urls, and {_SET_UP.removesuffix('`')} --profile FILE`."
        )


def _late(client: SyncPrefectClient) -> Iterator[str]:
    wanted = {"state": {"name": {"any_": ["Late"]}}, "tags": {"all_": ["longtail"]}}
    late = read_all(client, "/flow_runs/filter", flow_runs=wanted)
    if late:
        yield f"{len(late)} runs are late: no worker has taken them since {_earliest(late)}."


def _lost(client: SyncPrefectClient) -> Iterator[str]:
    """Runs that say they are running, and have stopped to give the signs of life that they gave."""
    wanted = {"state": {"type": {"any_": ["RUNNING"]}}, "tags": {"all_": ["longtail"]}}
    for run in read_all(client, "/flow_runs/filter", flow_runs=wanted):
        seen = {"event": {"name": ["prefect.flow-run.heartbeat"]},
                "resource": {"id": [f"prefect.flow-run.{run['id']}"]}, "order": "DESC"}  # fmt: skip
        events = client.request("POST", "/events/filter", json={"filter": seen, "limit": 1}).json()
        last = [dt.datetime.fromisoformat(one["occurred"]) for one in events["events"]]
        if last and dt.datetime.now(dt.UTC) - last[0] > SILENCE:
            yield (
                f"{run['name']} says that it runs, and has given no sign of life since "
                f"{last[0]:%Y-%m-%d %H:%M} UTC: its machine is gone. Cancel it on its page."
            )


def _earliest(runs: list[dict[str, Any]]) -> str:
    return min(str(run["expected_start_time"]) for run in runs)[:16].replace("T", " ") + " UTC"
