"""What the store keeps of a row in memory and beside the texts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from longtail.annotations.schema import ANNOTATIONS
from longtail.dataset_index import RowIndex, concat, index_of, indexed, read_index, write_index
from longtail.hash_tables import repeated


def table(*rows):
    return pa.Table.from_pylist(list(rows), schema=ANNOTATIONS)


ROWS = table(
    {"id": "a", "text": "one", "labels": ["x"], "annotator": "ann"},
    {"id": "b", "text": " ONE", "labels": ["x"]},
    {"id": "c", "text": "two", "labels": None},
)


def test_an_index_is_written_and_read_back(tmp_path):
    whole = index_of(ROWS)
    parts = [(whole, np.array([True, False, False])), (whole, np.array([1, 2]))]
    write_index(tmp_path / "index.parquet", parts)
    found = read_index(tmp_path / "index.parquet")
    for name in RowIndex.__dataclass_fields__:
        assert np.array_equal(getattr(found, name), getattr(whole, name))
    assert len(found) == 3


def test_rows_that_say_the_same_share_a_key_and_nothing_else():
    index = index_of(ROWS)
    assert index.keys[0].tolist() == index.keys[1].tolist() != index.keys[2].tolist()
    assert not repeated(index.content).any()
    assert index.annotators.tolist()[1:] == [0, 0] != index.annotators.tolist()[:2]
    assert not index_of(ROWS, keys=False).keys.any()


def test_an_export_is_indexed_with_its_labels():
    index, labels = indexed(ROWS)
    assert (len(index), labels.to_pylist()) == (3, ["x"])
    assert len(concat([])) == 0
    with pytest.raises(ValueError, match="unique"):
        indexed(pa.concat_tables([ROWS, ROWS.slice(2)]))


def test_an_entry_has_sixty_four_bytes():
    index = index_of(ROWS)
    assert sum(getattr(index, name).nbytes for name in RowIndex.__dataclass_fields__) == 3 * 64
