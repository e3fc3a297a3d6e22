"""The benchmark of ingestion makes the exports that it says, and reads its own figures right."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from longtail.annotations.readers import read_annotations
from longtail.config import DataSettings

ROOT = Path(__file__).parents[2]
OPTIONS = {"seed": 0, "labels": 50, "format": "parquet"}


@pytest.fixture(scope="module")
def modules():
    """The benchmark's modules, which are no package."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield tuple(importlib.import_module(name) for name in ("ingestion", "ingestion_data"))
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def rows_of(path):
    return pa.concat_tables(list(read_annotations(path, DataSettings())))


def test_the_exports_are_what_they_are_said_to_be(modules, tmp_path):
    modules[1].write_exports(3_000, tmp_path, OPTIONS)
    first, second = (rows_of(tmp_path / f"{name}.parquet") for name in ("first", "second"))
    words = [len(text.split()) for text in first["text"].to_pylist() if text.strip()]
    labels = [len(row) for row in first["labels"].to_pylist()]
    assert (min(words), max(words)) == (20, 100)
    assert 1.5 < sum(labels) / len(labels) < 2.5
    supports = Counter(label for row in first["labels"].to_pylist() for label in row)
    assert supports["label 0000"] > 10 * supports["label 0049"] > 0
    assert 0.97 < len(set(first["id"].to_pylist())) / 3_000 < 1
    assert first["id"].equals(second["id"])
    assert first["text"].equals(second["text"])
    changed = [a != b for a, b in zip(first["labels"].to_pylist(), second["labels"].to_pylist(),
                                      strict=True)]  # fmt: skip
    assert 10 < sum(changed) <= 45


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_other_formats_hold_the_same(modules, tmp_path, kind):
    for name in ("parquet", kind):
        modules[1].write_exports(200, tmp_path, {**OPTIONS, "format": name})
    columns = ["id", "text", "labels", "annotator", "annotated_at", "problems"]
    parquet, other = (rows_of(tmp_path / f"first.{name}").select(columns)
                      for name in ("parquet", kind))  # fmt: skip
    assert other.equals(parquet)


def stages(ingestion, rows, seconds, gib):
    held = 0
    named = (ingestion.READING, *ingestion.COUNTED, ingestion.AGAIN)
    return [
        ingestion.Stage(rows, name, seconds, seconds, int(gib * ingestion.GIB), held)
        for name in named
    ]


def test_the_walk_counts_all_but_reading(modules):
    ingestion = modules[0]
    walk = ingestion.whole(stages(ingestion, 10, 2.0, 1.0))
    assert walk.seconds == 2.0 * (len(ingestion.COUNTED) - 1)
    assert walk.peak == ingestion.GIB


@pytest.mark.parametrize(
    ("slow", "large", "verdicts"),
    [(5.0, 3.0, ["met", "met", "met"]), (20.0, 4.5, ["MISSED", "MISSED", "MISSED"])],
)
def test_targets_are_judged(modules, slow, large, verdicts):
    ingestion = modules[0]
    small = stages(ingestion, 100_000, 0.6, 0.5)
    big = stages(ingestion, 1_000_000, slow, large)
    every = [*small, ingestion.whole(small), *big, ingestion.whole(big)]
    said = [words for words in ingestion.targets(every) if words.endswith(("(met)", "(MISSED)"))]
    assert [words.rsplit("(")[-1].rstrip(")") for words in said] == verdicts


def test_bytes_of_each_further_row(modules):
    ingestion = modules[0]
    million, ten = stages(ingestion, 1_000_000, 1, 1.0), stages(ingestion, 10_000_000, 9, 3.0)
    said = "\n".join(ingestion.targets([*million, *ten]))
    assert f"{ingestion.CONTRACT}: 239 bytes a further row beyond 1,000,000 (MISSED)" in said
