"""Runs that lose their heavy parts when they are old; what tells their story stays for ever."""

from __future__ import annotations

import datetime as dt
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from longtail import storage
from longtail.errors import ConfigError
from tasks.decisions import is_suspended, is_waiting
from tasks.gate import VERDICT
from tasks.run import PROCESS, is_under_way

PRUNED = "pruned.json"
_ELSEWHERE = dt.timedelta(days=7)
HEAVY = ("data_docs", ".*", "arms/*/bundle", "arms/*/model", "arms/*/checkpoint*", "**/*.parquet")
"""Predictions, splits, rows set aside, bundles, models, pages with texts, and what a kill left."""


def old_runs(model_store: Path, keep: int, *, current: Path, now: dt.datetime) -> list[Path]:
    """Runs of a model that may lose their heavy parts, the oldest first.

    Of those that reached a verdict the last ones keep theirs, and as many of those that did not:
    a week of crashes must not push out a candidate that a person may still promote. A run under
    way, a suspended one, and the current one are never among them. A verdict of the command line
    waits for ever, so its run counts among those that reached none.

    Args:
        model_store: STORE/NAME.
        keep: how many are to keep everything.
        current: directory of the run that looks.
        now: with a time zone.
    """
    directories = [path for path in (model_store / "runs").glob("[!.]*") if path.is_dir()]
    judged: list[Path] = []
    others: list[Path] = []
    for path in sorted(directories, key=lambda path: path.name):
        (judged if (path / VERDICT).is_file() else others).append(path)
    old = [*judged[: max(0, len(judged) - keep)], *others[: max(0, len(others) - keep)]]
    return [path for path in old if path != current and not is_in_use(path, now)]


def is_in_use(directory: Path, now: dt.datetime) -> bool:
    """Whether a process or a person still needs all of a run."""
    return is_suspended(directory) or is_being_made(directory, now)


def is_being_made(directory: Path, now: dt.datetime) -> bool:
    """Whether a process is still on its way to a verdict.

    A process of another machine cannot be asked: its run counts as alive for a week.
    """
    if is_waiting(directory):
        return False
    if is_under_way(directory):
        return True
    process = directory / PROCESS
    if (directory / VERDICT).is_file() or not process.is_file():
        return False
    began = dt.datetime.fromtimestamp(process.stat().st_mtime, dt.UTC)
    here = storage.read_json(process)["host"] == socket.gethostname()
    return not here and now - began < _ELSEWHERE


def prune_run(directory: Path, now: dt.datetime) -> int:
    """Remove a run's heavy parts; ``pruned.json`` says which, and is there before the first goes.

    Returns:
        How many bytes were removed; 0 where nothing was left to remove.
    """
    heavy = sorted(_heavy(directory))
    if not heavy:
        return 0
    note = directory / PRUNED
    known = storage.read_json(note)["removed"] if note.is_file() else []
    names = [path.relative_to(directory).as_posix() for path in heavy]
    removed = sorted({*known, *names})
    storage.write_json(note, {"at": now.isoformat(timespec="seconds"), "removed": removed})
    freed = 0
    for path in heavy:
        freed += storage.size_of(path)
        remove(path)
    return freed


def pruned_sentence(directory: Path) -> str | None:
    """What a person is told of a pruned run; None for a whole one."""
    if not (directory / PRUNED).is_file():
        return None
    at = str(storage.read_json(directory / PRUNED)["at"]).partition("T")[0]
    return (
        f"{directory}: predictions, splits and bundles of this run were removed on {at}, because "
        "it is older than the last ones that retention.runs keeps"
    )


def require_whole(directory: Path) -> None:
    """Refuse to go on with a pruned run.

    Raises:
        ConfigError: it has no bundle any more.
    """
    if (said := pruned_sentence(directory)) is not None:
        raise ConfigError(f"{said}; retrain to get a candidate that can be promoted")


def remove(path: Path) -> None:
    """Remove a file or a directory; gone already is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _heavy(directory: Path) -> Iterator[Path]:
    """Heavy parts, none of them inside another."""
    found = sorted({path for pattern in HEAVY for path in directory.glob(pattern)})
    last: Path | None = None
    for path in found:
        if last is None or not path.is_relative_to(last):
            last = path
            yield path
