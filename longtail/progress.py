"""Where a training stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        epoch: the epoch that is running, from 1.
        epochs: epochs at most.
        step: optimiser steps done.
        steps: optimiser steps at most.
        loss: mean loss per known cell since the last report.
        texts_per_second: training texts per second, since the start.
        tokens_per_second: their tokens per second, padding not counted.
        seconds_left: estimate, validation included.
        validation_micro_f1: of the last finished epoch; None before the first.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    texts_per_second: float
    tokens_per_second: float
    seconds_left: float
    validation_micro_f1: float | None = None

    @property
    def share(self) -> float:
        """Share of the steps that are done, in [0, 1]."""
        return self.step / max(1, self.steps)

    def __str__(self) -> str:
        f1 = self.validation_micro_f1
        validated = "" if f1 is None else f", validation micro-F1 {f1:.4f}"
        return (
            f"epoch {self.epoch} of {self.epochs}, step {self.step} of {self.steps}, "
            f"loss {self.loss:.5f}{validated}, {self.texts_per_second:.0f} texts/s, "
            f"{self.seconds_left:.0f} s left"
        )
