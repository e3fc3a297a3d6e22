"""How long a taxonomy takes: today's names for all texts, known texts of all labels, known cells.

    python benchmarks/taxonomy.py [--texts 1000000] [--labels 1000]

Labels are Zipf-like, two per text. Every other of the hundred most frequent names is an alias, most
labels have a parent, one is retired, and a third of them began at a date. Times are CPU seconds,
the quickest of three; run it with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from longtail.known import known_cells, known_texts
from longtail.labels import LabelSpace
from longtail.taxonomy import Taxonomy

T = TypeVar("T")
START = datetime(2020, 1, 1, tzinfo=UTC)
DAYS = 2000
CELLS_TEXTS = 100_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=1_000)
    given = parser.parse_args()
    table, taxonomy = annotations(given.texts, given.labels), invented(given.labels)
    now = START + timedelta(days=DAYS)
    seconds, viewed = timed(lambda: taxonomy.apply(table, as_of=now, add_parents=True))
    print(f"today's names of {given.texts:,} texts: {seconds:.2f} s")
    space = LabelSpace.of(viewed.table["labels"])
    since = taxonomy.since(space.names)
    y = space.encode(viewed.table["labels"])
    dates = viewed.table["annotated_at"]
    seconds, _ = timed(lambda: known_texts(dates, since, y))
    print(f"known texts of {len(space):,} labels: {seconds:.2f} s")
    rows = min(CELLS_TEXTS, given.texts)
    seconds, cells = timed(lambda: known_cells(dates.slice(0, rows), since, y[:rows]))
    share = 1.0 if cells is None else cells.mean()
    print(f"known cells of {rows:,} texts: {seconds:.2f} s, {share:.1%} are known")


def annotations(texts: int, labels: int) -> pa.Table:
    """Two labels per text, and a day on which it was annotated."""
    rng = np.random.default_rng(0)
    names = pa.array([name(place) for place in range(labels)])
    codes = (rng.zipf(1.3, 2 * texts) - 1) % labels
    lists = pa.ListArray.from_arrays(
        pa.array(np.arange(0, 2 * texts + 1, 2), pa.int32()), names.take(pa.array(codes))
    )
    day = 24 * 3600 * 1_000_000
    moments = int(START.timestamp()) * 1_000_000 + rng.integers(0, DAYS, texts) * day
    return pa.table(
        {"labels": lists, "annotated_at": pa.array(moments, pa.timestamp("us", tz="UTC"))}
    )


def invented(labels: int) -> Taxonomy:
    """Aliases, parents, a retired label, and dates since when."""
    aliases = {name(place): name(place + 1) for place in range(0, min(100, labels - 1), 2)}
    names = [one for one in map(name, range(labels)) if one not in aliases]
    entries: dict[str, dict[str, Any]] = {one: {} for one in names}
    for alias, today in aliases.items():
        entries[today]["aliases"] = [alias]
    for place, one in enumerate(names):
        if place >= 100:
            entries[one]["parents"] = [names[place - 100]]
        if place % 3 == 0:
            entries[one]["since"] = START + timedelta(days=DAYS * place // labels)
    entries[names[-1]]["until"] = START + timedelta(days=DAYS)
    return Taxonomy.model_validate({"labels": entries})


def name(place: int) -> str:
    """Of the label at a place in the order of frequency."""
    return f"label {place:04d}"


def timed(function: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds of the quickest of three calls, and what it gave."""
    taken = []
    for _ in range(3):
        started = time.process_time()
        result = function()
        taken.append(time.process_time() - started)
    return min(taken), result


if __name__ == "__main__":
    main()
