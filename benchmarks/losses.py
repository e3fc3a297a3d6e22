"""What the losses cost: beside torch's binary cross-entropy, and within a training step.

    python benchmarks/losses.py
    python benchmarks/losses.py --compiled --losses bce ntr-focal db
    python benchmarks/losses.py --step db

Prints a Markdown table: the median processor time of one forward and backward pass on one thread
for 64 texts, in milliseconds, and as a multiple of ``binary_cross_entropy_with_logits`` in eager
mode. Rounds go through all losses in turn, so that a busy machine disturbs all alike. Labels are
drawn from a long tail (the k-th is on 3000/k of 8,000 texts).

``--step`` trains the default encoder's top layer on cached activations, 16 texts of ``--tokens``
tokens and 124 labels a step, and prints the loss's share of the median step.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from longtail.activations import ActivationCache
from longtail.batching import LabelledTexts
from longtail.config import LOSS_NAMES, EncoderSettings, LossName, LossSettings, TrainingSettings
from longtail.encoder import Encoder, load_encoder
from longtail.labels import LabelSpace
from longtail.losses import PRESETS, MultiLabelLoss, build_loss
from longtail.training import train_arm

TEXTS, MU, BASELINE = 8_000, 0.4, "torch's BCE"

Pass = Callable[[Tensor], Tensor]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--losses", nargs="+", default=list(LOSS_NAMES), choices=LOSS_NAMES)
    parser.add_argument("--labels", nargs="+", type=int, default=[124, 18_211])
    parser.add_argument("--seconds", type=float, default=30.0, help="for each number of labels")
    parser.add_argument("--compiled", action="store_true", help="torch.compile too; takes minutes")
    parser.add_argument("--step", choices=LOSS_NAMES, help="the share of this loss in a step")
    parser.add_argument("--tokens", type=int, default=TrainingSettings().max_length)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.step:
        print_step(given.step, given.tokens)
        return
    compiled = given.compiled and any(map(shutil.which, ("c++", "g++", "clang++")))
    if given.compiled and not compiled:
        print("There is no C++ compiler here, which torch.compile needs on a CPU: eager only.\n")
    columns = {n: table_columns(given.losses, n, given.seconds, compiled) for n in given.labels}
    print_table(columns)


def table_columns(
    losses: list[LossName], labels: int, seconds: float, compiled: bool
) -> dict[str, list[str]]:
    """By loss, its cells for one number of labels."""
    logits, targets = batch(64, labels)
    passes: dict[str, Pass] = {BASELINE: partial(bce, target=targets)}
    passes |= {name: partial(module(name, labels).mean, targets=targets) for name in losses}
    kinds = [passes]
    if compiled:
        torch.compiler.reset()
        kinds.append({name: torch.compile(action, fullgraph=True, dynamic=False)
                      for name, action in passes.items()})  # fmt: skip
    times = [milliseconds(kind, logits, seconds) for kind in kinds]
    base = times[0][BASELINE]
    return {name: [cell for found in times
                   for cell in (f"{found[name]:.2f}", f"{found[name] / base:.1f}")]
            for name in passes}  # fmt: skip


def milliseconds(passes: dict[str, Pass], logits: Tensor, seconds: float) -> dict[str, float]:
    """Median processor time of each pass, in rounds through all of them; 20 rounds at least."""
    times: dict[str, list[float]] = {name: [] for name in passes}
    for action in passes.values():  # warm up: allocate, and compile
        action(logits).backward()
    ends = time.monotonic() + seconds
    while time.monotonic() < ends or len(times[BASELINE]) < 20:
        for name, action in passes.items():
            logits.grad = None
            started = time.thread_time()
            action(logits).backward()
            times[name].append(time.thread_time() - started)
    return {name: 1e3 * statistics.median(found) for name, found in times.items()}


def print_table(columns: dict[int, dict[str, list[str]]]) -> None:
    """The cells of all numbers of labels side by side."""
    heads = ["eager ms", "× BCE", "compiled ms", "× BCE eager"]
    first = next(iter(columns.values()))
    width = len(first[BASELINE])
    named = [f"64 × {n:,}: {head}" for n in columns for head in heads[:width]]
    print(f"| loss | {' | '.join(named)} |\n|---|{'--:|' * len(named)}")
    for name in first:
        cells = [cell for part in columns.values() for cell in part[name]]
        print(f"| {name} | {' | '.join(cells)} |")


def print_step(name: LossName, tokens: int) -> None:
    """Print a loss's share of a training step."""
    encoder = load_encoder(EncoderSettings())
    space = LabelSpace(tuple(f"label {k:03}" for k in range(124)))
    train, validation = (texts(encoder, n, tokens, space) for n in (160, 16))
    watched = Watched(module(name, 124))
    settings = TrainingSettings(epochs=5, batch_size=16, trainable_layers=1)
    with tempfile.TemporaryDirectory() as directory:
        train_arm(encoder, space.names, train, validation, watched, settings,
                  cache=ActivationCache(directory))  # fmt: skip
    step = 1e3 * statistics.median(np.diff(watched.times))
    logits, targets = batch(16, 124)
    passes: dict[str, Pass] = {
        BASELINE: partial(bce, target=targets),
        name: partial(module(name, 124).mean, targets=targets),
    }
    alone = milliseconds(passes, logits, 5.0)[name]
    print(f"{tokens} tokens: {name} at 16 × 124 takes {alone:.3f} ms of a step of {step:.1f} ms, "
          f"{alone / step:.2%}")  # fmt: skip


class Watched(nn.Module):
    """A loss that notes the thread's processor time whenever it is called, once in a step."""

    def __init__(self, loss: MultiLabelLoss) -> None:
        """Take a loss."""
        super().__init__()
        self.loss = loss
        self.times: list[float] = []

    def sum(self, logits: Tensor, targets: Tensor, known: Tensor | None = None) -> Tensor:
        """The loss's sum."""
        self.times.append(time.thread_time())
        return self.loss.sum(logits, targets, known)

    def cells(self, targets: Tensor, known: Tensor | None = None) -> Tensor:
        """The loss's number of cells."""
        return self.loss.cells(targets, known)


def module(name: LossName, labels: int) -> MultiLabelLoss:
    """The preset for a long tail of labels."""
    options = {"rebalance_mu": MU} if PRESETS[name].reweighting == "rebalance" else {}
    settings = LossSettings(name=name, options=options)
    return build_loss(settings, support=support(labels), n_texts=TEXTS)


def support(labels: int) -> np.ndarray:
    """Positives of each label."""
    return np.maximum(3_000 // np.arange(1, labels + 1), 1)


def batch(rows: int, labels: int) -> tuple[Tensor, Tensor]:
    """Logits that want a gradient, and targets as the collator makes them."""
    draw = torch.Generator().manual_seed(0)
    priors = torch.from_numpy(support(labels) / TEXTS)
    targets = (torch.rand(rows, labels, generator=draw) < priors).float()
    logits = torch.randn(rows, labels, generator=draw) * 2 - 3
    return logits.requires_grad_(), targets


def texts(encoder: Encoder, n: int, tokens: int, space: LabelSpace) -> LabelledTexts:
    """Texts of random words that are one token each, with labels from the tail."""
    random = np.random.default_rng(n)
    words = sorted(word for word in encoder.tokenizer.get_vocab() if word.isalpha())
    drawn = [" ".join(random.choice(words, size=tokens - 2)) for _ in range(n)]
    has = random.random((n, len(space))) < support(len(space)) / TEXTS
    labels = [[space.names[k] for k in np.flatnonzero(row)] for row in has]
    return LabelledTexts(drawn, space.encode(labels))


if __name__ == "__main__":
    main()
