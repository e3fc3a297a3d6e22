"""What a training process is asked for: paths and settings, as JSON."""

from __future__ import annotations

from pathlib import Path

from longtail.config import (
    EncoderSettings,
    LossSettings,
    Settings,
    TrainingSettings,
)
from longtail.errors import OutOfMemoryError
from tasks.handles import ArmName, SplitHandle

TINY = "tiny"


class Shortage(Settings):
    """One time that memory ran out: with how many texts in a forward pass, and who said so."""

    batch_size: int
    said: str


class TrainingJob(Settings):
    """One arm to train.

    Attributes:
        arm: its name.
        directory: what it leaves goes there.
        split: what it learns from and is scored on.
        dataset: fingerprint of the data set.
        encoder: where it starts.
        training: budget and optimiser; with less memory than hoped for, in smaller passes than the
            run's configuration asks for.
        loss: its loss.
        activations: directory of the activations of frozen layers.
        encoders: directory of encoders that are built from the texts.
        checkpoints: directory to go on from, and to leave checkpoints in.
        shortages: when memory has run out so far.
    """

    arm: ArmName
    directory: Path
    split: SplitHandle
    dataset: str
    encoder: EncoderSettings
    training: TrainingSettings
    loss: LossSettings
    activations: Path
    encoders: Path
    checkpoints: Path | None = None
    shortages: tuple[Shortage, ...] = ()

    def in_smaller_passes(self, said: str) -> TrainingJob:
        """The same steps with at most half as many texts in a forward pass.

        The texts of a step stay the same to the text, so that a checkpoint stays good.

        Args:
            said: how the shortage showed.

        Raises:
            OutOfMemoryError: there is nothing left to halve.
        """
        size, accumulation = self.training.batch_size, self.training.accumulation
        step = size * accumulation
        shared_by = self.training.processes if isinstance(self.training.processes, int) else 1
        smaller = [texts for texts in range(shared_by, size // 2 + 1) if step % texts == 0]
        if not smaller:
            raise OutOfMemoryError(
                f"{self.arm}: out of memory with {size} text(s) in a forward pass, and fewer are "
                f"not possible ({said}); lower training.max_length or training.trainable_layers, "
                "choose a smaller encoder, or a device with more memory"
            )
        training = {"batch_size": smaller[-1], "accumulation": step // smaller[-1]}
        shortage = Shortage(batch_size=size, said=said)
        return self.model_copy(
            update={
                "training": self.training.model_copy(update=training),
                "shortages": (*self.shortages, shortage),
            }
        )
