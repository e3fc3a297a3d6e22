"""Files come, change and are refused; every annotation is announced, in one batch and once."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

import tasks.inbox
from data_contracts.ingest import ingest
from longtail import storage
from longtail.annotations.directory import export_files
from longtail.annotations.merge import merge_annotations
from longtail.annotations.readers import read_annotations
from longtail.annotations.schema import ANNOTATIONS
from longtail.config import DataSettings, WatchSettings
from longtail.dataset import DatasetStore
from longtail.errors import ConfigError, StoreError
from tasks import inbox_files, inbox_reading, inbox_state
from tasks.inbox import look
from tasks.inbox_reading import Watched
from tasks.inbox_state import INBOX, mark_taken, old_batches, read_state, was_taken
from tasks.landed import NotDeliveredError

START = datetime(2024, 5, 17, 6, tzinfo=UTC)


class Server:
    """Stands for Prefect's: keeps the events it is sent, by id."""

    def __init__(self):
        self.up = True
        self.events = {}
        self.sent = 0

    def __call__(self, event):
        if not self.up:
            raise NotDeliveredError("the server is down")
        self.sent += 1
        self.events[event.id] = event


class Desk:
    """A model's store, its inbox and a clock."""

    def __init__(self, root: Path, **settings):
        self.inbox = root / "arriving"
        self.inbox.mkdir(parents=True)
        self.store = root / "store" / "desk"
        defaults = {"min_annotations": 3, "max_wait_hours": 24, "settle_seconds": 0}
        self.watched = Watched(
            self.store, DataSettings(), True,
            WatchSettings(inbox=str(self.inbox), **{**defaults, **settings}),
        )  # fmt: skip
        self.server = Server()
        self.send = self.server
        self.now = START

    def write(self, name, *rows):
        path = self.inbox / name
        text = "".join(json.dumps(one) + "\n" for one in rows)
        path.write_text(text, encoding="utf-8")
        return path

    def look(self, hours=0.0):
        self.now += timedelta(hours=hours)
        return look(self.watched, self.now, self.send)

    @property
    def state(self):
        return read_state(self.store)

    @property
    def payloads(self):
        return [event.payload for event in self.server.events.values()]

    def retrain(self, path):
        """What a run does first: upsert what it is given, and say so."""
        out = self.store.parent / "run"
        read = ingest(path, DataSettings(), out, may_be_empty=True)
        done = DatasetStore(self.store / "dataset").upsert(
            read.accepted, merge_duplicates=True, voices=read.voices
        )
        mark_taken(self.store, str(path), done.version.fingerprint)
        return done


def row(name, *labels, **more):
    return {"id": name, "text": f"the text of {name}", "labels": list(labels or ("x",)), **more}


def rows(*names, labels=("x",)):
    return [row(name, *labels) for name in names]


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_an_empty_inbox_is_nothing_new(desk):
    seen = desk.look()
    assert seen.found == ()
    assert seen.waiting is None
    assert desk.payloads == []


def test_few_annotations_wait_and_enough_are_announced_once(desk):
    desk.write("1.jsonl", *rows("a", "b"))
    seen = desk.look()
    assert seen.waiting.annotations == 2
    assert seen.due == START + timedelta(hours=24)
    assert desk.payloads == []
    desk.write("2.jsonl", *rows("c", "d"))
    assert desk.look(hours=1).waiting is None
    (payload,) = desk.payloads
    assert payload["annotations"] == 4
    assert payload["name"] == "desk"
    assert payload["files"] == [str(desk.inbox / "1.jsonl"), str(desk.inbox / "2.jsonl")]
    assert [Path(one).name for one in export_files(payload["path"])] == [
        "000001-1.jsonl", "000002-2.jsonl",
    ]  # fmt: skip
    storage.verify_directory(payload["path"])
    desk.look(hours=1)
    assert desk.server.sent == 1


def test_a_few_are_announced_when_the_first_has_waited_long_enough(desk):
    desk.write("1.jsonl", *rows("a"))
    desk.look()
    desk.write("2.jsonl", *rows("b"))
    assert desk.look(hours=23).waiting is not None
    desk.look(hours=1)
    assert [payload["annotations"] for payload in desk.payloads] == [2]


def test_a_row_counts_once_however_many_files_hold_it(desk):
    desk.write("1.jsonl", *rows("a", "b"))
    desk.write("2.jsonl", *rows("a", "b"))
    assert desk.look().waiting.annotations == 2


def test_the_same_said_again_is_not_new(desk):
    desk.write("1.jsonl", *rows("a", "b", "c"))
    desk.look()
    desk.write("again.jsonl", *rows("a", "b", "c"))
    desk.write("1.jsonl", *rows("c", "b", "a"))
    seen = desk.look()
    assert seen.found == ()
    assert len(seen.known) == 2
    desk.retrain(desk.payloads[0]["path"])
    desk.write("third.jsonl", *rows("a", "c"))
    assert desk.look(hours=30).waiting is None
    assert desk.server.sent == 1


def test_what_is_changed_and_changed_back_is_news_both_times(desk):
    desk.write("1.jsonl", *rows("a", "b", "c"))
    desk.look()
    desk.retrain(desk.payloads[0]["path"])
    desk.write("2.jsonl", *rows("a", labels=("y",)))
    assert desk.look().waiting.annotations == 1
    desk.write("3.jsonl", *rows("a"))
    assert desk.look().found == (str(desk.inbox / "3.jsonl"),)
    desk.look(hours=24)
    desk.retrain(desk.payloads[-1]["path"])
    stored = DatasetStore(desk.store / "dataset").read().to_pylist()
    assert {one["id"]: one["labels"] for one in stored} == {one: ["x"] for one in "abc"}


def test_nothing_is_lost_while_the_server_is_down(desk):
    desk.server.up = False
    desk.write("1.jsonl", *rows("a", "b", "c"))
    seen = desk.look()
    assert seen.why_undelivered == "the server is down"
    desk.write("2.jsonl", *rows("d", "e", "f"))
    desk.look(hours=1)
    desk.server.up = True
    assert len(desk.look(hours=1).delivered) == 1
    (payload,) = desk.payloads
    assert (payload["batch"], payload["annotations"]) == ("000002", 6)
    assert len(export_files(payload["path"])) == 2
    desk.look(hours=1)
    assert desk.server.sent == 1


@pytest.fixture
def overtaken(desk):
    """Paths of two batches that label one text differently; only the later one was taken."""
    desk.write("1.jsonl", *rows("a", "b", "c"))
    desk.look()
    desk.write("2.jsonl", *rows("a", "d", "e", "f", labels=("y",)))
    desk.look(hours=1)
    first, second = (payload["path"] for payload in desk.payloads)
    desk.retrain(second)
    return first, second


def test_labels_keep_the_order_in_which_they_came(desk, overtaken):
    first, _ = overtaken
    assert was_taken(desk.store, first)  # its run comes too late, and reads nothing
    for _ in range(3):
        assert desk.look(hours=48).overdue == ()
    assert len(desk.payloads) == 2
    stored = DatasetStore(desk.store / "dataset").read().to_pylist()
    said = {one["id"]: one["labels"] for one in stored}
    assert said == {"a": ["y"], "b": ["x"], "c": ["x"], **{name: ["y"] for name in "def"}}


def test_a_batch_can_be_read_without_those_that_it_was_read_with(desk):
    desk.write("1.jsonl", *rows(*(f"a{place}" for place in range(60))))
    desk.look()
    bad = desk.write("2.jsonl", *rows("b", "c"), {"id": "d", "text": None, "labels": ["x"]})
    assert set(desk.look().refused) == {str(bad)}  # though only 1 of 63 rows in all is bad
    desk.retrain(desk.payloads[0]["path"])
    desk.write("3.jsonl", *rows("e", "f", "g"))
    assert desk.look().found == (str(desk.inbox / "3.jsonl"),)


def test_what_waits_and_can_be_read_no_more_is_loud_until_it_is_moved_away(desk):
    desk.write("1.jsonl", *rows("a", "b", "c"))
    desk.look()
    other = DataSettings.model_validate({"columns": {"text": "body"}})
    desk.watched = dataclasses.replace(desk.watched, data=other)
    new = desk.write("2.jsonl", *({"id": one, "body": one, "labels": ["x"]} for one in "defg"))
    batch = desk.store / INBOX / "000001"
    with pytest.raises(StoreError, match=f"{batch}: waits for a run.*move the directory away"):
        desk.look()
    shutil.move(batch, desk.inbox.parent / "aside")
    assert desk.look().found == (str(new),)
    assert [payload["batch"] for payload in desk.payloads] == ["000001", "000002"]
    assert desk.look(hours=48).overdue == ("000002",)


def test_a_batch_takes_files_along_where_there_are_no_links(desk, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    desk.write("1.jsonl", *rows("a", "b", "c"))
    desk.look()
    desk.write("2.jsonl", *rows("d", "e", "f"))
    desk.look()
    desk.retrain(desk.payloads[-1]["path"])
    assert DatasetStore(desk.store / "dataset").current().n_texts == 6


def test_a_run_knows_what_a_killed_one_has_brought_before_it_could_say_so(desk, overtaken):
    first, second = overtaken
    (Path(second) / inbox_state.TAKEN).unlink()
    desk.look(hours=48)
    assert len(desk.payloads) == 2
    assert was_taken(desk.store, first)


def test_a_refused_file_that_is_left_out_or_gone_is_told_no_more(desk):
    bad = desk.write("notes.txt", *rows("a"))
    bad.write_bytes(b"\x1f\x8b not text")
    desk.look()
    assert desk.look().still_refused == 1
    settings = desk.watched.settings.model_copy(update={"pattern": "*.jsonl"})
    desk.watched = dataclasses.replace(desk.watched, settings=settings)
    assert desk.look().still_refused == 0


def test_a_run_on_a_batch_whose_files_are_gone_knows_that_it_was_taken(desk):
    desk.write("1.jsonl", *rows("a", "b", "c"))
    desk.look()
    desk.write("2.jsonl", *rows("d", "e", "f"))
    desk.look()
    desk.retrain(desk.payloads[1]["path"])
    desk.look()
    (gone,) = old_batches(desk.store, keep=1)
    shutil.rmtree(gone)
    assert desk.payloads[0]["path"] == str(gone)
    assert was_taken(desk.store, str(gone))


def test_a_file_that_the_pattern_leaves_out_for_a_while_is_not_read_again(desk):
    desk.write("1.jsonl", *rows("a", "b", "c"))
    desk.look()
    desk.retrain(desk.payloads[0]["path"])
    desk.write("2.json", *rows("a", labels=("y",)))
    watched = desk.watched
    settings = watched.settings.model_copy(update={"pattern": "*.json"})
    desk.watched = dataclasses.replace(watched, settings=settings)
    desk.look(hours=1)
    desk.look(hours=24)
    desk.retrain(desk.payloads[-1]["path"])
    desk.watched = watched
    assert desk.look(hours=1).found == ()
    desk.look(hours=48)
    assert len(desk.payloads) == 2


def test_a_look_leaves_no_copies_of_what_says_nothing_new(desk):
    desk.write("1.jsonl", *rows("a", "b", "c"))
    desk.look()
    desk.write("again.jsonl", *rows("a", "b", "c"))
    assert desk.look().known
    assert sorted(path.name for path in (desk.store / INBOX).iterdir() if path.is_dir()) == [
        "000001"
    ]


def test_an_event_has_the_same_id_however_often_it_is_sent(desk, monkeypatch):
    desk.write("1.jsonl", *rows("a", "b", "c"))
    written = inbox_state.write_state

    def dies_before_the_mark(model_store, state):
        if any(event.delivered for event in state.events):
            raise KeyboardInterrupt
        written(model_store, state)

    monkeypatch.setattr(inbox_state, "write_state", dies_before_the_mark)
    with pytest.raises(KeyboardInterrupt):
        desk.look()
    monkeypatch.undo()
    desk.look()
    assert desk.server.sent == 2
    assert len(desk.server.events) == 1


def test_another_store_has_other_ids(tmp_path):
    ids = set()
    for name in ("one", "two"):
        desk = Desk(tmp_path / name)
        desk.write("1.jsonl", *rows("a", "b", "c"))
        desk.look()
        ids |= set(desk.server.events)
    assert len(ids) == 2


def test_files_that_cannot_be_read_are_told_once_and_do_not_block_the_others(desk):
    (desk.inbox / "0.jsonl").write_bytes(b"\x1f\x8b not text")
    desk.write("1.jsonl", *rows("a", "b", "c"))
    bad = desk.write("2.jsonl", row("d"), {"id": "e", "text": None, "labels": ["x"]})
    seen = desk.look()
    assert set(seen.refused) == {str(desk.inbox / "0.jsonl"), str(bad)}
    assert "gzip" in seen.refused[str(desk.inbox / "0.jsonl")]
    assert str(bad) in seen.refused[str(bad)]
    assert INBOX not in seen.refused[str(bad)]
    assert [payload["annotations"] for payload in desk.payloads] == [3]
    again = desk.look(hours=1)
    assert again.refused == {}
    assert again.still_refused == 2
    desk.write("2.jsonl", *rows("d", "e"))
    assert desk.look(hours=1).found == (str(bad),)


def test_a_file_that_still_grows_is_left_alone(tmp_path):
    desk = Desk(tmp_path, settle_seconds=60)
    path = desk.write("1.jsonl", *rows("a", "b", "c"))
    os.utime(path, (START.timestamp() - 30,) * 2)
    assert desk.look().settling == (str(path),)
    assert desk.payloads == []
    desk.look(hours=1)
    assert len(desk.payloads) == 1


def test_hidden_and_unfinished_files_and_other_names_are_passed_over(tmp_path):
    desk = Desk(tmp_path, pattern="*.jsonl*")
    for name in (".1.jsonl", "2.jsonl.part", "3.txt"):
        desk.write(name, *rows("a", "b", "c"))
    assert desk.look().found == ()


def test_a_file_that_is_too_large_is_refused(tmp_path):
    desk = Desk(tmp_path, max_file_gigabytes=1e-7)
    path = desk.write("1.jsonl", *rows("a", "b", "c"))
    assert "max_file_gigabytes" in desk.look().refused[str(path)]


def test_an_inbox_that_is_not_there_is_loud(desk):
    desk.inbox.rmdir()
    with pytest.raises(StoreError, match="cannot be listed"):
        desk.look()


def test_what_a_killed_watch_has_left_is_taken_again(desk, monkeypatch):
    desk.write("1.jsonl", *rows("a"))
    desk.look()
    desk.write("2.jsonl", *rows("b", "c"))

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(inbox_state, "write_state", dies)
    with pytest.raises(KeyboardInterrupt):
        desk.look()
    monkeypatch.undo()
    assert len(list((desk.store / INBOX / "000001").iterdir())) == 2
    desk.look()
    (payload,) = desk.payloads
    assert payload["annotations"] == 3
    assert len(export_files(payload["path"])) == 2


def test_a_batch_that_no_run_takes_is_announced_again_with_all_that_came(desk):
    desk.write("1.jsonl", *rows("a", "b", "c"))
    desk.look()
    desk.write("2.jsonl", *rows("d"))
    desk.look(hours=1)
    assert desk.look(hours=25).overdue == ("000001",)
    last = desk.payloads[-1]
    assert last["batch"] == "000002"
    assert last["annotations"] == 4
    desk.retrain(last["path"])
    assert DatasetStore(desk.store / "dataset").current().n_texts == 4
    desk.look(hours=48)
    assert len(desk.payloads) == 2


def test_a_batch_that_was_brought_by_hand_is_not_announced_again(desk):
    desk.write("1.jsonl", *rows("a", "b", "c"))
    desk.look()
    desk.retrain(str(desk.inbox))
    assert desk.look(hours=30).overdue == ()
    assert len(desk.payloads) == 1
    assert desk.state.batches[0].status == "taken"


def test_an_open_batch_that_was_brought_by_hand_is_not_announced(desk):
    desk.write("1.jsonl", *rows("a"))
    desk.look()
    desk.retrain(str(desk.inbox))
    assert desk.look(hours=30).waiting is None
    assert desk.payloads == []


def test_only_batches_in_the_data_set_may_be_deleted(desk):
    for number in range(4):
        desk.write(f"{number}.jsonl", *rows(*(f"{number}{one}" for one in "abc")))
        desk.look()
        if number < 2:
            desk.retrain(desk.payloads[number]["path"])
        if number == 0:  # its mark would go along, so a look comes first
            assert old_batches(desk.store, keep=0) == ()
    names = [path.name for path in old_batches(desk.store, keep=1)]
    assert names == ["000001", "000002"]
    assert old_batches(desk.store, keep=4) == ()


def test_an_export_of_another_data_set_is_refused(desk):
    desk.write("1.jsonl", *rows(*(f"a{one}" for one in range(60))))
    desk.look()
    desk.retrain(desk.payloads[0]["path"])
    other = desk.write("2.jsonl", *rows(*(f"b{one}" for one in range(60)), labels=("other",)))
    assert "another data set" in desk.look().refused[str(other)]


class Killer:
    """Ends the process, as it were, at the n-th step of many."""

    def __init__(self, monkeypatch, desk, at):
        self.left = at
        replace, copy, send = os.replace, inbox_reading.copy_file, desk.server.__call__
        monkeypatch.setattr(os, "replace", self.around(replace))
        monkeypatch.setattr(inbox_reading, "copy_file", self.around(copy))
        desk.send = self.around(send)

    def step(self):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def around(self, function):
        def stepping(*arguments):
            self.step()
            done = function(*arguments)
            self.step()
            return done

        return stepping


def read_without_contract(path, data, _):
    """What Great Expectations would let pass, in a hundredth of the time."""
    read = pa.concat_tables(read_annotations(path, data))
    merged = merge_annotations(read.select([*ANNOTATIONS.names, "position"]), "latest")
    return merged.table, merged.voices


@pytest.mark.parametrize("first", range(4))
def test_killed_at_every_step_each_annotation_is_in_one_batch(tmp_path, monkeypatch, first):
    monkeypatch.setattr(inbox_reading, "_ingest", read_without_contract)
    at = first + 1
    while True:
        desk = Desk(tmp_path / str(at), min_annotations=2)
        killed = scenario(desk, monkeypatch, at)
        for _ in range(3):
            desk.look(hours=5)
        superseded = {one.name for one in desk.state.batches if one.status == "superseded"}
        said = [
            one["id"]
            for payload in desk.payloads
            if payload["batch"] not in superseded
            for file in export_files(payload["path"])
            for one in map(json.loads, Path(file).read_text().splitlines())
        ]
        assert sorted(said) == ["a", "b", "c", "d", "e"]
        assert desk.server.sent <= len(desk.payloads) + 1
        assert desk.state.undelivered == ()
        if not killed:
            return
        at += 4


def scenario(desk, monkeypatch, at):
    """Two looks, one of them killed at a step; returns whether it came to that."""
    with monkeypatch.context() as patched:
        Killer(patched, desk, at)
        try:
            desk.write("1.jsonl", *rows("a", "b"))
            (desk.inbox / "2.jsonl").write_bytes(b"\x1f\x8b")
            desk.look()
            desk.write("3.jsonl", *rows("c", "d", "e"))
            desk.look()
        except KeyboardInterrupt:
            pass
        else:
            return False
    desk.write("3.jsonl", *rows("c", "d", "e"))
    desk.send = desk.server
    return True


@pytest.mark.parametrize(
    "name",
    [b"M\xfcller.jsonl", b"zip::x.jsonl", b"two\nlines.jsonl", ("漢" * 83).encode() + b".json"],
)
def test_a_file_may_have_any_name(desk, name):
    text = "\n".join(json.dumps(one) for one in rows("a", "b", "c"))
    Path(os.fsdecode(os.fsencode(desk.inbox) + b"/" + name)).write_text(text, encoding="utf-8")
    desk.look()
    (payload,) = desk.payloads
    assert payload["annotations"] == 3
    assert desk.look().found == ()


def test_a_link_that_leads_nowhere_does_not_hold_up_the_others(desk):
    (desk.inbox / "a.jsonl").symlink_to("a.jsonl")
    desk.write("b.jsonl", *rows("a", "b", "c"))
    desk.look()
    assert len(desk.payloads) == 1


def test_a_date_to_come_is_not_waited_for(tmp_path):
    desk = Desk(tmp_path, settle_seconds=60)
    path = desk.write("a.jsonl", *rows("a", "b", "c"))
    later = (START + timedelta(days=365)).timestamp()
    os.utime(path, (later, later))
    desk.look()
    assert len(desk.payloads) == 1


def test_a_clock_that_was_set_back_delays_no_batch(desk):
    desk.write("a.jsonl", *rows("a"))
    desk.look(hours=24 * 365)
    desk.look(hours=-24 * 365)
    desk.look(hours=23)
    assert desk.payloads == []
    desk.look(hours=1)
    assert len(desk.payloads) == 1


def test_two_inboxes_of_a_model_do_not_bring_back_old_labels(desk, tmp_path):
    other = Desk(tmp_path / "other")
    other.store, other.server, other.send = desk.store, desk.server, desk.send
    other.watched = Watched(desk.store, DataSettings(), True, other.watched.settings)
    desk.write("old.jsonl", *rows("a", "b", "c", labels=("x",)))
    desk.look()
    desk.retrain(desk.payloads[0]["path"])
    other.now = desk.now
    other.write("new.jsonl", *rows("a", "b", "c", labels=("y",)))
    other.look(hours=1)
    other.retrain(desk.payloads[1]["path"])
    for _ in range(2):
        desk.look(hours=2)
        other.look(hours=2)
    assert len(desk.payloads) == 2


def test_an_inbox_in_the_store_of_the_model_is_refused(desk):
    inside = desk.store / INBOX
    (inside / "20240517").mkdir(parents=True)
    desk.look()
    assert (inside / "20240517").is_dir()
    settings = desk.watched.settings.model_copy(update={"inbox": str(inside)})
    with pytest.raises(ConfigError, match="outside of the store"):
        look(Watched(desk.store, DataSettings(), True, settings), START, desk.send)


def test_what_a_look_has_done_is_committed_before_it_fails(desk, monkeypatch):
    kept = []

    @contextlib.contextmanager
    def lock(_):
        yield
        kept.append(desk.state.open)

    def copy(landed, target, most):
        if landed.name == "b.jsonl":
            raise PermissionError(13, "Permission denied")
        return inbox_files.copy_file(landed, target, most)

    monkeypatch.setattr(tasks.inbox.storage, "lock", lock)
    monkeypatch.setattr(inbox_reading, "copy_file", copy)
    desk.write("a.jsonl", *rows("a"))
    desk.write("b.jsonl", *rows("b"))
    with pytest.raises(StoreError, match="Permission denied"):
        desk.look()
    (batch,) = kept
    assert batch.annotations == 1


def test_an_event_names_no_more_files_than_a_server_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks.inbox, "_MOST_FILES", 2)
    desk = Desk(tmp_path)
    for name in "abc":
        desk.write(f"{name}.jsonl", *rows(name))
    desk.look()
    (payload,) = desk.payloads
    assert len(payload["files"]) == 2
    assert payload["annotations"] == 3


def test_a_batch_that_is_read_twice_changes_nothing(desk):
    desk.write("a.jsonl", *rows("a", "b"), row("c", "x", annotator="u1"))
    desk.write("b.jsonl", row("c", "y", annotator="u2"))
    desk.look()
    (payload,) = desk.payloads
    once, again = desk.retrain(payload["path"]), desk.retrain(payload["path"])
    assert again.version.fingerprint == once.version.fingerprint
    assert again.version.version == once.version.version
    assert (again.added, again.changed) == (0, 0)


def test_a_batch_is_known_as_taken_once_it_is_in_the_data_set(desk):
    desk.write("one.jsonl", *rows("a", "b", "c"))
    desk.look()
    (payload,) = desk.payloads
    assert not was_taken(desk.store, payload["path"])
    desk.retrain(Path(payload["path"]))
    assert was_taken(desk.store, payload["path"])
    assert not was_taken(desk.store, str(desk.inbox))
    assert not was_taken(desk.store, "memory://bucket/export.jsonl")
