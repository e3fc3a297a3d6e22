"""Made-up exports for benchmarks/ingestion.py, of any size and without a Python object per row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from longtail.annotations.schema import ANNOTATIONS
from longtail.labels import label_sets

PART = 100_000
WORDS = 30_000
ANNOTATORS = 12
COLUMNS = ("id", "text", "labels", "annotator", "annotated_at")
SCHEMA = pa.schema([ANNOTATIONS.field(name) for name in COLUMNS])
_YEAR = 365 * 86_400_000_000
_START = 1_704_067_200_000_000  # 2024


def write_exports(rows: int, folder: Path, options: dict[str, Any]) -> None:
    """Write ``first`` and ``second``, in which every hundredth text has other labels."""
    for name, changed in (("first", False), ("second", True)):
        parts = (
            _part(start, min(PART, rows - start), options, changed=changed)
            for start in range(0, rows, PART)
        )
        _WRITERS[options["format"]](folder / f"{name}.{options['format']}", parts)


def _part(start: int, rows: int, options: dict[str, Any], *, changed: bool) -> pa.Table:
    draw = np.random.default_rng([options["seed"], start])
    numbers = start + draw.permutation(rows)
    repeated = draw.random(rows) < 0.01
    numbers[repeated] = start + draw.integers(0, rows, int(repeated.sum()))
    texts = _texts(draw, rows)
    places = np.arange(rows)
    copies = draw.random(rows) < 0.01
    places[copies] = draw.integers(0, rows, int(copies.sum()))
    texts = pc.if_else(pa.array(draw.random(rows) < 0.001), " ", texts.take(pa.array(places)))
    labels = _labels(draw, rows, options["labels"])
    moments = _START + draw.integers(0, _YEAR, rows)
    people = pa.array([f"annotator {n}" for n in range(ANNOTATORS)])
    whose = people.take(pa.array(draw.integers(0, ANNOTATORS, rows)))
    if changed:
        anew = numbers % 100 == 0
        labels = pc.if_else(pa.array(anew), _labels(draw, rows, options["labels"]), labels)
        moments = moments + anew * _YEAR
    return pa.table(
        [
            pc.binary_join_element_wise("ticket", pa.array(numbers).cast(pa.string()), "-"),
            texts,
            labels,
            whose,
            pa.array(moments).cast(SCHEMA.field("annotated_at").type),
        ],
        schema=SCHEMA,
    )


def _zipf(draw: np.random.Generator, n: int, kinds: int) -> NDArray[np.int64]:
    """Numbers below ``kinds``, k about in proportion to 1 / (k + 1)."""
    return (np.power(kinds + 1.0, draw.random(n)) - 1).astype(np.int64)


def _lists(lengths: NDArray[np.int64], values: pa.Array) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def _texts(draw: np.random.Generator, rows: int) -> pa.StringArray:
    syllables = [first + second for first in "bdfgklmnprst" for second in "aeiou"]
    n = len(syllables)
    words = [syllables[k % n] + syllables[k // n % n] + syllables[k // n**2] for k in range(WORDS)]
    lengths = draw.integers(20, 101, rows)
    chosen = pa.array(words).take(pa.array(_zipf(draw, int(lengths.sum()), WORDS)))
    return pc.binary_join(_lists(lengths, chosen), " ")


def _labels(draw: np.random.Generator, rows: int, labels: int) -> pa.ListArray:
    names = pa.array([f"label {k:04}" for k in range(labels)])
    lengths = 1 + draw.poisson(1.0, rows)
    chosen = names.take(pa.array(_zipf(draw, int(lengths.sum()), labels)))
    return label_sets(_lists(lengths, chosen))


def _write_parquet(path: Path, parts: Iterator[pa.Table]) -> None:
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for part in parts:
            writer.write_table(part)


def _write_csv(path: Path, parts: Iterator[pa.Table]) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(COLUMNS)
        for part in parts:
            for row in part.to_pylist():
                labels, moment = json.dumps(row["labels"]), row["annotated_at"].isoformat()
                writer.writerow([row["id"], row["text"], labels, row["annotator"], moment])


def _write_jsonl(path: Path, parts: Iterator[pa.Table]) -> None:
    with path.open("w", encoding="utf-8") as handle:
        for part in parts:
            for row in part.to_pylist():
                row["annotated_at"] = row["annotated_at"].isoformat()
                handle.write(json.dumps(row) + "\n")


_WRITERS = {"parquet": _write_parquet, "csv": _write_csv, "jsonl": _write_jsonl}
