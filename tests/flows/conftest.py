"""One model through its weeks, on the real engine: the runs that the tests of this folder look at.

Week one makes the first champion, week two a better one, and then a floor that nothing reaches
blocks. Each run happens once per session.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from longtail import storage
from longtail.config import PublishSettings
from tasks.publishing import open_promotions

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "deployments" / "profiles" / "smoke.yaml"
NAME = "smoke"
BAD_ROWS = {
    401: '{"id": "T9001", "text": "The zip of the tent is stuck", "labels": "repair"',
    402: '{"id": "T9002", "text": null, "labels": ["repair"]}',
    403: '{"id": "", "text": "Where is my parcel?", "labels": ["delivery"]}',
}


@dataclass(frozen=True)
class Week:
    """What one retrain left behind, as read right after it.

    Attributes:
        store: what persists; later weeks go on in it.
        snapshot: the store as it was right after this run.
        directory: the run's results.
        code: the command's exit code.
        said: what it printed.
        champion: number of the version that was live after the run.
    """

    store: Path
    snapshot: Path
    directory: Path
    code: int
    said: str
    champion: int | None

    def read(self, name: str) -> Any:
        """A JSON file of the run."""
        return storage.read_json(self.directory / name)

    @property
    def rules(self) -> Mapping[str, Any]:
        """The verdict's rules by name."""
        return {rule["name"]: rule for rule in self.read("verdict.json")["rules"]}

    @property
    def blocking(self) -> list[str]:
        """The sentences of the rules that block."""
        rules = self.read("verdict.json")["rules"]
        failed = (rule for rule in rules if rule["severity"] == "block" and not rule["passed"])
        return [rule["detail"] for rule in failed]


def champion_of(store: Path) -> int | None:
    """The live version's number."""
    champion = open_promotions(PublishSettings(), store, NAME).champion()
    return None if champion is None else champion.number


def retrain_command(store: Path, out: Path, *more: str) -> list[str]:
    """The command of a smoke run."""
    return ["retrain", "--config", str(PROFILE), "--store", str(store), "--out", str(out), *more]


def _run(root: Path, out: str, *more: str) -> Week:
    store, said = root / "store", io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main(retrain_command(store, root / out, *more))
    snapshot = root / f"store-after-{out}"
    shutil.copytree(store, snapshot)
    return Week(store, snapshot, root / out, code, said.getvalue(), champion_of(store))


@pytest.fixture(scope="session")
def environment(prefect_harness) -> dict[str, str]:
    """For commands in a process of their own: they use the harness's server."""
    from prefect.settings import PREFECT_API_URL

    return {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("weeks")


@pytest.fixture(scope="session")
def export(root) -> Path:
    """Week one's export: the tickets, and three rows that nobody can use."""
    tickets = (ROOT / "tests" / "fixtures" / "tickets.jsonl").read_text(encoding="utf-8")
    path = root / "tickets 2024-05-17.jsonl"
    path.write_text(tickets + "\n".join(BAD_ROWS.values()) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def week_one(prefect_harness, root, export) -> Week:
    """The first release: few epochs, so that there is something left to gain."""
    return _run(root, "week-one", "--data", str(export), "--set", "training.epochs=4")


@pytest.fixture(scope="session")
def week_two(week_one, root) -> Week:
    """New tickets, some changed ones, one label more, and a longer training."""
    addition = ROOT / "tests" / "fixtures" / "tickets_week2.jsonl"
    return _run(root, "week-two", "--data", str(addition), "--set", "training.epochs=10")


@pytest.fixture(scope="session")
def week_three(week_two, root) -> Week:
    """No new data, and a floor that no model of this size reaches."""
    return _run(
        root, "week-three", "--set", "data.path=null", "--set", "gate.floors.micro_f1=0.999",
        "--set", "training.epochs=1",
    )  # fmt: skip
