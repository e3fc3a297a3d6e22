"""Telling a callback and the log where a training stands."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from longtail.errors import ConfigError
from longtail.progress import Progress

logger = logging.getLogger(__name__)

_LOG_SECONDS = 12.0
_REPORT_SECONDS = 1.0
# As the trainer logs it, which imports this module.
_VALIDATED = "eval_validation_micro_f1"


class ProgressReporter(TrainerCallback):  # type: ignore[misc]
    """Tells a callback about once a second, and the log every 12 seconds, where training stands."""

    def __init__(
        self,
        mean_loss: Callable[[], float],
        *,
        tokens: int,
        texts: int,
        report: Callable[[Progress], None] | None,
    ) -> None:
        """Set up.

        Args:
            mean_loss: mean loss since it was last called.
            tokens: training tokens per epoch, padding not counted.
            texts: training texts.
            report: called about once a second; None: only the log is written.
        """
        self.mean_loss = mean_loss
        self.tokens = tokens
        self.texts = texts
        self.report = report
        self.first_step = 0
        self.tokens_done = self.seconds = 0.0
        self.validated: float | None = None
        self.started = self.reported = self.logged = time.monotonic()

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Start the clock; a training that is resumed has epochs behind it."""
        self.first_step = state.global_step
        for entry in state.log_history:
            self.validated = entry.get(_VALIDATED, self.validated)
        self.started = self.reported = self.logged = time.monotonic()

    def on_train_end(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Stop the clock."""
        steps_per_epoch = max(1.0, state.max_steps / args.num_train_epochs)
        self.tokens_done = (state.global_step - self.first_step) / steps_per_epoch * self.tokens
        self.seconds = time.monotonic() - self.started

    def on_evaluate(
        self, _args: Any, _state: Any, _control: Any, metrics: dict[str, float], **_: Any
    ) -> None:
        """Keep the epoch's score."""
        self.validated = metrics.get(_VALIDATED, self.validated)

    def on_step_end(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Report, but not at every step."""
        now = time.monotonic()
        at_the_end = state.global_step >= state.max_steps
        if now - self.reported < _REPORT_SECONDS and not at_the_end:
            return
        self.reported = now
        progress = self._progress(args, state, now)
        if not math.isfinite(progress.loss):
            raise ConfigError(
                f"the loss became {progress.loss} in epoch {progress.epoch}, step {progress.step}; "
                "lower the learning rates, or choose another loss"
            )
        if self.report is not None:
            self.report(progress)
        if now - self.logged >= _LOG_SECONDS and state.is_world_process_zero:
            self.logged = now
            logger.info("%s", progress)

    def _progress(self, args: Any, state: Any, now: float) -> Progress:
        steps = max(1, state.global_step - self.first_step)
        seconds = max(1e-9, now - self.started)
        share = steps / max(1, state.max_steps)
        epochs = int(args.num_train_epochs)
        return Progress(
            epoch=min(epochs, math.ceil(state.epoch or 1e-9)),
            epochs=epochs,
            step=state.global_step,
            steps=state.max_steps,
            loss=self.mean_loss(),
            texts_per_second=share * epochs * self.texts / seconds,
            tokens_per_second=share * epochs * self.tokens / seconds,
            seconds_left=seconds / steps * (state.max_steps - state.global_step),
            validation_micro_f1=self.validated,
        )
