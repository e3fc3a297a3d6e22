"""What housekeeping removes; and what it must never remove, however old it is."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import socket
import subprocess
import sys
import uuid

import pyarrow as pa
import pytest

from longtail import mirror, storage
from longtail.annotations.schema import ANNOTATIONS
from longtail.config import PublishSettings, RetentionSettings
from longtail.dataset import DatasetStore
from longtail.errors import ConfigError, StoreError
from longtail.mirror import open_mirror
from longtail.mirror_paths import VARIABLE
from tasks import housekeeping, pruned_runs
from tasks.handles import RunHandle
from tasks.housekeeping import House, keep_house
from tasks.inbox_state import WatchState
from tasks.promotion import INTENT, Promotion, Promotions, timestamp
from tasks.pruned_runs import PRUNED, prune_run, pruned_sentence, require_whole
from tasks.publishing import open_promotions
from tasks.registry import MICRO_F1_TAG, Registry
from tasks.stages import TIMES

NOW = dt.datetime(2026, 11, 23, 6, 0, tzinfo=dt.UTC)
LEAST = RetentionSettings(runs=1, datasets=2, versions=2)
KEPT = ("report.html", "metrics.json", "account.json", "audit.html", "config.json", "stages.jsonl",
        "splits/quality.json", "arms/candidate/arm.json")  # fmt: skip
HEAVY = ("arms/candidate/test.parquet", "arms/candidate/bundle/model.safetensors",
         "arms/linear/model/model.bin", "splits/train.parquet", "data_docs/index.html",
         "quarantine.parquet", ".ingest/accepted.parquet")  # fmt: skip


@pytest.fixture
def run(store_directory):
    directory = store_directory / "tickets" / "runs" / "20261123T060000Z-ffff"
    directory.mkdir(parents=True)
    return RunHandle(
        id=directory.name, name="tickets", directory=directory, store=store_directory,
        started_at="now",
    )  # fmt: skip


@pytest.fixture
def earlier(run):
    """Makes an earlier run of the day given, with everything that a run leaves."""

    def make(day, *, verdict=True, process=None):
        directory = run.directory.with_name(f"202610{day:02d}T060000Z-aaaa")
        for name in (*KEPT, *HEAVY, *(["verdict.json"] if verdict else [])):
            storage.write_text(directory / name, "{}")
        if process is not None:
            storage.write_json(directory / "process.json", process)
        return directory

    return make


def house(run, retention=LEAST, now=NOW):
    return keep_house.fn(run, retention, PublishSettings(), now)


def files(directory):
    return sorted(path.relative_to(directory).as_posix()
                  for path in directory.rglob("*") if path.is_file())  # fmt: skip


# ── runs ─────────────────────────────────────────────────────────────────────────────────────


def test_old_runs_keep_what_tells_their_story(run, earlier):
    old, last = earlier(1), earlier(2)

    assert house(run)["runs"] == 1

    assert files(old) == sorted([*KEPT, "verdict.json", PRUNED])
    assert files(last) == sorted([*KEPT, *HEAVY, "verdict.json"])
    assert set(storage.read_json(old / PRUNED)["removed"]) >= {
        "arms/candidate/bundle", "arms/candidate/test.parquet", "data_docs"
    }  # fmt: skip
    assert "housekeeping" in (run.directory / TIMES).read_text()


def test_a_second_housekeeping_finds_nothing_to_do(run, earlier):
    old, _ = earlier(1), earlier(2)
    house(run)
    note = (old / PRUNED).read_text()

    assert not any(house(run).values())
    assert (old / PRUNED).read_text() == note


def test_crashed_runs_do_not_push_out_a_candidate_that_may_be_promoted(run, earlier):
    blocked = earlier(1)
    crashed = [earlier(day, verdict=False) for day in (2, 3, 4)]

    house(run, RetentionSettings(runs=2))

    assert pruned_sentence(blocked) is None
    assert [pruned_sentence(one) is None for one in crashed] == [False, False, True]


def test_what_a_process_or_a_person_needs_stays(run, earlier):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as alive:
        here = {"pid": alive.pid, "host": socket.gethostname()}
        running = earlier(1, verdict=False, process=here)
        elsewhere = earlier(2, verdict=False, process={"pid": 1, "host": "another"})
        waiting = earlier(3, verdict=False)
        storage.write_json(waiting / "pending.json", {"flow_run": "suspended"})
        for day in (4, 5):
            earlier(day, verdict=False)
        os.utime(elsewhere / "process.json", (NOW.timestamp(), NOW.timestamp()))

        house(run)
        assert [pruned_sentence(one) for one in (running, elsewhere, waiting)] == [None] * 3
        alive.kill()
    house(run, now=NOW + dt.timedelta(days=8))
    assert [pruned_sentence(one) is None for one in (running, elsewhere, waiting)] == [
        False, False, True
    ]  # fmt: skip


def test_verdicts_of_the_command_line_do_not_wait_in_ever_more_runs(run, earlier):
    waiting = [earlier(day, verdict=False) for day in (1, 2, 3)]
    for one in waiting:
        storage.write_json(one / "pending.json", {"flow_run": None})

    house(run, RetentionSettings(runs=2))
    assert [pruned_sentence(one) is None for one in waiting] == [False, False, True]


def test_a_kill_half_way_leaves_a_run_that_says_so_and_is_finished(run, earlier, monkeypatch):
    old, _ = earlier(1), earlier(2)
    removed = []

    def dies(path):
        if len(removed) == 3:
            raise KeyboardInterrupt
        removed.append(path)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    with monkeypatch.context() as patched:
        patched.setattr(pruned_runs, "remove", dies)
        with pytest.raises(KeyboardInterrupt):
            prune_run(old, NOW)
    with pytest.raises(ConfigError, match="removed on 2026-11-23"):
        require_whole(old)

    house(run)
    assert files(old) == sorted([*KEPT, "verdict.json", PRUNED])
    assert "data_docs" in storage.read_json(old / PRUNED)["removed"]


# ── data set ─────────────────────────────────────────────────────────────────────────────────


def rows(*names):
    row = dict.fromkeys(ANNOTATIONS.names)
    return pa.Table.from_pylist(
        [{**row, "id": name, "text": f"About {name}", "labels": ["a"]} for name in names],
        schema=ANNOTATIONS,
    )


@pytest.fixture
def dataset(run):
    store = DatasetStore(run.model_store / "dataset")
    for name in "abcde":
        store.upsert(rows(name), merge_duplicates=True)
    return store


def test_the_current_version_and_the_one_before_stay(run, dataset):
    assert house(run)["versions of the data set"] == 3

    assert dataset.read()["id"].to_pylist() == list("abcde")
    assert dataset.read(4).num_rows == 4
    with pytest.raises(StoreError, match=r"version 3 of the data set is missing.*retention"):
        dataset.read(3)
    assert dataset.prune(1) == []  # never fewer than two
    assert dataset.upsert(rows("f"), merge_duplicates=True).version.version == 6


def test_no_version_goes_while_another_run_may_read_it(run, dataset, earlier):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as alive:
        earlier(1, verdict=False, process={"pid": alive.pid, "host": socket.gethostname()})
        assert house(run)["versions of the data set"] == 0
        assert dataset.read(1).num_rows == 1
        alive.kill()
    assert house(run)["versions of the data set"] == 3


def test_a_verdict_that_waits_for_ever_keeps_no_version(run, dataset, earlier):
    storage.write_json(earlier(1, verdict=False) / "pending.json", {})
    assert house(run)["versions of the data set"] == 3


def test_a_number_that_another_process_has_by_now_keeps_nothing(run, dataset, earlier):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        process = {"pid": stranger.pid, "host": socket.gethostname(), "started": "7"}
        earlier(1, verdict=False, process=process)
        assert house(run)["versions of the data set"] == 3
        stranger.kill()


# ── versions of the model ────────────────────────────────────────────────────────────────────


@pytest.fixture
def weeks(run, mlflow_store, make_bundle):
    """Promotes a version a week; gives the promotions."""
    registry = Registry(mlflow_store, "tickets")
    promotions = Promotions(registry, run.model_store)

    def make(*scores):
        champion = promotions.champion()
        before = None if champion is None else champion.number
        for week, score in enumerate(scores):
            version = registry.register(
                make_bundle(f"week {before}-{week}"), None, {MICRO_F1_TAG: score}
            )
            at = timestamp(NOW - dt.timedelta(weeks=len(scores) - week))
            entry = Promotion(
                kind="promote", at=at, by="test", from_version=before,
                to_version=version.number, micro_f1=score,
            )  # fmt: skip
            promotions.promote(version, entry)
            registry.download(version, run.model_store / "bundles" / f"version-{version.number}")
            before = version.number
        return promotions

    return make


def pruned(promotions):
    return [version.number for version in promotions.registry.versions() if version.pruned]


def test_champion_previous_best_and_its_heir_are_served_for_ever(run, weeks):
    promotions = weeks(0.5, 0.9, 0.6, 0.8, 0.7, 0.55, 0.6, 0.5, 0.55)

    assert house(run)["versions of the model"] == 5

    assert pruned(promotions) == [1, 3, 5, 6, 7]
    for number in (2, 4, 8, 9):  # the best, who is best when it is forgotten, and the last two
        promotions.registry.verify(promotions.registry.version(number))
    assert sorted(path.name for path in (run.model_store / "bundles").glob("version-*")) == [
        "version-2", "version-8", "version-9"
    ]  # fmt: skip
    assert promotions.best(NOW).number == 2
    later = NOW + dt.timedelta(days=365 - 8 * 7 + 8)
    assert promotions.best(later).number == 4
    assert len(promotions.log()) == 9
    assert not any(house(run).values())


def test_a_pruned_version_is_refused_in_a_sentence(run, weeks, tmp_path):
    promotions = weeks(0.5, 0.6, 0.7, 0.8)
    house(run)

    with pytest.raises(StoreError, match=r"version 1: its bundle was removed on 2026-11-23"):
        promotions.rollback("ann", "why", 1, check=lambda _: None)
    with pytest.raises(StoreError, match="choose a later version"):
        promotions.registry.download(promotions.registry.version(1), tmp_path / "copy")
    assert promotions.champion().number == 4
    assert promotions.rollback("ann", "why", check=lambda _: None).to_version == 3


def test_a_version_pruned_between_check_and_rollback_does_not_go_live(run, weeks):
    promotions = weeks(0.5, 0.6, 0.7, 0.8)
    with pytest.raises(StoreError, match="was removed"):
        promotions.rollback("ann", "why", 1, check=lambda _: house(run) and None)
    assert promotions.champion().number == 4


def killed(*_):
    raise KeyboardInterrupt


def test_a_kill_between_mark_and_removal_is_finished_next_time(run, weeks, monkeypatch):
    promotions = weeks(0.5, 0.6, 0.7)
    with monkeypatch.context() as patched:
        patched.setattr(Registry, "_remove_source", killed)
        with pytest.raises(KeyboardInterrupt):
            house(run)
    assert pruned(promotions) == [1]
    source = promotions.registry._local_source(promotions.registry.version(1))
    assert source.is_dir()

    house(run)
    assert not source.exists()


def test_nothing_goes_while_a_promotion_is_half_done(run, weeks):
    promotions = weeks(0.5, 0.6, 0.7, 0.8)
    storage.write_json(promotions.directory / INTENT, {})
    assert house(run)["versions of the model"] == 0
    assert pruned(promotions) == []


def test_the_same_bundle_comes_back_as_a_version_that_has_it(run, weeks, make_bundle):
    promotions = weeks(0.5, 0.6, 0.7)
    first = promotions.registry.version(1)
    house(run)

    again = promotions.registry.register(make_bundle("week None-0"), first.run_id, {})
    assert again.number == 4
    promotions.registry.verify(again)
    house(run)
    promotions.registry.verify(again)  # though version 1, which is pruned, has the same source


def test_uploads_without_a_version_go_after_a_day(run, weeks, mlflow_store):
    weeks(0.5)
    orphan = mlflow_store.artifact_root / "0123" / "artifacts" / "bundle"
    storage.write_text(orphan / "model.safetensors", "x")
    assert house(run, now=dt.datetime.now(dt.UTC))["uploads without a version"] == 0
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=2)
    assert house(run, now=later)["uploads without a version"] == 1
    assert not orphan.exists()


# ── leftovers ────────────────────────────────────────────────────────────────────────────────


def test_leftovers_go_when_nobody_can_be_writing_them(run):
    store, now = run.store, dt.datetime.now(dt.UTC)
    names = [
        run.model_store / "dataset" / "versions" / ".000002.0a.staging" / "texts.parquet",
        run.model_store / "bundles" / ".version-2.0a.download" / "model.safetensors",
        run.directory / f".verdict.json.{'0a' * 16}",
        store / ".mlflow.db.0a.new",
    ]
    for path in names:
        storage.write_text(path, "x")
    checkpoint = store / "cache" / "checkpoints" / "0abc" / "checkpoint-1" / "model"
    storage.write_text(checkpoint, "x")
    locks = [store / "tickets" / ".split.lock", store / ".mlflow.db.lock"]
    for lock in locks:
        lock.touch()

    assert house(run, now=now)["leftovers"] == 0
    assert house(run, now=now + dt.timedelta(days=2))["leftovers"] == 4
    assert not any(path.exists() for path in names)
    assert checkpoint.exists()
    assert house(run, now=now + dt.timedelta(days=15))["leftovers"] == 1
    assert not checkpoint.exists()
    assert all(lock.exists() for lock in locks)


def test_what_cannot_be_done_is_warned_of_and_the_rest_goes_on(run, earlier, dataset, caplog):
    old, _ = earlier(1), earlier(2)
    storage.write_json(dataset.root / "current.json", {"version": 77})

    done = house(run)

    assert "versions of the data set" not in done
    assert "Housekeeping could not look after old versions of the data set" in caplog.text
    assert pruned_sentence(old) is not None


# ── a store that workers share ───────────────────────────────────────────────────────────────


@pytest.fixture
def shared(s3_url, monkeypatch):
    """A run in the mirror of a shared store, whose registry has no model."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    store = open_mirror(s3_url)
    directory = store.root / "tickets" / "runs" / "20261123T060000Z-ffff"
    return RunHandle(
        id=directory.name, name="tickets", directory=directory, store=store.root, started_at="now"
    )


def test_runs_of_other_machines_are_pruned_in_a_shared_store(shared, s3_url, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "other"))
    other = open_mirror(s3_url)
    names = [f"202610{day:02d}T060000Z-aaaa" for day in (1, 2)]
    for name in names:
        directory = other.root / "tickets" / "runs" / name
        for file in (*KEPT, "arms/candidate/test.parquet"):
            storage.write_text(directory / file, "{}")
        storage.write_json(directory / "verdict.json", {"decision": "block"})
        mirror.share(directory)
    promotions = open_promotions(PublishSettings(), shared.store, "tickets")
    looked = House(shared, LEAST, promotions, NOW)

    assert housekeeping._prune_shared(looked) == 1
    assert housekeeping._prune_shared(looked) == 0  # not twice a day

    held = {run.name: files for run, files in other.runs("tickets").items()}
    assert held[names[0]] == {*KEPT, "verdict.json", PRUNED}
    assert held[names[1]] == {*KEPT, "verdict.json", "arms/candidate/test.parquet"}
    pruned = other.root / "tickets" / "runs" / names[0]
    mirror.fetch(pruned)
    assert not (pruned / "arms" / "candidate" / "test.parquet").exists()
    assert pruned_sentence(pruned) is not None


# ── inbox ────────────────────────────────────────────────────────────────────────────────────


def test_batches_that_are_in_the_data_set_go_and_those_that_are_not_stay(run):
    batches = [
        {
            "name": f"{number:06d}", "since": NOW, "files": ["a.jsonl"], "sources": ["a.jsonl"],
            "annotations": 1, "dataset": None, "status": status,
        }
        for number, status in enumerate(("taken", "closed", "taken", "taken"), 1)
    ]  # fmt: skip
    state = WatchState(identity=uuid.uuid4(), opened=4, batches=batches)
    storage.write_json(run.model_store / "watch.json", state.model_dump(mode="json"))
    folders = [run.model_store / "inbox" / batch.name for batch in state.batches]
    for folder in folders:
        storage.write_text(folder / "a.jsonl", "{}")

    assert house(run)["batches of the inbox"] == 2
    assert [folder.is_dir() for folder in folders] == [False, True, False, True]
