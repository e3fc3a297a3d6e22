"""An export → accepted rows → the data set's next version, with the account of every row."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import tasks.ingest
from data_contracts.ingest import QuarantineError
from longtail import storage
from longtail.activations import ActivationCache
from longtail.config import DataSettings
from longtail.dataset import DatasetStore
from longtail.errors import ConfigError, EmptyExportError, StoreError
from tasks.handles import RunHandle
from tasks.ingest import current_dataset, ingest_export, update_dataset


@pytest.fixture
def shown(monkeypatch):
    """The artifacts that the task would show."""
    tables = {}
    monkeypatch.setattr(
        tasks.ingest, "publish_table", lambda key, rows, _: tables.update({key: rows})
    )
    return tables


@pytest.fixture
def run(tmp_path, shown):
    directory = tmp_path / "run"
    directory.mkdir()
    return RunHandle(
        id="r", name="desk", directory=directory, store=tmp_path / "store", started_at="now"
    )


@pytest.fixture
def export(tmp_path):
    def write(*rows):
        path = tmp_path / "export.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return write


def row(name, text, *labels):
    return {"id": name, "text": text, "labels": list(labels)}


GOOD = [row(f"t{n}", f"Ticket number {n}", "a" if n % 2 else "b") for n in range(30)]


def test_accepted_rows_become_the_first_version(run, export, shown):
    accepted = ingest_export.fn(run, export(*GOOD, row("bad", "", "a")), DataSettings())
    dataset = update_dataset.fn(run, accepted, DataSettings(), merge_duplicates=True)

    assert (dataset.version, dataset.n_texts, dataset.n_labels) == (1, 30, 2)
    account = storage.read_json(run.directory / "account.json")
    assert (account["rows_read"], account["accepted"], account["quarantined"]) == (31, 30, 1)
    assert account["dataset"]["added"] == 30
    assert shown[f"{run.name}-data-account"][0]["accepted"] == 30
    assert not accepted.exists()
    assert (run.directory / "data_docs" / "index.html").is_file()
    assert current_dataset.fn(run) == dataset


def test_too_many_bad_rows_stop_the_run_and_leave_what_they_were(run, export):
    bad = [row(f"b{n}", None, "a") for n in range(5)]

    with pytest.raises(QuarantineError, match=r"5 of 35 rows"):
        ingest_export.fn(run, export(*GOOD, *bad), DataSettings())

    quarantine = pq.read_table(run.directory / "quarantine.parquet").to_pylist()
    assert [one["position"] for one in quarantine] == [31, 32, 33, 34, 35]
    account = storage.read_json(run.directory / "account.json")
    assert (account["rows_read"], account["quarantined"]) == (35, 5)
    assert not (run.directory / "accepted.parquet").exists()
    assert DatasetStore(run.model_store / "dataset").current() is None


def test_the_same_export_again_changes_nothing(run, export):
    handles = [
        update_dataset.fn(
            run,
            ingest_export.fn(run, export(*GOOD), DataSettings()),
            DataSettings(),
            merge_duplicates=True,
        )
        for _ in range(2)
    ]

    assert handles[0] == handles[1]
    account = storage.read_json(run.directory / "account.json")
    assert account["dataset"] == {
        "added": 0, "changed": 0, "unchanged": 30, "merged": 0, "outdated": 0, "deleted": 0
    }  # fmt: skip


def test_a_full_export_deletes_what_it_lacks_but_not_what_was_set_aside(run, export):
    full = DataSettings(export="full", max_deleted=0.5)
    for rows in (GOOD, [*GOOD[:26], row("t26", "", "a")]):
        accepted = ingest_export.fn(run, export(*rows), full)
        dataset = update_dataset.fn(run, accepted, full, merge_duplicates=True)

    assert dataset.n_texts == 27
    account = storage.read_json(run.directory / "account.json")
    assert account["dataset"]["deleted"] == 3
    ids = DatasetStore(run.model_store / "dataset").read()["id"].to_pylist()
    assert "t26" in ids
    assert not (run.directory / "voices.parquet").exists()


@pytest.mark.parametrize("held", [False, True])
def test_the_activations_of_deleted_texts_are_purged(run, export, monkeypatch, caplog, held):
    full, purged = DataSettings(export="full", max_deleted=0.5), []

    def purge(_, texts):
        if held:
            raise StoreError("locked by another run")
        purged.append(list(texts))
        return len(texts)

    monkeypatch.setattr(ActivationCache, "purge", purge)
    for rows in (GOOD, GOOD[2:], GOOD[2:], GOOD[3:]):
        accepted = ingest_export.fn(run, export(*rows), full)
        update_dataset.fn(run, accepted, full, merge_duplicates=True)

    gone = [["Ticket number 0", "Ticket number 1"], ["Ticket number 2"]]
    assert purged == ([] if held else gone)
    assert ("2 deleted texts are still cached: locked by another run" in caplog.text) is held


def test_a_run_that_is_killed_before_it_purges_leaves_it_to_the_next(run, export, monkeypatch):
    full, purged = DataSettings(export="full", max_deleted=0.5), []

    def upsert(*rows):
        accepted = ingest_export.fn(run, export(*rows), full)
        update_dataset.fn(run, accepted, full, merge_duplicates=True)

    def dies(_, texts):
        raise KeyboardInterrupt

    upsert(*GOOD)
    monkeypatch.setattr(ActivationCache, "purge", dies)
    with pytest.raises(KeyboardInterrupt):
        upsert(*GOOD[2:])
    monkeypatch.setattr(ActivationCache, "purge", lambda _, texts: purged.append(texts) or 1)
    upsert(*GOOD[2:])
    upsert(*GOOD[2:])
    assert purged == [["Ticket number 0", "Ticket number 1"]]


def test_a_full_export_with_a_row_that_nobody_can_read_deletes_nothing(run, export):
    full = DataSettings(export="full", max_deleted=0.5)
    for rows in (GOOD, [*GOOD[:26], row(None, "Ticket number 26", "a")]):
        accepted = ingest_export.fn(run, export(*rows), full)
        dataset = update_dataset.fn(run, accepted, full, merge_duplicates=True)

    assert dataset.n_texts == 30
    account = storage.read_json(run.directory / "account.json")
    assert (account["quarantined"], account["dataset"]["deleted"]) == (1, 0)
    assert account["warnings"][-1].startswith("4 stored texts are not in this full export, but")


def test_what_annotators_said_is_kept_in_the_data_set(run, export):
    said = DataSettings(several_annotators="union")
    rows = [{**GOOD[0], "annotator": "ann"}, {**GOOD[0], "annotator": "bob", "labels": ["a"]}]
    accepted = ingest_export.fn(run, export(*rows, *GOOD[1:]), said)
    update_dataset.fn(run, accepted, said, merge_duplicates=True)

    store = DatasetStore(run.model_store / "dataset")
    assert store.read_voices()["annotator"].to_pylist() == ["ann", "bob"]
    assert store.read().to_pylist()[0]["labels"] == ["a", "b"]
    assert storage.read_json(run.directory / "account.json")["merged"] == 1


def test_skipped_rows_are_told_with_their_reasons(run, export, caplog):
    tasks_ = [
        {"id": n, "data": {"text": f"ticket {n}"}, "annotations": [
            {"id": n, "was_cancelled": n == 2, "result": [] if n == 2 else [
                {"type": "choices", "from_name": "c", "to_name": "t",
                 "value": {"choices": ["a"]}}]}]}
        for n in range(3)
    ]  # fmt: skip
    path = export()
    Path(path).write_text(json.dumps(tasks_))
    with caplog.at_level("INFO", logger="tasks.ingest"):
        ingest_export.fn(run, path, DataSettings(format="label-studio"))

    account = storage.read_json(run.directory / "account.json")
    assert account["skipped"] == 1
    assert sum(account["skipped_reasons"].values()) == 1
    assert "1 rows skipped: cancelled" in caplog.text
    assert pq.read_table(run.directory / "skipped.parquet")["reason"].to_pylist() == list(
        account["skipped_reasons"]
    )


def test_without_a_data_set_there_is_nothing_to_retrain_on(run):
    with pytest.raises(ConfigError, match=r"no data set of the name 'desk'; bring one with --data"):
        current_dataset.fn(run)


def test_a_week_without_rows_leaves_the_data_set_and_says_so(run, export):
    update_dataset.fn(
        run, ingest_export.fn(run, export(*GOOD), DataSettings()), DataSettings(),
        merge_duplicates=True,
    )  # fmt: skip

    accepted = ingest_export.fn(run, export(), DataSettings())
    dataset = update_dataset.fn(run, accepted, DataSettings(), merge_duplicates=True)

    assert (dataset.version, dataset.n_texts) == (1, 30)
    account = storage.read_json(run.directory / "account.json")
    assert account["rows_read"] == 0
    assert "not a single row; the data set stays as it is" in account["warnings"][-1]


@pytest.mark.parametrize("settings", [DataSettings(), DataSettings(export="full")])
def test_neither_a_first_nor_a_full_export_may_be_without_rows(settings, run, export):
    if settings.export == "full":
        first = ingest_export.fn(run, export(*GOOD), DataSettings())
        update_dataset.fn(run, first, DataSettings(), merge_duplicates=True)

    with pytest.raises(EmptyExportError):
        ingest_export.fn(run, export(), settings)
