"""The training slot: one training at a time, on this machine and on all that share a server.

Two locks, taken in this order. A file lock keeps the trainings of one user on one machine apart,
whatever server they report to; the operating system gives it back when its holder dies. Prefect's
global concurrency limit of the same name, where the server has one, keeps machines apart; its
holder renews a lease, and what is not renewed comes free after a minute.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from longtail import storage
from tasks.server_slot import limit_exists, server_slot
from tasks.waiting import wait

DIRECTORY = "LONGTAIL_SLOTS"
_POLL_SECONDS = 0.5


@contextlib.contextmanager
def training_slot(name: str | None) -> Iterator[None]:
    """Hold the slot of that name; wait for it, and say for whom, once a minute.

    Args:
        name: of the slot and of Prefect's global concurrency limit; None: no slot is held.
    """
    if name is None:
        yield
        return
    with _machine_slot(name):
        if not limit_exists(name):
            yield
            return
        with server_slot(name):
            yield


def slot_directory() -> Path:
    """Where the machine's slots are: ``LONGTAIL_SLOTS``, else below the temporary directory."""
    given = os.environ.get(DIRECTORY)
    return Path(given) if given else Path(tempfile.gettempdir()) / f"longtail-{os.getuid()}"


@contextlib.contextmanager
def _machine_slot(name: str) -> Iterator[None]:
    directory = slot_directory()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"slot-{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.lock"
    holder = path.with_suffix(".json")
    lock = FileLock(path)
    wait(
        "training",
        lambda seconds: _acquire(lock, seconds),
        lambda: _held_by(name, holder),
    )
    try:
        storage.write_json(holder, _me())
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, seconds: float) -> bool:
    try:
        lock.acquire(timeout=seconds, poll_interval=_POLL_SECONDS)
    except Timeout:
        return False
    return True


def _held_by(name: str, holder: Path) -> str:
    """Who has the machine's slot, as far as it has said so."""
    try:
        about: dict[str, Any] = json.loads(holder.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):  # it is just taking or leaving the slot
        return f"The slot {name!r} of this machine is held"
    return (
        f"The slot {name!r} of this machine is held by {about['who']}, process {about['pid']} on "
        f"{about['host']}, since {about['since']}"
    )


def _me() -> dict[str, Any]:
    from prefect.runtime import flow_run

    who = flow_run.get_name()
    return {
        "who": f"flow run {who}" if who else "a training outside of any flow run",
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }
