"""Results of stages on disk: whole or not there, bounded, and safe against other processes."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from longtail import storage
from longtail.stage_cache import StageCache

FILES = {"arm.json": "{}", "bundle/model.bin": "weights", "bundle/more/vocabulary.txt": "a b"}


@pytest.fixture
def cache(tmp_path) -> StageCache:
    return StageCache(tmp_path / "cache" / "stages")


@pytest.fixture
def made(tmp_path) -> Path:
    """What a stage has made in its run."""
    return write(tmp_path / "run", FILES)


def write(directory: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(content)
    return directory


def content(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): path.read_text()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def below(cache: StageCache) -> set[str]:
    """Every file and folder of the cache but its lock."""
    return {
        path.relative_to(cache.directory).as_posix()
        for path in cache.directory.glob("*/*")
    }  # fmt: skip


def test_what_was_kept_is_taken_into_another_directory(cache, made, tmp_path):
    assert cache.take("train-bce", "k1", tmp_path / "other") is None
    cache.keep("train-bce", "k1", made, run="r1")
    entry = cache.take("train-bce", "k1", tmp_path / "other")

    assert entry is not None
    assert (entry.stage, entry.key, entry.run) == ("train-bce", "k1", "r1")
    assert entry.size == sum(len(text) for text in FILES.values())
    assert content(tmp_path / "other") == FILES
    assert cache.take("train-bce", "k2", tmp_path / "other") is None
    assert cache.take("train-db", "k1", tmp_path / "other") is None


def test_files_of_the_same_names_are_replaced_and_others_stay(cache, made, tmp_path):
    target = write(tmp_path / "other", {"arm.json": "old", "config.json": "mine"})
    cache.keep("split", "k", made, run="r")
    cache.take("split", "k", target)

    assert content(target) == {**FILES, "config.json": "mine"}


def test_of_a_directory_with_other_files_only_those_of_the_stage_are_kept(cache, tmp_path):
    run = write(tmp_path / "run", {"run.json": "r", "splits/train": "t", "label_space.json": "l"})
    cache.keep("split", "k", run, run="r", files=["splits", "label_space.json", "not-there"])
    cache.take("split", "k", tmp_path / "other")

    assert content(tmp_path / "other") == {"splits/train": "t", "label_space.json": "l"}


def test_what_a_run_removes_or_replaces_afterwards_stays_in_the_cache(cache, made, tmp_path):
    cache.keep("ingest", "k", made, run="r")
    (made / "arm.json").unlink()
    storage.write_text(made / "bundle" / "model.bin", "tuned")
    cache.take("ingest", "k", tmp_path / "other")
    assert content(tmp_path / "other") == FILES

    (tmp_path / "other" / "arm.json").unlink()
    storage.write_text(tmp_path / "other" / "bundle" / "model.bin", "tuned")
    cache.take("ingest", "k", tmp_path / "third")
    assert content(tmp_path / "third") == FILES


@pytest.mark.parametrize("linked", [True, False], ids=["links", "copies"])
def test_without_links_files_are_copied(cache, made, tmp_path, monkeypatch, linked):
    if not linked:

        def refuse(*_):
            raise OSError(errno.EXDEV, "another file system")

        monkeypatch.setattr(storage.os, "link", refuse)
    cache.keep("split", "k", made, run="r")
    cache.take("split", "k", tmp_path / "other")

    assert content(tmp_path / "other") == FILES
    same = (made / "arm.json").samefile(tmp_path / "other" / "arm.json")
    assert same is linked


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "bundle" / "model.bin").write_text("weights?"),
        lambda entry: (entry / "arm.json").unlink(),
        lambda entry: (entry / "manifest.json").write_text("{"),
        lambda entry: (entry / "manifest.json").write_text("[]"),
        lambda entry: (entry / "manifest.json").write_text('{"files": {}}'),
    ],
    ids=["altered", "missing", "no JSON", "no manifest", "no run"],
)
def test_a_damaged_result_is_thrown_away_and_touches_nothing(
    cache, tmp_path, monkeypatch, caplog, damage: Callable[[Path], object]
):
    made = write(tmp_path / "run", FILES)
    cache.keep("split", "k", made, run="r")
    shutil.rmtree(made)  # linked files would be altered together
    damage(cache.directory / "split" / "k")
    target = write(tmp_path / "other", {"arm.json": "mine"})

    assert cache.take("split", "k", target) is None
    assert content(target) == {"arm.json": "mine"}
    assert "made anew" in caplog.text
    assert cache.entries() == []
    cache.keep("split", "k", write(tmp_path / "anew", FILES), run="r2")
    assert cache.take("split", "k", target) is not None


def test_what_was_used_least_recently_goes_first(tmp_path):
    cache = StageCache(tmp_path / "cache", max_bytes=25)
    for number in range(4):
        made = write(tmp_path / f"run{number}", {"file": "x" * 8})
        cache.keep("split", f"k{number}", made, run=f"r{number}")
        for age, entry in enumerate(reversed(cache.entries())):
            os.utime(entry.directory / "manifest.json", (1e9 - age, 1e9 - age))
        if number == 2:
            cache.take("split", "k0", tmp_path / "other")

    assert {entry.key for entry in cache.entries()} == {"k0", "k2", "k3"}
    assert sum(entry.size for entry in cache.entries()) <= 25


def test_one_result_larger_than_the_bound_is_not_kept(tmp_path):
    cache = StageCache(tmp_path / "cache", max_bytes=5)
    cache.keep("split", "k", write(tmp_path / "run", FILES), run="r")

    assert cache.entries() == []


def test_a_bound_of_nothing_keeps_and_finds_nothing(cache, made, tmp_path):
    cache.keep("split", "k", made, run="r")
    off = StageCache(cache.directory, max_bytes=0)
    off.keep("split", "other", made, run="r")

    assert off.take("split", "k", tmp_path / "other") is None
    assert [entry.key for entry in cache.entries()] == ["k"]
    unused = StageCache(tmp_path / "unused", max_bytes=0)
    unused.keep("split", "k", made, run="r")
    assert not (tmp_path / "unused").exists()


def test_clearing_by_stage_and_by_age(cache, made, tmp_path):
    for stage, key in (("split", "k1"), ("split", "k2"), ("ingest", "k1")):
        cache.keep(stage, key, made, run="r")
    week_ago = time.time() - 7 * 86_400
    os.utime(cache.directory / "split" / "k1" / "manifest.json", (week_ago, week_ago))

    assert [one.key for one in cache.clear(older_than_days=6)] == ["k1"]
    assert {one.stage for one in cache.clear("ingest")} == {"ingest"}
    assert [(one.stage, one.key) for one in cache.entries()] == [("split", "k2")]
    assert len(cache.clear()) == 1
    assert cache.entries() == []
    assert StageCache(tmp_path / "nowhere").clear() == []


def test_a_full_disk_is_a_warning_and_leaves_nothing(cache, made, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage, "link_or_copy", full)
    cache.keep("split", "k", made, run="r")

    assert "not kept" in caplog.text
    assert "No space left" in caplog.text
    assert cache.entries() == []
    assert below(cache) == set()


def test_a_full_disk_while_taking_over_leaves_the_result_where_it_is(
    cache, made, tmp_path, monkeypatch, caplog
):
    cache.keep("split", "k", made, run="r")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(storage, "link_or_copy", full)
        assert cache.take("split", "k", tmp_path / "other") is None
    assert "cannot be taken over" in caplog.text
    assert content(tmp_path / "other") == {}
    assert cache.take("split", "k", tmp_path / "other") is not None


def test_a_result_that_goes_while_it_is_taken_is_none(cache, made, tmp_path, monkeypatch):
    cache.keep("split", "k", made, run="r")
    place = storage.link_or_copy

    def trimmed(source, target):
        shutil.rmtree(cache.directory / "split" / "k", ignore_errors=True)
        place(source, target)

    monkeypatch.setattr(storage, "link_or_copy", trimmed)
    target = write(tmp_path / "other", {"arm.json": "mine"})

    assert cache.take("split", "k", target) is None
    assert content(target) == {"arm.json": "mine"}


# ── several processes ────────────────────────────────────────────────────────────────────────

SPAWN = multiprocessing.get_context("spawn")


def _keep_often(directory: Path, made: Path, times: int) -> None:
    cache = StageCache(directory, max_bytes=40)
    for number in range(times):
        cache.keep("split", f"k{number % 5}", made, run="r")


def _take_often(directory: Path, target: Path, times: int) -> None:
    cache = StageCache(directory)
    for number in range(times):
        entry = cache.take("split", f"k{number % 5}", target / str(number))
        found = content(target / str(number)) if (target / str(number)).exists() else {}
        if found != (FILES if entry else {}):
            os._exit(1)


def test_processes_that_keep_trim_and_take_at_once(cache, made, tmp_path):
    workers = [
        SPAWN.Process(target=_keep_often, args=(cache.directory, made, 20)),
        SPAWN.Process(target=_keep_often, args=(cache.directory, made, 20)),
        SPAWN.Process(target=_take_often, args=(cache.directory, tmp_path / "a", 60)),
        SPAWN.Process(target=_take_often, args=(cache.directory, tmp_path / "b", 60)),
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [worker.exitcode for worker in workers] == [0] * 4
    entries = cache.entries()
    assert 1 <= len(entries) <= 3
    assert below(cache) == {f"split/{entry.key}" for entry in entries}


def _keep_for_ever(directory: Path, made: Path, placed: int) -> None:
    place, done = storage.link_or_copy, []

    def stuck(source: Path, target: Path) -> None:
        if len(done) == placed:
            (directory / "stuck").touch()
            time.sleep(600)
        place(source, target)
        done.append(target)

    storage.link_or_copy = stuck
    StageCache(directory).keep("split", "k", made, run="killed")


@pytest.mark.parametrize("placed", range(len(FILES)))
def test_a_kill_while_keeping_leaves_no_result_and_no_rubbish(cache, made, tmp_path, placed):
    worker = SPAWN.Process(target=_keep_for_ever, args=(cache.directory, made, placed))
    worker.start()
    while not (cache.directory / "stuck").exists():
        time.sleep(0.01)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()

    assert len(below(cache)) == 1  # what the killed process was writing
    assert cache.entries() == []
    assert cache.take("split", "k", tmp_path / "other") is None
    cache.keep("split", "k", made, run="next")
    assert below(cache) == {"split/k"}
    assert [entry.run for entry in cache.entries()] == ["next"]
