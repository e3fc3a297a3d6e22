"""A store that several workers share: whole, exclusive, and lost by none of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from longtail import lease, mirror, storage
from longtail.bucket import Bucket, OutrunError
from longtail.errors import ConfigError, StoreError
from longtail.lease import Lease
from longtail.mirror_paths import VARIABLE, directory_of
from tasks import inbox_state
from tasks.journal import Journal

ROOT = Path(__file__).parents[2]
NAME = "tickets"


@pytest.fixture
def machine(s3_url, tmp_path, monkeypatch):
    """Opens the store's mirror on a machine of this name."""

    def open_on(name):
        monkeypatch.setenv(VARIABLE, str(tmp_path / name))
        return mirror.open_mirror(s3_url)

    return open_on


@pytest.fixture
def quick(monkeypatch):
    """Leases that end soon."""
    monkeypatch.setattr(lease, "SECONDS", 1.0)


def write(store, path, text="text"):
    """What a task does: change what persists while holding its lock."""
    target = store.root / NAME / path
    with storage.lock(target.parent / ".lock"):
        storage.write_text(target, text)


def read(store, path):
    mirror.fetch(store.root / NAME)
    target = store.root / NAME / path
    return target.read_text() if target.is_file() else None


def block(store, lock, steps):
    """Under a lock: writes, flushes and, at None, a failure."""
    with storage.lock(store.root / NAME / lock):
        for step in steps:
            if step is None:
                raise ZeroDivisionError
            if isinstance(step, tuple):
                storage.write_text(store.root / NAME / step[0], step[1])
            else:
                storage.flush(store.root / NAME / step)


def overtaken(slow, other):
    """One worker writes, and while it holds the lock another one does."""
    with storage.lock(slow.root / NAME / "dataset" / ".lock"):
        storage.write_text(slow.root / NAME / "dataset" / "texts", "of the slow one")
        write(other, "dataset/texts", "of the other")


def manifest(store, scope="dataset"):
    found = store.bucket.read(f"{NAME}/{scope}/manifest.json")
    return None if found is None else json.loads(found.data)


def fail(*_, **__):
    raise StoreError("gone")


# ── what is shared ───────────────────────────────────────────────────────────────────────────


def test_what_one_machine_commits_another_reads(machine):
    here, there = machine("here"), machine("there")
    write(here, "dataset/versions/000001/texts.parquet", "one")
    write(here, "dataset/current.json", "1")
    write(here, "last-judged.json", "{}")

    assert here.root != there.root
    assert read(there, "dataset/versions/000001/texts.parquet") == "one"
    assert read(there, "dataset/current.json") == "1"
    assert read(there, "last-judged.json") == "{}"
    assert manifest(here)["generation"] == 2


def test_that_a_batch_was_taken_is_known_everywhere(machine):
    here, there = machine("here"), machine("there")
    batch = here.root / NAME / inbox_state.INBOX / "000001"
    batch.mkdir(parents=True)
    inbox_state.mark_taken(here.root / NAME, str(batch), "fingerprint")
    mirror.fetch(there.root / NAME)
    assert (
        inbox_state.directory_of(there.root / NAME, "000001").joinpath(inbox_state.TAKEN).is_file()
    )


def test_what_is_removed_goes_everywhere_and_leaves_no_empty_directory(machine):
    here, there = machine("here"), machine("there")
    write(here, "ledger/000000/entries.parquet")
    write(here, "ledger/000001/entries.parquet")
    assert read(there, "ledger/000001/entries.parquet") == "text"

    with storage.lock(here.root / NAME / "ledger" / ".lock"):
        (here.root / NAME / "ledger" / "000001" / "entries.parquet").unlink()
    assert read(there, "ledger/000001/entries.parquet") is None
    assert [path.name for path in (there.root / NAME / "ledger").iterdir()] == ["000000"]


def test_nothing_new_writes_no_manifest(machine):
    here = machine("here")
    write(here, "dataset/current.json", "1")
    write(here, "dataset/current.json", "1")

    assert manifest(here)["generation"] == 1


@pytest.mark.parametrize("path", ["bundles/version-1/x", "runs/20260101T000000Z-00/x"])
def test_what_each_machine_has_for_itself_is_not_shared(machine, path):
    here = machine("here")
    write(here, path)

    assert not [*here.bucket.list()]


def test_a_journal_that_ends_in_the_middle_of_a_block_is_no_block_of_its_own(machine):
    """A journal's lock inside of the promotion's: one lease, one commit."""
    here = machine("here")
    with storage.lock(here.root / NAME / ".promotion.lock"):
        storage.write_text(here.root / NAME / "intent.json", "{}")
        Journal(here.root / NAME / "promotions.jsonl").append({"to": 1})
        assert manifest(here, "journals") is None

    assert {*manifest(here, "journals")["files"]} == {"intent.json", "promotions.jsonl"}


def test_a_store_of_this_machine_alone_is_never_asked_for_more(tmp_path):
    path = tmp_path / NAME / "dataset" / ".lock"
    with storage.lock(path):
        storage.flush(path)
    mirror.fetch(tmp_path / NAME)
    mirror.share(tmp_path / NAME / "runs" / "1")

    assert [one.name for one in (tmp_path / NAME).iterdir()] == ["dataset"]


# ── the commit ───────────────────────────────────────────────────────────────────────────────


def test_the_manifest_is_written_last(machine, monkeypatch):
    here, order = machine("here"), []
    monkeypatch.setattr(Bucket, "upload", spied(Bucket.upload, order, lambda _, key: key))
    monkeypatch.setattr(Bucket, "write", spied(Bucket.write, order, lambda key, *_: key))
    write(here, "dataset/texts", "one")

    kinds = [key.split("/")[0] if "objects" in key else key.rpartition("/")[2] for key in order]
    assert kinds == ["lease.json", "objects", "manifest.json", "lease.json"]


def spied(method, calls, told):
    def call(self, *arguments):
        calls.append(told(*arguments))
        return method(self, *arguments)

    return call


def test_a_worker_that_dies_before_the_manifest_leaves_the_old_state_whole(machine, monkeypatch):
    here, there = machine("here"), machine("there")
    write(here, "dataset/texts", "old")
    real = Bucket.write
    with monkeypatch.context() as patch:
        patch.setattr(
            Bucket, "write",
            lambda self, key, *more: fail() if "manifest" in key else real(self, key, *more),
        )  # fmt: skip
        with pytest.raises(StoreError, match="gone"):
            write(here, "dataset/texts", "new")

    assert len([*here.bucket.list("objects/")]) == 2  # the new one is there, and in no manifest
    assert read(there, "dataset/texts") == "old"
    assert read(here, "dataset/texts") == "old"


def test_a_block_that_raises_commits_nothing_and_the_next_pull_undoes_it(machine):
    here = machine("here")
    write(here, "dataset/texts", "old")
    with pytest.raises(ZeroDivisionError):
        block(here, "dataset/.lock", [("dataset/texts", "new"), ("dataset/more", "new"), None])

    assert read(here, "dataset/texts") == "old"
    assert read(here, "dataset/more") is None


def test_a_flush_commits_in_the_middle_of_a_block(machine):
    """As the intent of a promotion, which must outlive the machine that wrote it."""
    here, there = machine("here"), machine("there")
    path = ".promotion.lock"
    with pytest.raises(ZeroDivisionError):
        block(here, path, [("intent.json", "{}"), path, ("log.json", "{}"), None])

    assert read(there, "intent.json") == "{}"
    assert read(there, "log.json") is None


def test_a_flush_without_the_lock_is_refused(machine):
    here = machine("here")
    with pytest.raises(StoreError, match="nobody holds its lock"):
        storage.flush(here.root / NAME / ".promotion.lock")


def test_a_damaged_object_is_named_and_nothing_of_the_pull_appears(machine):
    here, there = machine("here"), machine("there")
    write(here, "dataset/texts", "one")
    write(here, "dataset/voices", "two")
    name = manifest(here)["files"]["dataset/texts"]["object"]
    found = here.bucket.read(f"objects/{name}")
    here.bucket.write(f"objects/{name}", b"0ne", found.etag)

    with pytest.raises(StoreError, match=rf"objects/{name}: damaged.*dataset/texts"):
        read(there, "dataset/texts")
    assert not (there.root / NAME / "dataset").exists()


def test_a_pull_that_is_overtaken_fetches_the_new_state(machine, monkeypatch):
    """Another worker commits, and the objects of the state before are cleared away meanwhile."""
    here, there = machine("here"), machine("there")
    write(here, "dataset/texts", "old")
    download, calls = Bucket.download, []

    def overtake(self, key, path):
        if not calls:
            calls.append(key)
            monkeypatch.setattr(Bucket, "download", download)
            write(here, "dataset/texts", "new")
            self.delete([key])
        download(self, key, path)

    monkeypatch.setattr(Bucket, "download", overtake)

    assert read(there, "dataset/texts") == "new"
    assert len(calls) == 1


def test_a_manifest_that_is_gone_does_not_empty_the_mirror(machine):
    here = machine("here")
    write(here, "dataset/texts", "one")
    here.bucket.delete([f"{NAME}/dataset/manifest.json"])

    with pytest.raises(StoreError, match="is gone, though it was there; restore it"):
        read(here, "dataset/texts")
    assert (here.root / NAME / "dataset" / "texts").read_text() == "one"


@pytest.mark.parametrize("content", ["{", '{"format": 2}', "[]"])
def test_a_manifest_that_cannot_be_read_is_named(machine, content):
    here = machine("here")
    here.bucket.write(f"{NAME}/dataset/manifest.json", content.encode(), None)

    with pytest.raises(StoreError, match=r"dataset/manifest\.json: cannot be read"):
        read(here, "dataset/texts")


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "a/../../outside"])
def test_a_manifest_cannot_write_outside_of_the_mirror(machine, path):
    here = machine("here")
    entry = {"object": "x", "sha256": "0", "bytes": 1}
    content = {"format": 1, "generation": 1, "files": {path: entry}}
    here.bucket.write(f"{NAME}/dataset/manifest.json", json.dumps(content).encode(), None)

    with pytest.raises(StoreError, match="cannot be read"):
        read(here, "dataset/texts")


def test_a_file_written_over_with_other_content_is_committed(machine):
    """Size, time and inode tell whether a file is hashed anew; an append changes the size."""
    here, there = machine("here"), machine("there")
    write(here, "dataset/texts", "one")
    with storage.lock(here.root / NAME / "dataset" / ".lock"):
        storage.append_line(here.root / NAME / "dataset" / "texts", "two")

    assert read(there, "dataset/texts") == "onetwo\n"


# ── the lease ────────────────────────────────────────────────────────────────────────────────


def test_a_lease_is_held_by_one_and_says_who_holds_it(s3_url):
    bucket = Bucket(s3_url)
    with (
        Lease(bucket, "lease.json", timeout=1),
        pytest.raises(StoreError, match=rf"held by .*process {os.getpid()}, since"),
        Lease(bucket, "lease.json", timeout=0.2),
    ):
        pass
    with Lease(bucket, "lease.json", timeout=0.2):
        pass


def test_a_lease_that_is_renewed_is_not_taken_over(s3_url):
    bucket = Bucket(s3_url)
    with (
        Lease(bucket, "lease.json", timeout=1, seconds=1.0) as held,
        pytest.raises(StoreError, match="held by"),
        Lease(bucket, "lease.json", timeout=4, seconds=1.0),
    ):
        pass
    held.check()


def dead(bucket, monkeypatch, seconds=1.0):
    """A lease whose holder hangs: it neither renews nor gives back."""
    monkeypatch.setattr(Lease, "_renew", lambda self: None)
    held = Lease(bucket, "lease.json", timeout=1, seconds=seconds)
    held.__enter__()
    return held


def test_the_lease_of_a_dead_worker_is_taken_over_and_said(s3_url, monkeypatch, caplog):
    bucket = Bucket(s3_url)
    held = dead(bucket, monkeypatch)
    started = time.monotonic()
    with Lease(bucket, "lease.json", timeout=10, seconds=1.0):
        assert 1.0 < time.monotonic() - started < 8.0
        with pytest.raises(StoreError, match="could not renew its lease in time"):
            held.check()
    assert "taken over from" in caplog.text


def test_a_lease_that_was_taken_over_is_not_given_back(s3_url, monkeypatch, caplog):
    bucket = Bucket(s3_url)
    held = dead(bucket, monkeypatch)
    with Lease(bucket, "lease.json", timeout=10, seconds=60.0):
        held.__exit__(None, None, None)
        with (
            pytest.raises(StoreError, match="held by"),
            Lease(bucket, "lease.json", timeout=0.2),
        ):
            pass


def test_a_worker_that_hung_too_long_commits_nothing(machine, quick, monkeypatch):
    """Another has taken the lease and committed: the one that wakes up is refused."""
    here, there = machine("here"), machine("there")
    write(here, "dataset/texts", "old")
    with monkeypatch.context() as patch:
        patch.setattr(Lease, "_renew", lambda self: None)
        with pytest.raises(StoreError, match="could not renew its lease"):
            overtaken(here, there)

    assert read(here, "dataset/texts") == read(there, "dataset/texts") == "of the other"


def test_a_commit_over_another_ones_is_refused_even_with_a_lease(machine, monkeypatch):
    """Were the lease to fail, the manifest's etag still lets nobody overwrite anybody."""
    here, there = machine("here"), machine("there")
    write(here, "dataset/texts", "old")
    monkeypatch.setattr(Lease, "_expired", lambda *_: True)
    monkeypatch.setattr(Lease, "check", lambda self: None)
    with pytest.raises(StoreError, match="another worker has committed since"):
        overtaken(here, there)

    assert read(there, "dataset/texts") == "of the other"


def worker(url, home, count, seconds=60.0):
    """A process on a machine of its own that appends lines and prints which are committed."""
    script = str(Path(__file__).with_name("appending_worker.py"))
    return subprocess.Popen(
        [sys.executable, script, url, str(home), str(count), str(seconds)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def numbers(store, home):
    """The lines of one worker in the shared journal."""
    mirror.fetch(store.root / NAME)
    entries = Journal(store.root / NAME / "looks.jsonl").entries()
    return [entry["number"] for entry in entries if entry["worker"] == str(home)]


@pytest.mark.slow
def test_two_processes_on_two_machines_lose_no_line(machine, s3_url, tmp_path):
    here, homes, count = machine("here"), (tmp_path / "one", tmp_path / "two"), 20
    workers = [worker(s3_url, home, count) for home in homes]
    for process in workers:
        process.communicate(timeout=240)
        assert process.returncode == 0

    for home in homes:
        assert numbers(here, home) == [*range(count)]


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing_it_had_committed(machine, s3_url, tmp_path):
    """At moments that nobody chose: the next one takes the lease over and goes on."""
    here, random = machine("here"), Random(5)
    for round_ in range(4):
        home = tmp_path / f"killed-{round_}"
        process = worker(s3_url, home, 1000, seconds=1.0)
        for _ in range(random.randint(1, 6)):
            said = process.stdout.readline()
        time.sleep(random.uniform(0.0, 0.05))
        process.kill()
        rest, _ = process.communicate(timeout=60)
        committed = int((said + rest).split()[-1])

        found = numbers(here, home)
        assert found == [*range(len(found))]
        assert len(found) in {committed + 1, committed + 2}  # the last may not have been printed

    after = worker(s3_url, tmp_path / "after", 2, seconds=1.0)
    after.communicate(timeout=60)
    assert after.returncode == 0
    assert numbers(here, tmp_path / "after") == [0, 1]


# ── runs ─────────────────────────────────────────────────────────────────────────────────────


def run_of(store, decision):
    directory = store.root / NAME / "runs" / "20260101T000000Z-00"
    storage.write_json(directory / "verdict.json", {"decision": decision})
    for arm in ("bce", "candidate"):
        storage.write_text(directory / "arms" / arm / "test.parquet", arm)
        storage.write_text(directory / "arms" / arm / "bundle" / "model.safetensors", arm)
    return directory


@pytest.mark.parametrize(("decision", "bundles"), [("promote", []), ("block", ["candidate"])])
def test_a_run_is_shared_without_the_bundles_that_nobody_needs(machine, decision, bundles):
    here, there = machine("here"), machine("there")
    mirror.share(run_of(here, decision))
    shared = there.root / NAME / "runs" / "20260101T000000Z-00"
    mirror.fetch(shared)

    assert storage.read_json(shared / "verdict.json") == {"decision": decision}
    assert (shared / "arms" / "bce" / "test.parquet").read_text() == "bce"
    assert [path.parts[-3] for path in shared.glob("arms/*/bundle/*")] == bundles


def test_a_run_that_is_not_shared_yet_stays_as_it_is(machine):
    directory = run_of(machine("here"), "block")
    mirror.fetch(directory)

    assert (directory / "verdict.json").is_file()


def test_a_run_that_another_worker_has_changed_is_not_written_over(machine):
    here, there = machine("here"), machine("there")
    directory = run_of(here, "block")
    mirror.share(directory)
    other = there.root / directory.relative_to(here.root)
    mirror.fetch(other)
    storage.write_json(other / "verdict.json", {"decision": "promote"})
    mirror.share(other)

    storage.write_text(directory / "more", "more")
    with pytest.raises(StoreError, match="another worker has committed since"):
        mirror.share(directory)
    mirror.fetch(directory)
    assert storage.read_json(directory / "verdict.json") == {"decision": "promote"}


# ── what nobody names ────────────────────────────────────────────────────────────────────────


def test_objects_that_no_manifest_names_go_after_a_day(machine, monkeypatch):
    here = machine("here")
    for number in range(3):
        write(here, "dataset/texts", str(number))
    assert here.collect() == 0
    monkeypatch.setattr(mirror, "_DAY", -1.0)

    assert here.collect() == 2
    assert read(machine("there"), "dataset/texts") == "2"


def test_one_worker_a_day_tidies_up_after_a_model(machine):
    here, there = machine("here"), machine("there")

    assert here.is_due(NAME)
    assert not there.is_due(NAME)
    assert there.is_due("parcels")


# ── what cannot be used ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("url", ["memory://store", "gs://bucket/store", "ftp://host/store"])
def test_what_has_no_conditional_writes_is_refused(url, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(ConfigError, match="no conditional writes that could be relied on"):
        mirror.open_mirror(url)


def test_a_store_that_ignores_the_conditions_is_found_out(s3_url, monkeypatch):
    """As old servers do that speak S3's protocol: they write over, and say nothing."""
    bucket = Bucket(s3_url)
    monkeypatch.setattr(Bucket, "write", lambda *_: "etag")
    with pytest.raises(ConfigError, match="takes no notice of If-Match"):
        bucket.check()


def test_the_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'longtail\[s3\]'"):
        Bucket("s3://bucket/store")


def test_a_bucket_that_is_not_there_is_named(s3_url, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(StoreError, match="s3://nobody-made-this/x: there is no such bucket"):
        mirror.open_mirror("s3://nobody-made-this/x")
    assert not (directory_of("s3://nobody-made-this/x") / mirror.MARKER).exists()


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("AccessDenied", "access denied; the credentials need s3:GetObject"),
        ("RequestTimeTooSkewed", "this machine.s clock is wrong"),
        ("ExpiredToken", "the credentials have expired; set AWS_ACCESS_KEY_ID"),
        ("Whatever", "the object store refused"),
    ],
)
def test_a_refusal_is_a_sentence_with_the_url(s3_url, monkeypatch, code, sentence):
    from botocore.exceptions import ClientError

    def refuse(*_):
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "GetObject")

    monkeypatch.setattr(Bucket, "_wait", refuse)
    with pytest.raises(StoreError, match=f"{s3_url}: {sentence}"):
        Bucket(s3_url).read("key")


def test_objects_that_may_not_be_deleted_are_told(s3_url, monkeypatch):
    def refuse(_, what, **asked):
        assert what == "delete_objects"
        first, *_ = asked["Delete"]["Objects"]
        return {"Errors": [{**first, "Code": "AccessDenied", "Message": "no"}]}

    bucket = Bucket(s3_url)
    monkeypatch.setattr(type(bucket._files), "call_s3", refuse)
    with pytest.raises(StoreError, match=r"1 of 2 objects stay, such as .*a: access denied"):
        bucket.delete(["a", "b"])


def test_an_object_store_that_is_away_is_said_in_time(s3_url, monkeypatch):
    from botocore.exceptions import EndpointConnectionError, NoCredentialsError

    for error, sentence in (
        (EndpointConnectionError(endpoint_url="http://x"), "cannot be reached"),
        (NoCredentialsError(), "no credentials"),
    ):
        monkeypatch.setattr(Bucket, "_wait", raising(error))
        with pytest.raises(StoreError, match=f"{s3_url}: .*{sentence}"):
            Bucket(s3_url).read("key")


def test_an_address_where_nobody_listens_is_said_within_seconds(s3_url, monkeypatch):
    from s3fs import S3FileSystem

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    S3FileSystem.clear_instance_cache()
    started = time.monotonic()
    try:
        with pytest.raises(StoreError, match="cannot be reached"):
            Bucket(s3_url).read("key")
    finally:
        S3FileSystem.clear_instance_cache()
    assert time.monotonic() - started < 60.0


def raising(error):
    def refuse(*_):
        raise error

    return refuse


def test_a_write_whose_answer_was_lost_is_known_again(s3_url):
    """The network's second attempt finds the condition broken, by the first one."""
    bucket = Bucket(s3_url)
    first = bucket.write("key", b"one", None)

    assert bucket.write("key", b"one", None) == first
    with pytest.raises(OutrunError):
        bucket.write("key", b"two", None)
