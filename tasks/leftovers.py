"""What killed processes and old runs leave in a store, and what of it may go."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Iterator
from pathlib import Path

from longtail import storage
from tasks.pruned_runs import remove

CHECKPOINT_AGE = dt.timedelta(days=14)
LEFTOVER_AGE = dt.timedelta(days=1)
_ENCODERS = 8
# As longtail.storage, the registry and MLflow's database name what they have not finished.
_UNFINISHED = re.compile(
    r"\..+\.(staging|old|download|new(-journal|-wal|-shm)?)|\..+\.[0-9a-f]{32}|\.ingest"
)


def old_checkpoints(store: Path, now: dt.datetime) -> list[Path]:
    """Checkpoints of trainings that nobody has gone on with for two weeks."""
    found = (store / "cache" / "checkpoints").glob("[0-9a-f]*")
    return [path for path in found if now - last_change(path) > CHECKPOINT_AGE]


def old_encoders(store: Path) -> list[Path]:
    """Tiny encoders of trial runs, one for each training set, but the last ones."""
    found = sorted((store / "cache" / "encoders").glob("[!.]*"), key=last_change)
    return found[: max(0, len(found) - _ENCODERS)]


def unfinished(store: Path, now: dt.datetime) -> list[Path]:
    """What was being written when its process died, more than a day ago."""
    return [path for path in _unfinished(store) if now - last_change(path) > LEFTOVER_AGE]


def last_change(path: Path) -> dt.datetime:
    """When a file, or anything in a directory, was written last; now, if it has just gone."""
    latest = 0.0
    try:
        latest = path.stat().st_mtime
        for inside in path.rglob("*") if path.is_dir() else ():
            latest = max(latest, inside.lstat().st_mtime)
    except FileNotFoundError:
        return dt.datetime.now(dt.UTC)
    return dt.datetime.fromtimestamp(latest, dt.UTC)


def remove_all(paths: list[Path]) -> int:
    """Remove files and directories; returns their bytes."""
    freed = 0
    for path in paths:
        freed += storage.size_of(path)
        remove(path)
    return freed


def _unfinished(store: Path) -> Iterator[Path]:
    for folder, directories, files in os.walk(store):
        for name in (*directories, *files):
            if _UNFINISHED.fullmatch(name):
                yield Path(folder) / name
        directories[:] = [name for name in directories if not _UNFINISHED.fullmatch(name)]
