"""What the activation cache and the first-token layer buy on this machine, and what they change.

    python benchmarks/frozen_layers.py --data FILE.parquet --texts 4000 --threads 1

FILE has the columns ``text`` and ``labels`` (lists). 75 % of the texts are trained on, the rest is
validation. Prints tokens per second (padding not counted) of each part, and the validation micro-F1
of each epoch with activations kept in float16, in float32, and not kept at all.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import torch

from longtail import freezing, preparation
from longtail.activations import ActivationCache
from longtail.batching import LabelledTexts, tokenise
from longtail.config import EncoderSettings, LossSettings, TrainingSettings
from longtail.encoder import load_encoder
from longtail.labels import LabelSpace, support
from longtail.losses import build_loss
from longtail.scoring import score
from longtail.training import TrainedArm, train_arm


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--loss", default="db")
    parser.add_argument("--min-support", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    parts, names = load(given.data, given.texts, given.min_support)
    encoder = load_encoder(EncoderSettings())
    settings = TrainingSettings(epochs=given.epochs, trainable_layers=1)
    loss = build_loss(
        LossSettings(name=given.loss), support=support(parts[0].y), n_texts=len(parts[0].texts),
        y=parts[0].y,
    )  # fmt: skip
    tokens = [int(tokenise(encoder.tokenizer, part.texts, settings.max_length).lengths.sum())
              for part in parts]  # fmt: skip
    print(f"{len(parts[0].texts)} + {len(parts[1].texts)} texts, {sum(tokens)} tokens, "
          f"{len(names)} labels, {given.threads} threads, loss {given.loss}")  # fmt: skip

    def arm(cache: ActivationCache | None, epochs: int = given.epochs) -> TrainedArm:
        chosen = settings.model_copy(update={"epochs": epochs})
        return train_arm(encoder, names, *parts, loss, chosen, cache=cache)

    with tempfile.TemporaryDirectory() as directory:
        cache = ActivationCache(directory)
        first = arm(cache)
        report("frozen layers computed", sum(tokens) / first.cache_seconds)
        again = arm(cache)
        report("frozen layers read back (with tokenising)", sum(tokens) / again.cache_seconds)
        report("training on cached activations", again.tokens_per_second)
        with mock.patch.object(freezing, "_FIRST_TOKEN_ATTENTION", frozenset()):
            report("  the same, last layer at every token", arm(cache, 1).tokens_per_second)
        report("  the same, nothing cached", arm(None, 1).tokens_per_second)
        scored = timed(lambda: score(first.model, encoder.tokenizer, parts[1].texts,
                                     max_length=settings.max_length))  # fmt: skip
        report("scoring with the whole model", tokens[1] / scored)
        scored = timed(lambda: score(first.model, encoder.tokenizer, parts[1].texts,
                                     max_length=settings.max_length, cache=cache,
                                     frozen_layers=first.frozen_layers))  # fmt: skip
        report("scoring on cached activations", tokens[1] / scored)
        with mock.patch.object(preparation, "_CACHE_DTYPES", ("float32", "float32")):
            full = arm(cache)
    for name, found in (("float16", first), ("float32", full)):
        values = " ".join(f"{entry['validation_micro_f1']:.4f}" for entry in found.history)
        print(f"validation micro-F1, activations in {name}: {values}")
    probabilities = [score(found.model, encoder.tokenizer, parts[1].texts, max_length=128)
                     for found in (first, full)]  # fmt: skip
    print("largest and mean difference of a final probability, float16 against float32: "
          f"{np.abs(np.subtract(*probabilities)).max():.1e}, "
          f"{np.abs(np.subtract(*probabilities)).mean():.1e}")  # fmt: skip


def load(path: str, n: int, minimum: int) -> tuple[list[LabelledTexts], list[str]]:
    """Training and validation texts, and the labels with enough training texts."""
    table = pq.read_table(path, columns=["text", "labels"])
    rows = np.random.default_rng(0).permutation(table.num_rows)[:n]
    table = table.take(rows)
    labels = table["labels"].to_pylist()
    space = LabelSpace.of(labels)
    y, border = space.encode(labels), int(0.75 * len(rows))
    kept = np.flatnonzero(support(y[:border]) >= minimum)
    texts, y = table["text"].to_pylist(), y[:, kept]
    halves = [LabelledTexts(texts[part], y[part])
              for part in (slice(0, border), slice(border, None))]  # fmt: skip
    return halves, [space.names[column] for column in kept]


def timed(action: Callable[[], object]) -> float:
    """Seconds that something takes."""
    started = time.monotonic()
    action()
    return time.monotonic() - started


def report(what: str, tokens_per_second: float) -> None:
    """Print one line."""
    print(f"{what:45} {tokens_per_second:10.0f} tokens/s", flush=True)


if __name__ == "__main__":
    main()
