"""A year of weekly arrivals through the real retrain flow: what the splits and verdicts are worth.

    python benchmarks/year.py --data FILE --date created_at [--weeks 52] [--out build/year]

The texts arrive in the order of their dates, in as many parts of equal size as there are weeks:
an archive seldom has texts of every week. Each week is one ``longtail retrain`` of its own on a
delta export. What is there already is not run again: the same command goes on where it was killed.

It fails where a promise is broken: a text that changed its side; a test text that was ever trained
or tuned on; arms of one week judged on different texts; a test set that lost a text; splits that
in the end are worse balanced than ``--factor`` times a fresh split of everything.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from longtail import storage
from longtail.config import SplitSettings
from longtail.labels import LabelSpace
from longtail.ledger import SPLITS
from longtail.splitting import stratify
from tasks.data import SplitData
from tasks.handles import SplitHandle

FINISHED = (0, 3)
NAME = "year"


def main() -> int:
    """Run what is missing, check every promise, print the year."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="Parquet: id, text, labels, date")
    parser.add_argument("--date", default="annotated_at", help="column that orders the arrivals")
    parser.add_argument("--weeks", type=int, default=52)
    parser.add_argument("--out", type=Path, default=Path("build/year"))
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("year.yaml"))
    parser.add_argument("--factor", type=float, default=2.5)
    given = parser.parse_args()
    runs = []
    print(_HEADER, flush=True)
    for week, export in arrivals(given.data, given.date, given.weeks, given.out):
        run = given.out / "runs" / f"week{week:02d}"
        seconds = retrain(run, export, given.out / "store", given.config)
        runs.append(run)
        print(row(week, run, seconds), flush=True)
    broken = [*sides_broken(runs), *verdicts_broken(runs), *balance_broken(runs[-1], given.factor)]
    print("\n".join(["", *(f"BROKEN: {what}" for what in broken)]) or "", flush=True)
    print(f"{len(runs)} weeks, {len(broken)} promises broken.")
    return 1 if broken else 0


def arrivals(data: Path, date: str, weeks: int, out: Path) -> Iterator[tuple[int, Path]]:
    """The weeks' exports: equal parts in the order of the dates, ids breaking ties."""
    table = pq.read_table(data, columns=["id", "text", "labels", date])
    table = table.sort_by([(date, "ascending"), ("id", "ascending")])
    table = table.rename_columns(["id", "text", "labels", "annotated_at"])
    bounds = np.linspace(0, table.num_rows, weeks + 1).round().astype(int).tolist()
    for week, (start, end) in enumerate(itertools.pairwise(bounds), 1):
        export = out / "exports" / f"{NAME}-week{week:02d}.parquet"
        storage.write_parquet(export, table.slice(start, end - start))
        yield week, export


def retrain(run: Path, export: Path, store: Path, config: Path) -> float:
    """One week, unless it is there; its seconds."""
    note = run / "year.json"
    if note.exists():
        return float(storage.read_json(note)["seconds"])
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "retrain", "--data", export, "--config", config,
         "--name", NAME, "--store", store, "--out", run],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in FINISHED:
        raise SystemExit(f"{export.name} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    seconds = time.monotonic() - started
    storage.write_json(note, {"seconds": seconds})
    return seconds


_HEADER = (
    "| week | texts | test | labels | in no test | verdict | because | looks | linear | BCE | "
    "candidate | champion | coverage | first cohort | seconds |\n" + "| - " * 15 + "|"
)


def row(week: int, run: Path, seconds: float) -> str:
    """A week as a row of the table; micro-F1 of every arm on that week's test set."""
    verdict, metrics, quality = (
        storage.read_json(run / name)
        for name in ("verdict.json", "metrics.json", "splits/quality.json")
    )
    arms: dict[str, Any] = metrics["arms"]
    scores = [
        f"{arms[arm]['overall']['micro_f1']:.3f}" if arm in arms else "—"
        for arm in ("linear", "bce", "candidate", "champion")
    ]
    failed = [rule["name"] for rule in verdict["rules"]
              if not rule["passed"] and rule["severity"] == "block"]  # fmt: skip
    candidate = arms["candidate"]
    cells = [
        week,
        sum(size["used"] for size in quality["sizes"].values()),
        quality["sizes"]["test"]["used"],
        len(storage.read_json(run / "label_space.json")["labels"]),
        len(quality["missing_labels"]["test"]),
        verdict["decision"],
        ", ".join(failed) or "—",
        verdict["looks"],
        *scores,
        f"{candidate['overall']['label_coverage']:.3f}",
        f"{candidate['original_cohort']['micro_f1']:.3f}",
        f"{seconds:.0f}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def sides_broken(runs: Sequence[Path]) -> Iterator[str]:
    """Texts that moved, test texts that were learned from, test sets that lost a text."""
    side: dict[str, str] = {}
    learned: set[str] = set()
    held_out: set[str] = set()
    for run in runs:
        data = SplitData(SplitHandle.of(run))
        for split in SPLITS:
            for name in data.ids(split):
                if side.setdefault(name, split) != split:
                    yield f"{run.name}: {name} moved from {side[name]} to {split}"
        test = set(data.ids("test"))
        if lost := held_out - test:
            yield f"{run.name}: {len(lost)} texts left the test set, such as {min(lost)}"
        held_out |= test
        learned |= {*data.ids("train"), *data.ids("validation")}
        if both := learned & held_out:
            yield f"{run.name}: {len(both)} test texts were learned from, such as {min(both)}"


def verdicts_broken(runs: Sequence[Path]) -> Iterator[str]:
    """Weeks whose arms were not judged on the same texts, or with a leak."""
    for run in runs:
        for rule in storage.read_json(run / "verdict.json")["rules"]:
            if rule["name"] in ("same_test_set", "no_leaks") and not rule["passed"]:
                yield f"{run.name}: {rule['detail']}"


def balance_broken(run: Path, factor: float) -> Iterator[str]:
    """Whether the last week's splits are worse balanced than a fresh split of everything."""
    data = SplitData(SplitHandle.of(run))
    parts = [data.table(split, ["id", "labels", "unit"]) for split in SPLITS]
    whole = pa.concat_tables(parts)
    y = LabelSpace(data.space.names).encode(whole["labels"].to_pylist())
    grown = np.repeat(np.arange(len(SPLITS)), [part.num_rows for part in parts])
    settings = SplitSettings()
    sizes = (settings.train, settings.validation, settings.test)
    fresh = stratify(
        y, sizes, ids=whole["id"].to_pylist(), units=whole["unit"].to_numpy().astype(np.int64)
    ).assignment
    lines = []
    for what, sides in (("grown", grown), ("fresh", fresh)):
        mean, largest, missing = balance(y, sides, sizes)
        lines.append((mean, largest, missing))
        print(
            f"\n{what}: label deviation mean {mean:.3f}, largest {largest:.1f} texts; "
            f"{missing} labels of three texts or more missing in a split"
        )
    if lines[0][0] > factor * lines[1][0] + 0.5:
        yield f"label deviation {lines[0][0]:.3f} against {lines[1][0]:.3f} of a fresh split"


def balance(y: Any, sides: np.ndarray, sizes: Sequence[float]) -> tuple[float, float, int]:
    """Mean and largest deviation of a label's texts in a split from its share, in texts."""
    counts = np.stack([np.asarray(y[sides == place].sum(axis=0)).ravel()
                       for place in range(len(sizes))], axis=1)  # fmt: skip
    total = counts.sum(axis=1)
    deviation = np.abs(counts - total[:, None] * np.asarray(sizes))
    missing = int(((counts == 0).any(axis=1) & (total >= len(sizes))).sum())
    return float(deviation.mean()), float(deviation.max()), missing


if __name__ == "__main__":
    sys.exit(main())
