from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail import storage
from longtail.errors import StoreError
from longtail.ledger import ASSIGNED, ENTRIES, SPLITS, LedgerEntries, SplitLedger


class Ledger(SplitLedger):
    """Takes mappings for tables, which read better."""

    def extend(self, assigned, present, **about):
        rows = [{"id": name, "split": split} for name, split in assigned.items()]
        return super().extend(pa.Table.from_pylist(rows, schema=ASSIGNED), present, **about)


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger")


def found(entries, *names):
    """Split, cohort and whether it is gone of each id."""
    standing = entries.lookup(names)
    splits = ["nowhere" if code < 0 else SPLITS[code] for code in standing.splits]
    return list(zip(splits, standing.cohorts.tolist(), standing.deleted.tolist(), strict=True))


def test_an_empty_ledger_knows_nothing(ledger):
    entries = ledger.read()
    assert (len(entries), entries.generations) == (0, 0)
    assert found(entries, "a") == [("nowhere", -1, False)]
    assert not ledger.root.exists()


def test_ids_keep_their_split_and_cohort_over_generations(ledger):
    ledger.extend({"b": "test", "a": "train"}, {"a", "b"}, dataset="one")
    ledger.extend({"c": "validation", "a": "train"}, {"a", "b", "c"}, dataset="two")
    entries = SplitLedger(ledger.root).read()
    assert found(entries, "c", "a", "x", "b") == [
        ("validation", 1, False),
        ("train", 0, False),
        ("nowhere", -1, False),
        ("test", 0, False),
    ]
    assert (entries.generations, entries.datasets) == (2, ("one", "two"))


def same(one, other):
    columns = ("keys", "splits", "cohorts", "deleted")
    equal = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in columns)
    return equal and (one.datasets, one.head) == (other.datasets, other.head)


def test_nothing_new_writes_nothing(ledger):
    first = ledger.extend({"a": "train"}, {"a"}, dataset="one")
    assert same(ledger.extend({"a": "train"}, {"a"}, dataset="two"), first)
    assert len(list((ledger.root / "generations").iterdir())) == 1


def test_a_deleted_text_leaves_a_tombstone_and_comes_back_to_its_side(ledger):
    ledger.extend({"a": "train", "b": "test"}, {"a", "b"}, dataset="one")
    gone = ledger.extend({}, {"a"}, dataset="two")
    assert found(gone, "a", "b") == [("train", 0, False), ("test", 0, True)]
    with pytest.raises(StoreError, match="never changes its split"):
        ledger.extend({"b": "train"}, {"a", "b"}, dataset="three")
    back = ledger.extend({}, {"a", "b"}, dataset="three")
    assert found(back, "b") == [("test", 0, False)]
    rows = [
        (path.name, row["id"], row["event"])
        for path in sorted((ledger.root / "generations").iterdir())
        for row in storage.read_parquet(path / "entries.parquet").to_pylist()
    ]
    assert rows == [
        ("000000", "a", "assigned"),
        ("000000", "b", "assigned"),
        ("000001", "b", "deleted"),
        ("000002", "b", "restored"),
    ]


def test_an_id_cannot_move(ledger):
    ledger.extend({"a": "train"}, {"a"}, dataset="one")
    with pytest.raises(StoreError, match="'a' stands in train since generation 0"):
        ledger.extend({"a": "test"}, {"a"}, dataset="two")
    assert ledger.read().generations == 1


def test_an_unknown_split_is_refused(ledger):
    with pytest.raises(StoreError, match="'dev' is no split"):
        ledger.extend({"a": "dev"}, {"a"}, dataset="one")


def test_a_run_that_read_before_another_extended_is_refused(ledger):
    before = ledger.read()
    ledger.extend({"a": "train"}, {"a"}, dataset="one", after=before)
    with pytest.raises(StoreError, match="another run has extended"):
        ledger.extend({"b": "test"}, {"a", "b"}, dataset="two", after=before)


def _two_generations(ledger):
    ledger.extend({"a": "train"}, {"a"}, dataset="one")
    ledger.extend({"b": "test"}, {"a", "b"}, dataset="two")
    return ledger.root / "generations"


def test_an_altered_file_is_noticed(ledger):
    path = _two_generations(ledger) / "000000" / "entries.parquet"
    row = {"id": "a", "split": "test", "event": "assigned"}
    storage.write_parquet(path, pa.Table.from_pylist([row], schema=ENTRIES))
    with pytest.raises(StoreError, match="content differs"):
        ledger.read()


def test_an_altered_file_with_a_fitting_manifest_is_noticed(ledger):
    folder = _two_generations(ledger) / "000000"
    row = {"id": "a", "split": "test", "event": "assigned"}
    storage.write_parquet(folder / "entries.parquet", pa.Table.from_pylist([row], schema=ENTRIES))
    storage.write_manifest(folder, {"generation": 0, "dataset": "one", "parent": ""})
    with pytest.raises(StoreError, match="does not follow the generation before it"):
        ledger.read()


def test_a_missing_generation_is_noticed(ledger):
    folder = _two_generations(ledger)
    (folder / "000000").rename(folder.parent / "elsewhere")
    with pytest.raises(StoreError, match="000000: missing"):
        ledger.read()


@pytest.mark.parametrize(
    ("row", "stood"),
    [
        (("b", "train", "assigned"), "'b' stood in test and is now 'assigned' in 'train'"),
        (("b", "train", "deleted"), "'b' stood in test and is now 'deleted' in 'train'"),
        (("b", "test", "assigned"), "'b' stood in test and is now 'assigned' in 'test'"),
        (("c", "test", "restored"), "'c' stood nowhere and is now 'restored' in 'test'"),
        (("c", "dev", "assigned"), "'c' stood nowhere and is now 'assigned' in 'dev'"),
        (("b", "test", "moved"), "'b' stood in test and is now 'moved' in 'test'"),
    ],
)
def test_an_appended_generation_that_no_run_can_have_written_is_noticed(ledger, row, stood):
    folder = _two_generations(ledger)
    parent = storage.sha256_file(folder / "000001" / storage.MANIFEST)
    good = {"id": "d", "split": "train", "event": "assigned"}
    rows = [good, dict(zip(ENTRIES.names, row, strict=True))]
    about = {"generation": 2, "dataset": "three", "parent": parent}
    with storage.committed_directory(folder / "000002", about) as staging:
        table = pa.Table.from_pylist(rows, schema=ENTRIES)
        storage.write_parquet(staging / "entries.parquet", table)
    with pytest.raises(StoreError, match=stood):
        ledger.read()


def test_ids_whose_hashes_agree_by_half_are_told_apart():
    keys = np.array([[1, 5], [7, 2], [7, 4], [7, 9], [8, 0]], dtype=np.uint64)
    codes = np.array([0, 1, 2, 0, 1], dtype=np.int8)
    entries = LedgerEntries(keys, codes, codes.astype(np.int32), codes > 1)
    wanted = np.array([[7, 9], [7, 3], [7, 2], [9, 0], [8, 0], [0, 0], [7, 4]], dtype=np.uint64)
    assert entries.places(wanted).tolist() == [3, -1, 1, -1, 4, -1, 2]


weeks = st.lists(
    st.dictionaries(st.sampled_from("abcdefgh"), st.booleans(), max_size=5), max_size=7
)


@given(weeks)
@settings(max_examples=30, deadline=None)
def test_any_history_is_read_as_it_was_written(tmp_path_factory, history):
    """Every week some ids are there; a new one is assigned by its first letter."""
    ledger, sides, cohorts = Ledger(tmp_path_factory.mktemp("ledger")), {}, {}
    entries = ledger.read()
    for number, week in enumerate(history):
        here = {name for name, there in week.items() if there}
        new = {name: SPLITS[ord(name) % 3] for name in here if name not in sides}
        before = entries
        entries = ledger.extend(new, here, dataset=str(number), after=before)
        sides |= new
        cohorts |= dict.fromkeys(new, before.generations)
        expected = [(sides[name], cohorts[name], name not in here) for name in sides]
        assert found(entries, *sides) == expected
        assert same(ledger.read(), entries)


def test_an_entry_takes_no_more_than_32_bytes(ledger):
    ids = [f"a rather long id of a text, number {row}" for row in range(1000)]
    ledger.extend(dict.fromkeys(ids, "train"), ids, dataset="one")
    entries = ledger.read()
    columns = (entries.keys, entries.splits, entries.cohorts, entries.deleted)
    assert sum(column.nbytes for column in columns) <= 32 * len(entries)


def test_what_a_killed_run_left_behind_is_no_generation(ledger):
    folder = _two_generations(ledger)
    (folder / ".000002.abc.staging").mkdir()
    assert ledger.read().generations == 2
    (folder / "000002").mkdir()
    with pytest.raises(StoreError, match="never finished"):
        ledger.read()
