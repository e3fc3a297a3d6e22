"""The part of a slot that a Prefect server keeps: its global concurrency limit, and who holds it.

The server tells how many slots of a limit are taken, but not by whom. What Prefect emits as a slot
is taken and given back does: the events of the limit name the flow run.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tasks.waiting import wait

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

# The server's smallest: what a killed holder does not renew is free again after it.
LEASE_SECONDS = 60.0
_GRACE = dt.timedelta(minutes=3)
_LEASES = "prefect.server.concurrency.lease_storage.filesystem"
_POLL_SECONDS = 2.0
_LOCKED = 423
_EVENTS = 200
_RUN = "prefect.flow-run."
_ACQUIRED, _RELEASED = "prefect.concurrency-limit.acquired", "prefect.concurrency-limit.released"


@dataclass(frozen=True)
class Holder:
    """Who holds a slot of a limit, as far as the server's events tell.

    Attributes:
        flow_run: name of the flow run; its id where it has been deleted.
        since: when it took the slot.
        ended: when its run ended, None: it has not.
        state: name of its run's state.
        seen: when it last logged something, None: never.
    """

    flow_run: str
    since: dt.datetime
    ended: dt.datetime | None
    state: str
    seen: dt.datetime | None

    def __str__(self) -> str:
        return f"flow run {self.flow_run} ({self.state}), since {_shown(self.since)}"


@dataclass(frozen=True)
class StaleSlot:
    """A slot that nobody who is alive holds.

    Attributes:
        name: of the limit.
        taken: slots that count as taken.
        limit: slots that there are.
        message: what was found, and what to do.
    """

    name: str
    taken: int
    limit: int
    message: str


def limit_exists(name: str) -> bool:
    """Whether this is a run of a server that has an active limit of that name."""
    from prefect.client.orchestration import get_client
    from prefect.context import FlowRunContext, TaskRunContext
    from prefect.exceptions import ObjectNotFound

    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return False
    with get_client(sync_client=True) as client:
        try:
            return bool(client.read_global_concurrency_limit_by_name(name).active)
        except ObjectNotFound:
            return False


@contextlib.contextmanager
def server_slot(name: str) -> Iterator[None]:
    """Hold one slot of a limit that exists, under a lease that is renewed in the background.

    A renewal that fails does not end what holds the slot: hours of training would be lost for a
    server that was away.
    """
    with contextlib.ExitStack() as stack:
        wait(
            "training",
            lambda seconds: _acquire(stack, name, seconds),
            lambda: _held_by(name),
        )
        yield


def stale_slots(
    names: Sequence[str],
    *,
    silent_for: dt.timedelta = dt.timedelta(minutes=10),
    now: dt.datetime | None = None,
) -> list[StaleSlot]:
    """The limits that count a slot as taken though no run that is alive holds it.

    That happens when a server that keeps its leases in memory dies: the count is in its database,
    the lease that would give it back is gone.

    Args:
        names: of the limits; those that do not exist are passed over.
        silent_for: a run that has not logged anything for so long counts as dead; a training logs
            several times a minute.
        now: the present moment; by default the clock's.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    found = []
    with get_client(sync_client=True) as client:
        for name in names:
            with contextlib.suppress(ObjectNotFound):
                limit = client.read_global_concurrency_limit_by_name(name)
                message = _stale(client, limit, silent_for, now or dt.datetime.now(dt.UTC))
                if message is not None:
                    taken = int(limit.active_slots)
                    found.append(StaleSlot(name, taken, limit.limit, message))
    return found


def _stale(
    client: SyncPrefectClient, limit: Any, silent_for: dt.timedelta, now: dt.datetime
) -> str | None:
    taken = int(limit.active_slots)
    if not taken:
        return None
    holders = _holders(client, limit.id)
    dead = [holder for holder in holders if _is_dead(holder, now, silent_for)]
    alive = len(holders) - len(dead)
    # Without any event the holder may have taken it this very moment.
    unsure = not holders and limit.updated is not None and now - limit.updated < _GRACE
    if taken <= alive or unsure:
        return None
    last = f"the last one known to have taken one is {dead[0]}" if dead else "nobody known took it"
    return (
        f"Concurrency limit {limit.name!r}: {taken} of {limit.limit} slots count as taken, but "
        f"{alive} of the runs that took one are alive; {last}. Give it back with: "
        f"prefect global-concurrency-limit update {limit.name} --active-slots {alive}. A server "
        f"whose PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE is {_LEASES} does so by itself"
    )


def _acquire(stack: contextlib.ExitStack, name: str, seconds: float) -> bool:
    """Try now and then; a server that is asked to wait itself cannot be interrupted."""
    end = time.monotonic() + seconds
    while not _try(stack, name):
        if time.monotonic() >= end:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _try(stack: contextlib.ExitStack, name: str) -> bool:
    from prefect.client.schemas.objects import ConcurrencyLeaseHolder
    from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
    from prefect.concurrency.sync import concurrency
    from prefect.runtime import flow_run

    number = flow_run.get_id()
    holder = ConcurrencyLeaseHolder(type="flow_run", id=UUID(number)) if number else None
    slot = concurrency(
        name, strict=True, raise_on_lease_renewal_failure=False, holder=holder,
        lease_duration=LEASE_SECONDS, max_retries=0,
    )  # fmt: skip
    try:
        stack.enter_context(slot)
    except ConcurrencySlotAcquisitionError as error:
        response = getattr(error.__cause__, "response", None)
        if getattr(response, "status_code", None) != _LOCKED:
            raise
        return False
    return True


def _held_by(name: str) -> str:
    from prefect.client.orchestration import get_client

    stale = stale_slots([name])
    if stale:
        return stale[0].message
    with get_client(sync_client=True) as client:
        limit = client.read_global_concurrency_limit_by_name(name)
        holders = ", ".join(map(str, _holders(client, limit.id)))
    return f"The slot {name!r} of the server is held by {holders or 'a run that is just starting'}"


def _holders(client: SyncPrefectClient, limit: UUID) -> list[Holder]:
    """Who took a slot and has not given it back, the last one first."""
    from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter

    wanted = EventFilter(
        event=EventNameFilter(name=[_ACQUIRED, _RELEASED]),
        resource=EventResourceFilter(id=[f"prefect.concurrency-limit.{limit}"]),
    )
    events = client.read_events(wanted, limit=_EVENTS).events
    released = {event.follows for event in events if event.event == _RELEASED}
    found: dict[str, dt.datetime] = {}
    for event in sorted(events, key=lambda one: one.occurred, reverse=True):
        if event.event == _ACQUIRED and event.id not in released:
            run = event.resource_in_role.get("flow-run")
            if run is not None:
                found.setdefault(run.id.removeprefix(_RUN), event.occurred)
    return [_holder(client, UUID(number), since) for number, since in found.items()]


def _holder(client: SyncPrefectClient, number: UUID, since: dt.datetime) -> Holder:
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.client.schemas.sorting import LogSort
    from prefect.exceptions import ObjectNotFound

    try:
        run = client.read_flow_run(number)
    except ObjectNotFound:
        return Holder(str(number), since, since, "deleted", None)
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[number]))
    logs = client.read_logs(wanted, limit=1, sort=LogSort.TIMESTAMP_DESC)
    ended = run.state.timestamp if run.state is not None and run.state.is_final() else None
    state = "without a state" if run.state is None else str(run.state.name)
    return Holder(run.name, since, ended, state, logs[0].timestamp if logs else None)


def _is_dead(holder: Holder, now: dt.datetime, silent_for: dt.timedelta) -> bool:
    """Ended long enough ago for its lease to have run out, or silent for too long."""
    if holder.ended is not None:
        return now - holder.ended > _GRACE
    return now - max(holder.since, holder.seen or holder.since) > silent_for


def _shown(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
