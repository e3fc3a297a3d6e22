"""Where a training's checkpoints live, and which of them a resumed training may go on from."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import nn
from transformers.trainer_utils import get_last_checkpoint

from longtail import storage
from longtail.batching import LabelledTexts
from longtail.config import TrainingSettings
from longtail.encoder import Encoder
from longtail.freezing import weights_digest
from longtail.processes import ALONE, Processes

logger = logging.getLogger(__name__)


def run_fingerprint(
    encoder: Encoder,
    labels: Sequence[str],
    parts: tuple[LabelledTexts, LabelledTexts],
    loss: nn.Module,
    settings: TrainingSettings,
    processes: int = 1,
) -> str:
    """What a checkpoint must have in common with a run that resumes it.

    The number of processes belongs to it, because each has random states of its own. How a step is
    divided into forward passes does not: the same texts make the same step, so that a training
    that ran out of memory goes on in smaller passes.
    """
    content = [
        [list(part.texts), part.y.indptr.tolist(), part.y.indices.tolist(),
         None if part.known is None else np.packbits(part.known).tobytes().hex()]
        for part in parts
    ]  # fmt: skip
    return storage.fingerprint(
        encoder.fingerprint, list(labels), content, repr(loss), weights_digest(loss),
        settings.model_dump(exclude={"processes", "batch_size", "accumulation"}),
        settings.batch_size * settings.accumulation, processes,
    )  # fmt: skip


@contextlib.contextmanager
def checkpoint_directory(
    work_dir: str | Path | None, run: str, *, resume: bool, processes: Processes = ALONE
) -> Iterator[Path]:
    """The directory of the checkpoints, emptied unless it is this run's and is to be resumed.

    The first process makes it; the others are told, and it stays until all are done.
    """
    with contextlib.ExitStack() as stack:
        name = ""
        if processes.first:
            if work_dir is None:
                temporary = tempfile.TemporaryDirectory(prefix="longtail-training-")
                work_dir = stack.enter_context(temporary)
            name = str(Path(work_dir).resolve())
            _take_over(Path(name), run, resume=resume)
        yield Path(processes.told_by_first(name))
        processes.wait()


def _take_over(directory: Path, run: str, *, resume: bool) -> None:
    marker = directory / "run.json"
    same = marker.is_file() and storage.read_json(marker).get("run") == run
    if resume and same:
        return
    if resume and marker.is_file():
        logger.info("%s: checkpoints of another run are thrown away", directory)
    for checkpoint in directory.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    storage.write_json(marker, {"run": run})


def last_checkpoint(directory: Path, processes: Processes = ALONE) -> str | None:
    """The last whole checkpoint; the first process looks, and throws away what is not whole."""
    found = _last_whole(directory, processes.count) if processes.first else None
    return processes.told_by_first(found)


def _last_whole(directory: Path, processes: int) -> str | None:
    while (last := get_last_checkpoint(str(directory))) is not None:
        if _is_whole(Path(last), processes):
            logger.info("training goes on from %s", last)
            return str(last)
        logger.warning("%s is not whole and is thrown away", last)
        shutil.rmtree(last)
    return None


def _is_whole(checkpoint: Path, processes: int) -> bool:
    """The first process writes its state last; the others write their random states alone."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, json.JSONDecodeError):
        return False
    return len(list(checkpoint.glob("rng_state*.pth"))) == processes
