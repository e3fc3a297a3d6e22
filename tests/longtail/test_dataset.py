"""The data set store: versions, upserts, duplicates, crashes."""

from __future__ import annotations

import datetime as dt
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longtail import storage
from longtail.annotations.schema import ANNOTATIONS
from longtail.dataset import DatasetStore
from longtail.errors import DataError, StoreError


def text(name, labels=("x",), said=None, day=None, **more):
    when = None if day is None else dt.datetime(2026, 3, day, tzinfo=dt.UTC)
    return {"id": name, "text": said or f"text {name}", "labels": list(labels),
            "annotated_at": when, **more}  # fmt: skip


def table(*rows):
    return pa.Table.from_pylist(list(rows), schema=ANNOTATIONS)


def upsert(store, *rows, merge=True, **how):
    done = store.upsert(table(*rows), merge_duplicates=merge, **how)
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


# ── full exports ─────────────────────────────────────────────────────────────────────────────


def many(n, **more):
    return [text(f"{at:03d}", ["x", "y"][: 1 + at % 2], **more) for at in range(n)]


def test_a_full_export_deletes_what_it_lacks(store):
    upsert(store, *many(20))
    done = upsert(store, *many(20)[1:], text("new"), export="full")
    assert (done.added, done.unchanged, done.deleted) == (1, 19, 1)
    assert "000" not in store.read()["id"].to_pylist()
    assert store.read_deleted().to_pylist() == [{"id": "000", "version": 2}]
    assert store.read(1).num_rows == 20
    again = upsert(store, *many(20)[1:], text("new"), export="full")
    assert (again.version, again.deleted) == (done.version, 0)


def test_a_delta_deletes_nothing(store):
    upsert(store, *many(20))
    assert upsert(store, text("new")).deleted == 0
    assert store.read().num_rows == 21


def test_a_deleted_text_that_comes_back_is_added_again(store):
    upsert(store, *many(20))
    upsert(store, *many(20)[1:], export="full")
    assert upsert(store, text("000")).added == 1
    assert store.read_deleted().num_rows == 0
    upsert(store, *many(20)[2:], text("000"), export="full")
    assert store.read_deleted().to_pylist() == [{"id": "001", "version": 4}]


def test_a_full_export_that_lacks_too_much_is_refused_and_nothing_is_written(store):
    before = upsert(store, *many(20)).version
    with pytest.raises(DataError, match=r"3 of the 20 stored texts .*max_deleted.*export: delta"):
        upsert(store, *many(20)[3:], export="full")
    assert store.current() == before
    assert upsert(store, *many(20)[2:], export="full").deleted == 2
    assert upsert(store, *many(20)[12:], export="full", max_deleted=0.6).deleted == 10


def test_rows_that_were_set_aside_are_not_missing(store):
    upsert(store, *many(20))
    done = upsert(store, *many(20)[2:], export="full", withheld=["000", "never seen"])
    assert done.deleted == 1
    assert store.read()["id"].to_pylist()[:2] == ["000", "002"]


def test_a_row_without_a_readable_id_may_be_any_text_so_that_nothing_is_deleted(store):
    upsert(store, *many(20), text("a", said="same"), text("b", said="same"))
    done = upsert(store, *many(20)[5:], text("new"), export="full", withheld=["000", None])
    assert (done.added, done.deleted, done.spared) == (1, 0, 5)
    assert store.read().num_rows == 22
    assert store.read_merged()["id"].to_pylist() == ["b"]
    again = upsert(store, *many(20)[1:], text("a", said="same"), text("new"), export="full")
    assert (again.deleted, again.spared) == (1, 0)


def test_a_duplicate_outlives_the_text_that_it_was_merged_into(store):
    a, b, c = (
        text(name, said=said) for name, said in (("a", "same"), ("b", "SAME"), ("c", "same "))
    )
    upsert(store, *many(20), a, b, c)
    done = upsert(store, *many(20), b, c, export="full")
    assert (done.added, done.merged, done.deleted) == (1, 1, 1)
    assert store.read()["text"].to_pylist()[-1] == "SAME"
    assert store.read_merged().to_pylist() == [{"id": "c", "merged_into": "b"}]


def test_a_withheld_duplicate_outlives_its_text_too(store):
    upsert(store, *many(20), text("a", said="same"), text("b", said="SAME"))
    done = upsert(store, *many(20), export="full", withheld=["b"])
    assert (done.added, done.deleted) == (0, 1)
    assert store.read()["text"].to_pylist()[-1] == "SAME"
    assert store.read_merged().num_rows == 0


def test_a_merged_id_that_is_gone_is_forgotten(store):
    upsert(store, *many(20), text("a", said="same"), text("b", said="same"))
    done = upsert(store, *many(20), text("a", said="same"), export="full")
    assert (done.deleted, done.version.version) == (0, 2)
    assert store.read_merged().num_rows == 0
    assert store.read_deleted()["id"].to_pylist() == ["b"]


# ── several annotators ───────────────────────────────────────────────────────────────────────


def voices(store, version=None):
    return [(row["id"], row["annotator"], row["labels"]) for row in
            store.read_voices(version).to_pylist()]  # fmt: skip


def labels_of(store, name):
    return dict(zip(*(store.read()[column].to_pylist() for column in ("id", "labels")),
                    strict=True))[name]  # fmt: skip


def test_one_annotator_has_no_voices(store):
    upsert(store, text("a", annotator="ann", day=1))
    upsert(store, text("a", ["y"], annotator="ann", day=2))
    assert voices(store) == []


def test_an_annotators_labels_of_the_first_week_are_still_there_in_the_thirtieth(store):
    upsert(store, text("a", ["first"], annotator="ann", day=1), text("b"), policy="union")
    for week in range(2, 31):
        own = text("a", [f"w{week}"], annotator="bob", day=week)
        assert upsert(store, own, policy="union").changed == 1
    assert voices(store) == [("a", "ann", ["first"]), ("a", "bob", ["w30"])]
    assert labels_of(store, "a") == ["first", "w30"]
    assert voices(store, 2) == [("a", "ann", ["first"]), ("a", "bob", ["w2"])]


def test_an_older_row_of_an_annotator_is_outdated_though_others_are_newer(store):
    upsert(store, text("a", ["x"], annotator="ann", day=5))
    upsert(store, text("a", ["y"], annotator="bob", day=3))
    assert labels_of(store, "a") == ["x"]
    done = upsert(store, text("a", ["z"], annotator="bob", day=2))
    assert (done.outdated, voices(store)[1]) == (1, ("a", "bob", ["y"]))
    assert upsert(store, text("a", ["z"], annotator="bob", day=6)).changed == 1
    assert labels_of(store, "a") == ["z"]


def test_no_annotator_is_one_of_his_own(store):
    upsert(store, text("a", ["x"]))
    upsert(store, text("a", ["y"], annotator="ann"), policy="union")
    assert voices(store) == [("a", None, ["x"]), ("a", "ann", ["y"])]
    assert labels_of(store, "a") == ["x", "y"]


def test_another_policy_decides_all_that_is_stored(store):
    both = [text("a", ["x", "y"], annotator="ann", day=1), text("a", ["y"], annotator="bob", day=2)]
    upsert(store, text("a", ["y"], day=2), text("b"), voices=table(*both))
    first = store.current()
    done = upsert(store, text("c"), policy="union")
    assert (done.added, done.changed) == (1, 0)
    assert labels_of(store, "a") == ["x", "y"]
    upsert(store, text("c"), policy="at_least", at_least=2)
    assert labels_of(store, "a") == ["y"]
    upsert(store, text("c"), policy="at_least", at_least=1)
    assert labels_of(store, "a") == ["x", "y"]
    back = upsert(store, text("c"), policy="latest").version
    assert labels_of(store, "a") == ["y"]
    assert back.fingerprint != first.fingerprint


def test_the_same_voices_again_change_nothing(store):
    both = [text("a", ["x"], annotator="ann"), text("a", ["y"], annotator="bob")]
    export = {"voices": table(*both), "policy": "union", "export": "full"}
    first = upsert(store, text("a", ["x", "y"]), **export)
    again = upsert(store, text("a", ["x", "y"]), **export)
    assert (again.unchanged, again.version) == (1, first.version)


def test_voices_go_with_their_text(store):
    both = [text("a", ["x"], annotator="ann"), text("a", ["y"], annotator="bob")]
    upsert(store, *many(20), text("a"), voices=table(*both))
    upsert(store, *many(20), export="full")
    assert voices(store) == []


def test_a_voice_alone_makes_a_version_with_a_fingerprint_of_its_own(store):
    first = upsert(store, text("a", annotator="ann", day=2)).version
    done = upsert(store, text("a", annotator="bob", day=1))
    assert store.read(first).equals(store.read())
    assert done.changed == 1
    assert done.version.fingerprint != first.fingerprint


# ── files ────────────────────────────────────────────────────────────────────────────────────


def test_files_of_many_row_groups_are_as_good_as_tables(store, tmp_path):
    rows = [
        text(f"{at:04d}", [f"x{at % 7}"], annotator="ann", said=f"t {at % 90}") for at in range(300)
    ]
    paths = {}
    for name, part in {"accepted": rows, "voices": [*rows[:5], *(
        {**row, "annotator": "bob", "labels": ["y"]} for row in rows[:5])]}.items():  # fmt: skip
        paths[name] = tmp_path / f"{name}.parquet"
        pq.write_table(table(*part), paths[name], row_group_size=7)
    by_file = store.upsert(paths["accepted"], voices=paths["voices"], merge_duplicates=True)
    other = DatasetStore(tmp_path / "other")
    by_table = other.upsert(
        table(*rows), voices=pq.read_table(paths["voices"]), merge_duplicates=True
    )
    assert by_file.version.fingerprint == by_table.version.fingerprint
    assert store.read().equals(other.read())
    assert sorted(voices(store)) == sorted(voices(other))
    parts = list(store.batches(columns=["labels", "id"]))
    assert pa.concat_tables(parts).sort_by("id").equals(store.read(columns=["labels", "id"]))
    assert store.read(columns=["text"]).num_rows == by_file.version.n_texts


def test_the_order_of_an_export_does_not_matter(store, tmp_path):
    rows = [text(f"{at:04d}", [f"x{at % 3}"], said=f"t {at % 20}") for at in range(200)]
    upsert(store, *rows)
    other = DatasetStore(tmp_path / "other")
    upsert(other, *reversed(rows))
    assert store.current().fingerprint == other.current().fingerprint
    assert store.read().equals(other.read())
    assert store.read_merged().equals(other.read_merged())


def test_ids_must_be_unique(store):
    with pytest.raises(ValueError, match="unique"):
        upsert(store, text("a"), text("a"))


def test_two_upserts_at_once_wait_for_each_other(store):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: upsert(store, text(name)), "abcdefgh"))
    assert store.read()["id"].to_pylist() == list("abcdefgh")
    assert store.current().version == 8


def test_a_store_of_an_earlier_format_is_refused(store):
    path = upsert(store, text("a")).version.path / storage.MANIFEST
    about = storage.read_json(path)
    del about["format"]
    storage.write_json(path, about)
    with pytest.raises(StoreError, match=r"earlier version of Longtail.*--name"):
        upsert(store, text("b"))


def test_a_version_is_checked_once_when_it_is_opened(store):
    version = upsert(store, text("a")).version
    (version.path / "voices.parquet").write_bytes(b"PAR1")
    for open_it in (store.read, store.batches, store.read_voices, store.read_merged):
        with pytest.raises(StoreError, match=r"voices\.parquet"):
            open_it()
