"""How many planted label errors the audit finds, and how high it ranks them.

    python benchmarks/label_errors.py --data NAME=FILE [--data …] [--share 0.03] [--seeds 0,1,2]

In every data set so many cells of the label matrix are made wrong, among the labels frequent enough
to be searched. ``random`` removes labels and adds as many to other texts, drawn by their frequency;
``confusable`` replaces labels by ones whose texts have similar words. Everything else counts as
right, so the errors that the data had before count as false alarms: figures of different data sets
cannot be compared, those of different rankings can.

Rankings of cells: ``naive`` is the probability of what is given, σ(2d) of the held-out decision
value d; ``audit`` is what the audit lists. Rankings of texts: the lowest of the naive
probabilities, the audit's label quality, and, where the package is installed, cleanlab's label
quality score on the audit's probabilities.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import average_precision_score

from longtail.annotations.readers import read_annotations
from longtail.audit.label_errors import (
    Suspects,
    calibrate,
    confident_joint,
    held_out_decisions,
    suspects,
    text_scores,
)
from longtail.config import AuditSettings, DataSettings
from longtail.labels import LabelSpace, support
from longtail.near_duplicates import find_units

Bools = NDArray[np.bool_]
Scores = NDArray[np.float64]
KINDS = ("random", "confusable")
SHOWN = ("P@100", "P@planted", "AP", "AP wrong", "AP missing")
_NEIGHBOURS = 5


def main() -> None:
    """Plant, search, and print two tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--share", type=float, default=0.03, help="of the given labels, made wrong")
    parser.add_argument("--seeds", default="0,1,2")
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds.split(",")]
    cells, texts = [], []
    for one in given.data:
        name, _, path = one.partition("=")
        table = read(Path(path))
        for kind in KINDS:
            runs = [measure(table, kind, given.share, seed) for seed in seeds]
            cells += rows(name, kind, [run[0] for run in runs])
            texts += rows(name, kind, [run[1] for run in runs])
    print(markdown(["data", "planted", "ranking", *SHOWN, "suspects", "their precision", "recall",
                    "seconds"], cells))  # fmt: skip
    print(markdown(["data", "planted", "ranking of texts", "P@100", "AP"], texts))
    if find_spec("cleanlab") is None:
        print("cleanlab is not installed, so it was not compared.")


def read(path: Path) -> pa.Table:
    """The rows of an export that have no problem: id, text and labels."""
    table = pa.concat_tables(list(read_annotations(path, DataSettings())))
    return table.filter(pc.equal(pc.list_value_length(table["problems"]), 0))


def measure(
    table: pa.Table, kind: str, share: float, seed: int
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Figures by ranking, of cells and of texts."""
    settings = AuditSettings()
    texts, ids = table["text"].to_pylist(), table["id"].to_pylist()
    y = LabelSpace.of(table["labels"]).encode(table["labels"])
    truth = y[:, np.flatnonzero(support(y) >= settings.min_label_texts)].toarray()
    noisy = plant(truth, texts, kind, share, np.random.default_rng(seed))
    planted, given = noisy != truth, sp.csr_array(noisy)
    alone = pa.nulls(len(ids), pa.string())
    units = find_units(table["id"], table["text"], alone, DataSettings().near_duplicate_similarity)
    started = time.perf_counter()
    decisions = held_out_decisions(
        texts, given, ids=ids, units=units.units, folds=settings.folds, seed=seed
    )
    probabilities = calibrate(decisions, given)
    found = suspects(probabilities, given, confident_joint(probabilities, given))
    seconds = time.perf_counter() - started
    naive = 1 / (1 + np.exp(-2 * decisions.astype(np.float64)))
    naive_confidence = np.where(noisy, naive, 1 - naive)
    of_cells = {
        "naive": judged(planted, noisy, 1 - naive_confidence),
        "audit": judged(planted, noisy, listed_first(probabilities, noisy, found))
        | of_suspects(planted, found) | {"seconds": seconds},
    }  # fmt: skip
    of_texts = {
        "naive, lowest": 1 - naive_confidence.min(axis=1),
        "audit": 1 - text_scores(probabilities, given).astype(np.float64),
    }
    if find_spec("cleanlab") is not None:
        of_texts["cleanlab"] = 1 - cleanlab_scores(noisy, probabilities)
    wrong = planted.any(axis=1)
    return of_cells, {name: ranked(wrong, score) for name, score in of_texts.items()}


def plant(
    truth: Bools, texts: list[str], kind: str, share: float, rng: np.random.Generator
) -> Bools:
    """The labels with errors: as many removed as added."""
    noisy = truth.copy()
    cells = np.argwhere(truth)
    chosen = cells[rng.permutation(len(cells))[: round(share * len(cells))]]
    if kind == "random":
        frequency = truth.sum(axis=0) / truth.sum()
        noisy[chosen[:, 0], chosen[:, 1]] = False
        left = len(chosen)
        while left:
            row, label = rng.integers(len(truth)), rng.choice(truth.shape[1], p=frequency)
            if not (truth[row, label] or noisy[row, label]):
                noisy[row, label] = True
                left -= 1
        return noisy
    near = neighbours(truth, texts)
    for row, label in chosen.tolist():
        others = [other for other in near[label] if not truth[row, other] and not noisy[row, other]]
        if others:
            noisy[row, label], noisy[row, rng.choice(others)] = False, True
    return noisy


def neighbours(truth: Bools, texts: list[str]) -> NDArray[np.int64]:
    """For each label the five whose texts have the most similar words (cosine of mean TF-IDF)."""
    words = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(texts)
    means = (sp.csr_array(truth, dtype=np.float64).T @ words).toarray()
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    likeness = means @ means.T
    np.fill_diagonal(likeness, -1.0)
    return np.argsort(-likeness, axis=1)[:, :_NEIGHBOURS]


def listed_first(probabilities: NDArray[np.float32], noisy: Bools, found: Suspects) -> Scores:
    """Suspicion of every cell: the listed ones first, the others by the same probability."""
    score = np.where(noisy, 1 - probabilities, probabilities).astype(np.float64)
    score[found.rows, found.labels] += 1.0
    return score


def judged(planted: Bools, noisy: Bools, score: Scores) -> dict[str, float]:
    """Precision and average precision of a ranking of all cells."""
    wrong, missing = planted & noisy, planted & ~noisy
    order = np.argsort(-score.ravel(), kind="stable")
    hits = planted.ravel()[order]
    return {
        "P@100": float(hits[:100].mean()),
        "P@planted": float(hits[: int(planted.sum())].mean()),
        "AP": float(average_precision_score(planted.ravel(), score.ravel())),
        "AP wrong": float(average_precision_score(wrong[noisy], score[noisy])),
        "AP missing": float(average_precision_score(missing[~noisy], score[~noisy])),
    }


def of_suspects(planted: Bools, found: Suspects) -> dict[str, float]:
    """How many cells are listed, and what share of them, and of the planted ones, is a hit."""
    hits = planted[found.rows, found.labels]
    return {
        "suspects": float(len(found)),
        "their precision": float(hits.mean()) if len(found) else 0.0,
        "recall": float(hits.sum() / planted.sum()),
    }


def ranked(wrong: Bools, score: Scores) -> dict[str, float]:
    """Precision at 100 and average precision of a ranking of texts."""
    order = np.argsort(-score, kind="stable")
    return {
        "P@100": float(wrong[order][:100].mean()),
        "AP": float(average_precision_score(wrong, score)),
    }


def cleanlab_scores(noisy: Bools, probabilities: NDArray[np.float32]) -> Scores:
    """The label quality of each text by cleanlab, a package of the user's own."""
    cleanlab = import_module("cleanlab.multilabel_classification")
    labels = [np.flatnonzero(row).tolist() for row in noisy]
    return np.asarray(cleanlab.get_label_quality_scores(labels, probabilities), dtype=np.float64)


def rows(name: str, kind: str, runs: list[dict[str, dict[str, float]]]) -> list[list[Any]]:
    """One row per ranking: means over the seeds."""
    return [
        [name, kind, ranking,
         {key: float(np.mean([run[ranking][key] for run in runs])) for key in runs[0][ranking]}]
        for ranking in runs[0]
    ]  # fmt: skip


def markdown(columns: list[str], found: Iterable[list[Any]]) -> str:
    """A Markdown table; a figure that a ranking does not have is a dash."""
    lines = [f"| {' | '.join(columns)} |", f"|{' - |' * len(columns)}"]
    for name, kind, ranking, figures in found:
        cells = [_shown(key, figures.get(key)) for key in columns[3:]]
        lines.append(f"| {' | '.join([name, kind, ranking, *cells])} |")
    return "\n".join(lines) + "\n"


def _shown(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if key in ("suspects", "seconds") else f"{value:.3f}"


if __name__ == "__main__":
    main()
