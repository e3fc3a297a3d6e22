"""What the Trainer does in each step; as a script, what it does in one of several processes."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

import torch
from tiny_case import SPACE, labelled, loss_of, settings, tiny_encoder
from torch import distributed, nn

from longtail.batching import Collator, tokenise
from longtail.encoder import build_classifier
from longtail.freezing import Whole
from longtail.processes import join_processes
from longtail.progress_reporter import ProgressReporter
from longtail.trainer import ArmTrainer, StepLoss, training_arguments

# The last step holds one text: of several processes, all but one have no share of it.
TEXTS = 65
CASES = [(loss, unknown) for loss in ("bce", "db") for unknown in (False, True)]


def steps(batch_size, accumulation, part, *, loss="db"):
    """Losses as the Trainer logs them and gradients as the optimiser gets them, step by step."""
    processes = join_processes()
    model = build_classifier(tiny_encoder(), SPACE.names, seed=0)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    gradients = []
    chosen = settings(batch_size=batch_size, accumulation=accumulation, epochs=1)
    reporter = ProgressReporter(lambda: 0.0, tokens=1, texts=1, report=None)
    reporter.on_pre_optimizer_step = lambda *_, **__: gradients.append(
        {name: p.grad.clone() for name, p in model.named_parameters()}
    )
    with tempfile.TemporaryDirectory() as directory:
        arguments = training_arguments(chosen, directory, processes=processes.count)
        arguments.max_grad_norm = 0.0
        arguments.logging_strategy, arguments.logging_steps = "steps", 1
        arguments.save_strategy = arguments.eval_strategy = "no"
        arguments.load_best_model_at_end = False
        trainer = ArmTrainer(
            Whole(model, ()),
            arguments,
            collator=Collator(tokenise(tiny_encoder().tokenizer, part.texts, 24), part.y,
                              part.known),
            head=set(),
            settings=chosen,
            loss=StepLoss(loss_of(loss, part),
                          partial=part.known is not None or processes.count > 1),
            validate=lambda _: (0.5, 0.0),
            reporter=reporter,
            processes=processes,
        )  # fmt: skip
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"losses": losses, "gradients": gradients}


class Deadly(nn.Module):
    """A loss under which the second process is killed once, in its twelfth step."""

    def __init__(self, loss, marker):
        super().__init__()
        self.loss, self.marker, self.calls = loss, marker, 0

    def sum(self, logits, targets, known):
        self.calls += 1
        if os.environ.get("RANK") == "1" and self.calls == 12 and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.loss.sum(logits, targets, known)

    def cells(self, targets, known):
        return self.loss.cells(targets, known)


def main(target):
    tiny_encoder()  # transformers writes a model in the first process only, once they are joined
    found = {
        case: steps(32, 1, labelled(TEXTS, 3, unknown=case[1]), loss=case[0]) for case in CASES
    }
    if join_processes().first:
        torch.save(found, target)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
