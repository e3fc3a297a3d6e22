"""The training slot: who waits for whom, and what a dead holder leaves behind."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import logging
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from uuid import UUID

import pytest

from tasks import server_slot, waiting
from tasks.server_slot import Holder, limit_exists, stale_slots
from tasks.slot import slot_directory, training_slot

HOLD = (
    "import sys, time; from tasks.slot import training_slot\n"
    "with training_slot('desk'):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(600)\n"
)
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(autouse=True)
def slots(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGTAIL_SLOTS", str(tmp_path / "slots"))
    monkeypatch.setattr(waiting, "_TELL_SECONDS", 0.2)
    return tmp_path / "slots"


@pytest.fixture
def holder():
    """Another process that holds the slot ``desk``; it is killed, not asked."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_one_waits_until_the_other_is_done_and_says_for_whom(caplog):
    entered, leave, order = threading.Event(), threading.Event(), []

    def first():
        with training_slot("desk"):
            entered.set()
            leave.wait(30)
            order.append("first leaves")

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(30)
    threading.Timer(0.7, leave.set).start()
    with caplog.at_level(logging.INFO), training_slot("desk"):
        order.append("second enters")
    thread.join()

    assert order == ["first leaves", "second enters"]
    told = [line for line in caplog.messages if line.startswith("The slot 'desk' of this machine")]
    assert len(told) >= 2
    assert f"process {os.getpid()} on " in told[0]
    assert "training has waited for" in told[-1]
    assert "training goes on after a wait of" in caplog.messages[-1]


def test_a_killed_holder_gives_the_slot_back_at_once(holder):
    threading.Timer(0.3, holder.kill).start()
    started = time.monotonic()
    with training_slot("desk"):
        waited = time.monotonic() - started
    assert 0.2 < waited < 10.0


def test_other_slots_and_no_slot_wait_for_nobody(holder, slots):
    with training_slot("another/one"), training_slot(None):
        about = json.loads((slots / "slot-another_one.json").read_text())
        assert about["pid"] == os.getpid()
        assert about["who"] == "a training outside of any flow run"
    assert not (slots / "slot-another_one.json").exists()


def test_a_failed_training_leaves_the_slot():
    with pytest.raises(ZeroDivisionError), training_slot("desk"):
        raise ZeroDivisionError
    with training_slot("desk"):
        pass


def test_slots_of_a_machine_are_below_its_temporary_directory(monkeypatch, tmp_path):
    monkeypatch.delenv("LONGTAIL_SLOTS")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert slot_directory() == tmp_path / f"longtail-{os.getuid()}"


def test_no_server_is_asked_outside_of_a_run():
    assert not limit_exists("gpu")


# What the server says is put together here; tests/integration has a real one.


@pytest.fixture
def server(monkeypatch):
    """A server with one limit; gives what is to be changed of it."""
    limit = UUID(int=1)
    said = SimpleNamespace(taken=1, updated=NOW - dt.timedelta(hours=1), holders=[])

    class Client:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def read_global_concurrency_limit_by_name(self, name):
            return SimpleNamespace(
                id=limit, name=name, limit=1, active_slots=said.taken, updated=said.updated
            )

    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda **_: Client())
    monkeypatch.setattr(server_slot, "_holders", lambda *_: said.holders)
    return said


def ago(minutes):
    return NOW - dt.timedelta(minutes=minutes)


LIVE = Holder("alive", ago(300), None, "Running", ago(1))
SILENT = Holder("silent", ago(300), None, "Running", ago(30))
ENDED = Holder("ended", ago(300), ago(10), "Crashed", ago(11))
JUST_ENDED = Holder("just-ended", ago(300), ago(1), "Crashed", ago(2))


@pytest.mark.parametrize(
    ("holders", "stale"),
    [
        ([LIVE], False),
        ([LIVE, ENDED], False),
        ([JUST_ENDED], False),
        ([SILENT], True),
        ([ENDED], True),
        ([], True),
    ],
    ids=["alive", "alive and an old one", "lease not yet over", "silent", "ended", "nobody"],
)
def test_a_slot_that_nobody_alive_holds_is_stale(server, holders, stale):
    server.holders = holders
    found = stale_slots(["gpu"], now=NOW)
    assert bool(found) == stale
    if stale:
        (slot,) = found
        assert (slot.name, slot.taken, slot.limit) == ("gpu", 1, 1)
        assert "prefect global-concurrency-limit update gpu --active-slots 0" in slot.message
        if holders:
            assert f"flow run {holders[0].flow_run} ({holders[0].state})" in slot.message


def test_a_slot_that_was_just_taken_or_is_free_is_not_stale(server):
    server.updated = NOW
    assert not stale_slots(["gpu"], now=NOW)
    server.taken, server.updated, server.holders = 0, ago(60), [ENDED]
    assert not stale_slots(["gpu"], now=NOW)


def test_who_waits_for_a_stale_slot_is_told_what_to_do(server):
    server.holders = [dataclasses.replace(LIVE, seen=dt.datetime.now(dt.UTC))]
    assert "held by flow run alive (Running), since 20" in server_slot._held_by("gpu")
    server.holders = [ENDED]
    assert "--active-slots 0" in server_slot._held_by("gpu")
