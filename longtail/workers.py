"""Using all cores by doing several batches at once, each on one thread.

Several threads inside one operation meet at a barrier after every operation, many thousand times
per second. As soon as another process wants a core, all of them wait for the one that lost it, and
two threads become many times slower than one. Batches that are computed side by side never wait
for each other. Each is computed in one order of additions, so that the result does not depend on
the number of cores either.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextlib.contextmanager
def one_thread_per_operation() -> Iterator[int]:
    """Let torch use one thread per operation; gives the number of threads there were before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def side_by_side(
    function: Callable[[Item], Result], items: Iterable[Item], *, device: torch.device
) -> Iterator[tuple[Item, Result]]:
    """Apply a function to items, as many at once as torch would use threads.

    Args:
        function: computes one item; called from several threads on a CPU.
        items: taken a few ahead of what was given out.
        device: where the function computes; on anything but a CPU one item at a time.

    Yields:
        Each item with its result, in the items' order.
    """
    if device.type != "cpu":
        yield from ((item, function(item)) for item in items)
        return
    with one_thread_per_operation() as workers, ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) > 2 * workers:
                    first, result = waiting.popleft()
                    yield first, result.result()
            while waiting:
                first, result = waiting.popleft()
                yield first, result.result()
        finally:
            for _, result in waiting:
                result.cancel()
