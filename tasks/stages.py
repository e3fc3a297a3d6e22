"""A stage of a run: taken from the cache, or made, timed and kept."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from longtail import storage
from longtail.code_fingerprint import code_fingerprint
from longtail.config import StageSettings
from longtail.stage_cache import StageCache
from tasks.handles import RunHandle

logger = logging.getLogger(__name__)

TIMES = "stages.jsonl"
NOTHING_KEPT = StageSettings(max_gigabytes=0.0)
"""For what must leave no trace in a store."""


def stage_key(stage: str, code: tuple[str, ...], *made_of: Any) -> str:
    """Fingerprint of all that a stage's result depends on.

    Args:
        stage: its name.
        code: dotted names of the modules whose code makes the result; what they import counts, too.
        made_of: fingerprints of the inputs, and dumped settings; JSON-able.
    """
    return storage.fingerprint(stage, code_fingerprint(*code), made_of)


def run_stage(
    run: RunHandle,
    stage: str,
    key: str,
    into: Path,
    make: Callable[[Path], None],
    *,
    files: Sequence[str] | None = None,
    holds: Callable[[Path], bool] | None = None,
) -> bool:
    """Fill a directory of the run with a stage's files, from the cache where it has them.

    Args:
        run: whose cache, and whether it must not be looked at.
        stage: its name; lower case with dashes.
        key: see :func:`stage_key`.
        into: directory for this stage's files.
        make: writes the files into it.
        files: names of the stage's files and directories where ``into`` holds others, too.
        holds: whether files, made or taken over, depend on nothing beside the key, such as the
            clock; others are not taken over, and not kept.

    Returns:
        Whether they came from the cache.
    """
    started = time.monotonic()
    cache = stage_cache(run)
    entry = None if run.stages.force else cache.take(stage, key, into)
    if entry is not None and (holds is None or holds(into)):
        logger.info("%s: nothing has changed since run %s made it; taken over", stage, entry.run)
        note_time(run, stage, time.monotonic() - started, cached=True)
        return True
    if entry is not None:
        _remove(into, files)  # they are links to the cache, and a library may write into them
    into.mkdir(parents=True, exist_ok=True)
    make(into)
    if holds is None or holds(into):
        cache.keep(stage, key, into, run=run.id, files=files)
    note_time(run, stage, time.monotonic() - started)
    return False


def _remove(directory: Path, files: Sequence[str] | None) -> None:
    for path in [directory] if files is None else [directory / name for name in files]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def stage_cache(run: RunHandle) -> StageCache:
    """The cache of stages of the run's store."""
    return StageCache(
        run.store / "cache" / "stages", max_bytes=round(run.stages.max_gigabytes * 1e9)
    )


@contextlib.contextmanager
def timed(run: RunHandle, stage: str) -> Iterator[dict[str, Any]]:
    """Note how long a stage took that is never cached.

    Yields:
        What else is to be noted of it; to be filled.
    """
    started = time.monotonic()
    more: dict[str, Any] = {}
    yield more
    note_time(run, stage, time.monotonic() - started, **more)


def note_time(
    run: RunHandle, stage: str, seconds: float, *, cached: bool = False, **more: Any
) -> None:
    """Append one stage to ``stages.jsonl`` of the run."""
    entry = {"stage": stage, "seconds": round(seconds, 3), "cached": cached, **more}
    storage.append_line(run.directory / TIMES, json.dumps(entry))
