"""Cells of one seed → the candidate that a retrain would make of them, and the sums up to it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from longtail import storage
from longtail.baselines import LinearBaseline
from longtail.code_fingerprint import code_fingerprint
from longtail.config import CombinationSettings, SplitName
from longtail.models.combination import CrossFitted
from longtail.models.evidence import Scores
from longtail.models.ladder import BCE, ENCODER, LINEAR, probabilities_of, sums, without_the_loss
from longtail.predictions import read_predictions
from tasks.arms import LADDER, write_arm
from tasks.cells import CELL, PARTS, read_evidence
from tasks.data import SplitData
from tasks.evidence import about_combination, stacking_of, write_steps
from tasks.handles import SplitHandle
from tasks.linear_arm import DECISIONS, LINEAR_MODEL, learned_from, write_scores

logger = logging.getLogger(__name__)

CANDIDATE, MATCHED = "candidate", "matched"
_CODE = ("tasks.combined",)

Evidence = Mapping[str, Scores]


def combined_directory(root: Path, linear: Path, own: Path, bce: Path) -> Path:
    """Where the combination of two cells is kept; all that it depends on is in the name.

    Args:
        root: directory of the data set's combinations.
        linear: the linear arm's directory.
        own: the cell of the candidate's loss.
        bce: the cell of the BCE baseline, with the same seed.
    """
    decisions = storage.sha256_file(linear / f"validation{DECISIONS}")
    settings = CombinationSettings().model_dump(mode="json")
    key = storage.fingerprint(code_fingerprint(*_CODE), decisions, own.name, bce.name, settings)
    return root / f"{own.name.rpartition('-')[0]}-{key[:12]}"


@task(name="combine cells", task_run_name="combine {directory.name}", cache_policy=NO_CACHE)
def combine_cells(directory: Path, split: SplitHandle, linear: Path, own: Path, bce: Path) -> Path:
    """Fit the candidate, the ladder that leads to it, and the matched arm; write their scores.

    As a retrain does (:mod:`tasks.combine`), but from the evidence that the cells keep.

    Args:
        directory: appears when it is whole; replaces a damaged one.
        split: validation teaches the combination.
        linear: the linear arm's directory.
        own: the cell of the candidate's loss.
        bce: the cell of the BCE baseline.
    """
    data, settings = SplitData(split), CombinationSettings()
    stacking = stacking_of(data, settings)
    decisions = linear_decisions(linear, data)
    near = {part: _renamed(read_evidence(bce, data, part)) for part in PARTS}
    validation, test = (
        _in_order(
            {**read_evidence(own, data, part), BCE: near[part][BCE], LINEAR: decisions[part]},
            settings,
        )
        for part in PARTS
    )
    notes = storage.read_json(own / CELL)["notes"]
    with storage.committed_directory(directory) as staging:
        started = time.monotonic()
        _write(staging / CANDIDATE, data, stacking.fit(validation), test, notes, started)
        steps = list(sums(stacking, validation, test))
        write_steps(staging / CANDIDATE / LADDER, data, steps)
        started = time.monotonic()
        fitted = stacking.fit(without_the_loss(validation, near["validation"]))
        on_test = without_the_loss(test, near["test"])
        _write(staging / MATCHED, data, fitted, on_test, notes, started)
    return directory


def linear_decisions(arm: Path, data: SplitData) -> dict[SplitName, Scores]:
    """The linear arm's decision values for validation and test texts.

    Those of validation are from before it learned from the validation texts.

    Args:
        arm: its directory.
        data: the split.
    """
    validation = read_predictions(arm / f"validation{DECISIONS}")
    return {
        "validation": validation.aligned(data.ids("validation"), data.space.names),
        "test": LinearBaseline.load(arm / LINEAR_MODEL).decisions(data.texts("test")),
    }


def _renamed(evidence: Evidence) -> dict[str, Scores]:
    """A cell calls its own logits those of the encoder; beside another one they are BCE's."""
    return {BCE if name == ENCODER else name: scores for name, scores in evidence.items()}


def _in_order(evidence: Evidence, settings: CombinationSettings) -> dict[str, Scores]:
    """The sources that are there, in the order of a retrain."""
    names: Sequence[str] = settings.sources
    return {name: evidence[name] for name in names if name in evidence}


def _write(
    directory: Path,
    data: SplitData,
    fitted: CrossFitted,
    on_test: Evidence,
    notes: Sequence[str],
    started: float,
) -> None:
    write_scores(directory, data, "validation", fitted.out_of_fold)
    write_scores(directory, data, "test", probabilities_of(fitted, on_test))
    about = about_combination(fitted, notes)
    write_arm(
        directory, arm=directory.name, seconds=time.monotonic() - started, combination=about,
        learned_from=learned_from(refit=True),
    )  # fmt: skip
    logger.info("%s: %s of %s", directory.name, about["method"], ", ".join(about["sources"]))
