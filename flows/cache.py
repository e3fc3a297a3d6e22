"""``longtail cache``: what stages of runs have made, and how much room it takes."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flows.config import store_directory
from longtail import storage
from longtail.config import StageSettings
from longtail.stage_cache import Entry, StageCache

STAGES = Path("cache") / "stages"
_SHOWN_OF_KEY = 12
_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_OTHERS = {
    "activations": "Activations of frozen layers",
    "checkpoints": "Checkpoints of trainings that were interrupted",
}


def run_list(store: str | None) -> int:
    """Print every result that is kept, and the room that all of it takes."""
    root = store_directory(store)
    entries = StageCache(root / STAGES).entries()
    console = Console()
    if entries:
        console.print(_table(entries))
    bound = StageSettings().max_gigabytes
    console.print(
        f"{len(entries)} results, {_size(sum(entry.size for entry in entries))}; a run keeps "
        f"{bound:g} GB at most, unless stages.max_gigabytes says otherwise.",
        highlight=False,
    )
    for name, what in _OTHERS.items():
        console.print(f"{what}: {_size(storage.size_of(root / 'cache' / name))}.", highlight=False)
    return 0


def run_clear(store: str | None, stage: str | None, older_than: float | None) -> int:
    """Remove results and say how much room that made."""
    cache = StageCache(store_directory(store) / STAGES)
    removed = cache.clear(stage, older_than_days=older_than or 0.0)
    freed = _size(sum(entry.size for entry in removed))
    Console().print(f"{len(removed)} results removed, {freed}.", highlight=False)
    return 0


def _table(entries: list[Entry]) -> Table:
    table = Table()
    for heading in ("stage", "key", "run", "made", "last used"):
        table.add_column(heading, overflow="fold")
    table.add_column("size", justify="right")
    for entry in reversed(entries):
        used = dt.datetime.fromtimestamp(entry.used_at, dt.UTC)
        table.add_row(
            entry.stage,
            entry.key[:_SHOWN_OF_KEY],
            entry.run,
            _moment(dt.datetime.fromisoformat(entry.made_at)),
            _moment(used),
            _size(entry.size),
        )
    return table


def _moment(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _size(count: float) -> str:
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
