"""The processes of a run, found by a mark in their environment, and what is left of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

MARK = "LONGTAIL_CHAOS_RUN"
TRAINER = "tasks.training_child"


def marked(mark: str) -> list[int]:
    """Every process, adopted ones too, that was started with this mark; zombies are none."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
    return found


def trainers(mark: str) -> list[int]:
    """Those of them that train."""
    return [number for number in marked(mark) if TRAINER in command_of(number)]


def command_of(number: int) -> str:
    """A process's command line; empty where it is gone."""
    try:
        said = Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return ""
    return said.replace(b"\0", b" ").decode(errors="replace")


def kill(numbers: list[int]) -> None:
    """``kill -9``, one after the other; gone already is fine."""
    for number in numbers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def outlived(mark: str, patience: float) -> list[str]:
    """Commands of the processes that are still there after so many seconds."""
    end = time.monotonic() + patience
    while (left := marked(mark)) and time.monotonic() < end:
        time.sleep(0.1)
    return [command_of(number) for number in left]
