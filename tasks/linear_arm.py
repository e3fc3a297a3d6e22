"""Fitting the linear arm, and the files of any arm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.baselines import LinearBaseline
from longtail.config import LinearSettings, SplitName
from longtail.known import Bools, stacked
from longtail.predictions import Predictions, write_predictions
from tasks.arms import write_arm
from tasks.data import SplitData

LINEAR_MODEL = "model"
DECISIONS = "_decisions.parquet"


def fit_linear(data: SplitData, directory: Path, settings: LinearSettings) -> None:
    """Fit TF-IDF with one linear classifier per label, save it, score validation and test.

    Validation is scored by a model that has not seen it. With ``refit`` the one that is saved, and
    scores the test set, has learned from it as well.
    """
    started = time.monotonic()
    model = LinearBaseline(settings).fit(data.texts("train"), data.y("train"), data.known("train"))
    decisions = model.decisions(data.texts("validation"))
    write_scores(directory, data, "validation", model.scores(decisions))
    write_scores(directory, data, "validation", decisions, DECISIONS)
    parts = learned_from(refit=settings.refit)
    if settings.refit:
        model = LinearBaseline(settings).fit(*_together(data, parts))
    model.save(directory / LINEAR_MODEL)
    write_scores(directory, data, "test", model.predict(data.texts("test")))
    write_arm(
        directory, learned_from=parts, arm="linear", loss=settings.estimator, history=[],
        seconds=time.monotonic() - started,
    )  # fmt: skip


def learned_from(*, refit: bool) -> list[SplitName]:
    """The splits whose texts a linear arm has learned from."""
    return ["train", "validation"] if refit else ["train"]


def write_scores(
    directory: Path,
    data: SplitData,
    part: SplitName,
    scores: NDArray[np.float32],
    suffix: str = ".parquet",
) -> None:
    """Write an arm's scores of a split, (texts, labels)."""
    predictions = Predictions(tuple(data.ids(part)), data.space.names, scores)
    write_predictions(directory / f"{part}{suffix}", predictions)


def _together(
    data: SplitData, parts: Sequence[SplitName]
) -> tuple[list[str], sp.csr_array, Bools | None]:
    """Texts, labels and known cells of several splits, one below the other."""
    y = [data.y(part) for part in parts]
    known = stacked([one.shape for one in y], [data.known(part) for part in parts])
    texts = [text for part in parts for text in data.texts(part)]
    return texts, sp.csr_array(sp.vstack(y)), known
