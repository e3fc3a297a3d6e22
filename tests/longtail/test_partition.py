from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail import storage
from longtail.config import SplitSettings
from longtail.errors import DataError
from longtail.labels import LabelSpace
from longtail.ledger import ASSIGNED, SPLITS, LedgerEntries, SplitLedger
from longtail.near_duplicates import Units
from longtail.partition import SCHEMA, partition

NOTHING = LedgerEntries()


def texts(n, splits=None, start=0):
    ids = [f"t{row:04d}" for row in range(start, start + n)]
    labels = [[f"L{row % 5}", *(["rare"] if row % 10 == 0 else [])] for row in range(n)]
    return pa.table(
        {
            "id": ids,
            "text": [f"text of {name}" for name in ids],
            "labels": pa.array(labels, pa.list_(pa.string())),
            "group": pa.array([None] * n, pa.string()),
            "split": pa.array(splits or [None] * n, pa.string()),
        }
    )


def split_up(table, entries=NOTHING, units=None, **options):
    numbers = np.arange(table.num_rows) if units is None else np.asarray(units, dtype=np.int64)
    space = LabelSpace.of(labels or [] for labels in table["labels"].to_pylist())
    return partition(table, space, SplitSettings(**options), entries, Units(numbers, (), 0))


@pytest.fixture
def ledger(tmp_path):
    return SplitLedger(tmp_path / "ledger")


def extend(ledger, result, present=None):
    """The ledger after a partition was made."""
    ids = result.assigned["id"] if present is None else present
    return ledger.extend(result.assigned, ids, dataset="x")


def known(ledger, **splits):
    rows = [{"id": name, "split": split} for split, names in splits.items() for name in names]
    ids = [row["id"] for row in rows]
    return ledger.extend(pa.Table.from_pylist(rows, schema=ASSIGNED), ids, dataset="x")


def assigned(result):
    return dict(zip(*result.assigned.to_pydict().values(), strict=True))


def side_of(result):
    return {
        name: split for split in SPLITS for name in result.tables[split]["id"].to_pylist()
    }  # fmt: skip


def test_everything_is_assigned_once_with_exact_sizes():
    table = texts(100)
    result = split_up(table)
    ids = [name for split in SPLITS for name in result.tables[split]["id"].to_pylist()]
    assert sorted(ids) == table["id"].to_pylist()
    assert [result.tables[split].num_rows for split in SPLITS] == [60, 20, 20]
    assert assigned(result) == side_of(result)
    assert result.removed == ()
    assert all(part.schema == SCHEMA for part in result.tables.values())
    assert set(result.tables["train"]["cohort"].to_pylist()) == {0}


def test_known_texts_keep_their_side_and_cohort_and_new_ones_join(ledger):
    first = split_up(texts(60))
    entries = extend(ledger, first)
    second = split_up(texts(160), entries)
    assert {name: side_of(second)[name] for name in assigned(first)} == assigned(first)
    assert set(assigned(second)) == {f"t{row:04d}" for row in range(60, 160)}
    assert [second.tables[split].num_rows for split in SPLITS] == [96, 32, 32]
    cohorts = second.tables["test"]
    found = dict(zip(cohorts["id"].to_pylist(), cohorts["cohort"].to_pylist(), strict=True))
    assert {cohort for name, cohort in found.items() if name in assigned(first)} == {0}
    assert {cohort for name, cohort in found.items() if name not in assigned(first)} == {1}
    assert second.quality["ledger"]["known"] == 60
    assert second.quality["ledger"]["new"] == 100


def test_a_new_text_follows_its_unit_test_first(ledger):
    entries = known(ledger, train=["t0000", "t0001"], validation=["t0002"], test=["t0003", "t0004"])
    units = [0, 1, 2, 3, 1, 0, 2, 3, 1]
    result = split_up(texts(9), entries, units, leaks="keep")
    sides = side_of(result)
    assert [sides[f"t{row:04d}"] for row in (5, 6, 7, 8)] == [
        "train", "validation", "test", "test",
    ]  # fmt: skip
    assert result.quality["ledger"]["followers"] == 4


def test_one_or_two_new_units_go_where_texts_are_wanting(ledger):
    entries = known(ledger, train=["t0000", "t0001"], validation=["t0002"], test=["t0003"])
    result = split_up(texts(6), entries)
    assert sorted(assigned(result)) == ["t0004", "t0005"]
    sizes = [result.tables[split].num_rows for split in SPLITS]
    assert all(abs(got - asked) <= 1 for got, asked in zip(sizes, (4, 1, 1), strict=True))


def test_the_reference_method_cannot_add_one_or_two_units_and_gives_them_to_train(ledger):
    entries = known(ledger, train=["t0000", "t0001"], validation=["t0002"], test=["t0003"])
    result = split_up(texts(6), entries, method="skmultilearn")
    assert assigned(result) == {"t0004": "train", "t0005": "train"}


def test_a_deleted_text_that_returns_keeps_its_side(ledger):
    known(ledger, train=["t0000", "t0001"], validation=["t0002"], test=["t0003", "t0004"])
    entries = known(ledger, train=["t0000", "t0001"], validation=["t0002"], test=["t0004"])
    assert entries.lookup(["t0003"]).deleted.all()
    result = split_up(texts(5), entries)
    assert assigned(result) == {}
    assert side_of(result)["t0003"] == "test"
    assert not extend(ledger, result, texts(5)["id"]).deleted.any()


def test_the_split_of_the_data_wins():
    splits = ["train"] * 20 + ["validation"] * 6 + ["test"] * 4
    result = split_up(texts(30, splits))
    assert [side_of(result)[f"t{row:04d}"] for row in range(30)] == splits
    assert result.quality["sizes"]["test"] == {"asked": None, "assigned": 4, "used": 4}


def test_validation_is_carved_from_train_where_the_data_has_none():
    splits = ["train"] * 80 + ["test"] * 20
    result = split_up(texts(100, splits))
    assert [result.tables[split].num_rows for split in SPLITS] == [60, 20, 20]
    assert all(side_of(result)[f"t{row:04d}"] == "test" for row in range(80, 100))
    rare = result.tables["validation"]["labels"].to_pylist()
    assert sum("rare" in labels for labels in rare) == 2
    assert result.quality["ledger"]["carved_for_validation"] == 20


def test_carving_goes_on_for_texts_that_come_later(ledger):
    splits = ["train"] * 80 + ["test"] * 20
    first = split_up(texts(100, splits))
    entries = extend(ledger, first)
    second = split_up(texts(140, splits + ["train"] * 40), entries)
    assert {name: side_of(second)[name] for name in assigned(first)} == assigned(first)
    assert [second.tables[split].num_rows for split in SPLITS] == [90, 30, 20]
    assert second.quality["ledger"]["conflicts"] == 0


def test_carved_validation_keeps_units_whole_and_never_meets_the_test_set():
    splits = ["train"] * 80 + ["test"] * 20
    units = [row // 4 for row in range(80)] + [0] * 2 + list(range(100, 118))
    result = split_up(texts(100, splits), units=units)
    assert set(result.removed) == {f"t{row:04d}" for row in range(4)}
    validation = result.tables["validation"]
    assert validation.num_rows % 4 == 0
    assert not set(validation["unit"].to_pylist()) & set(result.tables["train"]["unit"].to_pylist())


def test_the_ledger_wins_over_the_data_and_says_so(ledger):
    entries = known(ledger, train=["t0000"], validation=["t0001"], test=["t0002", "t0003"])
    splits = ["test", "validation", "test", "train", "train", "test"]
    result = split_up(texts(6, splits), entries)
    assert side_of(result)["t0000"] == "train"
    assert side_of(result)["t0003"] == "test"
    assert result.quality["ledger"]["conflicts"] == 2
    assert result.quality["ledger"]["conflict_ids"] == ["t0000", "t0003"]


@pytest.mark.parametrize("leaks", ["remove_from_train", "keep"])
def test_leaks_are_left_out_or_kept_and_always_listed(leaks):
    splits = ["train"] * 10 + ["validation"] * 5 + ["test"] * 5
    units = list(range(20))
    units[0] = 15  # train and test
    units[1] = 10  # train and validation
    units[11] = 16  # validation and test
    result = split_up(texts(20, splits), units=units, leaks=leaks)
    leaking = ["t0000", "t0001", "t0011"]
    expected = leaking if leaks == "remove_from_train" else []
    assert list(result.removed) == expected
    assert sum(part.num_rows for part in result.tables.values()) == 20 - len(expected)
    assert result.tables["test"].num_rows == 5
    assert set(leaking) <= set(assigned(result))
    assert result.quality["leaks"] == {
        "policy": leaks,
        "train_rows": 2,
        "validation_rows": 1,
        "left_out": len(expected),
        "ids": leaking,
    }


def test_quality_is_json_and_names_what_could_not_be_covered():
    table = texts(50)
    labels = table["labels"].to_pylist()
    labels[7] = ["lonely"]
    table = table.set_column(2, "labels", pa.array(labels, pa.list_(pa.string())))
    quality = split_up(table).quality
    assert json.loads(json.dumps(quality, allow_nan=False)) == quality
    assert quality["infeasible"] == [
        {"label": "lonely", "texts": 1, "units": 1, "missing_from": ["validation", "test"]}
    ]
    assert quality["missing_labels"] == {"train": [], "validation": ["lonely"], "test": ["lonely"]}
    assert quality["sizes"]["train"] == {"asked": 30, "assigned": 30, "used": 30}
    assert quality["labels"]["largest_deviation_rows"] <= 1.0
    assert quality["units"] == 50


def test_texts_without_labels_group_or_split_column():
    table = texts(30).select(["id", "text", "labels"])
    labels = [None, [], *table["labels"].to_pylist()[2:]]
    table = table.set_column(2, "labels", pa.array(labels, pa.list_(pa.string())))
    result = split_up(table)
    assert sum(part.num_rows for part in result.tables.values()) == 30
    everything = pa.concat_tables(result.tables.values()).sort_by("id")
    assert everything["labels"].to_pylist()[:2] == [[], []]
    assert everything["group"].null_count == 30


@given(st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_row_order_does_not_matter(random):
    table = texts(40)
    units = np.array([row // 3 for row in range(40)])
    order = list(range(40))
    random.shuffle(order)
    plain = split_up(table, units=units)
    shuffled = split_up(table.take(order), units=units[order])
    assert shuffled.assigned.equals(plain.assigned)
    assert all(shuffled.tables[split].equals(plain.tables[split]) for split in SPLITS)


def test_the_tables_can_be_written_and_read_back(tmp_path):
    part = split_up(texts(20)).tables["test"]
    storage.write_parquet(tmp_path / "test.parquet", part)
    assert storage.read_parquet(tmp_path / "test.parquet").equals(part)


def test_too_few_units_are_refused():
    with pytest.raises(DataError, match=r"only 2 unit\(s\).*data\.columns\.group"):
        split_up(texts(10), units=[0] * 5 + [1] * 5)


@pytest.mark.parametrize("absent", ["train", "test"])
def test_a_given_split_without_train_or_test_is_refused(absent):
    names = [split for split in SPLITS if split != absent]
    with pytest.raises(DataError, match=f"no row that says '{absent}'"):
        split_up(texts(20, names * 10))


def test_a_split_that_leaks_take_everything_from_is_refused():
    splits = ["train"] * 4 + ["validation"] * 2 + ["test"] * 4
    with pytest.raises(DataError, match="none is in train once the texts"):
        split_up(texts(10, splits), units=[0, 1, 2, 3, 4, 5, 0, 1, 2, 3])


def test_a_split_too_small_for_a_single_text_is_refused():
    with pytest.raises(DataError, match="none is in validation"):
        split_up(texts(4), train=0.8, validation=0.1, test=0.1)


def test_the_reference_method_goes_through():
    result = split_up(texts(100), method="skmultilearn")
    assert all(result.tables[split].num_rows > 5 for split in SPLITS)
    assert result.quality["method"] == "skmultilearn"


def test_a_text_whose_labels_changed_keeps_its_side(ledger):
    first = split_up(texts(60))
    entries = extend(ledger, first)
    table = texts(60)
    changed = [["L0", "brand new"] for _ in range(60)]
    table = table.set_column(2, "labels", pa.array(changed, pa.list_(pa.string())))
    second = split_up(table, entries)
    assert side_of(second) == side_of(first)
    assert assigned(second) == {}


def test_the_split_that_the_data_brings_is_not_evened_out(ledger):
    """Later texts with a split of their own go there, however full it is already."""
    splits = ["train"] * 20 + ["validation"] * 5 + ["test"] * 25
    entries = extend(ledger, split_up(texts(50, splits)))
    more = splits + ["test"] * 10
    assert [side_of(split_up(texts(60, more), entries))[f"t{row:04d}"] for row in range(60)] == more


def test_new_texts_without_a_split_even_out_what_the_data_brought():
    splits = ["train"] * 20 + ["validation"] * 10 + ["test"] * 10 + [None] * 60
    result = split_up(texts(100, splits))
    sizes = [result.tables[split].num_rows for split in SPLITS]
    assert all(abs(got - asked) <= 1 for got, asked in zip(sizes, (60, 20, 20), strict=True))


def test_the_date_of_annotation_goes_with_the_text():
    table = texts(30)
    moments = pa.array(range(30), pa.timestamp("us", tz="UTC"))
    result = split_up(table.append_column("annotated_at", moments))
    everything = pa.concat_tables(result.tables.values()).sort_by("id")
    assert everything["annotated_at"].to_pylist() == moments.to_pylist()
    assert split_up(table).tables["test"]["annotated_at"].null_count == 6
