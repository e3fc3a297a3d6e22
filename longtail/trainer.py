"""transformers' Trainer, fitted to multi-label losses: as little of it changed as is needed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from longtail.batching import (
    UNKNOWN,
    Collator,
    EpochLoader,
    LengthGroupedOrder,
    RowNumbers,
    SharedBatches,
)
from longtail.config import TrainingSettings
from longtail.errors import ConfigError
from longtail.processes import ALONE, Processes
from longtail.progress_reporter import ProgressReporter

logger = logging.getLogger(__name__)

METRIC = "validation_micro_f1"

Validate = Callable[[nn.Module], tuple[float, float]]


class StepLoss:
    """The Trainer's ``compute_loss_func``: the sum over known cells, divided by those of the step.

    The Trainer neither divides by the accumulation steps nor averages over processes when it is
    given a loss function, so a plain mean would be wrong there. It does count the targets that are
    not −100 over all micro-batches and processes of a step, and scales for the averaging of
    gradients; so this is right for 1 × 32, 4 × 8 accumulated and 2 processes × 16 alike.

    ``take_mean`` knows of this process's texts alone; the losses in the Trainer's log are those of
    all processes.
    """

    def __init__(self, loss: nn.Module, *, partial: bool) -> None:
        """Take a loss.

        Args:
            loss: has ``sum(logits, targets, known)`` and ``cells(targets, known)``.
            partial: whether there are unknown cells at all.
        """
        self.loss: Any = loss
        self.partial = partial
        self.total: float | Tensor = 0.0
        self.cells: float | Tensor = 0.0

    def __call__(
        self, outputs: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Loss of a micro-batch as its share of the step's mean."""
        known = labels != UNKNOWN if self.partial else None
        targets = labels if known is None else labels.masked_fill(~known, 0.0)
        total: Tensor = self.loss.sum(outputs, targets, known)
        cells = self.loss.cells(targets, known)
        self.total = self.total + total.detach()
        self.cells = self.cells + cells
        divisor = cells if num_items_in_batch is None else num_items_in_batch
        return total / torch.clamp(torch.as_tensor(divisor, device=total.device), min=1)

    def take_mean(self) -> float:
        """Mean loss per cell since the last call."""
        mean = float(self.total) / max(float(self.cells), 1.0)
        self.total, self.cells = 0.0, 0.0
        return mean


class ArmTrainer(Trainer):  # type: ignore[misc]
    """The Trainer with our order of texts, two learning rates and our validation."""

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        *,
        collator: Collator,
        head: set[int],
        settings: TrainingSettings,
        loss: StepLoss,
        validate: Validate,
        reporter: ProgressReporter,
        processes: Processes = ALONE,
    ) -> None:
        """Set up a training.

        Args:
            model: gives logits (texts, labels) as a tensor.
            args: see :func:`training_arguments`.
            collator: makes a batch from row numbers; its source holds the texts.
            head: ``id`` of each parameter that takes the head's learning rate.
            settings: learning rates, weight decay and seed.
            loss: the loss function.
            validate: gives the best micro-F1 on validation and its threshold.
            reporter: told about every step.
            processes: that share the training.

        Raises:
            ConfigError: more processes than texts in a batch.
        """
        if settings.batch_size < processes.count:
            raise ConfigError(
                f"batch_size {settings.batch_size} cannot be shared by {processes.count} "
                "processes; take a larger batch or fewer processes"
            )
        self.processes = processes
        self.collator = collator
        self.head = head
        self.settings = settings
        self.validate = validate
        self.reporter = reporter
        self.validation_seconds = 0.0
        self.optimizer: torch.optim.Optimizer | None
        self.control: Any
        super().__init__(
            model=model,
            args=args,
            data_collator=collator,
            train_dataset=RowNumbers(len(collator.source.lengths)),
            eval_dataset=RowNumbers(0),
            compute_loss_func=loss,
            callbacks=[reporter, *early_stopping(settings)],
        )
        self.remove_callback(PrinterCallback)
        if processes.count > 1:
            # The Trainer seeds all alike: every process would drop the same units.
            set_seed(settings.seed + processes.rank)
        self._epoch_started = time.monotonic()

    def get_train_dataloader(self) -> EpochLoader:
        """The batches of this process.

        Not accelerate's division of them: it fills up the last step with texts of the first, so
        that the steps of several processes would not be those of one.
        """
        settings = self.settings
        step = settings.batch_size * settings.accumulation
        order = LengthGroupedOrder(self.collator.source.lengths, step, settings.seed)
        batches = SharedBatches(order, settings.batch_size, self.processes)
        return EpochLoader(batches, self.collator, pin_memory=self.args.dataloader_pin_memory)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW: one rate for the layers, one for the head, no decay on biases and norms."""
        if self.optimizer is None:
            trained = self.model if model is None else model
            decayed = set(self.get_decay_parameter_names(trained))
            rates = {False: self.settings.learning_rate, True: self.settings.head_learning_rate}
            groups = [
                {
                    "params": [
                        p for name, p in trained.named_parameters()
                        if p.requires_grad and (id(p) in self.head) == in_head
                        and (name in decayed) == decays
                    ],
                    "lr": rate,
                    "weight_decay": self.settings.weight_decay if decays else 0.0,
                }
                for in_head, rate in rates.items()
                for decays in (True, False)
            ]  # fmt: skip
            self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], fused=True)
        return self.optimizer

    def evaluate(
        self,
        eval_dataset: Any = None,  # noqa: ARG002 - the Trainer's signature
        ignore_keys: Any = None,  # noqa: ARG002
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Micro-F1 on validation at this epoch's own best threshold."""
        started = time.monotonic()
        threshold, score = self.validate(self.model)
        now = time.monotonic()
        metrics = {
            f"{metric_key_prefix}_{METRIC}": score,
            f"{metric_key_prefix}_threshold": threshold,
            f"{metric_key_prefix}_seconds": now - started,
            "epoch_seconds": now - self._epoch_started,
        }
        self._epoch_started = now
        self.validation_seconds += now - started
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def tokens_per_second(self) -> float:
        """Training tokens per second of this process's optimiser steps, without validation."""
        return self.reporter.tokens_done / max(
            1e-9, self.reporter.seconds - self.validation_seconds
        )


def training_arguments(
    settings: TrainingSettings, directory: Path, *, processes: int = 1, find_unused: bool = False
) -> TrainingArguments:
    """The Trainer's arguments: quiet, one checkpoint per epoch, the best one loaded at the end.

    Args:
        settings: budget, precision and seed.
        directory: of the checkpoints.
        processes: that share the training.
        find_unused: whether some weights may get no gradient, which several processes must know.
    """
    cuda = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(directory),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=-(-settings.batch_size // processes),
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup_share,
        lr_scheduler_type="linear",
        train_sampling_strategy="group_by_length",
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model=METRIC,
        greater_is_better=True,
        logging_nan_inf_filter=False,
        seed=settings.seed,
        bf16=uses_bf16(settings),
        use_cpu=not cuda,
        dataloader_pin_memory=cuda,
        ddp_find_unused_parameters=find_unused,
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        report_to=[],
    )
    if arguments.n_gpu > 1:
        # One device per process: the Trainer's DataParallel would divide a step its own way.
        arguments._n_gpu = 1  # noqa: SLF001 - there is no public setter
    return arguments


def uses_bf16(settings: TrainingSettings) -> bool:
    """Whether the training runs under bf16 autocast."""
    if settings.precision == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return settings.precision == "bf16"


def early_stopping(settings: TrainingSettings) -> list[TrainerCallback]:
    """The callback that stops early, where it is asked for."""
    patience = settings.early_stopping_patience
    return [] if patience is None else [EarlyStoppingCallback(early_stopping_patience=patience)]
