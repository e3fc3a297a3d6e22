"""The training process: a job on its standard input, JSON lines on its standard output.

    python -m tasks.training_child

It ends when its standard input is closed: the process that wants the arm is gone. Prefect is not
imported here.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TextIO

from longtail.errors import LongtailError
from longtail.memory import is_out_of_memory

_OURS = ("longtail", "tasks", "data_contracts")
_LOG_SECONDS = 12.0


def main() -> int:
    """Train one arm; the exit status is 0 when it is whole."""
    tell = Channel()
    asked = sys.stdin.buffer.readline()
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _pass_log_on(tell)
    try:
        from tasks.encoder_arm import run_job
        from tasks.training_job import TrainingJob

        run_job(
            TrainingJob.model_validate_json(asked),
            lambda progress: tell(progress=asdict(progress)),
            _log_activations(),
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
        tell(error=_in_json(error))
        return 1
    tell(done=True)
    return 0


class Channel:
    """Writes JSON lines to what was the standard output; stray prints go to standard error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stream: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def __call__(self, **message: Any) -> None:
        """Tell the parent something."""
        with self._lock:
            self._stream.write(json.dumps(message) + "\n")
            self._stream.flush()


class _ChannelHandler(logging.Handler):
    def __init__(self, tell: Channel) -> None:
        super().__init__()
        self._tell = tell
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(log=[record.name, record.levelno, self.format(record)])


def _pass_log_on(tell: Channel) -> None:
    logging.basicConfig(level=logging.WARNING, handlers=[_ChannelHandler(tell)])
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO)


def _log_activations() -> Callable[[int, int], None]:
    """Tells the log now and then how far the activations of frozen layers are."""
    logger = logging.getLogger("tasks.training")
    last = time.monotonic()

    def told(done: int, texts: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_SECONDS:
            last = time.monotonic()
            logger.info("activations of frozen layers: %d of %d texts", done, texts)

    return told


def _in_json(error: Exception) -> dict[str, Any]:
    about: dict[str, Any] = {"kind": type(error).__name__, "message": str(error)}
    if is_out_of_memory(error):
        about["kind"] = "OutOfMemoryError"
        about["message"] = about["message"] or type(error).__name__
    elif isinstance(error, OSError) and error.errno is not None:
        about["os"] = [error.errno, error.strerror, error.filename and str(error.filename)]
    elif not isinstance(error, LongtailError):
        about["traceback"] = traceback.format_exc()
    return about


def _leave_with_parent() -> None:
    """End with every process of the group once nobody holds the other end of the pipe."""
    while os.read(0, 1):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
