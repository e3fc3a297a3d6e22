"""The candidate → a handful of its suggestions with their evidence, for the report."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from longtail import storage
from longtail.bundle import load_bundle
from longtail.errors import StoreError
from longtail.examples import EXAMPLES, Example, pick_examples
from longtail.models.explanation import Explanation, explain
from longtail.predictions import read_predictions
from longtail.thresholds import decide
from tasks.arms import read_thresholds
from tasks.data import SplitData
from tasks.handles import ArmHandle, RunHandle, SplitHandle
from tasks.stages import timed

Bools = NDArray[np.bool_]


@task(name="explain examples", task_run_name="explain examples", cache_policy=NO_CACHE)
def explain_examples(run: RunHandle, split: SplitHandle, candidate: ArmHandle) -> None:
    """Write ``examples.json``: ids of test texts, labels suggested for them, and why.

    No text is in it. The report's page is forwarded.

    Raises:
        StoreError: the candidate has no bundle, or it is damaged.
    """
    if candidate.bundle is None:
        raise StoreError(f"{candidate.directory}: the candidate has no bundle to explain")
    with timed(run, "examples"):
        data = SplitData(split)
        names, ids, texts = data.space.names, data.ids("test"), data.texts("test")
        scores = read_predictions(candidate.directory / "test.parquet").aligned(ids, names)
        thresholds = read_thresholds(candidate.directory)
        given = decide(scores, np.array([thresholds[name] for name in names]))
        y, known = data.y("test").toarray().astype(bool), data.known("test")
        examples = pick_examples(scores, given, y, data.groups.support, known)
        rows = [example.row for example in examples]
        bundle = load_bundle(candidate.bundle)
        found = explain(bundle, [texts[row] for row in rows], given[rows]) if rows else []
        content = [
            _entry(example, ids[example.row], names, suggestions, scores, y, known)
            for example, suggestions in zip(examples, found, strict=True)
        ]
        storage.write_json(run.directory / EXAMPLES, {"examples": content})


def note_no_examples(run: RunHandle, reason: str) -> None:
    """Write down why there are no examples: the report says it, and the run goes on."""
    storage.write_json(run.directory / EXAMPLES, {"failed": reason})


def _entry(
    example: Example,
    text: str,
    names: tuple[str, ...],
    suggestions: list[Explanation],
    scores: NDArray[np.float32],
    y: Bools,
    known: Bools | None,
) -> dict[str, Any]:
    """A text with its suggestions, the most probable first."""
    columns = {name: column for column, name in enumerate(names)}
    of_text = []
    for one in suggestions:
        cell = example.row, columns[one.label]
        right = bool(y[cell]) if known is None or known[cell] else None
        of_text.append({**one.to_json(), "probability": round(float(scores[cell]), 4),
                        "right": right})  # fmt: skip
    of_text.sort(key=lambda one: -one["probability"])
    shown_for = {"label": names[example.label], "why": example.why}
    return {"id": text, "shown_for": shown_for, "suggestions": of_text}
