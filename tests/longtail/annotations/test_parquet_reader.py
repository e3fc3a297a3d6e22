"""Parquet: types are checked once per file, cells one by one."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longtail.annotations.parquet_reader import parquet_records
from longtail.annotations.schema import Unreadable
from longtail.errors import DataError

WANTED = {"id": "id", "text": "text", "labels": "labels"}


def written(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def read(table, wanted=WANTED):
    data = table if isinstance(table, bytes) else written(table)
    return list(parquet_records(io.BytesIO(data), "x.parquet", wanted))


def table(n=3, **columns):
    base = {"id": list(range(n)), "text": ["t"] * n, "labels": [["a"]] * n}
    return pa.table({**base, **columns})


def test_rows_and_positions_over_several_batches():
    records = read(table(2_500))
    assert [record.position for record in records] == list(range(1, 2_501))
    assert records[-1].values == {"id": 2_499, "text": "t", "labels": ["a"]}


def test_raw_holds_the_wanted_columns_only():
    records = read(table(embedding=[[1.0] * 4] * 3))
    assert json.loads(records[0].raw) == {"id": 0, "text": "t", "labels": ["a"]}


@pytest.mark.parametrize(
    "labels",
    [
        pa.array([["a"], None, []], pa.large_list(pa.large_string())),
        pa.array(['["a"]', None, "[]"], pa.string()).dictionary_encode(),
        pa.array([["a"], [None], []], pa.list_(pa.string())),
        pa.array([None, None, None]),
    ],
)
def test_kinds_of_label_columns(labels):
    assert len(read(table(labels=labels))) == 3


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([{"a": 1}] * 3, "struct"),
        ([[1]] * 3, "list<element: int64>"),
        ([[["a"]]] * 3, "list<element: list"),
        ([1, 2, 3], "int64"),
        ([True] * 3, "bool"),
    ],
)
def test_a_label_column_of_another_type_is_refused(labels, found):
    with pytest.raises(DataError, match="a list of strings is expected for labels") as caught:
        read(table(labels=labels))
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("column", "values"), [("text", [1, 2, 3]), ("id", [[1]] * 3), ("id", [True] * 3)]
)
def test_other_columns_of_another_type_are_refused(column, values):
    with pytest.raises(DataError, match=f"the column '{column}' is of type"):
        read(table(**{column: values}))


def test_bytes_columns_are_read_as_utf8_cell_by_cell():
    records = read(table(text=pa.array([b"caf\xc3\xa9", b"caf\xe9", None], pa.binary())))
    assert records[0].values["text"] == "café"
    assert isinstance(records[1].values["text"], Unreadable)
    assert "not UTF-8" in records[1].values["text"].reason
    assert records[2].values["text"] is None


def test_a_string_column_with_bytes_that_are_not_utf8():
    broken = pa.array([b"fine", b"\xff\xfe", b"fine"], pa.binary()).view(pa.string())
    records = read(table(text=broken))
    assert [isinstance(record.values["text"], Unreadable) for record in records] == [0, 1, 0]
    assert records[1].raw.encode()


def test_a_date_that_no_calendar_has_costs_its_row():
    dates = pa.array([0, 2**62, None], pa.timestamp("us"))
    records = read(table(when=dates), {**WANTED, "annotated_at": "when"})
    assert isinstance(records[1].values["when"], Unreadable)
    assert records[0].values["when"].year == 1970


@pytest.mark.parametrize("cut", [12, 200, -1])
def test_a_truncated_file_is_refused(cut):
    with pytest.raises(DataError, match=r"damaged or was cut off.*export it again"):
        read(written(table())[:cut])


def test_a_damaged_page_is_refused():
    data = bytearray(written(table(5_000, id=[f"{n * 7919 % 5000}" for n in range(5_000)])))
    data[40:2_000] = bytes(1_960)
    with pytest.raises(DataError, match="damaged"):
        read(bytes(data))


def test_a_missing_column():
    with pytest.raises(DataError, match="no column 'labels'"):
        read(table().rename_columns(["id", "text", "tags"]))
