"""Training in several processes: torchrun in a subprocess, files in and the trained arm out.

What the subprocess runs, once per process, is this module with the directory of the files:

    python -m torch.distributed.run --standalone --nproc-per-node 2 -m longtail.launch DIRECTORY
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

from longtail import errors, storage
from longtail.activations import ActivationCache
from longtail.activations import Progress as CacheProgress
from longtail.batching import LabelledTexts
from longtail.config import TrainingSettings
from longtail.encoder import Encoder, build_classifier
from longtail.memory import oom_kills
from longtail.processes import join_processes, number_of_processes
from longtail.progress import Progress
from longtail.training import TrainedArm, train_arm

logger = logging.getLogger(__name__)

_CALL, _ERROR, _ARM, _WEIGHTS, _LOGS = (
    "call.pickle", "error.json", "arm.json", "arm.safetensors", "logs",
)  # fmt: skip
_LAST_LINES = 12
_SECONDS_TO_END = 20.0
_LINE = re.compile(r"\[\w+\d+\]:(.*)", re.DOTALL)
_FAILURE = re.compile(r"  rank +: (\d+) .*?  exitcode +: (-?\d+) ", re.DOTALL)
_TOLD = '{"told": '


def train_in_processes(
    encoder: Encoder,
    labels: Sequence[str],
    train: LabelledTexts,
    validation: LabelledTexts,
    loss: nn.Module,
    settings: TrainingSettings,
    *,
    cache: ActivationCache | None = None,
    work_dir: str | Path | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    cache_progress: CacheProgress | None = None,
) -> TrainedArm:
    """:func:`longtail.training.train_arm` in ``settings.processes`` processes of this machine.

    The arguments and the result are those of ``train_arm``, which calls this where more than one
    process is asked for. The processes' log is passed on to this module's logger. They end when
    this process does.

    Raises:
        TrainingError: a process died; says which, how, and its last lines.
        LongtailError: what ``train_arm`` raises, with the same class and message.
    """
    call = {
        "encoder": encoder, "labels": list(labels), "train": train, "validation": validation,
        "loss": loss, "settings": settings, "cache": cache, "work_dir": work_dir, "resume": resume,
    }  # fmt: skip
    count = number_of_processes(settings)
    with tempfile.TemporaryDirectory(prefix="longtail-processes-") as name:
        directory = Path(name)
        (directory / _CALL).write_bytes(pickle.dumps(call))
        logger.info("training in %d processes", count)
        killed = oom_kills()
        code, output = _torchrun(
            directory, count, {"progress": _as_progress(progress), "cache": cache_progress}
        )
        if code:
            raise _error(directory, count, output, killed)
        return _read_arm(directory, encoder, labels, settings)


def _torchrun(directory: Path, count: int, told: dict[str, Any]) -> tuple[int, str]:
    """Run, pass the log on, and give the exit status with the last of what torchrun said."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1",
        "--nproc-per-node", str(count), "--log-dir", str(directory / _LOGS), "--tee", "3",
        "--local-ranks-filter", "0", "-m", "longtail.launch", str(directory),
    ]  # fmt: skip
    threads = str(max(1, torch.get_num_threads() // count))
    said: deque[str] = deque(maxlen=100)
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": threads},
    ) as process:  # fmt: skip
        try:
            for line in process.stdout or ():
                if (of_first := _LINE.fullmatch(line)) is None:
                    said.append(line)
                else:
                    _pass_on(of_first[1].rstrip(), told)
            return process.wait(), "".join(said)
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()  # torchrun ends its processes
        try:
            process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()


def _pass_on(line: str, told: dict[str, Any]) -> None:
    """A line of the first process: something for a callback, or for the log."""
    if line.startswith(_TOLD):
        message = json.loads(line)
        if (callback := told[message["told"]]) is not None:
            callback(*message["values"])
        return
    level, _, text = line.partition(" ")
    known = level in {"INFO", "WARNING", "ERROR"}
    logger.log(logging.getLevelName(level) if known else logging.INFO, text if known else line)


def _as_progress(progress: Callable[[Progress], None] | None) -> Callable[..., None] | None:
    return None if progress is None else lambda values: progress(Progress(**values))


def _error(directory: Path, count: int, output: str, killed: int = 0) -> errors.LongtailError:
    """What a process raised for the user, else which one died first and what it said last."""
    if (directory / _ERROR).is_file():
        raised = storage.read_json(directory / _ERROR)
        told: type[errors.LongtailError] = getattr(errors, raised["kind"])
        return told(raised["message"])
    failures = [(int(rank), int(status)) for rank, status in _FAILURE.findall(output)]
    if not failures:
        return errors.TrainingError(f"torchrun could not train in {count} processes:\n{output}")
    # torchrun names the root last, but of deaths in the same second it takes the lowest rank. One
    # that was killed is the cause of those that lost their connection to it, or that torchrun ends.
    rank, status = min(reversed(failures), key=lambda one: one[1] >= 0 or one[1] == -signal.SIGTERM)
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    hint = " (often the system, for want of memory)" if status == -9 else ""
    starved = status == -signal.SIGKILL and oom_kills() > killed
    kind = errors.OutOfMemoryError if starved else errors.TrainingError
    logs = sorted((directory / _LOGS).rglob(f"{rank}/stderr.log"))
    lines = "".join(log.read_text(errors="replace") for log in logs).splitlines()
    return kind(
        f"training process {rank} of 0 to {count - 1} {how}{hint}; its last lines:\n"
        + "\n".join(lines[-_LAST_LINES:] or ["(it said nothing)"])
    )


def _read_arm(
    directory: Path, encoder: Encoder, labels: Sequence[str], settings: TrainingSettings
) -> TrainedArm:
    from safetensors.torch import load_model

    model = build_classifier(encoder, labels, seed=settings.seed)
    load_model(model, directory / _WEIGHTS)
    return TrainedArm(model=model, **storage.read_json(directory / _ARM))


def main(directory: Path) -> None:
    """Train as one of the processes that torchrun started."""
    from safetensors.torch import save_model

    threading.Thread(target=_leave_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    processes = join_processes()
    # Written by the process that started this one, in a directory that it alone can write to.
    call = pickle.loads((directory / _CALL).read_bytes())  # noqa: S301
    tell_cache = (lambda *values: _tell("cache", *values)) if processes.first else None
    try:
        arm = train_arm(
            **call, progress=lambda now: _tell("progress", asdict(now)), cache_progress=tell_cache
        )
    except errors.LongtailError as error:
        raised = {"kind": type(error).__name__, "message": str(error)}
        storage.write_json(directory / _ERROR, raised)
        sys.exit(1)
    if processes.first:
        save_model(arm.model, str(directory / _WEIGHTS))
        about = {f.name: getattr(arm, f.name) for f in fields(arm) if f.name != "model"}
        storage.write_json(directory / _ARM, about)
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _tell(what: str, *values: Any) -> None:
    sys.stdout.write(json.dumps({"told": what, "values": values}) + "\n")
    sys.stdout.flush()


def _leave_with_parent(standard_input: int = 0) -> None:
    """End when the pipe from the process that asked for the training is closed: it is gone."""
    while os.read(standard_input, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
