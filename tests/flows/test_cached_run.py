"""What is not run again, on the real engine: the same smoke run under changes of one thing."""

from __future__ import annotations

import contextlib
import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import NAME, champion_of, retrain_command

from flows.cli import main
from longtail import storage
from longtail.stage_cache import StageCache

pytestmark = pytest.mark.slow

TRAINED = ("train-linear", "train-bce", "train-candidate-db")
TUNED = ("tune-linear", "tune-bce", "tune-candidate-db", "tune-matched", "tune-candidate")
CACHED = ("ingest", "split", "audit", *TRAINED, "combine", *TUNED)


@dataclass(frozen=True)
class Run:
    """One retrain: its exit code, what it printed, its directory and the seconds it took."""

    code: int
    said: str
    directory: Path
    seconds: float

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """What ``stages.jsonl`` says of each stage; each must stand there once."""
        lines = (self.directory / "stages.jsonl").read_text().splitlines()
        noted = [json.loads(line) for line in lines]
        names = [one["stage"] for one in noted]
        assert len(names) == len(set(names)), names
        return {one["stage"]: one for one in noted}

    def cached(self, *stages: str) -> list[bool]:
        """Which of some stages came from the cache."""
        return [self.stages[stage]["cached"] for stage in stages]

    def read(self, name: str) -> Any:
        """A JSON file of the run."""
        return storage.read_json(self.directory / name)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cached") / "store"


def retrain(store: Path, out: str, *more: str) -> Run:
    said, started = io.StringIO(), time.monotonic()
    directory = store.parent / out
    command = retrain_command(store, directory, "--set", "training.epochs=2", *more)
    with contextlib.redirect_stdout(said):
        code = main(command)
    return Run(code, said.getvalue(), directory, time.monotonic() - started)


@pytest.fixture(scope="module")
def first(prefect_harness, store) -> Run:
    return retrain(store, "first")


@pytest.fixture(scope="module")
def again(first, store) -> Run:
    """Nothing is new but the directory and the moment that the run takes for now."""
    return retrain(store, "again", "--set", "data.as_of=2031-01-01T00:00:00Z")


@pytest.fixture(scope="module")
def other_loss(again, store) -> Run:
    return retrain(store, "other-loss", "--set", "loss.name=asl")


@pytest.fixture(scope="module")
def other_policy(other_loss, store) -> Run:
    return retrain(store, "other-policy", "--set", "thresholds.policy=global")


@pytest.fixture(scope="module")
def forced(other_policy, store) -> Run:
    return retrain(store, "forced", "--set", "thresholds.policy=global", "--force")


def test_a_first_run_makes_every_stage(first):
    assert not any(first.cached(*CACHED))
    assert first.stages["update-data-set"]["new_version"] is True
    assert {"score-champion", "judge", "report", "track"} <= set(first.stages)


def test_a_run_with_nothing_new_ends_with_the_verdict_before_it(first, again, store):
    judged = first.read("run.json")["id"]

    assert again.code == first.code
    assert f"nothing has changed since run {judged}" in " ".join(again.said.split())
    assert set(again.stages) == {"ingest", "update-data-set", "split", "housekeeping"}
    assert all(again.cached("ingest", "split"))
    assert again.stages["update-data-set"]["new_version"] is False
    assert again.read("unchanged.json")["run"] == judged
    assert again.read("verdict.json") == first.read("verdict.json")
    assert (again.directory / "report.html").is_file()
    assert champion_of(store) == (1 if first.code == 0 else None)


def test_another_loss_trains_its_encoder_and_no_other_arm(other_loss):
    assert all(other_loss.cached("ingest", "split", "audit", "train-linear", "train-bce"))
    assert other_loss.cached("train-candidate-asl", "combine") == [False, False]
    assert other_loss.read("metrics.json")["candidate_loss"] == "asl"


def test_what_was_taken_over_is_what_was_made(first, other_loss):
    made, taken = first.read("metrics.json"), other_loss.read("metrics.json")

    assert made["test"]["fingerprint"] == taken["test"]["fingerprint"]
    for arm in ("linear", "bce"):
        assert made["arms"][arm]["overall"] == taken["arms"][arm]["overall"]
        assert made["arms"][arm]["thresholds"] == taken["arms"][arm]["thresholds"]


def test_another_threshold_policy_trains_nothing_and_judges_again(other_policy):
    assert all(other_policy.cached("ingest", "split", "audit", *TRAINED, "combine"))
    assert not any(other_policy.cached(*TUNED))
    assert "judge" in other_policy.stages
    assert other_policy.read("metrics.json")["threshold_policy"] == "global"


def test_one_flag_runs_everything_anew(forced):
    assert not any(forced.cached(*CACHED))
    assert "judge" in forced.stages


def test_the_command_lists_and_clears_what_is_kept(forced, store, capsys):
    kept = StageCache(store / "cache" / "stages")
    stages = {entry.stage for entry in kept.entries()}
    of_another_loss = {"train-candidate-asl", "tune-candidate-asl"}
    assert stages == {*CACHED, *of_another_loss}

    assert main(["cache", "list", "--store", str(store)]) == 0
    listed = capsys.readouterr().out
    assert all(stage in listed for stage in ("ingest", "split", "Activations", "Checkpoints"))
    assert main(["cache", "clear", "--stage", "split", "--store", str(store)]) == 0
    assert {entry.stage for entry in kept.entries()} == stages - {"split"}
    assert main(["cache", "clear", "--older-than", "1", "--store", str(store)]) == 0
    assert {entry.stage for entry in kept.entries()} == stages - {"split"}
    assert main(["cache", "clear", "--store", str(store)]) == 0
    assert kept.entries() == []
    assert (store / NAME / "last-judged.json").is_file()
