"""Train → arms: the linear baseline, BERT with BCE, BERT with the candidate's loss."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import task

from longtail import storage
from longtail.config import (
    EncoderSettings,
    LinearSettings,
    LossSettings,
    TrainingSettings,
)
from longtail.encoder_files import find_encoder
from longtail.errors import StoreError
from tasks.arms import ARM_FILE
from tasks.data import SplitData
from tasks.handles import ArmHandle, ArmName, DatasetHandle, RunHandle, SplitHandle
from tasks.linear_arm import fit_linear
from tasks.slot import training_slot
from tasks.split import learned_fingerprint
from tasks.stages import run_stage, stage_key
from tasks.training_job import TINY, TrainingJob
from tasks.training_process import train_in_process
from tasks.training_progress import ProgressArtifact, show_shortages
from tasks.waiting import wait

GPU = "gpu"
_DEVICES = ("nvidia[0-9]*", "kfd", "dxg")


@task(name="train linear", task_run_name="train linear")
def train_linear(run: RunHandle, split: SplitHandle, settings: LinearSettings) -> ArmHandle:
    """Fit TF-IDF with one linear classifier per label, save it, score validation and test."""
    directory = run.directory / "arms" / "linear"
    key = stage_key(
        "train-linear", ("tasks.linear_arm",), _learned(split), settings.model_dump(mode="json")
    )
    run_stage(
        run, "train-linear", key, directory,
        lambda into: fit_linear(SplitData(split), into, settings),
    )  # fmt: skip
    return arm_handle(directory, key)


@task(name="train encoder", task_run_name="train {arm}", tags=[GPU])
def train_encoder(
    run: RunHandle,
    split: SplitHandle,
    dataset: DatasetHandle,
    encoder_settings: EncoderSettings,
    settings: TrainingSettings,
    *,
    arm: ArmName,
    loss: LossSettings,
) -> ArmHandle:
    """Fine-tune with one loss, write the bundle and score with it.

    In a process of its own, one at a time; a training that was interrupted goes on from its last
    checkpoint, whichever run takes it up.
    """
    stage = f"train-{arm}"
    asked = [one.model_dump(mode="json") for one in (encoder_settings, settings, loss)]
    key = stage_key(
        stage, ("tasks.encoder_arm",), _learned(split), dataset.fingerprint,
        encoder_identity(encoder_settings), device_kind(), *asked,
    )  # fmt: skip
    directory = run.directory / "arms" / arm
    job = TrainingJob(
        arm=arm, directory=directory, split=split, dataset=dataset.fingerprint,
        encoder=encoder_settings, training=settings, loss=loss, activations=run.cache,
        encoders=run.store / "cache" / "encoders",
        checkpoints=run.store / "cache" / "checkpoints" / key,
    )  # fmt: skip
    with _checkpoints(run, job) as checkpoints:
        run_stage(run, stage, key, directory, lambda _: _train(run, job))
        shutil.rmtree(checkpoints, ignore_errors=True)
    return arm_handle(directory, key)


def _train(run: RunHandle, job: TrainingJob) -> None:
    with training_slot(run.stages.slot):
        done = train_in_process(job, progress=ProgressArtifact(run, job.arm))
    show_shortages(run, done)


@contextlib.contextmanager
def _checkpoints(run: RunHandle, job: TrainingJob) -> Iterator[Path]:
    """The directory of the job's checkpoints, which no other run uses meanwhile."""
    assert job.checkpoints is not None
    directory = job.checkpoints
    # A few locks for all keys: a file for each would stay for ever.
    lock = directory.parent / "locks" / f"{directory.name[:2]}.lock"
    with contextlib.ExitStack() as stack:
        wait(
            job.arm,
            lambda seconds: _locked(stack, lock, seconds),
            lambda: "Another run is training an arm of the same data and settings",
        )
        if run.stages.force:
            shutil.rmtree(directory, ignore_errors=True)
        yield directory


def _locked(stack: contextlib.ExitStack, path: Path, seconds: float) -> bool:
    try:
        stack.enter_context(storage.lock(path, timeout=seconds))
    except StoreError:
        return False
    return True


def _learned(split: SplitHandle) -> str:
    return split.fingerprint or learned_fingerprint(split)


def encoder_identity(settings: EncoderSettings) -> str:
    """What the encoder is; one that is built from the texts is what they are."""
    return TINY if settings.source == TINY else find_encoder(settings).fingerprint


def device_kind() -> str:
    """Whether there is a GPU to train on, without loading torch: its arms are other arms."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in {"", "-1"}
    present = any(any(Path("/dev").glob(name)) for name in _DEVICES)
    return "gpu" if present and not hidden else "cpu"


def arm_handle(directory: Path, key: str) -> ArmHandle:
    """The arm in a directory.

    Args:
        directory: of the arm.
        key: what it was made of, see :func:`tasks.stages.stage_key`.
    """
    about: dict[str, Any] = storage.read_json(directory / ARM_FILE)
    bundle = directory / "bundle"
    return ArmHandle(
        arm=about["arm"],
        directory=directory,
        loss=about["loss"],
        seconds=about["seconds"],
        bundle=bundle if bundle.is_dir() else None,
        key=key,
    )


__all__ = ["TINY", "arm_handle", "train_encoder", "train_linear"]
