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

logger = logging.getLogger(__name__)


def run_fingerprint(
    encoder: Encoder,
    labels: Sequence[str],
    parts: tuple[LabelledTexts, LabelledTexts],
    loss: nn.Module,
    settings: TrainingSettings,
) -> str:
    """What a checkpoint must have in common with a run that resumes it."""
    content = [
        [list(part.texts), part.y.indptr.tolist(), part.y.indices.tolist(),
         None if part.known is None else np.packbits(part.known).tobytes().hex()]
        for part in parts
    ]  # fmt: skip
    return storage.fingerprint(
        encoder.fingerprint, list(labels), content, repr(loss), weights_digest(loss),
        settings.model_dump(),
    )  # fmt: skip


@contextlib.contextmanager
def checkpoint_directory(work_dir: str | Path | None, run: str, *, resume: bool) -> Iterator[Path]:
    """The directory of the checkpoints, emptied unless it is this run's and is to be resumed."""
    if work_dir is None:
        with tempfile.TemporaryDirectory(prefix="longtail-training-") as name:
            yield Path(name)
        return
    directory = Path(work_dir)
    marker = directory / "run.json"
    same = marker.is_file() and storage.read_json(marker).get("run") == run
    if not (resume and same):
        if resume and marker.is_file():
            logger.info("%s: checkpoints of another run are thrown away", directory)
        for checkpoint in directory.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        storage.write_json(marker, {"run": run})
    yield directory


def last_checkpoint(directory: Path) -> str | None:
    """The last whole checkpoint; the Trainer writes its state last."""
    while (last := get_last_checkpoint(str(directory))) is not None:
        with contextlib.suppress(OSError, json.JSONDecodeError):
            json.loads((Path(last) / "trainer_state.json").read_text())
            logger.info("training goes on from %s", last)
            return str(last)
        logger.warning("%s is not whole and is thrown away", last)
        shutil.rmtree(last)
    return None
