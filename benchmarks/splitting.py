"""Longtail's splits against scikit-multilearn and iterative-stratification, in one run.

    python benchmarks/splitting.py                      all sizes, some minutes
    python benchmarks/splitting.py --quick              a few seconds
    python benchmarks/splitting.py --out splits.json    also written as JSON, or as .md

Labels are Zipf-like, two different ones per row; 60/20/20. A method that cuts in two is called
twice: test off the whole, then validation off the rest. Every method gets the labels in the form
that it asks for; making that form is not timed, nor are the imports.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.splitting import split_sizes, stratify

SIZES = (0.6, 0.2, 0.2)
OURS, SKMULTILEARN, ITERSTRAT = (
    "longtail",
    "scikit-multilearn 0.2.0",
    "iterative-stratification 0.1.9",
)
FASTER = {SKMULTILEARN: 30.0, ITERSTRAT: 8.0}
MILLION_SECONDS = 10.0

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """One method on one data set.

    Attributes:
        rows: texts.
        labels: labels.
        method: whose splitter.
        seconds: the fastest call; a call of more than two seconds is made once.
        size_off: rows by which the worst split misses the asked size.
        label_off: rows by which the worst label misses its asked share in a split.
        label_off_own: the same against the share that the split's own size gives.
        mean_label_off: mean over labels and splits of ``label_off``.
        missing: (label, split) without a row, of labels with three rows or more.
    """

    rows: int
    labels: int
    method: str
    seconds: float
    size_off: int
    label_off: float
    label_off_own: float
    mean_label_off: float
    missing: int


def main() -> int:
    """Print the table, write it where asked; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small data sets, no targets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write .json or .md")
    options = parser.parse_args()
    compared = [(2_000, 60)] if options.quick else [(14_354, 124), (100_000, 124)]
    alone = (20_000, 200) if options.quick else (1_000_000, 1_000)
    table = []
    print(HEAD, flush=True)
    for rows, labels in compared:
        y = zipf_labels(rows, labels, options.seed)
        table += [show(measure(y, method)) for method in (ours, iterstrat, skmultilearn)]
    table.append(show(measure(zipf_labels(*alone, options.seed), ours)))
    found = [] if options.quick else targets(table)
    print("", *found, sep="\n")
    if options.out:
        write(options.out, table, found)
    return int(any("MISSED" in words for words in found))


def ours(y: sp.csr_array) -> tuple[str, Callable[[], Ints]]:
    """Longtail, ids hashed and all checks made."""
    ids = [f"text-{row}" for row in range(y.shape[0])]
    return OURS, lambda: stratify(y, SIZES, ids=ids, seed=0).assignment.astype(np.int64)


def iterstrat(y: sp.csr_array) -> tuple[str, Callable[[], Ints]]:
    """MultilabelStratifiedShuffleSplit, twice."""
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    dense, n = y.toarray().astype(np.int64), y.shape[0]
    asked = split_sizes(n, SIZES)

    def cut(rows: Ints, size: int) -> tuple[Ints, Ints]:
        splitter = MultilabelStratifiedShuffleSplit(1, test_size=size, random_state=0)
        kept, off = next(splitter.split(np.zeros((len(rows), 1)), dense[rows]))
        return rows[kept], rows[off]

    def run() -> Ints:
        rest, test = cut(np.arange(n), int(asked[2]))
        _, validation = cut(rest, int(asked[1]))
        return assignment(n, validation, test)

    return ITERSTRAT, run


def skmultilearn(y: sp.csr_array) -> tuple[str, Callable[[], Ints]]:
    """iterative_train_test_split, twice, as the article does."""
    from skmultilearn.model_selection import iterative_train_test_split

    dense, n = y.toarray().astype(np.int64), y.shape[0]

    def run() -> Ints:
        np.random.seed(0)  # noqa: NPY002 - it has no seed of its own
        rest, rest_y, test, _ = iterative_train_test_split(np.arange(n)[:, None], dense, SIZES[2])
        share = SIZES[1] / (SIZES[0] + SIZES[1])
        _, _, validation, _ = iterative_train_test_split(rest, rest_y, share)
        return assignment(n, validation[:, 0], test[:, 0])

    return SKMULTILEARN, run


def assignment(n: int, validation: Ints, test: Ints) -> Ints:
    """Split of each row from the rows of two of them."""
    side = np.zeros(n, dtype=np.int64)
    side[validation], side[test] = 1, 2
    return side


def measure(
    y: sp.csr_array, method: Callable[[sp.csr_array], tuple[str, Callable[[], Ints]]]
) -> Row:
    """Time a method and look at what it made."""
    name, run = method(y)
    seconds, side = timed(run)
    n, n_labels = y.shape
    sizes = np.bincount(side, minlength=3)
    counts = np.array([np.bincount(y[side == k].indices, minlength=n_labels) for k in range(3)])
    support = counts.sum(axis=0)
    off = np.abs(counts - np.outer(SIZES, support))
    own = np.abs(counts - np.outer(sizes / n, support))
    return Row(
        rows=n,
        labels=n_labels,
        method=name,
        seconds=seconds,
        size_off=int(np.abs(sizes - split_sizes(n, SIZES)).max()),
        label_off=float(off.max()),
        label_off_own=float(own.max()),
        mean_label_off=float(off.mean()),
        missing=int((counts[:, support >= 3] == 0).sum()),
    )


def timed(run: Callable[[], Ints]) -> tuple[float, Ints]:
    """Seconds of the fastest of ten calls, or of one that takes more than two, and its result."""
    best, side = float("inf"), np.empty(0, dtype=np.int64)
    for _ in range(10):
        start = time.perf_counter()
        side = run()
        best = min(best, time.perf_counter() - start)
        if best > 2.0:
            break
    return best, side


def zipf_labels(rows: int, labels: int, seed: int) -> sp.csr_array:
    """Two different labels per row, label k drawn in proportion to 1 / k."""
    draw = np.random.default_rng(seed)
    shares = 1 / np.arange(1, labels + 1)
    shares /= shares.sum()
    first = draw.choice(labels, rows, p=shares)
    second = draw.choice(labels, rows, p=shares)
    while len(same := np.flatnonzero(first == second)):
        second[same] = draw.choice(labels, len(same), p=shares)
    columns = np.sort(np.stack([first, second], axis=1), axis=1).ravel()
    indptr = np.arange(0, 2 * rows + 1, 2)
    return sp.csr_array((np.ones(2 * rows, dtype=bool), columns, indptr), shape=(rows, labels))


HEAD = (
    "| rows × labels | method | seconds | size off, rows | largest label deviation, rows "
    "| the same, of its own size | mean | missing |\n|---|---|---|---|---|---|---|---|"
)


def show(row: Row) -> Row:
    """Print one line of the table."""
    print(line(row), flush=True)
    return row


def line(row: Row) -> str:
    """One line of the Markdown table."""
    return (
        f"| {row.rows:,} × {row.labels:,} | {row.method} | {row.seconds:.3f} | {row.size_off} "
        f"| {row.label_off:.1f} | {row.label_off_own:.1f} | {row.mean_label_off:.2f} "
        f"| {row.missing} |"
    )


def targets(table: list[Row]) -> list[str]:
    """What was promised, and whether it is so."""
    found = []
    for mine in (row for row in table if row.method == OURS):
        where = f"{mine.rows:,} × {mine.labels:,}"
        found.append(verdict(f"{where}: sizes exact", mine.size_off == 0))
        for other in table:
            if other.method == OURS or (other.rows, other.labels) != (mine.rows, mine.labels):
                continue
            ratio, least = other.seconds / mine.seconds, FASTER[other.method]
            words = f"{where}: {ratio:.1f} × faster than {other.method} (asked {least:g} ×)"
            found.append(verdict(words, ratio >= least))
            no_worse = mine.label_off <= min(other.label_off, other.label_off_own)
            words = f"{where}: largest label deviation no worse than {other.method}"
            found.append(verdict(words, no_worse))
        if mine.rows == 1_000_000:
            words = f"{where}: {mine.seconds:.1f} s (asked {MILLION_SECONDS:g} s)"
            found.append(verdict(words, mine.seconds <= MILLION_SECONDS))
    return found


def verdict(words: str, is_met: bool) -> str:
    """One target with its outcome."""
    return f"- {words}: {'met' if is_met else 'MISSED'}"


def write(path: Path, table: list[Row], found: list[str]) -> None:
    """Write the table and the targets, as Markdown or as JSON by the file's name."""
    if path.suffix == ".md":
        path.write_text("\n".join([HEAD, *map(line, table), "", *found]) + "\n")
        return
    about = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "numpy": np.__version__,
        "scipy": version("scipy"),
        "scikit-multilearn": version("scikit-multilearn"),
        "iterative-stratification": version("iterative-stratification"),
    }
    content = {"about": about, "table": [asdict(row) for row in table], "targets": found}
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
