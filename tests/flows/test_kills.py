"""`kill -9` at the worst moment, and two runs at once: the store always has its champion.

Kills at random moments, in training above all, are those of ``tests/chaos``.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NAME, champion_of, retrain_command
from store_checks import check_whole

from flows.cli import main
from longtail.config import PublishSettings
from tasks.promotion import INTENT
from tasks.publishing import open_promotions

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DYING = Path(__file__).with_name("dying_command.py")
# Not the gate is on trial here: what is as good as the champion may follow it.
LENIENT = ("--set", "gate.group_margin=1", "--set", "gate.refresh_margin=1")
AS_GOOD = ("--set", "training.epochs=4", *LENIENT)
BETTER = ("--set", "training.epochs=8", *LENIENT)
PATIENCE = 200.0


def start(arguments, environment, *, log, script=None):
    """A command in a session of its own, which can be killed as one."""
    target = [str(script)] if script else ["-m", "flows.cli"]
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, *target, *arguments], env=environment, cwd=ROOT,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


@pytest.fixture
def store(week_one, tmp_path):
    """A store with one champion, to be mistreated."""
    return shutil.copytree(week_one.snapshot, tmp_path / "store")


def versions_of(store):
    """Every registered version."""
    registry = open_promotions(PublishSettings(), store, NAME).registry
    found = []
    while registry.find(len(found) + 1) is not None:
        found.append(len(found) + 1)
    return found


def test_a_run_that_is_killed_before_the_alias_moves_promotes_nobody(store, environment, tmp_path):
    log = tmp_path / "log"
    command = retrain_command(store, tmp_path / "killed", *AS_GOOD)
    process = start(command, environment, log=log, script=DYING)

    assert process.wait(PATIENCE) == -signal.SIGKILL, log.read_text(errors="replace")
    assert champion_of(store) == 1
    assert check_whole(store, NAME, 400) == [1]
    assert versions_of(store) == [1, 2]
    assert json.loads((store / NAME / INTENT).read_text())["to_version"] == 2

    assert main(retrain_command(store, tmp_path / "next", *AS_GOOD)) == 0
    assert champion_of(store) == 3
    assert check_whole(store, NAME, 400) == [1, 3]
    assert not (store / NAME / INTENT).exists()


def test_two_runs_at_once_leave_one_champion_and_every_text(
    store, environment, tmp_path, tickets_week2
):
    rows = tickets_week2.read_text(encoding="utf-8").splitlines(keepends=True)
    processes, logs = [], []
    for number, part in enumerate((rows[:36], rows[36:])):
        data = tmp_path / f"part{number}.jsonl"
        data.write_text("".join(part), encoding="utf-8")
        logs.append(tmp_path / f"log{number}")
        command = retrain_command(store, tmp_path / f"run{number}", "--data", str(data), *BETTER)
        processes.append(start(command, environment, log=logs[number]))
    codes = [process.wait(PATIENCE) for process in processes]
    said = [log.read_text(errors="replace") for log in logs]

    assert set(codes) <= {0, 3}, "\n".join(said)
    assert 0 in codes
    assert "Traceback" not in "".join(said)
    promoted = check_whole(store, NAME, 460)
    assert len(promoted) == 1 + codes.count(0)
    assert champion_of(store) == promoted[-1]
    for number, code in enumerate(codes):
        verdict = json.loads((tmp_path / f"run{number}" / "verdict.json").read_text())
        assert verdict["decision"] == ("promote" if code == 0 else "block")
