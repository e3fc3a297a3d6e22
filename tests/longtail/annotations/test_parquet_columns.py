"""The reader of whole columns says what the reader of cells says, whatever the columns hold."""

from __future__ import annotations

import datetime as dt
import io
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.annotations.fields import read_record
from longtail.annotations.parquet_reader import parquet_raw, parquet_records, parquet_tables
from longtail.annotations.schema import RAW
from longtail.errors import DataError

WANTED = {
    "id": "id", "text": "text", "labels": "labels", "group": "who", "annotated_at": "when",
    "split": "part",
}  # fmt: skip
SPACES = st.sampled_from(["", " ", "\x1f", "\x85", "\u2028", "\u3000", "\t\n", "\u200b"])
WORDS = st.sampled_from(["", "a", "b b", "a\x00b", "é😀", "train", "DEV", "2026-01-01", '["x"]'])
STRINGS = st.none() | st.builds(lambda a, b, c: a + b + c, SPACES, WORDS, SPACES)
INTEGERS = st.none() | st.sampled_from([0, -1, 7, 2**53, 2**53 + 1, 2**63 - 1])
FLOATS = st.none() | st.sampled_from([0.0, -0.0, 1.5, 3.0, 2.0**53, 1e300, float("inf"), np.nan])
BYTES = st.none() | st.sampled_from(
    [b"", b" a ", b"caf\xc3\xa9", b"\xff", b"\xed\xa0\x80", b"\x00"]
)
DECIMALS = st.none() | st.sampled_from([Decimal("1.00"), Decimal("2.50"), Decimal("99999.00")])
TICKS = st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-(10**10), 10**15)
SECONDS = st.none() | st.integers(-(10**15), 10**15)  # Parquet keeps them as milliseconds
DAYS = st.none() | st.integers(-(10**6), 4 * 10**6)
LISTS = st.none() | st.lists(STRINGS, max_size=3)
JSON_LISTS = st.none() | st.sampled_from(["", " ", "[]", '["a ", "b"]', "['a']", "a|b", "|", "[1]"])


def column(cells, of):
    return st.lists(cells, min_size=6, max_size=6).map(lambda values: pa.array(values, of))


def encoded(columns):
    return columns | columns.map(lambda array: array.dictionary_encode())


def ticks(of):
    if of == pa.date32():
        return column(DAYS, pa.int32()).map(lambda array: array.cast(of))
    cells = SECONDS if of.unit == "s" else TICKS
    return column(cells, pa.int64()).map(lambda array: array.cast(of))


TEXTS = (
    encoded(column(STRINGS, pa.string()))
    | column(STRINGS, pa.large_string())
    | column(BYTES, pa.binary())
    | column(BYTES, pa.binary()).map(lambda array: array.view(pa.string()))
)
NAMES = (
    TEXTS
    | column(INTEGERS, pa.int64())
    | column(FLOATS, pa.float64())
    | column(DECIMALS, pa.decimal128(7, 2))
    | column(INTEGERS, pa.int64()).map(lambda array: array.cast(pa.decimal128(19, 0)))
    | st.just(pa.nulls(6))
)
LABELS = (
    encoded(column(JSON_LISTS, pa.string()))
    | column(LISTS, pa.list_(pa.string()))
    | column(LISTS, pa.large_list(pa.large_string()))
    | column(st.lists(STRINGS, min_size=2, max_size=2), pa.list_(pa.string(), 2))
    | st.just(pa.nulls(6))
)
KINDS = [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns")
         for zone in (None, "UTC", "Asia/Tokyo")]  # fmt: skip
DATES = TEXTS | st.sampled_from([*KINDS, pa.date32()]).flatmap(ticks)


def written(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return io.BytesIO(sink.getvalue())


def by_cell(data, separator=None):
    records = parquet_records(data, "x.parquet", WANTED)
    return pa.Table.from_pylist([read_record(r, WANTED, separator) for r in records], schema=RAW)


def by_column(data, separator=None):
    return pa.concat_tables(list(parquet_tables(data, "x.parquet", WANTED, separator)))


@given(
    columns=st.fixed_dictionaries(
        {"id": NAMES, "text": TEXTS, "labels": LABELS, "who": NAMES, "when": DATES, "part": NAMES}
    ),
    separator=st.sampled_from([None, "|"]),
)
@settings(max_examples=300, deadline=None)
def test_columns_and_cells_are_read_alike(columns, separator):
    data = written(pa.table(columns))
    expected, found = by_cell(data, separator), by_column(data, separator)
    raw = found["raw"].to_pylist()
    assert found.drop_columns("raw").equals(expected.drop_columns("raw"))
    assert [a for a in raw if a is not None] == [
        b for a, b in zip(raw, expected["raw"].to_pylist(), strict=True) if a is not None
    ]
    assert all(raw[row] for row, listed in enumerate(found["problems"].to_pylist()) if listed)


def plain(n_rows, **columns):
    base = {
        "id": pa.array(range(n_rows)),
        "text": [f"text {n}" for n in range(n_rows)],
        "labels": [["a"]] * n_rows,
        "who": ["w"] * n_rows,
        "when": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)] * n_rows,
        "part": ["dev"] * n_rows,
    }
    return pa.table({**base, **columns})


def test_only_doubtful_rows_are_read_cell_by_cell():
    texts = [f"text {n}" if n != 70 else "a\x00b" for n in range(100)]
    (found,) = parquet_tables(written(plain(100, text=texts)), "x.parquet", WANTED, None)
    assert [n for n, raw in enumerate(found["raw"].to_pylist()) if raw is not None] == [70]
    assert found["position"].to_pylist() == list(range(1, 101))
    assert found["id"].to_pylist() == [str(n) for n in range(100)]


def test_batches_are_of_bounded_size():
    texts = [("x" * 1_000_000) + str(n) for n in range(150)]
    tables = list(parquet_tables(written(plain(150, text=texts)), "x.parquet", WANTED, None))
    assert max(table.num_rows for table in tables) <= 68
    assert sum(table.num_rows for table in tables) == 150


def test_the_content_of_chosen_rows():
    data = written(plain(70_000), row_group_size=30_000)
    positions = [1, 2, 32_768, 32_769, 70_000]
    found = list(parquet_raw(data, "x.parquet", WANTED, np.array(positions)))
    assert [position for position, _ in found] == positions
    everything = {r.position: r.raw for r in parquet_records(data, "x.parquet", WANTED)}
    assert found == [(position, everything[position]) for position in positions]


def test_a_missing_optional_column_is_null():
    wanted = {"id": "id", "text": "text", "group": "group"}
    (found,) = parquet_tables(written(plain(2)), "x.parquet", wanted, None)
    assert found["group"].to_pylist() == [None, None]
    assert found["labels"].to_pylist() == [None, None]


def test_a_damaged_file_is_refused():
    with pytest.raises(DataError, match="damaged or was cut off"):
        list(parquet_tables(io.BytesIO(b"PAR1nothing"), "x.parquet", WANTED, None))
