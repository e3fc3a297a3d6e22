"""Both of our arms against one training by transformers' Trainer at its defaults.

    python benchmarks/training.py --data FILE.parquet --texts 1200 --threads 1

FILE has the columns ``text`` and ``labels`` (lists); of a column ``split`` only ``train`` is read.
--texts are trained on, half as many are validation. The Trainer's defaults: every layer, batches of
8, learning rate 5e-5, BCE by ``problem_type``, texts padded to the maximum; ``--frozen`` freezes
the layers that we freeze. Ours: ``bce`` and ``db`` at our defaults but for the number of epochs, on
an empty activation cache; their time includes tokenising, the cache and validation after each
epoch, the Trainer's tokenising and training alone. Micro-F1 is that on validation at the model's
own best threshold.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from transformers import Trainer, TrainingArguments

from longtail.activations import ActivationCache
from longtail.batching import LabelledTexts
from longtail.config import EncoderSettings, LossSettings, TrainingSettings
from longtail.encoder import Encoder, build_classifier, load_encoder, quiet_transformers
from longtail.freezing import encoder_layers, freeze, trainable_layers
from longtail.labels import LabelSpace, support
from longtail.losses import build_loss
from longtail.scoring import score
from longtail.thresholds import best_global_threshold
from longtail.training import train_arm

ARMS = ("bce", "db")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--texts", type=int, default=1200, help="training texts")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--min-support", type=int, default=5)
    parser.add_argument("--more-epochs", type=int, default=8, help="ours once more, warm cache")
    parser.add_argument("--frozen", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--full", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    parts, names = load(given.data, given.texts, given.min_support)
    encoder = load_encoder(EncoderSettings())
    print(f"{len(parts[0].texts)} + {len(parts[1].texts)} texts, {len(names)} labels, at most "
          f"{given.max_length} tokens, {given.threads} threads")  # fmt: skip
    print(f"{'':44} {'seconds':>8} {'CPU s':>8} {'micro-F1':>9}")
    ours(encoder, names, parts, given)
    for wanted, frozen in ((given.full, False), (given.frozen, True)):
        if wanted:
            theirs(encoder, names, parts, given, frozen=frozen)


def ours(
    encoder: Encoder, names: Sequence[str], parts: list[LabelledTexts], given: argparse.Namespace
) -> None:
    """Both arms on a cold cache, then with more epochs on the warm one."""
    with tempfile.TemporaryDirectory() as directory:
        cache = ActivationCache(directory)
        for epochs, state in ((given.epochs, "cold cache"), (given.more_epochs, "warm cache")):
            settings = TrainingSettings(epochs=epochs, max_length=given.max_length)
            total = np.zeros(2)
            for name in ARMS:
                loss = build_loss(
                    LossSettings(name=name), support=support(parts[0].y),
                    n_texts=len(parts[0].texts), y=parts[0].y,
                )  # fmt: skip
                clock = Clock()
                arm = train_arm(encoder, names, *parts, loss, settings, cache=cache)
                total += clock.read()
                found = micro_f1(arm.model, encoder, parts[1], given.max_length)
                report(f"ours, {name}, {epochs} epochs", clock, found)
                print(f"    of it tokenising and cache {arm.cache_seconds:.1f} s")
            print(f"{f'ours, both arms, {epochs} epochs, {state}':44} "
                  f"{total[0]:8.1f} {total[1]:8.1f}", flush=True)  # fmt: skip


def theirs(
    encoder: Encoder,
    names: Sequence[str],
    parts: list[LabelledTexts],
    given: argparse.Namespace,
    *,
    frozen: bool,
) -> None:
    """One training by the Trainer at its defaults; nothing is saved or evaluated on the way."""
    model = build_classifier(encoder, names, seed=0)
    if frozen:
        layers = len(encoder_layers(model))
        freeze(model, layers - trainable_layers("auto", layers, cuda=False))
    with tempfile.TemporaryDirectory() as directory, quiet_transformers():
        clock = Clock()
        arguments = TrainingArguments(
            directory, num_train_epochs=given.epochs, save_strategy="no", report_to=[],
            disable_tqdm=True, logging_strategy="no", use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
        )  # fmt: skip
        data = padded(encoder, parts[0], given.max_length)
        Trainer(model=model, args=arguments, train_dataset=data).train()
        clock.read()
    what = "the same frozen layers" if frozen else "every layer"
    found = micro_f1(model.cpu(), encoder, parts[1], given.max_length)
    report(f"Trainer, {what}, {given.epochs} epochs", clock, found)


def padded(encoder: Encoder, part: LabelledTexts, max_length: int) -> list[dict[str, Any]]:
    """The rows of a data set that is padded to the maximum."""
    inputs = encoder.tokenizer(
        list(part.texts), truncation=True, max_length=max_length, padding="max_length"
    )
    targets = part.y.toarray().astype(np.float32)
    return [{name: inputs[name][row] for name in inputs} | {"labels": targets[row]}
            for row in range(len(part.texts))]  # fmt: skip


def micro_f1(model: Any, encoder: Encoder, part: LabelledTexts, max_length: int) -> float:
    """At the model's own best threshold."""
    found = score(model.eval(), encoder.tokenizer, part.texts, max_length=max_length)
    return best_global_threshold(part.y, found)[1]


def load(path: str, n: int, minimum: int) -> tuple[list[LabelledTexts], list[str]]:
    """Training and validation texts, and the labels with enough training texts."""
    table = pq.read_table(path)
    if "split" in table.column_names:
        table = table.filter(pc.equal(table["split"], "train"))
    rows = np.random.default_rng(0).permutation(table.num_rows)[: n + n // 2]
    table = table.take(rows)
    labels = table["labels"].to_pylist()
    space = LabelSpace.of(labels)
    y, texts = space.encode(labels), table["text"].to_pylist()
    kept = np.flatnonzero(support(y[:n]) >= minimum)
    parts = [LabelledTexts(texts[part], y[part][:, kept])
             for part in (slice(0, n), slice(n, None))]  # fmt: skip
    return parts, [space.names[column] for column in kept]


class Clock:
    """Seconds by the wall and of this process's cores, since it was made until it is read."""

    def __init__(self) -> None:
        self.started = np.array([time.monotonic(), time.process_time()])
        self.seconds = np.zeros(2)

    def read(self) -> Any:
        """Stop."""
        self.seconds = np.array([time.monotonic(), time.process_time()]) - self.started
        return self.seconds


def report(what: str, clock: Clock, micro: float) -> None:
    """Print one line."""
    print(f"{what:44} {clock.seconds[0]:8.1f} {clock.seconds[1]:8.1f} {micro:9.4f}", flush=True)


if __name__ == "__main__":
    main()
