"""Which process is killed, and when: drawn from a seed, told in words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["flow", "machine", "trainer", "worker"]
# In this order: a seed's kind is the same whatever is drawn, and each is there in ten seeds.
KINDS: tuple[Kind, ...] = (
    "worker", "flow", "machine", "trainer", "flow", "machine", "trainer", "machine", "flow",
    "trainer",
)  # fmt: skip
START = "start"


@dataclass(frozen=True)
class Moment:
    """When to kill: some seconds after a stage was noted as done.

    Attributes:
        seed: that it was drawn from.
        kind: which process is killed; ``machine`` is every process of the run at once.
        after: the stage; ``start`` is the start of the process.
        seconds: to wait then; for a trainer, after it has begun to train.
    """

    seed: int
    kind: Kind
    after: str
    seconds: float

    def __str__(self) -> str:
        since = "the trainer's start" if self.kind == "trainer" else self.after
        return f"seed {self.seed:4d}  {self.kind:7s}  {self.seconds:5.2f} s after {since}"


def draw(seed: int, timeline: Sequence[tuple[str, float]]) -> Moment:
    """The moment of a seed.

    Half of them are uniform in the time that an undisturbed run takes, the others uniform among
    its stages: those of the end are short, and the champion moves there.

    Args:
        seed: the same one, the same moment.
        timeline: stages of an undisturbed run in their order, with the seconds until each is done
            since the one before.
    """
    rng = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    seconds = [length for _, length in timeline]
    by_time = rng.random() < 0.5
    place = rng.choices(range(len(timeline)), seconds if by_time else None)[0]
    after = timeline[place - 1][0] if place else START
    if kind == "trainer":
        trainings = [length for stage, length in timeline if stage.startswith("train-")]
        return Moment(seed, kind, after, rng.uniform(0.0, max(trainings)))
    return Moment(seed, kind, after, rng.uniform(0.0, seconds[place]))
