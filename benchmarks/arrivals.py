"""A year of weekly arrivals through the split ledger, against one fresh split of everything.

    python benchmarks/arrivals.py                        drawn weeks, of many texts and of few
    python benchmarks/arrivals.py --data FILE.parquet    a data set's own weeks, by --date
    python benchmarks/arrivals.py --out arrivals.json    also written as JSON, or as .md

Every week the texts so far are partitioned with what the ledger holds, and the ledger is extended.
At the end the whole is measured, and so are the fresh split and what would have come of dividing
each week's texts by themselves. FILE has the columns id, text, labels
and a date; a split of its own is not looked at. ``LD`` and ``ED`` are the label and the example
distribution of Sechidis, Tsoumakas and Vlahavas (2011), lower is better.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.config import SplitSettings
from longtail.labels import LabelSpace
from longtail.ledger import SPLITS, LedgerEntries, SplitLedger
from longtail.near_duplicates import Units, find_units
from longtail.partition import partition
from longtail.splitting import stratify

SETTINGS = SplitSettings()
SIZES = np.array([SETTINGS.train, SETTINGS.validation, SETTINGS.test])
FACTOR = 2.5
WORST_ROWS = 4.0
MISSING = 0.05
SIMILARITY = 0.8

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """Texts in the weeks in which they arrive.

    Attributes:
        name: of the data.
        table: id, text, labels and group.
        units: unit of each row.
        week: week of each row, from 0.
    """

    name: str
    table: pa.Table
    units: Ints
    week: Ints


@dataclass(frozen=True)
class Quality:
    """How near a division comes to 60/20/20.

    Attributes:
        name: of the data.
        how: fresh, through the ledger, or each week by itself.
        size_off: rows by which the worst split misses its share.
        worst: rows by which the worst label misses its share in a split.
        mean: mean over labels and splits of the same.
        ld: label distribution.
        ed: example distribution, rows.
        labels: with three units or more.
        missing: (label, split) without a text, of those labels.
        seconds: of all the partitions.
    """

    name: str
    how: str
    size_off: float
    worst: float
    mean: float
    ld: float
    ed: float
    labels: int
    missing: int
    seconds: float


def main() -> int:
    """Print the table, write it where asked; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="Parquet file with id, text, labels and a date")
    parser.add_argument("--date", default="created_at", help="its column of dates")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the table there: .json or .md")
    options = parser.parse_args()
    streams = [dated(options.data, options.date)] if options.data else drawn_streams(options.seed)
    print(HEAD, flush=True)
    table: list[Quality] = []
    for stream in streams:
        table += compare(stream)
        print(*map(line, table[-3:]), sep="\n", flush=True)
    found = [
        words
        for fresh, weekly in zip(table[::3], table[1::3], strict=True)
        for words in verdicts(fresh, weekly)
    ]
    print("", *found, sep="\n")
    if options.out:
        write(options.out, table, found)
    return int(any("MISSED" in words for words in found))


def drawn_streams(seed: int) -> Iterator[Stream]:
    """Weeks of some size, of a few texts, and of one to three."""
    yield drawn("drawn, 100 texts a week", seed, lambda draw: draw.poisson(100))
    yield drawn("drawn, 10 texts a week", seed, lambda draw: draw.poisson(10))
    yield drawn("drawn, 1 to 3 texts a week", seed, lambda draw: draw.integers(1, 4))


def drawn(
    name: str,
    seed: int,
    size: Callable[[np.random.Generator], np.integer],
    *,
    weeks: int = 52,
    first: int = 300,
    labels: int = 60,
) -> Stream:
    """Texts of a year: Zipf-like labels whose shares drift, new labels, and groups.

    Args:
        name: of the stream.
        seed: of the draws.
        size: units that arrive in a week.
        weeks: how many follow the first.
        first: units that are there to begin with.
        labels: how many there are in the end; a third of them appears in the course of the year.
    """
    draw = np.random.default_rng(seed)
    starts = np.where(np.arange(labels) % 3 == 2, draw.integers(1, weeks, labels), 0)
    popularity = 1 / np.arange(1, labels + 1)
    trend = draw.normal(0, 1.0, labels)
    rows: list[dict[str, object]] = []
    weeks_of: list[int] = []
    for week in range(weeks + 1):
        shares = popularity * np.exp(trend * (week / weeks - 0.5)) * (starts <= week)
        for _ in range(first if week == 0 else int(size(draw))):
            for row in _unit(draw, shares / shares.sum(), rows):
                rows.append(row)
                weeks_of.append(week)
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    units = find_units(table["id"], table["id"], table["group"], 1.0)
    return Stream(name, table, units.units, np.array(weeks_of))


_SCHEMA = pa.schema(
    [("id", pa.string()), ("text", pa.string()), ("labels", pa.list_(pa.string())),
     ("group", pa.string())]
)  # fmt: skip


def _unit(
    draw: np.random.Generator, shares: NDArray[np.float64], rows: list[dict[str, object]]
) -> Iterator[dict[str, object]]:
    """One text; or a group of some; or one more text of a group that is there already."""
    kind, number = draw.random(), len(rows)
    group = f"g{number}" if kind < 0.1 else None
    if kind > 0.97 and rows:
        group = str(rows[int(draw.integers(len(rows)))]["group"] or "") or None
    for place in range(int(draw.integers(2, 6)) if kind < 0.1 else 1):
        count = min(1 + int(draw.poisson(0.8)), int((shares > 0).sum()))
        chosen = draw.choice(len(shares), count, replace=False, p=shares)
        yield {
            "id": f"t{number + place:06d}",
            "text": "",
            "labels": [f"L{label:03d}" for label in sorted(chosen.tolist())],
            "group": group,
        }


def dated(path: Path, date: str) -> Stream:
    """The weeks of a data set by a column of dates."""
    table = pq.read_table(path, columns=["id", "text", "labels", date]).sort_by("id")
    table = table.filter(pc.is_valid(table[date]))
    days = table[date].cast(pa.date32()).cast(pa.int32()).to_numpy().astype(np.int64)
    week = np.unique((days + 3) // 7, return_inverse=True)[1]  # from Monday on
    group = pa.nulls(table.num_rows, pa.string())
    units = find_units(table["id"], table["text"], group, SIMILARITY)
    plain = table.select(["id", "text", "labels"]).append_column("group", group)
    return Stream(f"{path.stem}, {int(week.max())} weeks by {date}", plain, units.units, week)


def compare(stream: Stream) -> tuple[Quality, Quality, Quality]:
    """The fresh split of everything, the year's, and what it would be without looking back."""
    space = LabelSpace.of(stream.table["labels"].to_pylist())
    y = space.encode(stream.table["labels"])
    fresh = divided(stream, space, np.zeros_like(stream.week))
    weekly = divided(stream, space, stream.week)
    return (
        measure(stream, y, *fresh, "fresh"),
        measure(stream, y, *weekly, "ledger"),
        measure(stream, y, *divided_alone(stream, y), "each week by itself"),
    )


def divided_alone(stream: Stream, y: sp.csr_array) -> tuple[NDArray[np.int8], float]:
    """Splits of the rows where each week's units are divided without a look at earlier weeks."""
    side, start = np.full(y.shape[0], -1, dtype=np.int8), time.perf_counter()
    for number in np.unique(stream.week):
        here = stream.week == number
        for split in range(len(SPLITS)):
            side[here & np.isin(stream.units, stream.units[side == split])] = split
        rows = np.flatnonzero(here & (side < 0))
        if len(np.unique(stream.units[rows])) < len(SPLITS):
            side[rows] = 0
            continue
        ids, units = stream.table["id"].take(pa.array(rows)), stream.units[rows]
        side[rows] = stratify(y[rows], SIZES.tolist(), ids=ids, units=units).assignment
    return side, time.perf_counter() - start


def divided(
    stream: Stream, space: LabelSpace, week: Ints, settings: SplitSettings = SETTINGS
) -> tuple[NDArray[np.int8], float]:
    """Splits of the rows after every week went through partition and ledger; and the seconds."""
    entries, start = LedgerEntries(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        ledger = SplitLedger(Path(folder))
        for number in np.unique(week):
            here = np.flatnonzero(week <= number)
            table = stream.table.take(pa.array(here))
            units = Units(stream.units[here], (), 0)
            found = partition(table, space, settings, entries, units)
            entries = ledger.extend(found.assigned, table["id"], dataset=str(number), after=entries)
    seconds = time.perf_counter() - start
    return entries.lookup(stream.table["id"]).splits, seconds


def measure(
    stream: Stream, y: sp.csr_array, side: NDArray[np.int8], seconds: float, how: str
) -> Quality:
    """What a division is like at the end."""
    n, n_labels = y.shape
    sizes = np.bincount(side, minlength=len(SPLITS))
    cells = np.repeat(side, np.diff(y.indptr)) * np.int64(n_labels) + y.indices
    counts = np.bincount(cells, minlength=len(SPLITS) * n_labels).reshape(len(SPLITS), n_labels)
    common = _units_with(y, stream.units) >= len(SPLITS)
    off = np.abs(counts - np.outer(SIZES, counts.sum(axis=0)))
    return Quality(
        name=stream.name,
        how=how,
        size_off=float(np.abs(sizes - SIZES * n).max()),
        worst=float(off.max()),
        mean=float(off.mean()),
        ld=label_distribution(counts, sizes),
        ed=float(np.abs(sizes - SIZES * n).mean()),
        labels=int(common.sum()),
        missing=int((counts[:, common] == 0).sum()),
        seconds=seconds,
    )


def label_distribution(counts: Ints, sizes: Ints) -> float:
    """LD: how far each label's odds in a split are from its odds in the whole, on average."""
    inside = counts / np.maximum(sizes[:, None] - counts, 1)
    support, n = counts.sum(axis=0), sizes.sum()
    return float(np.abs(inside - support / np.maximum(n - support, 1)).mean())


def _units_with(y: sp.csr_array, units: Ints) -> Ints:
    owner = np.repeat(units, np.diff(y.indptr))
    pairs = np.unique(owner * y.shape[1] + y.indices)
    return np.bincount(pairs % y.shape[1], minlength=y.shape[1])


HEAD = (
    "| data | split | size off, rows | largest label deviation, rows | mean | LD × 10⁴ | ED | "
    "missing | seconds |\n|---|---|---|---|---|---|---|---|---|"
)


def line(row: Quality) -> str:
    """One line of the Markdown table."""
    return (
        f"| {row.name} | {row.how} | {row.size_off:.1f} | {row.worst:.2f} | {row.mean:.3f} "
        f"| {row.ld * 1e4:.2f} | {row.ed:.2f} | {row.missing} | {row.seconds:.2f} |"
    )


def verdicts(fresh: Quality, weekly: Quality) -> list[str]:
    """What was promised of the year, and whether it is so."""
    asked = [
        (f"LD within {FACTOR:g} × of a fresh split", weekly.ld <= FACTOR * fresh.ld),
        (
            f"mean label deviation within {FACTOR:g} × of a fresh split",
            weekly.mean <= FACTOR * fresh.mean,
        ),
        (
            f"largest label deviation at most {WORST_ROWS:g} rows above a fresh split's",
            weekly.worst <= fresh.worst + WORST_ROWS,
        ),
        (
            f"at most {MISSING:.0%} of the labels with three units lack a split",
            weekly.missing <= fresh.missing + MISSING * weekly.labels,
        ),
    ]
    return [f"- {weekly.name}: {words}: {'met' if is_so else 'MISSED'}" for words, is_so in asked]


def write(path: Path, table: list[Quality], found: list[str]) -> None:
    """Write the table and the targets, as Markdown or as JSON by the file's name."""
    if path.suffix == ".md":
        path.write_text("\n".join([HEAD, *map(line, table), "", *found]) + "\n")
        return
    content = {"table": [asdict(row) for row in table], "targets": found}
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
