"""A tiny data set as a comparison prepares it, with trained cells of three losses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from longtail import storage
from longtail.config import GROUPS, EncoderSettings, LinearSettings, LossSettings, TrainingSettings
from longtail.labels import LabelGroups, LabelSpace
from longtail.tiny import write_tiny_encoder
from tasks.cells import cell_directory, train_cell
from tasks.data import SplitData, write_label_space
from tasks.handles import SplitHandle
from tasks.linear_arm import fit_linear

WORDS = ("tent", "boot", "stove")
BUDGET = TrainingSettings(epochs=2, batch_size=8, max_length=16, trainable_layers=1)
LOSSES = ("bce", "db-soft", "db")


def texts(part: str, number: int) -> pa.Table:
    """Invented tickets with one or two labels each."""
    random = np.random.default_rng(len(part))
    rows = [sorted({*random.choice(WORDS, 2)}) for _ in range(number)]
    return pa.table({
        "id": [f"{part}{n}" for n in range(number)],
        "text": [f"please mend my {' and '.join(row)} number {n}" for n, row in enumerate(rows)],
        "labels": rows,
        "unit": list(range(number)),
        "cohort": [0] * number,
    })  # fmt: skip


def prepare(directory: Path) -> SplitHandle:
    """Write splits, label space and linear arm."""
    split = SplitHandle.of(directory)
    for part, number in (("train", 40), ("validation", 30), ("test", 12)):
        storage.write_parquet(split.directory / f"{part}.parquet", texts(part, number))
    groups = LabelGroups(GROUPS, (25, 25, 25), (10, 20))
    write_label_space(split.label_space, LabelSpace(tuple(sorted(WORDS))), groups)
    fit_linear(SplitData(split), directory / "arms" / "linear", LinearSettings(min_df=1))
    storage.write_json(directory / "prepared.json", {})
    return split


def train(split: SplitHandle, root: Path) -> dict[str, Path]:
    """Train a cell of each loss; their directories by loss."""
    source = write_tiny_encoder(root / "encoder", texts("train", 40)["text"].to_pylist())
    settings = EncoderSettings(source=str(source))
    made = {}
    for name in LOSSES:
        loss = LossSettings(name=name)
        made[name] = cell_directory(root / "cells", split, "e", BUDGET, loss, {})
        train_cell.fn(made[name], split, settings, BUDGET, loss, {}, root / "cache")
    return made
