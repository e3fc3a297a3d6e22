"""Data set + ledger → splits on disk: what a run writes, and what it keeps of other runs."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tasks.split
from longtail import storage
from longtail.annotations.schema import ANNOTATIONS
from longtail.config import DataSettings, GroupSettings, SplitSettings
from longtail.dataset import DatasetStore
from longtail.errors import DataError
from longtail.ledger import SPLITS, SplitLedger
from longtail.partition import SCHEMA
from tasks.data import SplitData
from tasks.handles import DatasetHandle, RunHandle
from tasks.split import split_dataset

WORDS = ("tent", "boot", "stove", "rope", "lamp", "map", "bag", "axe", "ski", "pole")


def row(number, *labels, text=None, group=None, split=None):
    """A text of its own words, so that none is like another."""
    words = [f"{WORDS[(number * 7 + i * i) % 10]}{number}x{i}" for i in range(8)]
    given = {"id": f"t{number:03}", "text": text or " ".join(words), "labels": list(labels)}
    return {**dict.fromkeys(ANNOTATIONS.names), **given, "group": group, "split": split}


def rows(start, stop):
    return [row(n, "a" if n % 2 else "b", *(["rare"] if n % 10 == 0 else []))
            for n in range(start, stop)]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_artifacts(monkeypatch):
    monkeypatch.setattr(tasks.split, "publish_table", lambda *_: None)


@pytest.fixture
def run(tmp_path):
    return RunHandle(
        id="r", name="desk", directory=tmp_path / "run", store=tmp_path / "store", started_at="now"
    )


def add(run, new, **options):
    """A new version of the data set."""
    table = pa.Table.from_pylist(new, schema=ANNOTATIONS)
    store = DatasetStore(run.model_store / "dataset")
    version = store.upsert(table, merge_duplicates=True, max_deleted=1.0, **options).version
    return DatasetHandle(
        directory=version.path, fingerprint=version.fingerprint, version=version.version,
        n_texts=version.n_texts, n_labels=version.n_labels,
    )  # fmt: skip


def split(run, dataset, **settings):
    data = DataSettings(**settings)
    return split_dataset.fn(run, dataset, data, SplitSettings(), GroupSettings())


def ids(handle):
    return {name: set(SplitData(handle).ids(name)) for name in SPLITS}


def ledger(run):
    return SplitLedger(run.model_store / "ledger").read()


def test_the_splits_are_what_the_ledger_says(run):
    handle = split(run, add(run, rows(0, 50)))

    assert {name: len(found) for name, found in ids(handle).items()} == {
        "train": 30, "validation": 10, "test": 10
    }  # fmt: skip
    for name, found in ids(handle).items():
        standing = ledger(run).lookup(sorted(found))
        assert {SPLITS[code] for code in standing.splits} == {name}
    statistics = storage.read_json(run.directory / "statistics.json")
    assert (statistics["n_texts"], statistics["n_labels"]) == (50, 3)


def test_a_later_run_assigns_new_texts_only(run):
    before = ids(split(run, add(run, rows(0, 50))))
    after = ids(split(run, add(run, rows(50, 60))))

    assert all(before[name] < after[name] or before[name] == after[name] for name in SPLITS)
    assert sum(map(len, after.values())) == 60
    cohorts = {
        cohort
        for name in SPLITS
        for cohort in SplitData(split(run, add(run, []))).table(name)["cohort"].to_pylist()
    }
    assert cohorts == {0, 1}


def test_a_run_that_another_has_overtaken_deletes_none_of_its_texts(run):
    """Both have brought texts; the one with the later version of the data set splits first."""
    early = add(run, rows(0, 50))
    late = add(run, rows(50, 60))
    split(run, late)
    split(run, early)

    assert len(ledger(run)) == 60
    assert not ledger(run).deleted.any()


def test_a_deleted_text_that_returns_stands_where_it_stood(run):
    first = ids(split(run, add(run, rows(0, 50))))
    gone = sorted(first["test"])[:2]
    here = [one for one in rows(0, 50) if one["id"] not in gone]
    without = ids(split(run, add(run, here, export="full")))
    standing = ledger(run).lookup(gone)
    back = ids(split(run, add(run, rows(0, 50))))

    assert without == {**first, "test": first["test"] - set(gone)}
    assert standing.deleted.all()
    assert {SPLITS[code] for code in standing.splits} == {"test"}
    assert back == first
    assert not ledger(run).deleted.any()


def test_the_files_say_when_a_text_was_annotated(run):
    moment = dt.datetime(2024, 5, 6, tzinfo=dt.UTC)
    new = [{**one, "annotated_at": moment} for one in rows(0, 50)]
    parts = SplitData(split(run, add(run, new)))

    assert all(set(parts.table(name)["annotated_at"].to_pylist()) == {moment} for name in SPLITS)
    assert parts.table("test").schema == SCHEMA


def test_rare_labels_are_dropped_and_counted(run):
    new = [*rows(0, 49), row(99, "once")]
    handle = split(run, add(run, new), min_label_support=2)

    assert "once" not in SplitData(handle).space.names
    assert "t099" not in set.union(*ids(handle).values())
    statistics = storage.read_json(run.directory / "statistics.json")
    assert statistics["dropped_labels"] == ["once"]
    assert statistics["texts_left_out_with_them"] == 1


def test_a_new_text_that_repeats_texts_of_two_splits_is_left_out(run):
    first = ids(split(run, add(run, rows(0, 50))))
    one, other = (int(min(first[name])[1:]) for name in ("train", "test"))
    bridge = row(99, "a", text=f"{rows(one, one + 1)[0]['text']}", group=None)
    old = rows(0, 50)
    old[other]["group"] = bridge["group"] = "thread"
    handle = split(run, add(run, [*old, bridge]))

    assert storage.read_json(run.directory / "splits" / "quality.json")["bridges"] == ["t099"]
    assert ids(handle) == first
    assert not ledger(run).lookup(["t099"]).known.any()


def test_the_split_that_the_data_brings_is_honoured(run):
    new = [
        {**one, "split": "test" if number < 10 else "train"}
        for number, one in enumerate(rows(0, 50))
    ]
    found = ids(split(run, add(run, new)))

    assert found["test"] == {f"t{number:03}" for number in range(10)}
    assert len(found["validation"]) > 0


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ([row(n, "a") for n in range(40)], "the same one label"),
        ([row(n) for n in range(40)], "none of the 40 texts has a label"),
        (rows(0, 12), "at least 30"),
    ],
)
def test_what_cannot_be_trained_on_never_reaches_the_ledger(run, new, why):
    with pytest.raises(DataError, match=why):
        split(run, add(run, new))

    assert len(ledger(run)) == 0
    assert not (run.directory / "splits").exists()


def test_splits_that_break_their_contract_never_reach_the_ledger(run, monkeypatch):
    dataset = add(run, rows(0, 50))

    class Broken:
        def require(self):
            raise DataError("the splits break their contract")

    monkeypatch.setattr(tasks.split, "check_splits", lambda *_, **__: Broken())
    with pytest.raises(DataError, match="contract"):
        split(run, dataset)

    assert len(ledger(run)) == 0


def test_left_out_texts_are_kept_for_the_leak_check(run):
    handle = split(run, add(run, rows(0, 50)))

    left_out = pq.read_table(handle.directory / "left_out.parquet")
    assert left_out.column_names == ["id", "text", "unit"]
    assert left_out.num_rows == 0
