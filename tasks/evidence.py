"""A split as sources of evidence and their combination want it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longtail import storage
from longtail.activations import ActivationCache
from longtail.config import CombinationSettings, SplitName
from longtail.models.combination import CrossFitted, cooccurrence
from longtail.models.evidence import Annotated
from longtail.models.ladder import Stacking, Sum
from longtail.models.reading import EncoderReader
from longtail.taxonomy import load_taxonomy
from tasks.arms import STEPS
from tasks.data import SplitData
from tasks.linear_arm import write_scores

_SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def annotated_splits(
    data: SplitData, reader: EncoderReader, cache: ActivationCache | None
) -> dict[SplitName, Annotated]:
    """Training, validation and test texts with labels, read by encoders.

    Args:
        data: the split.
        reader: reads texts.
        cache: activations of the frozen layers.
    """
    return {
        part: Annotated(
            # Training has kept the states of its texts in half precision; memories are no finer.
            reader.read(
                data.texts(part), cache=cache, dtype="float16" if part == "train" else "float32"
            ),
            data.y(part),
            data.ids(part),
            data.table(part, ["unit"])["unit"].to_numpy(),
            data.known(part),
        )
        for part in _SPLITS
    }


def stacking_of(data: SplitData, settings: CombinationSettings) -> Stacking:
    """The split's validation texts, for combinations to be fitted on."""
    pairs = None
    if settings.cooccurrence:
        pairs = cooccurrence(data.y("train"), data.known("train"))
    return Stacking(
        data.y("validation"),
        data.known("validation"),
        data.table("validation", ["unit"])["unit"].to_numpy(),
        np.array(data.groups.support),
        pairs,
        settings,
    )


def about_combination(fitted: CrossFitted, notes: Sequence[str] = ()) -> dict[str, Any]:
    """What ``arm.json`` says of a combination.

    Args:
        fitted: the combination.
        notes: a sentence for each source that was left out.
    """
    combination = fitted.combination
    return {
        "method": combination.method,
        "sources": combination.sources,
        "weights": dict(combination.weighted.weights),
        "notes": [*notes, *combination.notes],
        "validation_micro_f1": dict(fitted.micro_f1),
        "validation_log_loss": dict(fitted.log_loss),
    }


def write_steps(directory: Path, data: SplitData, steps: list[Sum]) -> None:
    """Write the steps of a ladder: the scores of each, and ``steps.json``."""
    for step in steps:
        write_scores(directory / step.key, data, "validation", step.out_of_fold)
        write_scores(directory / step.key, data, "test", step.test)
    about = [{"key": step.key, "name": step.name, "sources": list(step.sources)} for step in steps]
    storage.write_json(directory / STEPS, about)


def descriptions_of(taxonomy: str | None) -> dict[str, list[str]]:
    """What else the labels are called, and what they mean, by label.

    Args:
        taxonomy: file with the labels' descriptions and aliases, if there is one.
    """
    if taxonomy is None:
        return {}
    return {
        name: [*entry.aliases, *([entry.description] if entry.description else [])]
        for name, entry in load_taxonomy(taxonomy).labels.items()
    }
