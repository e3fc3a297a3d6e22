"""What the split stage costs: units, ledger, partition and Parquet, and the near-duplicate search.

    python benchmarks/split_stage.py                     100,000 texts
    python benchmarks/split_stage.py --rows 1000000      with --budget SECONDS GIB: fails above them
    python benchmarks/split_stage.py --out stage.json    also written as JSON

Texts of a hundred words, two of a thousand Zipf-like labels each. Seconds are those of the
processor, so that what else runs on the machine does not count; memory is the largest so far, the
made-up texts in it. The near-duplicate search has a figure of its own and is not in the sum.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from splitting import zipf_labels

from longtail.bridges import bridging_rows
from longtail.config import SplitSettings
from longtail.labels import LabelSpace
from longtail.ledger import LedgerEntries, SplitLedger
from longtail.near_duplicates import Units, find_units
from longtail.partition import Partition, partition
from longtail.row_groups import write_row_groups

LABELS, WORDS, VOCABULARY = 1000, 100, 50_000
EQUAL, SIMILAR = 1.0, 0.8
Result = TypeVar("Result")


@dataclass(frozen=True)
class Step:
    """What one step took: seconds of the processor, and GiB at most until then."""

    name: str
    seconds: float
    gib: float


class Clock:
    """Times steps and prints each."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __call__(self, name: str, run: Callable[[], Result]) -> Result:
        """Run a step."""
        start = time.process_time()
        result = run()
        gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        self.steps.append(Step(name, time.process_time() - start, gib))
        print(f"| {name} | {self.steps[-1].seconds:.2f} | {gib:.2f} |", flush=True)
        return result


def main() -> int:
    """Print the table, write it where asked; 1 where the budget is passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, nargs=2, metavar=("SECONDS", "GIB"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    pa.set_cpu_count(1)
    clock = Clock()
    print(f"{options.rows:,} texts\n\n| step | seconds | GiB so far |\n|---|---|---|")
    table, space = clock("(making the texts)", lambda: made_up(options.rows, options.seed))
    with tempfile.TemporaryDirectory() as folder:
        stage(clock, table, space, Path(folder))
    sum_of = [step for step in clock.steps if not step.name.startswith("(")]
    seconds, gib = sum(step.seconds for step in sum_of), clock.steps[-1].gib
    print(f"| a first run, in all | {seconds:.2f} | {gib:.2f} |", flush=True)
    clock("(near-duplicate search)", lambda: units_of(table, SIMILAR))
    if options.out:
        content = {"rows": options.rows, "steps": [asdict(step) for step in clock.steps]}
        options.out.write_text(json.dumps(content, indent=1) + "\n")
    return int(bool(options.budget) and (seconds > options.budget[0] or gib > options.budget[1]))


def made_up(rows: int, seed: int) -> tuple[pa.Table, LabelSpace]:
    """Texts as the data set holds them, and their labels."""
    draw, y = np.random.default_rng(seed), zipf_labels(rows, LABELS, seed)
    names = pa.array([f"label {number:04d}" for number in range(LABELS)])
    words = np.array([f"w{number}" for number in range(VOCABULARY)])
    parts = [
        pa.array(
            [" ".join(words[row]) for row in draw.integers(0, VOCABULARY, (count, WORDS))],
            pa.string(),
        )
        for count in [10_000] * (rows // 10_000) + [rows % 10_000]
    ]
    nothing = pa.nulls(rows, pa.string())
    table = pa.table(
        {
            "id": pa.array([f"text-{row:08d}" for row in range(rows)]),
            "text": pa.chunked_array(parts),
            "labels": pa.ListArray.from_arrays(
                pa.array(y.indptr.astype(np.int32)), names.take(pa.array(y.indices))
            ),
            "group": nothing,
            "split": nothing,
            "annotated_at": pa.nulls(rows, pa.timestamp("us", tz="UTC")),
        }
    )
    return table, LabelSpace(tuple(names.to_pylist()))


def units_of(table: pa.Table, similarity: float) -> Units:
    """The units of a table."""
    return find_units(table["id"], table["text"], table["group"], similarity)


def stage(clock: Clock, table: pa.Table, space: LabelSpace, folder: Path) -> None:
    """A first run, and, in brackets, what is different in a later one."""
    ledger = SplitLedger(folder / "ledger")

    def divide(entries: LedgerEntries) -> Partition:
        return partition(table, space, SplitSettings(), entries, units)

    def write() -> None:
        for name, part in found.tables.items():
            write_row_groups(folder / f"{name}.parquet", [part], part.schema)

    units = clock("units", lambda: units_of(table, EQUAL))
    entries = clock("ledger: read", ledger.read)
    clock("bridges", lambda: bridging_rows(entries.lookup(table["id"]), units.units))
    found = clock("partition", lambda: divide(entries))
    clock(
        "ledger: extend",
        lambda: ledger.extend(found.assigned, table["id"], dataset="first", after=entries),
    )
    clock("Parquet", write)
    del found
    entries = clock("(later: ledger: read)", ledger.read)
    found = clock("(later: partition)", lambda: divide(entries))
    clock(
        "(later: ledger: extend)",
        lambda: ledger.extend(found.assigned, table["id"], dataset="second", after=entries),
    )


if __name__ == "__main__":
    sys.exit(main())
