"""A local Prefect server, a worker and the deployments of ``prefect.yaml``.

``python deployments/local.py up`` is what ``make ui`` runs, ``... deploy`` what ``make deploy``
runs. Both can be repeated: what is there already is kept or updated.
"""
# ruff: noqa: INP001 - a script beside prefect.yaml, not a package

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PREFECT_FILE = "deployments/prefect.yaml"
POOL = "longtail"
PORT = 4200
_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The default of 10 s makes a press on Run feel dead.
    "PREFECT_WORKER_QUERY_SECONDS": "3",
    # Kept in memory, the slot of a run would leak when the server is killed.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="server, deployments and worker, until Ctrl-C")
    up.add_argument("--port", type=int, default=PORT, help=f"of the server (default {PORT})")
    up.add_argument(
        "--home", type=Path, default=Path.cwd(), help="directory the runs work in (default: here)"
    )
    commands.add_parser(
        "deploy", help="create the work pool and the deployments on PREFECT_API_URL"
    )
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if given.command == "deploy":
            url = os.environ.get("PREFECT_API_URL") or _url(PORT)
            print(f"Deploying to the Prefect server at {url}", flush=True)
            wait_for_server(url, patience=30.0)
            deploy(_environment(url))
        else:
            serve(_url(given.port), given.port, given.home.resolve())
    except KeyboardInterrupt:
        print("Stopped.")
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def serve(url: str, port: int, home: Path) -> None:
    """Start a server unless one answers, deploy, and work until interrupted.

    Args:
        url: of the server's API.
        port: on loopback, for a server that is started here.
        home: directory that the runs work in.
    """
    environment = _environment(url)
    with contextlib.ExitStack() as stack:
        watched = []
        if not answers(url):
            print(f"Starting a Prefect server on port {port}; the first time takes half a minute.")
            command = ["server", "start", "--host", "127.0.0.1", "--port", str(port)]
            server = stack.enter_context(running(command, environment))
            watched.append(server)
            wait_for_server(url, patience=120.0, server=server)
        deploy(environment)
        command = ["worker", "start", "--pool", POOL, "--type", "process"]
        worker = running(command, {**environment, "LONGTAIL_HOME": str(home)}, cwd=home)
        watched.append(stack.enter_context(worker))
        page = url.removesuffix("/api")
        print(
            f"\nOpen {page}/deployments and press Run on retrain-manual. Paths in its form are "
            f"relative to\n{home}. Ctrl-C stops the worker and the server.\n",
            flush=True,
        )
        while all(process.poll() is None for process in watched):
            time.sleep(0.5)
        raise RuntimeError("The server or the worker has ended; its messages are above.")


def deploy(environment: Mapping[str, str]) -> None:
    """Create the work pool, if there is none, and create or update every deployment."""
    if _attempt(["work-pool", "inspect", POOL], environment).returncode != 0:
        _prefect(["work-pool", "create", POOL, "--type", "process"], environment)
    # Prefect would write the value of a set variable into the deployments, and with it a
    # directory of this machine; unset, the worker's own value counts.
    clean = {name: value for name, value in environment.items() if name != "LONGTAIL_HOME"}
    _prefect(["deploy", "--prefect-file", PREFECT_FILE, "--all"], clean)
    print(f"Deployed {PREFECT_FILE}: retrain-weekly (Mondays 06:00 UTC) and retrain-manual")


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
                "are above. If the port is taken, choose another one with --port."
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
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
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
