"""Runs a longtail command that is killed, with all it started, when the alias is to move.

The candidate is registered by then, and the intent to promote it is written.

Usage: dying_command.py ARGUMENT...   (in a session of its own)
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from flows.cli import main
from tasks.registry import Registry


def _die(*_: Any) -> None:
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    Registry.move_alias = _die  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
