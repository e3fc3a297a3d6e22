"""The processes that share one training, and what they tell each other.

``torchrun`` says through the environment how many there are. A process alone is the common case,
and for it nothing is set up.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from longtail.config import TrainingSettings

Value = TypeVar("Value")

# A process that dies is noticed by torchrun. One that waits while another computes activations must
# not be taken for dead.
_TIMEOUT = timedelta(days=1)


@dataclass(frozen=True)
class Processes:
    """This process among those that share the training.

    Attributes:
        rank: of this process, from 0.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """This process's rows of something that all of them divide: every ``count``-th."""
        return slice(self.rank, None, self.count)

    def wait(self) -> None:
        """Wait until all have come here."""
        if self.count > 1:
            distributed.barrier()

    @contextlib.contextmanager
    def first_of_machine_first(self) -> Iterator[None]:
        """The machine's first process runs the block; the others follow when it is done."""
        goes_first = self.count == 1 or int(os.environ.get("LOCAL_RANK", "0")) == 0
        if not goes_first:
            self.wait()
        yield
        if goes_first:
            self.wait()

    def told_by_first(self, value: Value) -> Value:
        """The first process's value, whatever the others hold."""
        values: list[Any] = [value]
        if self.count > 1:
            distributed.broadcast_object_list(values, src=0)
        result: Value = values[0]
        return result

    def gathered(self, value: Value) -> list[Value]:
        """The values of all processes, by rank."""
        values: list[Any] = [value]
        if self.count > 1:
            values = [None] * self.count
            distributed.all_gather_object(values, value)
        return values


ALONE = Processes()


def join_processes() -> Processes:
    """This process's place; where there are several, the group is formed and the device chosen.

    NCCL between CUDA devices, gloo between processes on the CPU.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ALONE
    if not distributed.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if cuda else "gloo", timeout=_TIMEOUT)
    return Processes(distributed.get_rank(), distributed.get_world_size())


def number_of_processes(settings: TrainingSettings) -> int:
    """How many processes the settings ask for: ``auto`` is one per CUDA device, at least one."""
    if settings.processes == "auto":
        return max(1, torch.cuda.device_count())
    return settings.processes
