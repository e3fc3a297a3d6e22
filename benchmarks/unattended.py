"""A simulated year without anybody: weekly annotations in the inbox, and what grows meanwhile.

    python benchmarks/unattended.py [--weeks 52] [--out build/unattended]

A real Prefect server, a worker and the deployments; each week exports are dropped into the inbox,
the watch looks at it on the week's date, and its event starts the retrain. Some weeks bring
nothing: then the weekly retrain is started, and finds nothing new. One brings garbage, one a burst.
After each week everything that could grow is measured. It fails if something grows faster in the
last third of the year than in the one before, or if a week without annotations takes a minute.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NAME = "desk"
MONDAY = dt.datetime(2024, 5, 20, 6, tzinfo=dt.UTC)
MARK = "LONGTAIL_UNATTENDED"
_BUSY = 503
ENDED = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
QUIET_EVERY, GARBAGE, BURST = 7, 11, 17
WEEKLY_TEXTS, BURST_TEXTS = 12, 120
PATIENCE = 900.0
QUIET_SECONDS = 60.0
# Parts that hold something of every week by design; they may grow, but not ever faster.
KEPT = ("runs", "dataset", "ledger", "journals", "mlflow", "prefect", "inbox")
# Growth a week that is noise: of a part's size, and in bytes or megabytes of memory.
_NOISE, _LEAST = 0.01, 64 << 10
PROFILE: dict[str, Any] = {
    "encoder": {"source": "tiny"},
    "training": {"epochs": 1, "batch_size": 16, "max_length": 64, "learning_rate": 0.004,
                 "head_learning_rate": 0.004, "trainable_layers": "all"},
    "loss": {"name": "db"},
    "gate": {"draws": 500, "min_test_texts": 50, "min_group_positives": 20, "group_margin": 1,
             "refresh_margin": 1},
    "publish": {"serve_check_texts": 4},
    "retention": {"runs": 4, "datasets": 4, "versions": 4},
    "stages": {"max_gigabytes": 0.02},
}  # fmt: skip


@dataclass(frozen=True)
class Week:
    """What was measured at the end of a week.

    Attributes:
        number: from 1.
        kind: of what came: usual, quiet, garbage or burst.
        state: name of the retrain's state; empty where none was started.
        seconds: from the dropped file, or the start of the retrain, to its end.
        sizes: bytes by part, of the store and of Prefect's database.
        processes: of the server, the worker and all they have started.
        memory: resident bytes of the server and of the worker.
    """

    number: int
    kind: str
    state: str
    seconds: float
    sizes: Mapping[str, int]
    processes: int
    memory: Mapping[str, int] = field(default_factory=dict)

    @property
    def series(self) -> dict[str, float]:
        """Everything that could grow, under one name each."""
        memory = {f"memory of the {who}": size for who, size in self.memory.items()}
        return {**self.sizes, **memory, "processes": self.processes}


def kind_of(week: int) -> str:
    """What a week brings."""
    if week == GARBAGE:
        return "garbage"
    if week == BURST:
        return "burst"
    return "quiet" if week % QUIET_EVERY == 0 else "usual"


def growth(values: Sequence[float]) -> float:
    """Slope of the least-squares line through values of successive weeks."""
    if len(values) < 2:
        return 0.0
    return float(statistics.linear_regression(range(len(values)), values).slope)


def verdicts(weeks: Sequence[Week]) -> list[dict[str, Any]]:
    """For each series: growth a week in the second and in the last third, and what it means.

    ``flat`` within noise; ``steady``: a part that keeps something of every week grows, but not
    faster than before; ``GROWS`` otherwise.
    """
    third = max(1, len(weeks) // 3)
    before, last = weeks[third:-third], weeks[-third:]
    found = []
    for name in weeks[-1].series if weeks else ():
        size = weeks[-1].series[name]
        noise = 0.1 if name == "processes" else max(_NOISE * size, _LEAST)
        earlier, now = (growth([week.series[name] for week in part]) for part in (before, last))
        said = "flat"
        if now > noise or (name in KEPT and now > 0):
            said = "steady" if name in KEPT and now <= max(1.5 * earlier, noise) else "GROWS"
        found.append({"series": name, "at the end": size, "growth before": earlier,
                      "growth at the end": now, "verdict": said})  # fmt: skip
    return found


def broken(weeks: Sequence[Week]) -> list[str]:
    """What a year without anybody must not show, as sentences."""
    said = [f"{one['series']} grows by {one['growth at the end']:,.0f} a week and not as before"
            for one in verdicts(weeks) if one["verdict"] == "GROWS"]  # fmt: skip
    for week in weeks:
        if week.kind == "quiet" and week.seconds > QUIET_SECONDS:
            said.append(f"week {week.number}, which brought nothing, took {week.seconds:.0f} s")
        expected = {"quiet": {"Unchanged"}, "garbage": {""}}.get(
            week.kind, {"Promoted", "Blocked", "Unchanged"}
        )
        if week.state not in expected:
            said.append(f"week {week.number} ({week.kind}) ended as {week.state or 'nothing'!r}")
    return said


def as_markdown(weeks: Sequence[Week]) -> str:
    """The weeks, and what became of each series."""
    parts = list(weeks[-1].sizes)
    lines = [
        f"| week | brought | ended | s | {' | '.join(parts)} | processes | server MB | worker MB |",
        "|---" * (len(parts) + 7) + "|",
    ]
    for week in weeks:
        memory = [f"{week.memory.get(who, 0) / 1e6:.0f}" for who in ("server", "worker")]
        cells = [str(week.number), week.kind, week.state, f"{week.seconds:.0f}",
                 *(f"{week.sizes[part] / 1e6:.2f}" for part in parts), str(week.processes),
                 *memory]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Sizes in MB. Growth a week, in bytes or numbers:", ""]
    lines += [
        "| series | at the end | growth before | growth at the end | |",
        "|---|---|---|---|---|",
    ]
    for one in verdicts(weeks):
        numbers = (one["at the end"], one["growth before"], one["growth at the end"])
        cells = [one["series"], *(f"{number:,.1f}" for number in numbers), one["verdict"]]
        lines.append(f"| {' | '.join(cells)} |")
    quiet = [week.seconds for week in weeks if week.kind == "quiet"]
    if quiet:
        lines += ["", f"A week with nothing new: {statistics.median(quiet):.1f} s (median)."]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Office:
    """The server, the worker and the store of the year.

    Attributes:
        home: everything is below it.
        url: of the API.
        up: the command that keeps server and worker.
        idle: processes while nothing runs.
    """

    home: Path
    url: str
    up: subprocess.Popen[bytes]
    idle: int = 0

    @property
    def store(self) -> Path:
        """What persists of the model."""
        return self.home / "longtail-store"

    def api(self, path: str, body: Any = None) -> Any:
        """One call of the API."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"}
        )
        end = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:  # its database is busy: asked to come again
                if error.code != _BUSY or time.monotonic() > end:
                    raise
                time.sleep(1.0)

    def runs(self, deployment: str) -> list[Any]:
        """Runs of a deployment that were not left to the schedule, the newest first."""
        wanted = {"deployments": {"name": {"any_": [deployment]}},
                  "limit": 100, "sort": "EXPECTED_START_TIME_DESC"}  # fmt: skip
        return [run for run in self.api("/flow_runs/filter", wanted) if not run["auto_scheduled"]]

    def ended(self, number: str) -> str:
        """Wait for a flow run; gives its state's name."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            state = self.api(f"/flow_runs/{number}")["state"]
            if state["type"] in ENDED:
                return str(state["name"])
            time.sleep(0.5)
        return "not ended"

    def started_by_event(self, known: set[str]) -> str | None:
        """The flow run that an event has started; None where none comes within a minute."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            new = [run["id"] for run in self.runs("retrain-on-annotations")
                   if run["id"] not in known]  # fmt: skip
            if new:
                return str(new[0])
            time.sleep(0.5)
        return None

    def start(self, config: Mapping[str, Any]) -> str:
        """Start the retrain by hand, as the schedule does."""
        wanted = {"deployments": {"name": {"any_": ["retrain-manual"]}}}
        (deployment,) = self.api("/deployments/filter", wanted)
        body = {"parameters": {"config": config}, "state": {"type": "SCHEDULED"}}
        return str(self.api(f"/deployments/{deployment['id']}/create_flow_run", body)["id"])

    def settle(self) -> None:
        """Let the run's process end, which it does a moment after its state; half a minute."""
        end = time.monotonic() + 30
        while len(marked()) > self.idle and time.monotonic() < end:
            time.sleep(0.5)

    def measure(self) -> tuple[dict[str, int], int, dict[str, int]]:
        """Bytes by part, processes, and the memory of server and worker."""
        model = self.store / NAME
        parts = {
            **{part: size_of(model / part)
               for part in ("runs", "dataset", "ledger", "bundles", "inbox")},
            "journals": sum(size_of(path) for path in model.glob("*.json*")),
            "cache": size_of(self.store / "cache"),
            "mlflow": sum(size_of(path) for path in self.store.glob("ml*")),
            "prefect": sum(size_of(path) for path in (self.home / "prefect").glob("*.db*")),
        }  # fmt: skip
        numbers = marked()
        memory = {who: max((resident(number) for number in numbers
                            if f"prefect {who} start" in command_of(number)), default=0)
                  for who in ("server", "worker")}  # fmt: skip
        return parts, len(numbers), memory


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a directory; linked files count once."""
    if path.is_file():
        return path.stat().st_size
    files = {(stat.st_dev, stat.st_ino): stat.st_size
             for file in path.rglob("*") if file.is_file() for stat in [file.stat()]}  # fmt: skip
    return sum(files.values())


def marked() -> list[int]:
    """Every process of this year."""
    wanted = f"{MARK}={os.getpid()}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
        except OSError:  # just gone, or somebody else's
            continue
    return found


def command_of(number: int) -> str:
    """A process's command line; empty where it is gone."""
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def resident(number: int) -> int:
    """Resident bytes of a process."""
    try:
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def make_exports(weeks: int) -> list[str]:
    """What comes each week, as JSON Lines; garbage is not even that, and a quiet week empty."""
    import random

    sys.path.insert(0, str(ROOT / "tests" / "fixtures"))
    import make_tickets

    desk, rng = make_tickets.read_desk(), random.Random(7)
    week_one, _ = make_tickets.make_both_weeks()
    exports, first = [make_tickets.to_jsonl(week_one)], len(week_one) + 1
    names = list(desk.supports)
    weights = [support[0] for support in desk.supports.values()]
    for week in range(1, weeks + 1):
        kind = kind_of(week)
        if kind in ("quiet", "garbage"):
            exports.append("\x00 not an export" if kind == "garbage" else "")
            continue
        count = BURST_TEXTS if kind == "burst" else WEEKLY_TEXTS
        hands = [
            sorted(set(rng.choices(names, weights, k=rng.choice((1, 1, 2))))) for _ in range(count)
        ]
        rows = make_tickets.make_week(
            desk, hands, first, MONDAY + dt.timedelta(weeks=week - 1), rng
        )
        first += count
        exports.append(make_tickets.to_jsonl(rows))
    return exports


def live(office: Office, week: int, export: str, config: Mapping[str, Any]) -> Week:
    """One week: what comes is dropped, watched, trained on, and the end of it measured."""
    from flows.config import WatchConfig
    from flows.watch import look_once

    kind, now = kind_of(week), MONDAY + dt.timedelta(weeks=week)
    started = time.monotonic()
    state = ""
    inbox = office.home / "inbox"
    if kind == "quiet":
        state = office.ended(office.start({**config, "data": {}}))
    else:
        known = {run["id"] for run in office.runs("retrain-on-annotations")}
        (inbox / f"week{week:02d}.jsonl").write_text(export, encoding="utf-8")
        watch = {"inbox": str(inbox), "min_annotations": 1, "settle_seconds": 0}
        look_once(
            WatchConfig.model_validate({"name": NAME, "store": str(office.store), "watch": watch}),
            now,
        )
        number = None if kind == "garbage" else office.started_by_event(known)
        state = "" if number is None else office.ended(number)
    seconds = time.monotonic() - started
    office.settle()
    return Week(week, kind, state, seconds, *office.measure())


def live_through(office: Office, weeks: int, out: Path) -> list[Week]:
    """The first release, and then the weeks."""
    exports = make_exports(weeks)
    config = {**PROFILE, "name": NAME, "store": str(office.store)}
    first = office.home / "first.jsonl"
    first.write_text(exports[0], encoding="utf-8")
    print("First release:", office.ended(office.start({**config, "data": {"path": str(first)}})))
    done: list[Week] = []
    for week in range(1, weeks + 1):
        done.append(live(office, week, exports[week], config))
        last = done[-1]
        total = sum(last.sizes.values()) / 1e6
        print(
            f"week {week:2d}  {last.kind:7s}  {last.state:10s} {last.seconds:5.0f} s  "
            f"{total:.1f} MB  {last.processes} processes",
            flush=True,
        )
        out.joinpath("weeks.json").write_text(json.dumps([vars(one) for one in done], indent=1))
    return done


def open_office(home: Path) -> Office:
    """Start server and worker with the year's profile."""
    import yaml

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    profile = home / "profile.yaml"
    store = str(home / "longtail-store")
    profile.write_text(yaml.safe_dump({**PROFILE, "name": NAME, "store": store}))
    url = f"http://127.0.0.1:{port}/api"
    os.environ.update(
        PREFECT_API_URL=url, PREFECT_HOME=str(home / "prefect"), DO_NOT_TRACK="1",
        PREFECT_SERVER_ANALYTICS_ENABLED="false", PREFECT_WORKER_QUERY_SECONDS="2",
        LONGTAIL_HOME=str(home), LONGTAIL_SLOTS=str(home / "slots"),
    )  # fmt: skip
    command = [sys.executable, str(ROOT / "deployments" / "local.py"), "up", "--port", str(port),
               "--home", str(home), "--profile", str(profile)]  # fmt: skip
    log = home / "up.log"
    with log.open("wb") as output:
        environment = {**os.environ, MARK: str(os.getpid()), "PYTHONPATH": str(ROOT)}
        up = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    end = time.monotonic() + PATIENCE
    while "press Run on retrain-manual" not in log.read_text(errors="replace"):
        if up.poll() is not None or time.monotonic() > end:
            up.terminate()
            raise SystemExit(f"the server did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.5)
    return Office(home, url, up, len(marked()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the year, write the table, say what grows."""
    # Ended from outside, it still stops the server that it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weeks", type=int, default=52)
    parser.add_argument("--out", type=Path, default=Path("build/unattended"))
    given = parser.parse_args(arguments)
    out = given.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    (out / "home" / "inbox").mkdir(parents=True)
    office = open_office(out / "home")
    try:
        weeks = live_through(office, given.weeks, out)
    finally:
        office.up.terminate()
        office.up.wait(60)
    left = marked()
    table = as_markdown(weeks)
    (out / "unattended.md").write_text(table, encoding="utf-8")
    print(table)
    said = broken(weeks) + ([f"{len(left)} processes are left"] if left else [])
    print("\n".join(f"BROKEN: {one}" for one in said) or f"{len(weeks)} weeks, nothing broken.")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
