"""Training in a process of its own: it can be killed, may run out of memory, and is told on."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from longtail import errors
from longtail.memory import oom_kills, says_out_of_memory
from longtail.progress import Progress
from tasks.training_job import TrainingJob

logger = logging.getLogger(__name__)

CHILD = (sys.executable, "-m", "tasks.training_child")
RESTARTS = 2
_SECONDS_TO_END = 5.0
_LAST_LINES = 12
_LAST_BYTES = 1 << 14
# A training tells its progress several times a minute; the longest silence is scoring a test set.
_SILENT_SECONDS = 6 * 3600.0
_LOOKS = 60  # within that time


class TrainingProcessError(RuntimeError):
    """An error in the training process that nobody expected; the message is its traceback."""


class _KilledError(Exception):
    """The training process was killed by a signal, and not for want of memory."""


def train_in_process(
    job: TrainingJob,
    *,
    progress: Callable[[Progress], None] | None = None,
    command: Sequence[str] = CHILD,
) -> TrainingJob:
    """Run a job in a child process, whose log goes on in ours.

    Out of memory, the training goes on from its checkpoint in forward passes of half as many
    texts; killed from outside, it goes on from there as it is, at most twice. Whatever ends this
    call ends the process with all that it has started.

    Args:
        job: what to train.
        progress: called about once a second with where it stands.
        command: starts the process; reads the job from its standard input.

    Returns:
        The job as it was done in the end, with the shortages of memory on the way.

    Raises:
        LongtailError: what the training raised, with the same class and sentence.
        OutOfMemoryError: one text at a time is still too much.
        TrainingError: it was killed too often.
        TrainingProcessError: a defect, with its traceback.
    """
    killed = 0
    while True:
        try:
            _run(job, progress, command)
        except errors.OutOfMemoryError as error:
            job = job.in_smaller_passes(str(error))
            logger.warning(
                "%s: out of memory; it goes on with batch_size %d and accumulation %d, which are "
                "the same steps (%s)",
                job.arm, job.training.batch_size, job.training.accumulation, error,
            )  # fmt: skip
        except _KilledError as death:
            killed += 1
            if killed > RESTARTS:
                raise errors.TrainingError(
                    f"{job.arm}: {death}, for the {killed}th time; what kills it? The next run "
                    "goes on from the last checkpoint"
                ) from None
            logger.warning(
                "%s: %s; it goes on from its last checkpoint (restart %d of %d)",
                job.arm, death, killed, RESTARTS,
            )  # fmt: skip
        else:
            return job


def _run(
    job: TrainingJob, progress: Callable[[Progress], None] | None, command: Sequence[str]
) -> None:
    starved = oom_kills()
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(  # noqa: S603 - our own interpreter and module
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
            start_new_session=True,
        ) as child,
    ):  # fmt: skip
        try:
            _hand_over(child, job)
            with _heard(child) as hear:
                error, done = _listen(child, progress, hear)
            status = child.wait()
        finally:
            _end(child)
        if error is not None:
            raise _error(error)
        if not done or status != 0:
            raise _death(status, _last_lines(said), starved=oom_kills() > starved)


def _hand_over(child: subprocess.Popen[bytes], job: TrainingJob) -> None:
    """The job in one line; the pipe stays open, for the child ends when it is closed."""
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # what it died of is found out below
        child.stdin.write(job.model_dump_json().encode() + b"\n")
        child.stdin.flush()


def _listen(
    child: subprocess.Popen[bytes],
    progress: Callable[[Progress], None] | None,
    hear: Callable[[], None],
) -> tuple[dict[str, Any] | None, bool]:
    """Pass on what the child tells, until it closes the pipe; gives its error, if it told one."""
    error, done = None, False
    for line in child.stdout or ():
        hear()
        try:
            message = json.loads(line)
        except json.JSONDecodeError:  # it was killed within a line
            continue
        if "log" in message:
            name, level, text = message["log"]
            logging.getLogger(name).log(level, "%s", text)
        elif "progress" in message and progress is not None:
            progress(Progress(**message["progress"]))
        error = message.get("error", error)
        done = done or "done" in message
    return error, done


@contextlib.contextmanager
def _heard(child: subprocess.Popen[bytes]) -> Iterator[Callable[[], None]]:
    """Kill a child that hangs, lest its slot be waited for for ever; call it when it speaks."""
    last, over = [time.monotonic()], threading.Event()

    def watch() -> None:
        while not over.wait(_SILENT_SECONDS / _LOOKS):
            if time.monotonic() - last[0] > _SILENT_SECONDS:
                logger.warning(
                    "the training process has said nothing for %.0f s and is killed",
                    _SILENT_SECONDS,
                )
                _signal(child, signal.SIGKILL)
                return

    def hear() -> None:
        last[0] = time.monotonic()

    thread = threading.Thread(target=watch, name="training watch", daemon=True)
    thread.start()
    try:
        yield hear
    finally:
        over.set()
        thread.join()


def _end(child: subprocess.Popen[bytes]) -> None:
    """Leave no process behind: ask, then kill, its whole group."""
    try:
        if child.poll() is None:
            _signal(child, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_SECONDS_TO_END)
    finally:  # another signal may cut the waiting short
        _signal(child, signal.SIGKILL)
        child.wait()


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _error(told: dict[str, Any]) -> Exception:
    kind = getattr(errors, told["kind"], None)
    if isinstance(kind, type) and issubclass(kind, errors.LongtailError):
        return kind(told["message"])
    if "os" in told:
        return OSError(*told["os"])
    return TrainingProcessError(f"in the training process:\n{told.get('traceback', told)}")


def _death(status: int, lines: str, *, starved: bool) -> Exception:
    if (status == -signal.SIGKILL and starved) or says_out_of_memory(lines):
        how = "killed by the system" if status == -signal.SIGKILL else lines.splitlines()[-1]
        return errors.OutOfMemoryError(f"the training process ran out of memory: {how}")
    if status < 0:
        return _KilledError(f"the training process was killed by signal {-status}")
    return errors.TrainingError(
        f"the training process ended with status {status}; its last lines:\n"
        f"{lines or '(it said nothing)'}"
    )


def _last_lines(said: IO[bytes]) -> str:
    said.seek(max(0, said.seek(0, os.SEEK_END) - _LAST_BYTES))
    lines = said.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_LAST_LINES:])
