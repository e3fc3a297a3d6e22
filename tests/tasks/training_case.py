"""A training child that fails as asked: the real one, with an accident put into its losses.

    python training_case.py ACCIDENT

``ACCIDENT_FILE`` is where the child notes its process before it dies or hangs.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import torch

from longtail.trainer import StepLoss

PLAIN = StepLoss.__call__
FILE = os.environ.get("ACCIDENT_FILE", "")
CPU = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"
)


def too_large(error, limit=4, after=0):
    """Let memory run out in passes of more than ``limit`` texts, once some went well."""
    count = 0

    def call(self, outputs, labels, num_items_in_batch=None):
        nonlocal count
        count += 1
        if count > after and len(outputs) > limit:
            raise error
        return PLAIN(self, outputs, labels, num_items_in_batch)

    return call


def at_step(number, accident, *, once):
    """Let the accident happen at the training's n-th micro-batch, always or for the first time."""
    count = 0

    def call(self, outputs, labels, num_items_in_batch=None):
        nonlocal count
        count += 1
        if count == number and not (once and Path(FILE).exists()):
            with Path(FILE).open("a") as file:
                file.write(f"{os.getpid()}\n")
            accident()
        return PLAIN(self, outputs, labels, num_items_in_batch)

    return call


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(600)


def defect():
    raise ZeroDivisionError("a defect")


ACCIDENTS = {
    "cuda-later": too_large(torch.OutOfMemoryError("CUDA out of memory."), after=14),
    "cpu": too_large(RuntimeError(CPU)),
    "always": too_large(torch.OutOfMemoryError("CUDA out of memory."), limit=0),
    "killed-once": at_step(15, kill, once=True),
    "killed-always": at_step(2, kill, once=False),
    "hanging": at_step(15, hang, once=True),
    "defect": at_step(2, defect, once=False),
}

if __name__ == "__main__":
    StepLoss.__call__ = ACCIDENTS[sys.argv[1]]
    from tasks.training_child import main

    sys.exit(main())
