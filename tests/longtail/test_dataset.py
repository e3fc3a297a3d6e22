"""The data set store: versions, upserts, duplicates, crashes."""

from __future__ import annotations

import datetime as dt
import time

import pyarrow as pa
import pytest

from longtail import storage
from longtail.annotations.schema import ANNOTATIONS
from longtail.dataset import DatasetStore, check_trainable, drop_rare_labels
from longtail.errors import DataError, StoreError


def text(name, labels=("x",), said=None, day=None, **more):
    when = None if day is None else dt.datetime(2026, 3, day, tzinfo=dt.UTC)
    return {"id": name, "text": said or f"text {name}", "labels": list(labels),
            "annotated_at": when, **more}  # fmt: skip


def table(*rows):
    return pa.Table.from_pylist(list(rows), schema=ANNOTATIONS)


def upsert(store, *rows, merge=True):
    done = store.upsert(table(*rows), merge_duplicates=merge)
    counted = done.added + done.changed + done.unchanged + done.merged + done.outdated
    assert counted == len(rows)
    return done


@pytest.fixture
def store(tmp_path):
    return DatasetStore(tmp_path / "dataset")


def test_an_empty_store(store):
    assert store.current() is None
    with pytest.raises(StoreError, match="no data set yet"):
        store.read()


def test_the_first_upsert(store):
    done = upsert(store, text("b", ["y", "x", "y"]), text("a"))
    assert (done.added, done.version.version) == (2, 1)
    assert (done.version.n_texts, done.version.n_labels) == (2, 2)
    assert store.current() == done.version
    assert store.read().schema == ANNOTATIONS
    assert store.read()["labels"].to_pylist() == [["x"], ["x", "y"]]


def test_nothing_new_leaves_the_version(store):
    rows = [text("a", ["x", "y"]), text("b"), text("c", said="TEXT  b")]
    first = upsert(store, *rows)
    assert first.merged == 1
    again = upsert(store, *reversed(rows))
    assert again.version == first.version
    assert (again.added, again.changed, again.unchanged, again.merged) == (0, 0, 2, 1)


def test_changed_and_new_texts_make_a_version_and_the_old_one_stays(store):
    first = upsert(store, text("a"), text("b")).version
    done = upsert(store, text("b", ["y"]), text("c"))
    assert (done.added, done.changed) == (1, 1)
    assert done.version.version == 2
    assert done.version.fingerprint != first.fingerprint
    assert store.read(1)["id"].to_pylist() == ["a", "b"]
    assert store.read()["labels"].to_pylist() == [["x"], ["y"], ["x"]]
    assert store.read(first).num_rows == 2


def test_the_same_content_has_the_same_fingerprint_however_it_came(store, tmp_path):
    upsert(store, text("a"))
    upsert(store, text("b"))
    other = upsert(DatasetStore(tmp_path / "other"), text("b"), text("a")).version
    assert store.current().fingerprint == other.fingerprint


def test_an_older_annotation_does_not_roll_a_newer_one_back(store):
    upsert(store, text("a", ["new"], day=9))
    assert upsert(store, text("a", ["old"], day=2)).outdated == 1
    assert store.read()["labels"].to_pylist() == [["new"]]
    assert upsert(store, text("a", ["newer"], day=10)).changed == 1
    assert upsert(store, text("a", ["undated"])).changed == 1


@pytest.mark.parametrize(
    ("other", "merged"),
    [
        (text("b", ["x", "y"], said=" Hello\tWORLD"), 1),
        (text("b", ["x"], said="Hello world"), 0),
        (text("b", ["x", "y"], said="Hello worlds"), 0),
        (text("b", ["x", "y"], said="Hello world", group="h"), 0),
        (text("b", ["x", "y"], said="Hello world", split="test"), 0),
    ],
)
def test_what_counts_as_a_duplicate(store, other, merged):
    first = text("a", ["y", "x"], said="hello world")
    assert upsert(store, first, other).merged == merged


def test_merged_ids_are_recorded_and_may_come_back_with_other_labels(store):
    upsert(store, text("a", said="same"))
    done = upsert(store, text("b", said="same"), text("c", said="same"))
    assert (done.merged, done.version.version) == (2, 2)
    assert store.read()["id"].to_pylist() == ["a"]
    into = [{"id": "b", "merged_into": "a"}, {"id": "c", "merged_into": "a"}]
    assert store.read_merged().to_pylist() == into
    assert upsert(store, text("b", ["y"], said="same")).added == 1
    assert store.read()["id"].to_pylist() == ["a", "b"]
    assert store.read_merged().to_pylist() == into[1:]


def test_duplicates_are_kept_when_asked(store):
    done = upsert(store, text("a", said="same"), text("b", said="same"), merge=False)
    assert (done.added, done.merged) == (2, 0)


def test_a_crash_before_the_pointer_moves_changes_nothing(store, monkeypatch):
    before = upsert(store, text("a")).version
    write_json = storage.write_json

    def crash(url, value):
        if str(url).endswith("current.json"):
            raise KeyboardInterrupt
        write_json(url, value)

    monkeypatch.setattr(storage, "write_json", crash)
    with pytest.raises(KeyboardInterrupt):
        store.upsert(table(text("b")), merge_duplicates=True)
    monkeypatch.undo()
    assert store.current() == before
    assert store.read()["id"].to_pylist() == ["a"]
    done = upsert(store, text("c"))
    assert done.version.version == 2
    assert store.read()["id"].to_pylist() == ["a", "c"]


def test_a_damaged_version_is_noticed(store):
    version = upsert(store, text("a")).version
    path = version.path / "texts.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"texts\.parquet"):
        store.read()
    (version.path / "manifest.json").unlink()
    with pytest.raises(StoreError, match="version 1 of the data set is missing"):
        store.current()


def test_another_data_set_is_refused(store):
    upsert(store, *(text(f"a{n}", [f"x{n % 9}"]) for n in range(60)))
    foreign = [text(f"b{n}", [f"y{n % 20}"]) for n in range(60)]
    with pytest.raises(DataError, match=r"shares no id and 0 of its 20 labels.*--name"):
        upsert(store, *foreign)
    assert upsert(store, *foreign[:49]).added == 49


def test_new_texts_of_known_labels_are_welcome(store):
    upsert(store, *(text(f"a{n}", [f"x{n % 9}"]) for n in range(60)))
    assert upsert(store, *(text(f"b{n}", [f"x{n % 20}"]) for n in range(60))).added == 60


def test_new_labels_on_known_ids_are_welcome(store):
    upsert(store, *(text(f"a{n}", [f"x{n % 9}"]) for n in range(60)))
    relabelled = [text(f"a{n}", [f"y{n % 9}"]) for n in range(60)]
    assert upsert(store, *relabelled).changed == 60


def test_thirty_thousand_texts_are_upserted_quickly(store):
    rows = [text(str(n), [f"x{n % 300}", f"x{n % 7}"], said=f"words {n} " * 20) for n in
            range(30_000)]  # fmt: skip
    many = table(*rows)
    start = time.process_time()
    store.upsert(many, merge_duplicates=True)
    store.upsert(many, merge_duplicates=True)
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([text(str(n), []) for n in range(50)], "none of the 50 texts has a label"),
        ([text(str(n)) for n in range(50)], "the same one label, 'x'"),
        ([text(str(n), ["x", "y"]) for n in range(29)], "only 29 texts have a label"),
    ],
)
def test_too_little_to_train_on(rows, said):
    with pytest.raises(DataError, match=said):
        check_trainable(table(*rows))


def test_enough_to_train_on():
    check_trainable(table(*(text(str(n), ["x", "y"][: 1 + n % 2]) for n in range(30))))


def test_rare_labels_are_dropped_with_the_texts_that_had_no_other():
    rows = [text("1", ["a", "b"]), text("2", ["a"]), text("3", ["c"]), text("4", [])]
    reduced, dropped, skipped = drop_rare_labels(table(*rows), 2)
    assert reduced.select(["id", "labels"]).to_pylist() == [
        {"id": "1", "labels": ["a"]}, {"id": "2", "labels": ["a"]}, {"id": "4", "labels": []},
    ]  # fmt: skip
    assert (dropped, skipped) == (("b", "c"), 1)
    assert reduced.schema == ANNOTATIONS


def test_no_rare_labels_leave_the_table_as_it_is():
    rows = table(text("1", ["a"]))
    assert drop_rare_labels(rows, 1) == (rows, (), 0)
