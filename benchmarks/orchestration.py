"""What a retrain costs beyond the work of its stages: starting, Prefect, and what lies between.

    python benchmarks/orchestration.py --run DIR -- longtail demo --out DIR
    python benchmarks/orchestration.py --run DIR --seconds 312.4

Runs a command whose retrain writes to DIR (or takes the seconds that it took) and compares its wall
time with the seconds that each stage noted for its own work in ``stages.jsonl``. It fails where
more than ``--limit`` of the wall time is not theirs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FINISHED = (0, 3)


@dataclass(frozen=True)
class Cost:
    """Where the wall time of a run went.

    Attributes:
        wall: seconds of the command.
        stages: seconds of each stage's own work.
    """

    wall: float
    stages: dict[str, float]

    @property
    def overhead(self) -> float:
        """Seconds that are no stage's."""
        return max(0.0, self.wall - sum(self.stages.values()))

    @property
    def share(self) -> float:
        """Of the wall time, in [0, 1]."""
        return self.overhead / self.wall

    def __str__(self) -> str:
        lines = [f"{name:20s} {seconds:9.1f} s  {seconds / self.wall:6.1%}"
                 for name, seconds in self.stages.items()]  # fmt: skip
        lines.append(f"{'everything else':20s} {self.overhead:9.1f} s  {self.share:6.1%}")
        lines.append(f"{'wall time':20s} {self.wall:9.1f} s")
        return "\n".join(lines)


def read_stages(run: Path) -> dict[str, float]:
    """Seconds of each stage of a run, in the order in which they were done."""
    stages: dict[str, float] = {}
    for line in (run / "stages.jsonl").read_text(encoding="utf-8").splitlines():
        noted = json.loads(line)
        stages[noted["stage"]] = stages.get(noted["stage"], 0.0) + float(noted["seconds"])
    return stages


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, if there is one, and print the cost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", required=True, type=Path, help="directory of the retrain")
    parser.add_argument("--seconds", type=float, help="wall time of the command that made it")
    parser.add_argument("--limit", type=float, default=0.10)
    parser.add_argument("command", nargs="*", help="after --: the command that makes it")
    given = parser.parse_args(arguments)
    if (given.seconds is None) == (not given.command):
        parser.error("give either --seconds or a command after --")
    wall = given.seconds
    if given.command:
        started = time.monotonic()
        code = subprocess.run(given.command, check=False).returncode
        wall = time.monotonic() - started
        if code not in FINISHED:
            print(f"the command ended with {code}", file=sys.stderr)
            return 1
    cost = Cost(wall, read_stages(given.run))
    print(cost)
    return 0 if cost.share <= given.limit else 1


if __name__ == "__main__":
    sys.exit(main())
