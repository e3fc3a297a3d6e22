"""The one place that opens files: whole or not at all, and what is damaged is said."""

from __future__ import annotations

import errno
import math
import threading

import numpy as np
import pyarrow as pa
import pytest

from longtail import storage
from longtail.errors import StoreError


def names(directory):
    return sorted(path.name for path in directory.iterdir())


# ── files ────────────────────────────────────────────────────────────────────────────────────


def test_what_is_written_is_read_back(tmp_path):
    table = pa.table({"id": ["a", "b"], "labels": [["x"], []]})
    storage.write_text(tmp_path / "deep" / "er" / "t.txt", "Grüße\u2028")
    storage.write_json(tmp_path / "v.json", {"labels": ("ä", 1)})
    storage.write_parquet(tmp_path / "t.parquet", table)

    assert storage.read_text(tmp_path / "deep" / "er" / "t.txt") == "Grüße\u2028"
    assert storage.read_json(tmp_path / "v.json") == {"labels": ["ä", 1]}
    assert storage.read_parquet(tmp_path / "t.parquet").equals(table)
    assert storage.read_parquet(tmp_path / "t.parquet", ["id"]).column_names == ["id"]


def test_a_url_of_another_file_system_works_too():
    url = "memory://storage-test/v.json"
    storage.write_json(url, [1])

    assert storage.exists(url)
    assert storage.read_json(url) == [1]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "v.json"
    storage.write_json(path, "old")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(storage.os, "fsync", raising(full))

    with pytest.raises(OSError, match="No space left") as caught:
        storage.write_json(path, "new")
    assert caught.value.filename == str(path)
    assert storage.read_json(path) == "old"
    assert names(tmp_path) == ["v.json"]


def raising(error):
    def refuse(*_):
        raise error

    return refuse


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan"), -np.inf])
def test_json_has_no_numbers_that_are_none(tmp_path, value):
    storage.write_json(tmp_path / "v.json", {"f1": value, 3: [np.int64(4), np.float64(0.5), True]})

    assert storage.read_json(tmp_path / "v.json") == {"f1": None, "3": [4, 0.5, True]}


def test_damaged_files_are_named(tmp_path):
    for name in ("v.json", "t.parquet"):
        (tmp_path / name).write_text("{torn")

    with pytest.raises(StoreError, match=r"v\.json: not JSON .* damaged"):
        storage.read_json(tmp_path / "v.json")
    with pytest.raises(StoreError, match=r"t\.parquet: not a readable Parquet file"):
        storage.read_parquet(tmp_path / "t.parquet")


# ── committed directories ────────────────────────────────────────────────────────────────────


def commit(target, **files):
    with storage.committed_directory(target, {"about": "test"}) as staging:
        for name, text in files.items():
            (staging / name).write_text(text)


def test_a_committed_directory_lists_what_is_in_it(tmp_path):
    commit(tmp_path / "d", one="1", two="22")
    manifest = storage.verify_directory(tmp_path / "d")

    assert manifest["about"] == "test"
    assert {name: entry["bytes"] for name, entry in manifest["files"].items()} == {
        "one": 1, "two": 2
    }  # fmt: skip


def test_a_directory_appears_whole_or_not_at_all(tmp_path):
    def fill():
        with storage.committed_directory(tmp_path / "d") as staging:
            (staging / "one").write_text("1")
            assert not (tmp_path / "d").exists()
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        fill()
    assert names(tmp_path) == []


def test_a_new_directory_takes_the_place_of_the_old_one(tmp_path):
    commit(tmp_path / "d", one="1")
    commit(tmp_path / "d", two="2")

    assert names(tmp_path) == ["d"]
    assert names(tmp_path / "d") == [storage.MANIFEST, "two"]


def test_a_library_that_meets_a_full_disk_ends_in_an_oserror(tmp_path):
    """As safetensors and tokenizers say it."""
    told = RuntimeError("Error while serializing: I/O error: No space left (os error 28)")

    with (
        pytest.raises(OSError, match="No space left on device") as caught,
        storage.committed_directory(tmp_path / "d"),
    ):
        raise told
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "d"))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda at: (at / storage.MANIFEST).unlink(), "never finished"),
        (lambda at: (at / "one").unlink(), "one: listed in manifest.json but missing"),
        (lambda at: (at / "one").write_text("2"), "one: content differs"),
        (lambda at: (at / storage.MANIFEST).write_text("{"), "not JSON"),
    ],
)
def test_a_damaged_directory_is_found_out(tmp_path, damage, why):
    commit(tmp_path / "d", one="1")
    damage(tmp_path / "d")

    with pytest.raises(StoreError, match=why):
        storage.verify_directory(tmp_path / "d")


# ── locks and fingerprints ───────────────────────────────────────────────────────────────────


def test_a_lock_is_held_by_one_at_a_time_and_says_who_waits_in_vain(tmp_path):
    path, held, done = tmp_path / "d" / ".lock", threading.Event(), threading.Event()

    def hold():
        with storage.lock(path):
            held.set()
            done.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    try:
        with (
            pytest.raises(StoreError, match=r"locked by another run for more than 0\.1 s"),
            storage.lock(path, timeout=0.1),
        ):
            pass
    finally:
        done.set()
        holder.join()
    with storage.lock(path, timeout=0.1):
        pass


def test_a_log_gets_one_line_at_a_time(tmp_path):
    for line in ("one", "two\n"):
        storage.append_line(tmp_path / "deep" / "log", line)

    assert (tmp_path / "deep" / "log").read_text() == "one\ntwo\n"


def test_a_fingerprint_is_of_the_content_and_not_of_the_order_of_keys():
    assert storage.fingerprint({"a": 1, "b": 2}) == storage.fingerprint({"b": 2, "a": 1})
    assert storage.fingerprint([1, 2]) != storage.fingerprint([2, 1])
    assert storage.fingerprint("1") != storage.fingerprint(1)
    assert storage.fingerprint("a", "b") != storage.fingerprint("ab")
