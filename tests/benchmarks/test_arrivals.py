"""A year of weekly arrivals leaves the ledger about as balanced as a fresh split."""

from __future__ import annotations

import datetime as dt
import importlib
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def arrivals():
    """The benchmark, which is no package."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield importlib.import_module("arrivals")
    finally:
        sys.path.pop(0)


SIZES = {"ten": lambda draw: draw.poisson(10), "1 to 3": lambda draw: draw.integers(1, 4)}


@pytest.mark.parametrize("name", SIZES)
def test_a_year_of_weeks_stays_within_the_stated_factor_of_a_fresh_split(arrivals, name):
    fresh, weekly, alone = arrivals.compare(arrivals.drawn(name, 1, SIZES[name]))
    assert [words for words in arrivals.verdicts(fresh, weekly) if "MISSED" in words] == []
    assert weekly.size_off <= 5  # the rows of the largest unit
    # Without a look at what stands in the splits, deviations add up over the weeks.
    assert alone.ld > 1.3 * weekly.ld
    assert alone.worst > weekly.worst + 3
    assert any("MISSED" in words for words in arrivals.verdicts(fresh, alone))


def test_the_label_distribution_is_that_of_its_authors(arrivals):
    counts, sizes = np.array([[2, 1], [1, 0]]), np.array([4, 2])
    odds = np.array([[2 / 2, 1 / 3], [1 / 1, 0.0]])
    expected = np.abs(odds - np.array([3 / 3, 1 / 5])).mean()
    assert arrivals.label_distribution(counts, sizes) == pytest.approx(expected)


def test_a_data_set_arrives_by_its_own_weeks(arrivals, tmp_path):
    monday = dt.datetime(2020, 1, 6, tzinfo=dt.UTC)
    rows = [
        {
            "id": f"t{row:03d}",
            "text": f"text number {row} of its own words w{row} v{row * 7}",
            "labels": [f"L{row % 4}"],
            "split": "train",
            "created_at": monday + dt.timedelta(days=row // 3),
        }
        for row in range(120)
    ]
    path = tmp_path / "texts.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    stream = arrivals.dated(path, "created_at")
    assert stream.week.tolist() == [row // 21 for row in range(120)]
    fresh, weekly, _ = arrivals.compare(stream)
    assert fresh.size_off <= 1
    assert weekly.missing == 0
