"""Opening a run: its id, its directory, and what an earlier run left there."""

from __future__ import annotations

import datetime as dt
import logging
import os
import secrets
import socket
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from longtail import storage
from longtail.config import Settings, StageSettings
from longtail.errors import ConfigError
from longtail.mirror import find_mirror, share
from longtail.report.files import PENDING
from tasks.handles import RunHandle

logger = logging.getLogger(__name__)
CONFIG = "config.json"
RUN = "run.json"
PROCESS = "process.json"


def open_run(
    name: str,
    store: Path,
    out: str | None,
    config: Settings,
    stages: StageSettings | None = None,
) -> RunHandle:
    """Create the run's directory and write the configuration into it.

    A directory that holds an earlier run is kept under the next free name (``out.1``, …): no
    result is ever overwritten.

    Raises:
        ConfigError: ``out`` is a file or a URL, or a directory with something else in it.
    """
    if out is not None and "://" in out:
        raise ConfigError(
            f"{out}: results are written to a directory of this machine; leave --out away, and "
            "with --store s3://BUCKET/PREFIX they are shared as STORE/NAME/runs/ID"
        )
    started = dt.datetime.now(dt.UTC)
    run_id = f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
    directory = Path(out).resolve() if out else store / name / "runs" / run_id
    if directory.exists():
        _make_room(directory)
    directory.mkdir(parents=True, exist_ok=True)
    storage.write_json(directory / CONFIG, config.model_dump(mode="json"))
    run = RunHandle(
        id=run_id,
        name=name,
        directory=directory,
        store=store,
        started_at=started.isoformat(timespec="seconds"),
        stages=stages or StageSettings(),
    )
    storage.write_json(directory / RUN, run.model_dump(mode="json"))
    pid = os.getpid()
    process = {"pid": pid, "host": socket.gethostname(), "started": _started(pid)}
    storage.write_json(directory / PROCESS, process)
    return run


def read_run(directory: Path) -> RunHandle:
    """The run that a directory holds.

    Raises:
        ConfigError: it holds none.
    """
    if not (directory / RUN).is_file():
        raise ConfigError(f"{directory}: no {RUN}, so this is not the directory of a retrain")
    about = {**storage.read_json(directory / RUN), "directory": directory}
    if (shared := find_mirror(directory)) is not None:  # another machine has it elsewhere
        about["store"] = shared.root
    return RunHandle.model_validate(about)


@task(name="share run", cache_policy=NO_CACHE)
def share_run(run: RunHandle) -> None:
    """Commit the run's directory to a store that workers share; nothing for a store of one's own.

    Raises:
        StoreError: the store cannot be reached, or another worker has changed this run meanwhile.
    """
    if run.directory.is_relative_to(run.store) and find_mirror(run.directory) is not None:
        share(run.directory)
        logger.info("Run %s is in the store that workers share", run.id)


def is_under_way(directory: Path) -> bool:
    """Whether another process of this machine, still alive, writes its run here."""
    if (directory / "verdict.json").is_file() or not (directory / PROCESS).is_file():
        return False
    process = storage.read_json(directory / PROCESS)
    if process["host"] != socket.gethostname() or process["pid"] == os.getpid():
        return False
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is alive, and somebody else's
        pass
    # Numbers of processes are given again, after a restart of the machine to others at once.
    return process.get("started") in {None, _started(process["pid"])}


def _started(pid: int) -> str | None:
    """When a process began, in ticks since the machine did; None where Linux does not say."""
    try:
        about = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return about.rpartition(")")[2].split()[19]


def _is_suspended(directory: Path) -> bool:
    """Whether a flow run that is resumed later will look for its verdict here."""
    pending = directory / PENDING
    if (directory / "verdict.json").is_file() or not pending.is_file():
        return False
    return storage.read_json(pending).get("flow_run") is not None


def _make_room(directory: Path) -> None:
    if not directory.is_dir():
        raise ConfigError(f"{directory}: --out must be a directory, found a file")
    if not any(directory.iterdir()):
        return
    if not (directory / CONFIG).is_file():
        raise ConfigError(
            f"{directory}: not empty and not an earlier run; choose another directory for --out"
        )
    if is_under_way(directory):
        raise ConfigError(
            f"{directory}: another run is writing here; wait for it, or choose another --out"
        )
    if _is_suspended(directory):
        raise ConfigError(
            f"{directory}: a suspended run waits here for a person's decision; resume it first, or "
            "choose another --out"
        )
    number = 1
    while (kept := directory.with_name(f"{directory.name}.{number}")).exists():
        number += 1
    os.replace(directory, kept)
    logger.info("The earlier run in %s is kept as %s", directory, kept)
