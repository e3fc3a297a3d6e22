"""A real Prefect server with Longtail's deployments and a worker, once for all tests here.

They run on free ports with a Prefect home of their own, by the command that ``make ui`` runs.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "deployments" / "local.py"
SMOKE = ROOT / "deployments" / "profiles" / "smoke.yaml"
TICKETS = ROOT / "tests" / "fixtures" / "tickets.jsonl"
BUSY_SECONDS = 30.0
READY = "press Run on retrain-manual"
FINISHED = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


@dataclass(frozen=True)
class Served:
    """The server and what runs on it.

    Attributes:
        url: of the API, ending in ``/api``.
        home: the directory the runs work in; relative paths and the default store are there.
        environment: for commands in a process of their own that are to use this server.
        process: the command that keeps server and worker up.
        log: what they print.
    """

    url: str
    home: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def page(self) -> str:
        """The UI's address."""
        return self.url.removesuffix("/api")

    def api(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """One call of the API: POST with a body, GET without one.

        Raises:
            urllib.error.HTTPError: the server refused it.
        """
        request = urllib.request.Request(
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    said = response.read()
            except urllib.error.HTTPError as error:
                # On SQLite another writer was first; Prefect's own client asks again, too.
                if error.code != 503 or time.monotonic() > deadline:
                    raise
                time.sleep(1.0)
            else:
                return json.loads(said) if said else None

    def deployment(self, name: str) -> Any:
        """The deployment of that name, whatever its flow is called."""
        (found,) = self.api("/deployments/filter", {"deployments": {"name": {"any_": [name]}}})
        return found

    def run(self, deployment: str, parameters: Mapping[str, Any] | None = None) -> str:
        """Start a run as the form does; parameters that are not given are the deployment's."""
        number = self.deployment(deployment)["id"]
        body = {"parameters": dict(parameters or {}), "state": {"type": "SCHEDULED"}}
        return str(self.api(f"/deployments/{number}/create_flow_run", body)["id"])

    def flow_run(self, number: str) -> Any:
        """A run as it stands now."""
        return self.api(f"/flow_runs/{number}")

    def runs(self, deployment: str) -> list[Any]:
        """All runs of a deployment, the newest first."""
        wanted = {
            "deployments": {"name": {"any_": [deployment]}},
            "sort": "EXPECTED_START_TIME_DESC",
        }
        return list(self.api("/flow_runs/filter", wanted))

    def wait(self, number: str, *state_names: str, timeout: float = 120.0) -> Any:
        """Wait until the run is in a state of one of these names, or has ended where none is given.

        A run that ends in another state fails the test at once, with its log.
        """
        deadline = time.monotonic() + timeout
        while True:
            run = self.flow_run(number)
            name, ended = run["state"]["name"], run["state"]["type"] in FINISHED
            if name in state_names or (ended and not state_names):
                return run
            if ended or time.monotonic() > deadline:
                said = "\n".join(self.logs(number)[-40:])
                wanted = " or ".join(state_names) or "the end"
                pytest.fail(f"{name} ({run['state']['message']}), not {wanted}; its log:\n{said}")
            time.sleep(0.3)

    def logs(self, number: str) -> list[str]:
        """The lines that the run has logged so far."""
        wanted = {
            "logs": {"flow_run_id": {"any_": [number]}},
            "sort": "TIMESTAMP_ASC",
            "limit": 200,
        }
        lines: list[str] = []
        while found := self.api("/logs/filter", {**wanted, "offset": len(lines)}):
            lines += [line["message"] for line in found]
        return lines

    def emit(self, event: str, resource: str, payload: Mapping[str, Any]) -> None:
        """Send an event as a tool without a Prefect client does."""
        now = dt.datetime.now(dt.UTC).isoformat()
        self.api("/events", [{
            "id": str(uuid.uuid4()), "occurred": now, "event": event,
            "resource": {"prefect.resource.id": resource}, "payload": dict(payload),
        }])  # fmt: skip

    def smoke(self, name: str, *, epochs: int = 1, **changes: Any) -> dict[str, Any]:
        """Parameters of a quick retrain of the tickets under this name; changes are whole keys."""
        config: dict[str, Any] = yaml.safe_load(SMOKE.read_text(encoding="utf-8"))
        config.pop("deployment", None)
        config["training"] |= {"epochs": epochs}
        config |= {"name": name, "data": {"path": str(TICKETS)}, **changes}
        return {"config": config}

    def local(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``deployments/local.py`` against this server; output and errors in one."""
        return subprocess.run(
            [sys.executable, str(LOCAL), *arguments],
            env={**self.environment, **environment}, cwd=ROOT, check=False, timeout=180,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def prefect_environment(home: Path, url: str) -> dict[str, str]:
    """The environment of a server and worker of their own, and of the commands that use them."""
    return {
        **os.environ,
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": url,
        "PREFECT_LOGGING_TO_API_ENABLED": "true",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        # Set where it is deployed, and yet no deployment may carry it.
        "LONGTAIL_HOME": str(home),
    }


def start_local(
    *arguments: str, environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start ``deployments/local.py``; into a file, as a pipe that nobody reads would stop it."""
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, str(LOCAL), *arguments],
            env=dict(environment), cwd=ROOT, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Iterator[Served]:
    """``local.py up`` on a free port; stopped, and seen to be gone, at the end."""
    home = tmp_path_factory.mktemp("served")
    port = free_port()
    url, log = f"http://127.0.0.1:{port}/api", home / "up.log"
    environment = prefect_environment(home, url)
    up = ("up", "--port", str(port), "--home", str(home))
    process = start_local(*up, environment=environment, log=log)
    try:
        _wait_until_ready(process, log)
        yield Served(url, home, environment, process, log)
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert process.returncode == 0, log.read_text()[-4000:]
    with socket.socket() as gone:
        assert gone.connect_ex(("127.0.0.1", port)) != 0, "the server outlived its command"


def _wait_until_ready(process: subprocess.Popen[Any], log: Path) -> None:
    deadline = time.monotonic() + 240
    while READY not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(log.read_text()[-4000:])
        time.sleep(0.2)
