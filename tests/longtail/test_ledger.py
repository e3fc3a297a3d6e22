from __future__ import annotations

import pyarrow as pa
import pytest

from longtail import storage
from longtail.errors import StoreError
from longtail.ledger import ENTRIES, SplitLedger


@pytest.fixture
def ledger(tmp_path):
    return SplitLedger(tmp_path / "ledger")


def test_an_empty_ledger_knows_nothing(ledger):
    entries = ledger.read()
    assert (dict(entries.by_id), entries.generations) == ({}, 0)
    assert not ledger.root.exists()


def test_ids_keep_their_split_and_cohort_over_generations(ledger):
    ledger.extend({"b": "test", "a": "train"}, {"a", "b"}, dataset="one")
    ledger.extend({"c": "validation", "a": "train"}, {"a", "b", "c"}, dataset="two")
    entries = SplitLedger(ledger.root).read()
    found = {name: (e.split, e.cohort, e.dataset) for name, e in entries.by_id.items()}
    assert found == {
        "a": ("train", 0, "one"),
        "b": ("test", 0, "one"),
        "c": ("validation", 1, "two"),
    }
    assert entries.generations == 2


def test_nothing_new_writes_nothing(ledger):
    first = ledger.extend({"a": "train"}, {"a"}, dataset="one")
    assert ledger.extend({"a": "train"}, {"a"}, dataset="two") == first
    assert len(list((ledger.root / "generations").iterdir())) == 1


def test_a_deleted_text_leaves_a_tombstone_and_comes_back_to_its_side(ledger):
    ledger.extend({"a": "train", "b": "test"}, {"a", "b"}, dataset="one")
    gone = ledger.extend({}, {"a"}, dataset="two")
    assert gone.deleted == {"b"}
    assert gone.by_id["b"].split == "test"
    with pytest.raises(StoreError, match="never changes its split"):
        ledger.extend({"b": "train"}, {"a", "b"}, dataset="three")
    back = ledger.extend({}, {"a", "b"}, dataset="three")
    assert back.deleted == set()
    assert (back.by_id["b"].split, back.by_id["b"].cohort) == ("test", 0)
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


def test_an_appended_generation_that_moves_an_id_is_noticed(ledger):
    folder = _two_generations(ledger)
    parent = storage.sha256_file(folder / "000001" / storage.MANIFEST)
    row = {"id": "b", "split": "train", "event": "assigned"}
    about = {"generation": 2, "dataset": "three", "parent": parent}
    with storage.committed_directory(folder / "000002", about) as staging:
        table = pa.Table.from_pylist([row], schema=ENTRIES)
        storage.write_parquet(staging / "entries.parquet", table)
    with pytest.raises(StoreError, match="'b' stood in test and is now 'assigned' in 'train'"):
        ledger.read()


def test_what_a_killed_run_left_behind_is_no_generation(ledger):
    folder = _two_generations(ledger)
    (folder / ".000002.abc.staging").mkdir()
    assert ledger.read().generations == 2
    (folder / "000002").mkdir()
    with pytest.raises(StoreError, match="never finished"):
        ledger.read()
