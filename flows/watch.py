"""The watch flow: look at an inbox, and announce annotations once they are worth a training."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.states import Completed

from flows.config import WatchConfig, named_store
from flows.runtime import in_words, show_progress
from flows.store import open_store
from longtail.mirror_paths import is_remote
from longtail.mirror_scopes import DATASET, INBOX
from tasks.artifacts import publish_table
from tasks.inbox import Look, look
from tasks.inbox_reading import Watched
from tasks.landed import Send, send_event

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

LANDED, WAITING, NOTHING = "Landed", "Waiting", "Nothing new"


@flow(name="watch", validate_parameters=True)
def watch(config: WatchConfig) -> State[Any]:
    """Look at an inbox once.

    Args:
        config: the inbox, whose model it feeds, and how its files are read.

    Returns:
        Completed, with what was found as its name: Landed: a batch was announced; Waiting:
        annotations wait for more, or for the server; Nothing new.

    Raises:
        StoreError: the inbox or the store cannot be used.
    """
    show_progress()
    seen = look_once(config)
    if seen.refused:
        rows = [{"file": url, "why": why} for url, why in seen.refused.items()]
        key = f"{config.name.replace('_', '-')}-refused"
        publish_table(key, rows, "Files of the inbox that cannot be used")
    return Completed(name=outcome(seen), message=sentence(seen))


def look_once(config: WatchConfig, now: datetime | None = None, send: Send = send_event) -> Look:
    """One look, without Prefect's engine.

    Args:
        config: as for the flow.
        now: the present moment; by default the clock's.
        send: hands an event to the server.

    Raises:
        StoreError: the inbox or the store cannot be used.
    """
    root = open_store(config.store, config.name, scopes=[DATASET, INBOX])
    named = named_store(config.store).rstrip("/")
    watched = Watched(
        model_store=root / config.name,
        data=config.data,
        merge_duplicates=config.data.merges_duplicates,
        settings=config.watch,
        address=f"{named}/{config.name}" if is_remote(named) else None,
    )
    return look(watched, now or datetime.now(UTC), send)


def outcome(seen: Look) -> str:
    """What a look has come to, in a word or two."""
    if seen.delivered:
        return LANDED
    return WAITING if seen.waiting or seen.undelivered or seen.settling else NOTHING


def sentence(seen: Look) -> str:
    """What a look has found, how many annotations wait, and until when."""
    parts = []
    for event in seen.delivered:
        number = int(str(event.payload["annotations"]))
        parts.append(f"batch {event.batch} with {_counted(number, 'annotation')} was announced")
    if seen.undelivered:
        batches = ", ".join(event.batch for event in seen.undelivered)
        parts.append(f"batch {batches} waits for the server: {seen.why_undelivered}")
    if seen.waiting is not None and seen.due is not None:
        parts.append(
            f"{_counted(seen.waiting.annotations, 'annotation')} in "
            f"{_counted(len(seen.waiting.files), 'file')} wait for more, until "
            f"{seen.due:%Y-%m-%d %H:%M} {seen.due.tzname()} at the latest"
        )
    if seen.settling:
        parts.append(f"{_counted(len(seen.settling), 'file')} may still grow")
    if seen.overdue:
        parts.append(f"batch {', '.join(seen.overdue)} was taken by no run and is announced again")
    if seen.refused:
        parts.append("refused: " + "; ".join(seen.refused.values()))
    if seen.still_refused:
        parts.append(f"{_counted(seen.still_refused, 'file')} refused before lie in the inbox")
    if not parts:
        parts.append("nothing new in the inbox")
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}."


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def run_watch(config: WatchConfig, every: float | None) -> int:
    """Look once, or again and again; says what was found.

    Args:
        config: as for the flow.
        every: seconds between two looks; None looks once.

    Returns:
        0, or 1 where an event could not be delivered.
    """
    os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "false")
    while True:
        try:
            seen = look_once(config)
        except Exception as error:
            said = in_words(error)
            if every is None or said is None:
                raise
            print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {said}", flush=True)
        else:
            print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {sentence(seen)}", flush=True)
            if every is None:
                return 1 if seen.undelivered else 0
        time.sleep(every or 0.0)
