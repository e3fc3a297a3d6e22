"""A local Prefect server, a worker and the deployments of ``prefect.yaml``.

``python deployments/local.py up`` is what ``make ui`` runs, ``... deploy`` what ``make deploy``
runs; ``... setup`` makes what the deployments need beside themselves, and ``... check`` says what
is wrong. All can be repeated: what is there already is kept or updated.
"""
# ruff: noqa: INP001 - a script beside prefect.yaml, not a package

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from flows.deployment import WATCH, load_deployment, rendered
from flows.server_pages import read_all
from longtail.errors import LongtailError
from longtail.yaml_files import read_yaml

ROOT = Path(__file__).resolve().parents[1]
PREFECT_FILE = ROOT / "deployments" / "prefect.yaml"
POOL = "longtail"
PORT = 4200
_DAY = 24 * 60 * 60
_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The default of 10 s makes a press on Run feel dead.
    "PREFECT_WORKER_QUERY_SECONDS": "3",
    # Kept in memory, the slot of a run would leak when the server is killed.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
    # By default runs are kept for ever, and watch has one every few minutes; events stay 7 days.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(30 * _DAY),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    url = os.environ.get("PREFECT_API_URL") or _url(PORT)
    try:
        if given.command == "up":
            serve(_url(given.port), given.port, given.home.resolve(), given.profile)
            return 0
        wait_for_server(url, patience=30.0)
        if given.command == "check":
            return check(url)
        if given.command == "deploy":
            print(f"Deploying to the Prefect server at {url}", flush=True)
            deploy(_environment(url), given.profile)
        set_up(url, given.profile)
    except KeyboardInterrupt:
        print("Stopped.")
    except (RuntimeError, LongtailError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    profile = argparse.ArgumentParser(add_help=False)
    profile.add_argument(
        "--profile", metavar="FILE", help="settings of the retrains, schedule and notifications"
    )
    up = commands.add_parser(
        "up", parents=[profile], help="server, deployments and worker, until Ctrl-C"
    )
    up.add_argument("--port", type=int, default=PORT, help=f"of the server (default {PORT})")
    up.add_argument(
        "--home", type=Path, default=Path.cwd(), help="directory the runs work in (default: here)"
    )
    commands.add_parser(
        "deploy",
        parents=[profile],
        help="work pool and deployments on PREFECT_API_URL, and what setup makes",
    )
    commands.add_parser(
        "setup", parents=[profile], help="concurrency limit and automations on PREFECT_API_URL"
    )
    commands.add_parser("check", help="what is missing or stale on PREFECT_API_URL")
    return parser


def serve(url: str, port: int, home: Path, profile: str | None) -> None:
    """Start a server unless one answers, deploy, and work until interrupted.

    Args:
        url: of the server's API.
        port: on loopback, for a server that is started here.
        home: directory that the runs work in.
        profile: YAML file with the settings of the retrains.
    """
    content = _rendered(profile)  # a mistake in it is told before half a minute has gone
    environment, page = _environment(url), url.removesuffix("/api")
    environment.setdefault("PREFECT_UI_URL", page)  # of the links in notifications
    with contextlib.ExitStack() as stack:
        watched: dict[str, subprocess.Popen[bytes]] = {}
        if answers(url):
            print(f"A Prefect server answers on port {port} already; it is used and left running.")
        else:
            _refuse_taken(port)
            print(f"Starting a Prefect server on port {port}; the first time takes half a minute.")
            command = ["server", "start", "--host", "127.0.0.1", "--port", str(port)]
            watched["server"] = stack.enter_context(running(command, environment))
            wait_for_server(url, patience=240.0, server=watched["server"])
        deploy(environment, profile, content)
        set_up(url, profile)
        command = ["worker", "start", "--pool", POOL, "--type", "process"]
        worker = running(command, {**environment, "LONGTAIL_HOME": str(home)}, cwd=home)
        watched["worker"] = stack.enter_context(worker)
        print(
            f"\nOpen {page}/deployments and press Run on retrain-manual. Paths in its form are "
            f"relative to\n{home}. Ctrl-C stops what was started here.\n",
            flush=True,
        )
        _watch(watched)


def deploy(
    environment: Mapping[str, str], profile: str | None, content: Mapping[str, Any] | None = None
) -> None:
    """Create the work pool, if there is none, and create or update every deployment."""
    content = _rendered(profile) if content is None else content
    if _attempt(["work-pool", "inspect", POOL], environment).returncode != 0:
        _prefect(["work-pool", "create", POOL, "--type", "process"], environment)
    # Prefect would write the value of a set variable into the deployments, and with it a
    # directory of this machine; unset, the worker's own value counts.
    paused = _paused(environment["PREFECT_API_URL"])
    kept = [
        {**one, "paused": True} if one["name"] in paused else one for one in content["deployments"]
    ]
    content = {**content, "deployments": kept}
    clean = {name: value for name, value in environment.items() if name != "LONGTAIL_HOME"}
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "prefect.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        _prefect(["deploy", "--prefect-file", str(file), "--all"], clean)
    _end_watching(environment["PREFECT_API_URL"], content)
    names = ", ".join(deployment["name"] for deployment in content["deployments"])
    print(f"Deployed: {names}.", flush=True)


def _paused(url: str) -> set[str]:
    """The deployments that a person has paused; deploying again would have them go on."""
    with _client(url) as client:
        found = read_all(client, "/deployments/filter")
    return {one["name"] for one in found if one["paused"] and "longtail" in one["tags"]}


def _end_watching(url: str, content: Mapping[str, Any]) -> None:
    """Take the schedule of watch away where the profile has none: Prefect leaves it as it was."""
    watch = next(one for one in content["deployments"] if one["name"] == WATCH)
    if watch["schedules"]:
        return
    with _client(url) as client:
        found = client.read_deployment_by_name(f"{WATCH}/{WATCH}")
        for schedule in found.schedules:
            if schedule.slug is not None:  # one that a person has added has none
                client.delete_deployment_schedule(found.id, schedule.id)


def set_up(url: str, profile: str | None) -> None:
    """Make the concurrency limit and the automations, and say what there is."""
    told = load_deployment(profile).notifications
    with _client(url) as client:
        from flows.automations import set_up as set_up_server

        print("\n".join(set_up_server(told, client)), flush=True)


def check(url: str) -> int:
    """Say what is missing or stale on the server; 1 where something is."""
    from flows.server_check import problems

    with _client(url) as client:
        found = problems(client, [one["name"] for one in _rendered(None)["deployments"]], POOL)
    print("\n".join(found) or f"Nothing is missing or stale on the server at {url}.")
    return int(bool(found))


def wait_for_server(
    url: str, *, patience: float, server: subprocess.Popen[bytes] | None = None
) -> None:
    """Wait until the API answers.

    Raises:
        RuntimeError: it did not within ``patience`` seconds, or the server has ended.
    """
    deadline = time.monotonic() + patience
    while not answers(url):
        if server is not None and server.poll() is not None:
            raise RuntimeError(
                f"The Prefect server did not start (exit code {server.returncode}); its messages "
                "are above."
            )
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"No Prefect server answered at {url} for {patience:.0f} s. Start one with "
                "`make ui`, or name yours in PREFECT_API_URL."
            )
        time.sleep(0.5)


def answers(url: str) -> bool:
    """Whether the API says that it is well.

    Raises:
        RuntimeError: ``url`` is not one.
    """
    if not url.startswith(("http://", "https://")):
        raise RuntimeError(f"PREFECT_API_URL is {url!r}; expected http://HOST:PORT/api")
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as response:  # noqa: S310 - checked
            return bool(response.status == 200 and response.read() == b"true")
    except (urllib.error.URLError, OSError, ValueError):
        return False


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], cwd: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """A Prefect process that does not outlive the block."""
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "prefect", *command], env=dict(environment), cwd=cwd
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _watch(processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    while True:
        for name, process in processes.items():
            if process.poll() is not None:
                raise RuntimeError(
                    f"The {name} has ended (exit code {process.returncode}); its messages are "
                    "above. Start again with `make ui`: runs that were scheduled are kept."
                )
        time.sleep(0.5)


def _refuse_taken(port: int) -> None:
    with socket.socket() as taken:
        if taken.connect_ex(("127.0.0.1", port)) == 0:
            raise RuntimeError(
                f"Port {port} is taken by something that is not a Prefect server. Choose another "
                "one: make ui ARGS='--port 4201'"
            )


def _rendered(profile: str | None) -> dict[str, Any]:
    load_deployment(profile).notifications.resolved()  # an unset variable is told before anything
    return rendered(read_yaml(PREFECT_FILE), profile)


@contextlib.contextmanager
def _client(url: str) -> Iterator[Any]:
    os.environ["PREFECT_API_URL"] = url  # Prefect's settings are read when it is imported
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client


def _prefect(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run one Prefect command; its pages of advice are shown only when it fails."""
    done = _attempt(command, environment)
    if done.returncode != 0:
        raise RuntimeError(f"prefect {' '.join(command)} failed:\n{done.stdout}")


def _attempt(
    command: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "prefect", "--no-prompt", *command],
        env=dict(environment),
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _environment(url: str) -> dict[str, str]:
    return {**_ENVIRONMENT, **os.environ, "PREFECT_API_URL": url}


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/api"


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
