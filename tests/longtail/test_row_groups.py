"""Parquet in bounded parts, and rows in another order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longtail import row_groups, storage
from longtail.errors import StoreError
from longtail.row_groups import RowGroupWriter, batches_of, chosen_rows, in_order, write_row_groups

TABLE = pa.table(
    {
        "id": [f"{n}" for n in range(100)],
        "labels": pa.array([None if n % 5 == 0 else ["x"] * (n % 3) for n in range(100)],
                           pa.list_(pa.string())),
    }
)  # fmt: skip


def write(path, table, times=1):
    with RowGroupWriter(path, table.schema) as writer:
        for _ in range(times):
            writer.write(table)
        assert writer.rows == times * table.num_rows
    return pq.ParquetFile(path)


def test_many_small_tables_become_few_row_groups(tmp_path):
    file = write(tmp_path / "t.parquet", TABLE, times=50)
    assert file.num_row_groups == 1
    assert file.read().equals(pa.concat_tables([TABLE] * 50))


def test_row_groups_are_bounded_by_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(row_groups, "MAX_ROWS", 32)
    file = write(tmp_path / "t.parquet", TABLE)
    sizes = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
    assert sizes == [32, 32, 32, 4]
    assert [part.num_rows for part in batches_of(tmp_path / "t.parquet")] == sizes


def test_row_groups_and_parts_are_bounded_by_bytes(tmp_path):
    texts = pa.table({"text": [chr(97 + n) * (row_groups.MAX_BYTES // 4) for n in range(12)]})
    write(tmp_path / "t.parquet", texts)
    parts = list(batches_of(tmp_path / "t.parquet"))
    assert max(part.nbytes for part in parts) <= 2 * row_groups.MAX_BYTES
    assert pa.concat_tables(parts).equals(texts)
    assert max(part.num_rows for part in batches_of(texts)) <= 4


def test_no_rows_are_a_file_too(tmp_path):
    write(tmp_path / "t.parquet", TABLE.slice(0, 0))
    assert list(batches_of(tmp_path / "t.parquet")) == []


def test_columns_are_chosen_in_the_asked_order(tmp_path):
    write(tmp_path / "t.parquet", TABLE)
    for source in (tmp_path / "t.parquet", TABLE):
        (part,) = batches_of(source, ["labels", "id"])
        assert part.column_names == ["labels", "id"]


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(StoreError, match=r"t\.parquet: not a readable Parquet file"):
        next(batches_of(tmp_path / "t.parquet"))


def test_chosen_rows_of_consecutive_parts():
    chosen = np.arange(100) % 7 == 0
    chosen[40:50] = True
    parts = [TABLE.slice(at, 10) for at in range(0, 100, 10)]
    found = pa.concat_tables(chosen_rows(parts, chosen))
    assert found.equals(TABLE.filter(pa.array(chosen)))


def test_rows_are_taken_as_arrow_takes_them(monkeypatch):
    monkeypatch.setattr(row_groups, "MAX_ROWS", 8)
    order = np.random.default_rng(0).permutation(100)
    assert in_order(TABLE, order).equals(TABLE.take(pa.array(order)))
    assert in_order(TABLE, order[:0]).schema == TABLE.schema


def test_a_file_is_there_as_a_whole_or_not_at_all(tmp_path):
    table = pa.table({"id": ["a", "b"]})
    path = tmp_path / "folder" / "rows.parquet"

    def failing():
        yield table
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        write_row_groups(path, failing(), table.schema)
    assert list(path.parent.iterdir()) == []
    write_row_groups(path, [table, table], table.schema)
    assert storage.read_parquet(path)["id"].to_pylist() == ["a", "b", "a", "b"]
    assert [one.name for one in path.parent.iterdir()] == ["rows.parquet"]


def test_a_file_that_is_passed_on_is_not_compressed(tmp_path):
    table = pa.table({"id": ["a", "b"]})
    for passing, compression in ((True, "UNCOMPRESSED"), (False, "ZSTD")):
        with RowGroupWriter(tmp_path / "rows.parquet", table.schema, passing=passing) as writer:
            writer.write(table)
        column = pq.ParquetFile(tmp_path / "rows.parquet").metadata.row_group(0).column(0)
        assert column.compression == compression
        assert storage.read_parquet(tmp_path / "rows.parquet").equals(table)
