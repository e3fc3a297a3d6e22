"""Kill retrains with -9 at random moments; after each the store is whole, and what follows is as if
nothing had been.

    python tests/chaos/kill_runs.py --seeds 1,2,3
    python tests/chaos/kill_runs.py --kills 100

A seed draws which process is killed and when: the flow's, all of a run's at once, the trainer's, or
the worker's. Several seeds wear down one store, each killing the run that takes up what the one
before has left; the run that is left to end must come to what an undisturbed one came to: the same
decision, and bit by bit the same predictions, thresholds and metrics.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import processes
from desk import NAME, SLOW, TEXTS, WEEK_ONE, WEEK_TWO, Desk, Run, desk, local, store_checks
from moments import START, Moment, draw
from results import Result, decision_of, result_of

from flows.runtime import prepare_environment
from longtail.config import PublishSettings
from longtail.errors import LongtailError
from tasks.promotion import INTENT
from tasks.publishing import open_promotions

KILLS_IN_A_ROW = 3
PATIENCE = 20.0


class ChaosError(AssertionError):
    """Something that must hold after every kill does not."""


@dataclass(frozen=True)
class Reference:
    """The run that nobody disturbed.

    Attributes:
        result: what it came to.
        timeline: its stages, with the seconds until each was done since the one before.
        champion: the version that was live before it.
    """

    result: Result
    timeline: tuple[tuple[str, float], ...]
    champion: int


@dataclass
class Bench:
    """What is tried on the desk, and how often so far."""

    desk: Desk
    reference: Reference
    run: Run = field(init=False)
    kills: int = 0
    in_a_row: int = 0
    deployed: bool = False
    moved: bool = False

    def strike(self, moment: Moment) -> None:
        """Kill one run at the moment drawn, and look at what is left."""
        if self.in_a_row == 0:
            self.desk.renew()
        if moment.kind == "trainer":  # with all arms in the cache none would be trained
            for arm in ("bce", "candidate-db"):
                shutil.rmtree(self.desk.store / "cache" / "stages" / f"train-{arm}", True)
        self.moved = self._champion() != self.reference.champion
        asked = self._begin(moment)
        hit = self._kill(moment, asked)
        self.kills += hit is not None
        self.in_a_row += 1
        print(f"{moment}: {'it ended before' if hit is None else f'killed in {hit}'}", flush=True)
        goes_on = moment.kind in ("trainer", "worker")  # also where its trainer had ended before
        left = processes.outlived(self.run.mark, SLOW if goes_on else PATIENCE)
        self.run.process.wait()
        if asked is not None:
            self.desk.forget(asked)
        if left:
            raise ChaosError(f"these outlived their run: {left}")
        store_checks.check_readable(self.desk.store, NAME)
        if self._ended() or self._champion() != self.reference.champion:
            self.settle()

    def settle(self) -> None:
        """Let a run end, unless the last one has, and hold it to the reference."""
        if self.in_a_row == 0:
            return
        started = time.monotonic()
        moved = self.moved
        if not self._ended():
            moved = self._champion() != self.reference.champion
            self.run = self.desk.start(WEEK_TWO)
            self.run.process.wait(SLOW)
        said = self._compare(moved=moved)
        took = time.monotonic() - started
        print(f"{'':11s}{said}, {took:.0f} s; the store is whole", flush=True)
        self.in_a_row = 0

    def _begin(self, moment: Moment) -> str | None:
        if moment.kind != "worker":
            self.run = self.desk.start(WEEK_TWO)
            return None
        if not self.deployed:
            local.deploy(self.desk.environment, None)
            self.deployed = True
        asked = self.desk.ask(WEEK_TWO)
        self.run = self.desk.start_worker()
        return asked

    def _kill(self, moment: Moment, asked: str | None) -> str | None:
        """The stage that was hit; None where the run had ended before."""
        if moment.kind == "trainer":
            return self._kill_trainer(moment.seconds)
        end = time.monotonic() + SLOW
        while moment.after != START and moment.after not in self.run.stages():
            if self.run.process.poll() is not None or time.monotonic() > end:
                return None
            if asked is not None and self._ended():
                break  # the worker lives on without its run
            time.sleep(0.02)
        time.sleep(moment.seconds)
        if self.run.process.poll() is not None:
            return None
        hit = self._stage()
        everything = moment.kind == "machine"
        processes.kill(processes.marked(self.run.mark) if everything else [self.run.process.pid])
        return hit

    def _kill_trainer(self, seconds: float) -> str | None:
        while self.run.process.poll() is None:
            if processes.trainers(self.run.mark):
                time.sleep(seconds)
                found = processes.trainers(self.run.mark)
                hit = self._stage()
                processes.kill(found)
                return hit if found else None
            time.sleep(0.02)
        return None

    def _stage(self) -> str:
        done = self.run.stages()
        names = [stage for stage, _ in self.reference.timeline]
        if self.run.directory is None:
            return "its start"
        left = [name for name in names if name not in done]
        return left[0] if left else "its end"

    def _ended(self) -> bool:
        """Whether the last run came to its outcome."""
        return "housekeeping" in self.run.stages()

    def _champion(self) -> int | None:
        champion = open_promotions(PublishSettings(), self.desk.store, NAME).registry.champion()
        return None if champion is None else champion.number

    def _compare(self, *, moved: bool) -> str:
        """In words what the run that ended came to.

        A run that was killed after the champion had moved has done its work: what follows finds
        nothing new, or judges the same candidate against itself. Then only the numbers count.
        """
        promoted = store_checks.check_whole(self.desk.store, NAME, TEXTS)
        if (self.desk.store / NAME / INTENT).exists():
            raise ChaosError("the intent of a promotion is left")
        judged = [path for path in sorted(self.run.runs.glob("*"))
                  if path.name > max(self.run_base) and decision_of(path)]  # fmt: skip
        if not judged:
            raise ChaosError(f"no run came to a verdict:\n{self.run.said()}")
        found = result_of(judged[-1])
        differing = found.differences(self.reference.result, decision=not moved)
        if differing:
            raise ChaosError(f"{judged[-1]}: not as undisturbed: {'; '.join(differing)}")
        if len(promoted) < 2:
            raise ChaosError("nothing was promoted, and undisturbed it is")
        ended = "found its work done" if moved else found.decision
        return f"next run: {ended}, as undisturbed"

    @property
    def run_base(self) -> list[str]:
        """Names of the runs that the store had from the start."""
        return [path.name for path in (self.desk.base / NAME / "runs").glob("*")]


def make_reference(place: Desk) -> Reference:
    """Make the first champion, and then the run that nobody disturbs."""
    print("A first champion …", flush=True)
    _finish(place.start(WEEK_ONE))
    place.keep()
    print("A run that nobody disturbs …", flush=True)
    run = place.start(WEEK_TWO)
    timeline = _watched(run)
    _finish(run)
    assert run.directory is not None
    result = result_of(run.directory)
    if result.decision != "promote":
        raise ChaosError(f"the undisturbed run did not promote:\n{run.said()}")
    print("  ".join(f"{stage} {seconds:.1f} s" for stage, seconds in timeline), flush=True)
    return Reference(result, timeline, 1)


def _watched(run: Run) -> tuple[tuple[str, float], ...]:
    seen: list[tuple[str, float]] = []
    last = run.started
    while run.process.poll() is None:
        for stage in run.stages()[len(seen) :]:
            now = time.monotonic()
            seen.append((stage, now - last))
            last = now
        time.sleep(0.02)
    return tuple(seen)


def _finish(run: Run) -> None:
    if run.process.wait(SLOW) != 0:
        raise ChaosError(f"it ended with {run.process.returncode}:\n{run.said()}")


def try_all(home: Path, seeds: Iterable[int], kills: int | None) -> int:
    """Strike once per seed; returns how many kills came in time."""
    with desk(home) as place:
        bench = Bench(place, make_reference(place))
        for seed in seeds:
            bench.strike(draw(seed, bench.reference.timeline))
            if bench.in_a_row >= KILLS_IN_A_ROW:
                bench.settle()
            if kills is not None and bench.kills >= kills:
                break
        bench.settle()
        return bench.kills


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seeds", default="1,2,3", help="comma-separated (default 1,2,3)")
    parser.add_argument("--kills", type=int, help="go on from seed --first until so many kills")
    parser.add_argument("--first", type=int, default=1, help="first seed of --kills")
    given = parser.parse_args(arguments)
    prepare_environment()
    # Ended from outside, it still stops the server that it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seeds: Iterable[int] = [int(seed) for seed in given.seeds.split(",")]
    if given.kills is not None:
        seeds = itertools.count(given.first)
    home = Path(tempfile.mkdtemp(prefix="longtail-chaos-"))
    started = time.monotonic()
    try:
        kills = try_all(home, seeds, given.kills)
    except (AssertionError, LongtailError, subprocess.TimeoutExpired) as error:
        print(f"FAILED: {error}\nEverything is left in {home}", file=sys.stderr)
        return 1
    shutil.rmtree(home, ignore_errors=True)
    print(f"{kills} kills in {time.monotonic() - started:.0f} s, and every store was whole.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
