"""What a training budget gives each loss on validation: the ground the defaults stand on.

    python benchmarks/budget.py RUN [RUN …] --grid 2e-4,5e-3,6 2e-4,1e-2,6 [--losses bce db]

RUN is a finished run directory: its training and validation splits are used, its test set is
never read. A grid point is LEARNING_RATE,HEAD_LEARNING_RATE,EPOCHS.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from longtail import storage
from longtail.activations import ActivationCache
from longtail.config import EncoderSettings, LossSettings, TrainingSettings
from longtail.encoder import load_encoder
from longtail.losses import build_loss
from longtail.training import LabelledTexts, train_arm
from tasks.data import SplitData
from tasks.handles import SplitHandle


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--grid", nargs="+", required=True, metavar="LR,HEAD_LR,EPOCHS")
    parser.add_argument("--losses", nargs="+", default=["bce", "db"])
    parser.add_argument("--cache", type=Path, default=Path("build/budget-cache"))
    given = parser.parse_args()
    print(
        "| data | loss | rate | head rate | epochs | best epoch | validation micro-F1 | seconds |"
    )
    print("| - | - | - | - | - | - | - | - |")
    for run in given.runs:
        for point in given.grid:
            for loss in given.losses:
                print(
                    f"| {run.name} | {loss} | {measure(run, loss, point, given.cache)} |",
                    flush=True,
                )


def measure(run: Path, loss: str, point: str, cache: Path) -> str:
    """Train once and tell how far it came."""
    rate, head_rate, epochs = point.split(",")
    data = SplitData(SplitHandle.of(run))
    train, validation = (LabelledTexts(data.texts(part), data.y(part))
                         for part in ("train", "validation"))  # fmt: skip
    before = storage.read_json(run / "config.json")["training"]
    settings = TrainingSettings(**{
        **before, "learning_rate": float(rate), "head_learning_rate": float(head_rate),
        "epochs": int(epochs),
    })  # fmt: skip
    module = build_loss(
        LossSettings(name=loss), support=data.groups.support, n_texts=len(train.texts), y=train.y
    )
    encoder = load_encoder(EncoderSettings())
    started = time.monotonic()
    arm = train_arm(
        encoder, data.space.names, train, validation, module, settings, cache=ActivationCache(cache)
    )
    best = max(entry["validation_micro_f1"] for entry in arm.history)
    seconds = time.monotonic() - started
    return f"{rate} | {head_rate} | {epochs} | {arm.best_epoch} | {best:.4f} | {seconds:.0f}"


if __name__ == "__main__":
    main()
