"""Out-of-fold predictions on all texts of a data set, for several recipes and seeds.

    python benchmarks/out_of_fold.py DATA --out POOL [--folds 2] [--seeds 0 1 2] [--recipes bce db]

DATA is the directory of a finished run, or a Parquet export (id, text, labels, group). All texts,
whatever their split, are divided into folds by unit. Per fold, recipe and seed an arm is trained on
three quarters of the other folds; the last quarter chooses the epoch and fits the thresholds (one
per label group); the fold itself is only scored. A recipe is a loss, or ``linear``: the linear arm
on 80 % of the training texts, which the seed chooses, as a seed makes no other difference to it;
``linear-half`` takes half of that. What is there already is not trained again, so an interrupted
command goes on where it was. The pool is what benchmarks/gate.py reads:

    POOL/truth.parquet                         id, unit, fold, labels of every text
    POOL/labels.json                           column order
    POOL/RECIPE-sSEED/foldK/scored.parquet       probabilities of the texts of fold K
    POOL/RECIPE-sSEED/foldK/validation.parquet   of the texts its thresholds were fitted on
    POOL/RECIPE-sSEED/foldK/cell.json            thresholds, label groups, budget; written last
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from longtail import storage
from longtail.activations import ActivationCache
from longtail.baselines import LinearBaseline
from longtail.config import (
    LOSS_NAMES,
    EncoderSettings,
    GroupSettings,
    LinearSettings,
    LossSettings,
    ThresholdSettings,
    TrainingSettings,
)
from longtail.encoder import Encoder, load_encoder
from longtail.labels import LabelGroups, LabelSpace, group_labels, support
from longtail.losses import build_loss
from longtail.near_duplicates import find_units
from longtail.predictions import Predictions, write_predictions
from longtail.scoring import score
from longtail.splitting import stratify
from longtail.thresholds import fit_thresholds
from longtail.training import LabelledTexts, train_arm
from tasks.data import SplitData
from tasks.handles import SplitHandle

VALIDATION = 0.25  # of what is not scored: the share that 60/20/20 gives
LINEAR_SHARES = {"linear": 0.8, "linear-half": 0.4}
MIN_LABEL_SUPPORT, SIMILARITY = 10, 0.8  # of an export; a run has been through both


@dataclass(frozen=True)
class Texts:
    """All texts of a data set and the fold each is scored in."""

    ids: np.ndarray
    texts: np.ndarray
    units: np.ndarray
    y: sp.csr_array
    space: LabelSpace
    fold: np.ndarray

    def labelled(self, rows: np.ndarray) -> LabelledTexts:
        """Some of the texts, as training takes them."""
        return LabelledTexts(self.texts[rows].tolist(), self.y[rows])


@dataclass(frozen=True)
class Cell:
    """One training: which recipe, which seed, which fold is left out."""

    recipe: str
    seed: int
    fold: int

    def directory(self, pool: Path) -> Path:
        """Where its predictions go."""
        return pool / f"{self.recipe}-s{self.seed}" / f"fold{self.fold}"


@dataclass(frozen=True)
class Rows:
    """The texts of a cell by what they are for."""

    train: np.ndarray
    validation: np.ndarray
    scored: np.ndarray
    groups: LabelGroups


Scorer = Callable[[np.ndarray], np.ndarray]
Recipe = Callable[[Texts, Cell, Rows], tuple[Scorer, dict[str, Any]]]


def main() -> None:
    """Train and score every cell that is not there yet."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = arguments()
    data = read_texts(options.data, options.folds)
    write_truth(options.out, data)
    recipes = {name: recipe(name, options) for name in options.recipes}
    cells = [
        Cell(name, seed, fold)
        for name in recipes for seed in options.seeds for fold in range(options.folds)
    ]  # fmt: skip
    for number, cell in enumerate(cells, start=1):
        if (cell.directory(options.out) / "cell.json").exists():
            continue
        started = time.monotonic()
        write_cell(cell, options.out, data, recipes[cell.recipe])
        seconds = time.monotonic() - started
        print(f"{number} of {len(cells)}: {cell}, {seconds:.0f} s", flush=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    known = [*LOSS_NAMES, *LINEAR_SHARES]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a finished run's directory, or a Parquet export")
    parser.add_argument("--out", type=Path, required=True, metavar="POOL")
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipes", nargs="+", choices=known, default=["bce", "ntr-focal"])
    parser.add_argument("--epochs", type=int, default=TrainingSettings().epochs)
    parser.add_argument("--cache", type=Path, help="activation cache to share; default in POOL")
    return parser.parse_args()


def recipe(name: str, options: argparse.Namespace) -> Recipe:
    """What trains a cell."""
    if name in LINEAR_SHARES:
        return partial(train_linear, LINEAR_SHARES[name])
    cache = ActivationCache(options.cache or options.out / "cache", max_bytes=40 << 30)
    return partial(train_encoder, load_encoder(EncoderSettings()), cache, options.epochs)


def read_texts(source: Path, folds: int) -> Texts:
    """All texts, divided into folds by unit, each fold with its share of every label."""
    table, space = read_run(source) if source.is_dir() else read_export(source)
    ids = table["id"].to_pylist()
    units = table["unit"].to_numpy().astype(np.int64)
    y = space.encode(table["labels"].to_pylist())
    fold = stratify(y, [1 / folds] * folds, ids=ids, units=units).assignment.astype(np.int64)
    texts = np.asarray(table["text"].to_pylist(), dtype=object)
    return Texts(np.asarray(ids, dtype=object), texts, units, y, space, fold)


def read_run(directory: Path) -> tuple[pa.Table, LabelSpace]:
    """All texts of a run with the units that its split kept whole."""
    data = SplitData(SplitHandle.of(directory))
    columns = ["id", "text", "labels", "unit"]
    parts = [data.table(part, columns) for part in ("train", "validation", "test")]
    return pa.concat_tables(parts).sort_by("id"), data.space


def read_export(path: Path) -> tuple[pa.Table, LabelSpace]:
    """All texts of an export with the units that a run would find."""
    table = storage.read_parquet(path).sort_by("id")
    ids, texts, labels = (table[name].to_pylist() for name in ("id", "text", "labels"))
    found = find_units(ids, texts, table["group"].to_pylist(), SIMILARITY)
    often = Counter(label for row in labels for label in row)
    kept = sorted(label for label, texts in often.items() if texts >= MIN_LABEL_SUPPORT)
    return table.append_column("unit", pa.array(found.units)), LabelSpace(tuple(kept))


def write_truth(pool: Path, data: Texts) -> None:
    """Write ids, units, folds and labels, or check that what is there says the same."""
    path = pool / "truth.parquet"
    if path.exists():
        if storage.read_parquet(path)["fold"].to_pylist() != data.fold.tolist():
            raise SystemExit(f"{pool} holds other folds; give another --out")
        return
    pool.mkdir(parents=True, exist_ok=True)
    storage.write_json(pool / "labels.json", list(data.space.names))
    table = pa.table(
        {
            "id": pa.array(data.ids, pa.string()),
            "unit": data.units,
            "fold": data.fold,
            "labels": data.space.decode(data.y.toarray()),
        }
    )
    storage.write_parquet(path, table)


def write_cell(cell: Cell, pool: Path, data: Texts, train: Recipe) -> None:
    """Train on the other folds, score this one."""
    rows = divide(cell, data)
    started = time.monotonic()
    score_rows, about = train(data, cell, rows)
    directory = cell.directory(pool)
    directory.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, chosen in (("scored", rows.scored), ("validation", rows.validation)):
        found[name] = score_rows(chosen)
        predictions = Predictions(tuple(data.ids[chosen]), data.space.names, found[name])
        write_predictions(directory / f"{name}.parquet", predictions)
    cuts = fit_thresholds(
        data.y[rows.validation], found["validation"], rows.groups, ThresholdSettings(policy="group")
    )
    groups = rows.groups
    storage.write_json(
        directory / "cell.json",
        {
            "cell": asdict(cell),
            **about,
            "seconds": time.monotonic() - started,
            "texts": [len(rows.train), len(rows.validation), len(rows.scored)],
            "groups": groups.of_label,
            "support": groups.support,
            "cutoffs": groups.cutoffs,
            "thresholds": cuts.to_json(),
        },
    )


def divide(cell: Cell, data: Texts) -> Rows:
    """Training, validation and scored texts of a cell; the same for every recipe and seed."""
    rest = np.flatnonzero(data.fold != cell.fold)
    side = stratify(
        data.y[rest], [1 - VALIDATION, VALIDATION],
        ids=data.ids[rest].tolist(), units=data.units[rest],
    ).assignment  # fmt: skip
    train = rest[side == 0]
    groups = group_labels(support(data.y[train]), GroupSettings())
    return Rows(train, rest[side == 1], np.flatnonzero(data.fold == cell.fold), groups)


def train_encoder(
    encoder: Encoder, cache: ActivationCache, epochs: int, data: Texts, cell: Cell, rows: Rows
) -> tuple[Scorer, dict[str, Any]]:
    """The encoder with a loss, as in a run."""
    settings = TrainingSettings(seed=cell.seed, epochs=epochs)
    loss = build_loss(
        LossSettings(name=cell.recipe),  # type: ignore[arg-type]  # argparse has checked it
        support=rows.groups.support, n_texts=len(rows.train), y=data.y[rows.train],
    )  # fmt: skip
    parts = [data.labelled(chosen) for chosen in (rows.train, rows.validation)]
    arm = train_arm(encoder, data.space.names, *parts, loss, settings, cache=cache)

    def score_rows(chosen: np.ndarray) -> np.ndarray:
        return score(
            arm.model, encoder.tokenizer, data.texts[chosen].tolist(),
            max_length=settings.max_length, cache=cache, frozen_layers=arm.frozen_layers,
        )  # fmt: skip

    return score_rows, {"training": settings.model_dump(), "history": arm.history}


def train_linear(
    share: float, data: Texts, cell: Cell, rows: Rows
) -> tuple[Scorer, dict[str, Any]]:
    """The linear arm on a part of the training texts."""
    size = round(share * len(rows.train))
    chosen = np.random.default_rng(cell.seed).permutation(rows.train)[:size]
    settings = LinearSettings()
    arm = LinearBaseline(settings).fit(data.texts[chosen].tolist(), data.y[chosen])

    def score_rows(chosen: np.ndarray) -> np.ndarray:
        return arm.predict(data.texts[chosen].tolist())

    return score_rows, {"linear": settings.model_dump(), "fitted_on": size}


if __name__ == "__main__":
    main()
