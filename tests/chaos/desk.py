"""A store that is mistreated, the server that its runs report to, and runs that may be killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import processes

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "deployments"), str(ROOT / "tests" / "flows")]

import local  # noqa: E402 - the script beside prefect.yaml
import store_checks  # noqa: E402 - of the tests of flows

from flows.config import load_config  # noqa: E402

__all__ = ["Desk", "Run", "desk", "local", "store_checks"]

NAME = "smoke"
PROFILE = ROOT / "deployments" / "profiles" / "smoke.yaml"
FIXTURES = ROOT / "tests" / "fixtures"
WEEK_ONE, WEEK_TWO = (FIXTURES / f"{name}.jsonl" for name in ("tickets", "tickets_week2"))
TEXTS = 460
# Not the gate is on trial: what is as good as the champion follows it, so that every run promotes.
SETTINGS = (
    "training.epochs=2", "gate.group_margin=1", "gate.refresh_margin=1",
    "gate.draws=200", "publish.serve_check_texts=4", "stages.slot=null",
)  # fmt: skip
SLOW = 600.0


@dataclass
class Run:
    """A run that was started.

    Attributes:
        process: the flow's, or the worker's that starts the flow's.
        mark: that all its processes carry.
        log: what it prints.
        runs: where its directory will be.
        before: directories that were there before.
    """

    process: subprocess.Popen[bytes]
    mark: str
    log: Path
    runs: Path
    before: frozenset[str]
    started: float = field(default_factory=time.monotonic)

    @property
    def directory(self) -> Path | None:
        """The run's directory, once there is one."""
        found = {path.name for path in self.runs.glob("*")} - self.before
        return self.runs / max(found) if found else None

    def stages(self) -> list[str]:
        """The stages that are done."""
        directory = self.directory
        path = None if directory is None else directory / "stages.jsonl"
        if path is None or not path.is_file():
            return []
        finished = path.read_text(encoding="utf-8").rpartition("\n")[0]
        return [json.loads(line)["stage"] for line in finished.splitlines()]

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-4000:]


@dataclass
class Desk:
    """A place to work in.

    Attributes:
        home: everything is below it.
        url: of the Prefect server's API.
        environment: for commands that use this server.
        number: of the store in use; each is in a place of its own, for MLflow goes on with a
            database that it has opened once, whatever has become of the file.
    """

    home: Path
    url: str
    environment: Mapping[str, str]
    number: int = 0

    @property
    def store(self) -> Path:
        """The store that runs use."""
        return self.home / f"store-{self.number}"

    @property
    def base(self) -> Path:
        """The store that all begin with."""
        return self.home / "base"

    def keep(self) -> None:
        """Begin with the store as it is now from now on."""
        shutil.copytree(self.store, self.base)
        self.renew()

    def renew(self) -> None:
        """Go on in a new copy of the first store."""
        shutil.rmtree(self.store, ignore_errors=True)
        self.number += 1
        shutil.copytree(self.base, self.store)

    def start(self, data: Path) -> Run:
        """Start a retrain from the command line."""
        settings = [part for one in SETTINGS for part in ("--set", one)]
        return self._run(
            "flows.cli", "retrain", "--config", str(PROFILE), "--data", str(data),
            "--store", str(self.store), *settings,
        )  # fmt: skip

    def start_worker(self) -> Run:
        """Start a worker; what it is to do is asked for with :meth:`ask`."""
        return self._run("prefect", "worker", "start", "--pool", local.POOL, "--type", "process")

    def ask(self, data: Path) -> str:
        """Ask for a retrain by the deployment; gives the flow run's id."""
        given = {"data.path": str(data), "store": str(self.store)}
        config = load_config(str(PROFILE), SETTINGS, given).model_dump(mode="json")
        wanted = {"deployments": {"name": {"any_": ["retrain-manual"]}}}
        (deployment,) = self.api("/deployments/filter", wanted)
        body = {"parameters": {"config": config}, "state": {"type": "SCHEDULED"}}
        return str(self.api(f"/deployments/{deployment['id']}/create_flow_run", body)["id"])

    def forget(self, flow_run: str) -> None:
        """See to it that no later worker starts a run that was asked for."""
        state = {"state": {"type": "CANCELLED"}, "force": True}
        self.api(f"/flow_runs/{flow_run}/set_state", state)

    def api(self, path: str, body: Any) -> Any:
        """One call of the server's API."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def _run(self, *command: str) -> Run:
        mark = uuid.uuid4().hex
        log = self.home / "logs" / f"{mark}.log"
        log.parent.mkdir(exist_ok=True)
        runs = self.store / NAME / "runs"
        before = frozenset(path.name for path in runs.glob("*"))
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env={**self.environment, processes.MARK: mark}, cwd=ROOT,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        return Run(process, mark, log, runs, before)


@contextlib.contextmanager
def desk(home: Path) -> Iterator[Desk]:
    """A desk with a server of its own, for all runs the same."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **os.environ,
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "LONGTAIL_HOME": str(home),
        "LONGTAIL_SLOTS": str(home / "slots"),
        "PYTHONPATH": str(ROOT),
    }
    command = ["server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with local.running(command, environment, ROOT) as server:
        local.wait_for_server(url, patience=240.0, server=server)
        yield Desk(home, url, environment)
