"""What it costs to take in an export: seconds, memory and growth of every stage.

    python benchmarks/ingestion.py                        10,000, 100,000 and 1,000,000 texts
    python benchmarks/ingestion.py --sizes 10000 30000    other sizes
    python benchmarks/ingestion.py --sizes 10000000 --streamed
                                                          only what streams: read, contract, upsert
    python benchmarks/ingestion.py --near                 near-duplicates too, which are apart
    python benchmarks/ingestion.py --format csv           or jsonl; Parquet otherwise
    python benchmarks/ingestion.py --out ingestion.json   also written as JSON, or as .md

Texts have 20 to 100 words of a Zipf-like vocabulary and about two of 1,000 Zipf-like labels. In
100 rows one repeats the id of an earlier one, by another annotator, one repeats its text; in 1,000
one is bad. Each size runs in a process of its own; Great Expectations has been started before the
clock is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ingestion_data
import numpy as np

READING, CONTRACT, UPSERT = "reading alone", "reading, contract, merging", "upsert, new"
AGAIN, FINGERPRINT = "upsert, 1 % changed", "fingerprint"
TABLE, STATISTICS, UNITS = "reading the data set", "statistics", "units, equal texts"
SPLITS, SUITE, NEAR = "ledger, partition, Parquet", "contract of the splits", "near-duplicates"
COUNTED = (CONTRACT, UPSERT, TABLE, STATISTICS, UNITS, SPLITS, SUITE)
WALK = "all but reading alone"
MILLION = 1_000_000
MILLION_SECONDS, MILLION_GIB, EXPONENT, BYTES_A_ROW = 60.0, 4.0, 1.1, 200.0
GIB = 1 << 30


@dataclass(frozen=True)
class Stage:
    """One stage at one size.

    Attributes:
        rows: rows of the export.
        name: what was done.
        seconds: wall clock.
        cpu: seconds of all the process's threads, which say more on a machine that is shared.
        peak: most resident memory of the process meanwhile, bytes.
        held: resident memory of the process when it began to work, bytes.
    """

    rows: int
    name: str
    seconds: float
    cpu: float
    peak: int
    held: int


def main() -> int:
    """Print the table, write it where asked; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, MILLION])
    parser.add_argument("--labels", type=int, default=1_000)
    parser.add_argument("--format", choices=["parquet", "csv", "jsonl"], default="parquet")
    parser.add_argument("--streamed", action="store_true", help="only the stages that stream")
    parser.add_argument("--near", action="store_true", help="search near-duplicates too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the exports go; default: temporary")
    parser.add_argument("--out", type=Path, help="also write .json or .md")
    options = parser.parse_args()
    stages: list[Stage] = []
    print(HEAD, flush=True)
    for rows in options.sizes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            found = in_a_process(measure, rows, Path(folder), vars(options))
        stages += [*found, *([] if options.streamed else [whole(found)])]
        print(*map(line, stages[-len(found) - 1 :]), sep="\n", flush=True)
    found_targets = targets(stages)
    print("", *found_targets, sep="\n")
    if options.out:
        write(options.out, stages, found_targets)
    return int(any("MISSED" in words for words in found_targets))


def in_a_process(work: Callable[..., list[Stage]], *arguments: Any) -> list[Stage]:
    """Make the exports, then do the work, each in a process that nothing was done in before."""
    return [_alone(one, arguments) for one in (ingestion_data.write_exports, work)][-1]


def _alone(work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    pool = multiprocessing.get_context("spawn").Pool(1)
    try:
        return pool.apply(work, arguments)
    finally:
        pool.close()
        pool.join()


def measure(rows: int, folder: Path, options: dict[str, Any]) -> list[Stage]:
    """Walk an export from file to splits, stage by stage."""
    from data_contracts.ingest import ingest
    from longtail.annotations.readers import read_annotations
    from longtail.config import DataSettings
    from longtail.content import content_fingerprint, row_digests
    from longtail.dataset import DatasetStore

    settings = DataSettings(several_annotators="union")
    first, second = (folder / f"{name}.{options['format']}" for name in ("first", "second"))
    store = DatasetStore(folder / "dataset")
    start_up(folder, settings)
    clock = Clock(rows)
    clock.run(READING, lambda: sum(part.num_rows for part in read_annotations(first, settings)))
    docs, run = folder / "docs", folder / "run"
    run.mkdir()
    done = clock.run(CONTRACT, lambda: ingest(first, settings, run, data_docs=docs))

    def upsert() -> Any:
        return store.upsert(
            done.accepted, merge_duplicates=True, voices=done.voices, policy="union"
        )

    clock.run(UPSERT, upsert)
    if not options["streamed"]:
        splits(clock, store, folder, near=options["near"])
    clock.run(
        FINGERPRINT,
        lambda: content_fingerprint(
            np.concatenate([row_digests(part) for part in store.batches()])
        ),
    )
    done = ingest(second, settings, run)
    clock.run(AGAIN, upsert)
    return clock.stages


def splits(clock: Clock, store: Any, folder: Path, *, near: bool) -> None:
    """From the stored data set to the splits in Parquet."""
    from data_contracts.contract import check_splits
    from longtail import storage
    from longtail.config import DataSettings, SplitSettings
    from longtail.labels import LabelSpace
    from longtail.ledger import SplitLedger
    from longtail.near_duplicates import find_units
    from longtail.partition import partition
    from longtail.statistics import describe

    table = clock.run(TABLE, store.read)
    space = LabelSpace.of(table["labels"])
    clock.run(STATISTICS, lambda: describe(table, space))
    similar = DataSettings().near_duplicate_similarity

    def bind(similarity: float) -> Any:
        return find_units(table["id"], table["text"], table["group"], similarity)

    units = clock.run(UNITS, lambda: bind(1.0))

    def divide() -> Any:
        ledger = SplitLedger(folder / "ledger")
        entries = ledger.read()
        parts = partition(table, space, SplitSettings(), entries, units)
        ledger.extend(parts.assigned, table["id"], dataset="benchmark", after=entries)
        for name, split in parts.tables.items():
            storage.write_parquet(folder / f"{name}.parquet", split)
        return parts

    parts = clock.run(SPLITS, divide)
    clock.run(SUITE, lambda: check_splits(parts.tables, space.names))
    if near:
        clock.run(NEAR, lambda: bind(similar))


def start_up(folder: Path, settings: Any) -> None:
    """Import what a stage would import, so that no stage pays for it."""
    from data_contracts.ingest import ingest

    few = folder / "few.jsonl"
    few.write_text('{"id": "a", "text": "t", "labels": ["x"]}\n', encoding="utf-8")
    (folder / "few").mkdir()
    ingest(few, settings, folder / "few", data_docs=folder / "few" / "docs")


class Clock:
    """Runs stages and keeps what they took."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.stages: list[Stage] = []
        self._held = memory("VmRSS")

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """Do the work and note seconds and memory."""
        forget_peak()
        start, cpu = time.perf_counter(), time.process_time()
        result = work()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        self.stages.append(Stage(self.rows, name, seconds, cpu, memory("VmHWM"), self._held))
        return result


def forget_peak() -> None:
    """Let the kernel count this process's peak of resident memory anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def memory(name: str) -> int:
    """A figure of this process's memory, bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(text.split()[1]) << 10 for text in lines if text.startswith(f"{name}:"))


def whole(stages: Sequence[Stage]) -> Stage:
    """All stages that the target counts, without the reading that it does not."""
    reading = next(one for one in stages if one.name == READING)
    counted = [one for one in stages if one.name in COUNTED]
    return Stage(
        rows=reading.rows,
        name=WALK,
        seconds=sum(one.seconds for one in counted) - reading.seconds,
        cpu=sum(one.cpu for one in counted) - reading.cpu,
        peak=max(one.peak for one in counted),
        held=reading.held,
    )


HEAD = (
    "| rows | stage | seconds | CPU seconds | µs a row | peak memory, GiB "
    "| bytes a row beyond the start |\n|---|---|---|---|---|---|---|"
)


def line(stage: Stage) -> str:
    """A stage as a line of the table."""
    return (
        f"| {stage.rows:,} | {stage.name} | {stage.seconds:.2f} | {stage.cpu:.2f} "
        f"| {stage.seconds / stage.rows * 1e6:.1f} | {stage.peak / GIB:.2f} "
        f"| {(stage.peak - stage.held) / stage.rows:,.0f} |"
    )


def exponent(stages: Sequence[Stage]) -> float:
    """Slope of log seconds over log rows, by least squares."""
    rows, seconds = ([getattr(one, name) for one in stages] for name in ("rows", "seconds"))
    return float(np.polyfit(np.log(rows), np.log(seconds), 1)[0])


def targets(stages: Sequence[Stage]) -> list[str]:
    """What was aimed at and what was found."""
    found = []
    names = dict.fromkeys(one.name for one in stages)
    for name in names:
        same = [one for one in stages if one.name == name]
        if len(same) > 1:
            growth = exponent(same)
            aimed = verdict(growth <= EXPONENT) if name == WALK else "no target of its own"
            found.append(f"- {name}: grows as n^{growth:.2f} ({aimed})")
            found += streamed(same) if name in (CONTRACT, UPSERT, AGAIN) else []
    for one in stages:
        if one.name == WALK and one.rows == MILLION:
            quick = verdict(one.seconds <= MILLION_SECONDS)
            lean = verdict(one.peak <= MILLION_GIB * GIB)
            found.append(f"- a million rows: {one.seconds:.1f} s beside reading them ({quick})")
            found.append(f"- a million rows: {one.peak / GIB:.2f} GiB ({lean})")
    return found


def streamed(stages: Sequence[Stage]) -> list[str]:
    """Memory that each further row takes, from the two largest sizes beyond a million."""
    smaller, larger = sorted(stages, key=lambda one: one.rows)[-2:]
    if smaller.rows < MILLION:
        return []
    each = (larger.peak - smaller.peak) / (larger.rows - smaller.rows)
    said = verdict(each <= BYTES_A_ROW)
    return [f"- {stages[0].name}: {each:.0f} bytes a further row beyond {smaller.rows:,} ({said})"]


def verdict(held: bool) -> str:
    """Whether a target was met."""
    return "met" if held else "MISSED"


def write(path: Path, stages: Sequence[Stage], found: Sequence[str]) -> None:
    """Write everything as JSON, or the table and the targets as Markdown."""
    if path.suffix == ".md":
        path.write_text("\n".join([HEAD, *map(line, stages), "", *found]) + "\n", encoding="utf-8")
        return
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    content = {"stages": [asdict(one) for one in stages], "targets": list(found), **machine}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
