"""Recognising that memory has run out, whoever ran out of it."""

from __future__ import annotations

import re
from pathlib import Path

# RuntimeErrors of torch's allocators, which have no class of their own on a CPU.
_SAID = re.compile(
    r"DefaultCPUAllocator|not enough memory|[Oo]ut of memory|CUBLAS_STATUS_ALLOC_FAILED|"
    r"std::bad_alloc|[Cc]annot allocate memory|can't allocate memory"
)
_OOM_KILL = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that memory has run out."""
    seen: BaseException | None = error
    while seen is not None:
        # By name: whoever asks need not have loaded torch.
        if isinstance(seen, MemoryError) or type(seen).__name__ == "OutOfMemoryError":
            return True
        if isinstance(seen, RuntimeError | OSError) and says_out_of_memory(str(seen)):
            return True
        seen = seen.__cause__
    return False


def says_out_of_memory(text: str) -> bool:
    """Whether what a library or a dying process said is about memory."""
    return _SAID.search(text) is not None


def oom_kills() -> int:
    """How many processes of this machine, or this container, the kernel has killed for memory.

    To be compared with what it was before: more of them, and a child that was killed by signal 9,
    is a child that ran out of memory. 0 where the kernel does not tell.
    """
    return sum(_counted(path) for path in _counters())


def _counters() -> list[Path]:
    """The whole machine's count, or within a container that of its group."""
    group = Path("/sys/fs/cgroup")
    return [Path("/proc/vmstat"), group / "memory.events", group / "memory" / "memory.oom_control"]


def _counted(path: Path) -> int:
    try:
        found = _OOM_KILL.search(path.read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0
