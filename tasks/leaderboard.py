"""Trained cells and their combinations → thresholds, test metrics, verdicts → the leaderboard."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.special
from numpy.typing import NDArray
from prefect import task

from longtail import storage
from longtail.comparison import (
    GROUP_METRIC,
    Scored,
    Setting,
    chosen_by_validation,
    climbed,
    compared,
    leaderboard,
)
from longtail.config import (
    GROUPS,
    CombinationSettings,
    GatePolicy,
    LossSettings,
    Settings,
    SplitName,
    ThresholdPolicy,
    ThresholdSettings,
)
from longtail.evaluation import ArmEvaluation, evaluate
from longtail.gate import GateInputs, Verdict, decide
from longtail.metrics import Scores
from longtail.models.combination import WeightedSum
from longtail.models.ladder import ENCODER, LINEAR, Stacking, probabilities_of
from longtail.predictions import read_predictions
from longtail.report.leaderboard import LEADERBOARD, render_leaderboard
from longtail.selection import on_validation
from longtail.significance import sum_by_unit
from longtail.thresholds import fit_thresholds
from tasks.arms import ARM_FILE, LADDER, STEPS
from tasks.cells import CELL, PARTS, read_evidence
from tasks.combined import CANDIDATE, MATCHED, combined_directory, linear_decisions
from tasks.data import SplitData
from tasks.evidence import stacking_of
from tasks.handles import ArmHandle, SplitHandle
from tasks.leaks import check_leaks

logger = logging.getLogger(__name__)

BASELINE = "bce"
SHORTLIST = tuple(loss.name for loss in LossSettings(name="auto").candidates)
AUTO = f"auto ({', '.join(SHORTLIST)})"
CONFIDENCE = 0.95
DRAWS = 2000


class DataSet(Settings):
    """A data set of a comparison: a directory like that of a retrain, up to its linear arm."""

    name: str
    directory: Path
    split: SplitHandle
    export: str
    sha256: str


class Cell(Settings):
    """A loss and a seed on a data set."""

    data: str
    split: SplitHandle
    loss: LossSettings
    seed: int
    directory: Path

    @property
    def title(self) -> str:
        """The loss, with what was changed of its preset."""
        changed = self.loss.options if self.loss.article is None else self.loss.article
        listed = ", ".join(f"{key}={_plain(value)}" for key, value in sorted(changed.items()))
        return f"{self.loss.name} ({listed})" if listed else self.loss.name


class Combined(Settings):
    """The candidate of one data set and seed."""

    data: str
    own: Cell
    bce: Cell
    directory: Path

    @property
    def seed(self) -> int:
        """Of both trainings."""
        return self.own.seed


def combinations(root: Path, data_set: DataSet, cells: Sequence[Cell]) -> list[Combined]:
    """The candidates that can be made of a data set's cells: one per seed, by the default loss.

    Args:
        root: directory of the data set's combinations.
        data_set: prepared.
        cells: its cells, trained.
    """
    linear = data_set.directory / "arms" / "linear"
    own, bce = ({cell.seed: cell for cell in cells if cell.loss == loss}
                for loss in (LossSettings(), LossSettings(name=BASELINE)))  # fmt: skip
    return [
        Combined(
            data=data_set.name, own=own[seed], bce=bce[seed],
            directory=combined_directory(root, linear, own[seed].directory, bce[seed].directory),
        )
        for seed in own if seed in bce
    ]  # fmt: skip


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


@task(name="write leaderboard", task_run_name="write leaderboard")
def write_leaderboard(
    root: Path,
    data_sets: Sequence[DataSet],
    cells: Sequence[Cell],
    combined: Sequence[Combined],
    policies: Sequence[ThresholdPolicy],
    fused: Sequence[bool],
    command: str,
) -> Path:
    """Tune and evaluate cells and candidates, ask the gate of each seed; write page and table.

    Args:
        root: where ``leaderboard.json``, ``leaderboard.html`` and ``results.md`` go.
        data_sets: prepared ones.
        cells: all of them trained.
        combined: their candidates, all of them made; there may be none.
        policies: threshold policies, the first one being that of the figures.
        fused: whether with the linear arm: False, True or both.
        command: what makes the comparison again, for the page.
    """
    scored: list[Scored] = []
    about, candidates = [], {}
    for data_set in data_sets:
        bench = _Bench(data_set)
        mine = [cell for cell in cells if cell.data == data_set.name]
        about.append(bench.about() | _trained(mine))
        scored += [bench.linear(policy, beside) for beside in fused for policy in policies]
        for number, cell in enumerate(mine, start=1):
            logger.info("%s: cell %d of %d", data_set.name, number, len(mine))
            scored += bench.cell(cell, policies, fused)
        if made := [one for one in combined if one.data == data_set.name]:
            candidates[data_set.name] = bench.candidate(made, policies[0])
    scored += chosen_by_validation(scored, SHORTLIST, baseline=BASELINE, name=AUTO)
    rows = leaderboard(scored, baseline=BASELINE, confidence=CONFIDENCE, draws=DRAWS)
    storage.write_json(root / LEADERBOARD, {
        "command": command, "baseline": BASELINE, "confidence": CONFIDENCE, "draws": DRAWS,
        "data": about, "candidates": candidates, "rows": [row.to_json() for row in rows],
    })  # fmt: skip
    page = render_leaderboard(root)
    logger.info("leaderboard: %s", page)
    return page


def _trained(cells: Sequence[Cell]) -> dict[str, Any]:
    """What all cells of a data set have in common: the encoder's size, and what of it is trained.

    A value on which they differ is left out.
    """
    found = [storage.read_json(cell.directory / CELL) for cell in cells]
    return {
        name: found[0].get(name)
        for name in ("device", "parameters", "trainable_layers", "trainable_parameters")
        if len({one.get(name) for one in found}) == 1
    }


class _Bench:
    """A data set with its truth and its linear arm in memory."""

    def __init__(self, data_set: DataSet) -> None:
        self.name = data_set.name
        self.export = {"export": data_set.export, "sha256": data_set.sha256}
        self.data = SplitData(data_set.split)
        self.truth = {part: self.data.y(part) for part in PARTS}
        self.known = self.data.known("validation")
        self.arm = data_set.directory / "arms" / "linear"
        self.decisions = linear_decisions(self.arm, self.data)

    def about(self) -> dict[str, Any]:
        """What the page says of the data set."""
        test = self.data.test
        sizes: dict[str, int] = {
            part: self.data.table(part, ["id"]).num_rows for part in ("train", *PARTS)
        }
        return {
            "name": self.name,
            **self.export,
            **sizes,
            "labels": len(test.labels),
            "test_positives": int(test.positives.nnz),
            "cutoffs": self.data.groups.cutoffs,
            "linear_learned_from": storage.read_json(self.arm / ARM_FILE).get("learned_from"),
        }

    def linear(self, policy: ThresholdPolicy, beside: bool) -> Scored:
        """The linear arm by itself, beside the fused losses or beside those alone."""
        return self._linear(policy, beside).scored

    def cell(
        self, cell: Cell, policies: Sequence[ThresholdPolicy], fused: Sequence[bool]
    ) -> list[Scored]:
        """A trained cell, alone and fused, under every policy."""
        scored = []
        for with_linear in fused:
            made = self._fused(cell) if with_linear else self._alone(cell)
            for policy in policies:
                setting = Setting(self.name, cell.title, policy, with_linear)
                scored.append(self._measured(setting, cell.seed, made).scored)
        return scored

    def candidate(self, combined: Sequence[Combined], policy: ThresholdPolicy) -> dict[str, Any]:
        """The candidate of every seed: the ladder, its gains, and what the gate says of it."""
        runs = [self._run(one, policy) for one in combined]
        keys = [key for key in runs[0].steps if all(key in run.steps for run in runs)]
        steps = [[run.steps[key].scored for run in runs] for key in keys]
        rows = climbed(steps, confidence=CONFIDENCE, draws=DRAWS)
        if len({run.method for run in runs}) > 1:
            setting = replace(rows[-1].setting, loss="the combination that validation prefers")
            rows[-1] = replace(rows[-1], setting=setting)
        return {
            "loss": combined[0].own.title,
            "policy": policy,
            "seeds": [run.seed for run in runs],
            "methods": [run.method for run in runs],
            "notes": sorted({note for run in runs for note in run.notes}),
            "ladder": [{"key": key, **row.to_json()} for key, row in zip(keys, rows, strict=True)],
            "against": [_against(key, runs) for key in runs[0].opponents],
            "verdicts": [run.verdict for run in runs],
        }

    def _run(self, combined: Combined, policy: ThresholdPolicy) -> _Run:
        """Measure one seed's candidate, all that leads to it and all that it is held against."""

        def measured(name: str, made: _Made, cut: float | None = None) -> _Measured:
            setting = Setting(self.name, name, policy, fused=False)
            return self._measured(setting, combined.seed, made, cut)

        bce, own = self._alone(combined.bce), self._alone(combined.own)
        about = storage.read_json(combined.directory / CANDIDATE / ARM_FILE)["combination"]
        ladder = combined.directory / CANDIDATE / LADDER
        steps = {
            "bce_half": measured("BERT + BCE, cut at 0.5", bce, 0.5),
            "bce": measured("tuned thresholds", bce),
            "encoder": measured(f"the loss {combined.own.title}", own),
            **{step["key"]: measured(step["name"], self._read(ladder / step["key"]))
               for step in storage.read_json(ladder / STEPS)},
            CANDIDATE: measured(_METHODS[about["method"]],
                                self._read(combined.directory / CANDIDATE)),
        }  # fmt: skip
        opponents = {
            BASELINE: steps["bce"],
            "fused_bce": measured("fused bce", self._fused(combined.bce)),
            MATCHED: measured(MATCHED, self._read(combined.directory / MATCHED)),
            LINEAR: self._linear(policy, beside=False),
        }
        verdict = self._verdict(combined, steps[CANDIDATE], opponents)
        return _Run(combined.seed, steps, opponents, about["method"], about["notes"], verdict)

    def _verdict(
        self, combined: Combined, candidate: _Measured, opponents: Mapping[str, _Measured]
    ) -> dict[str, Any]:
        """What the gate decides where nothing is live yet."""
        directories = {
            CANDIDATE: combined.directory / CANDIDATE,
            MATCHED: combined.directory / MATCHED,
            BASELINE: combined.bce.directory,
            LINEAR: self.arm,
        }
        arms = [ArmHandle(arm=arm, directory=directory, loss="", seconds=0.0)
                for arm, directory in directories.items()]  # fmt: skip
        measured = {CANDIDATE: candidate, **opponents}
        inputs = GateInputs(
            test=self.data.test,
            groups=self.data.groups,
            arms={arm: measured[arm].evaluation for arm in directories},
            leaks=check_leaks(self.data, self.data.test, arms),
            champion_state="none",
            looks=1,
        )
        return {"seed": combined.seed, **_shown(decide(inputs, GatePolicy()))}

    @cached_property
    def _stacking(self) -> Stacking:
        return stacking_of(self.data, CombinationSettings(cooccurrence=False))

    def _linear(self, policy: ThresholdPolicy, beside: bool) -> _Measured:
        made = self._read(self.arm)
        return self._measured(Setting(self.name, LINEAR, policy, beside), None, made)

    def _alone(self, cell: Cell) -> _Made:
        scores: dict[str, Scores] = {
            part: scipy.special.expit(self._logits(cell, part)) for part in PARTS
        }
        return _Made(scores, storage.read_json(cell.directory / CELL)["seconds"])

    def _fused(self, cell: Cell) -> _Made:
        """The weighted sum of the encoder and the linear arm."""
        validation, test = (
            {ENCODER: self._logits(cell, part), LINEAR: self.decisions[part]} for part in PARTS
        )
        fitted = self._stacking.fit(validation, "weighted sum")
        scores = {"validation": fitted.out_of_fold, "test": probabilities_of(fitted, test)}
        seconds = storage.read_json(cell.directory / CELL)["seconds"]
        return _Made(scores, seconds, _multiple(fitted.combination.weighted))

    def _logits(self, cell: Cell, part: SplitName) -> NDArray[np.float32]:
        return read_evidence(cell.directory, self.data, part, ENCODER)[ENCODER]

    def _read(self, arm: Path) -> _Made:
        """The scores of an arm on disk."""
        ids, labels = {part: self.data.ids(part) for part in PARTS}, self.data.space.names
        scores: dict[str, Scores] = {
            part: read_predictions(arm / f"{part}.parquet").aligned(ids[part], labels)
            for part in PARTS
        }
        about = arm / ARM_FILE
        return _Made(scores, storage.read_json(about)["seconds"] if about.is_file() else 0.0)

    def _measured(
        self, setting: Setting, seed: int | None, made: _Made, cut: float | None = None
    ) -> _Measured:
        """Evaluate scores at thresholds of the policy, or at one and the same for all labels."""
        groups, test, validation = self.data.groups, self.data.test, made.scores["validation"]
        thresholds = np.full(len(test.labels), cut, dtype=np.float64)
        if cut is None:
            thresholds = fit_thresholds(
                self.truth["validation"], validation, groups,
                ThresholdSettings(policy=setting.policy), self.known,
            ).values  # fmt: skip
        found = evaluate(test, setting.loss, made.scores["test"], thresholds, groups)
        # A text's counts within the groups add up to those over all labels.
        counts = sum_by_unit(found.text_counts.sum(axis=1), test.units)
        by_group: dict[str, float] = {group: found.groups[group][GROUP_METRIC] for group in GROUPS}
        validated = on_validation(self.truth["validation"], validation, thresholds, self.known)
        scored = Scored(
            setting, seed, found.overall, by_group, counts, made.seconds, made.fusion_weight,
            validated,
        )  # fmt: skip
        return _Measured(scored, found)


@dataclass(frozen=True, eq=False)
class _Made:
    """Probabilities of validation and test texts, and what they took."""

    scores: Mapping[str, Scores]
    seconds: float
    fusion_weight: float = 0.0


@dataclass(frozen=True, eq=False)
class _Measured:
    """What they achieve on the test set."""

    scored: Scored
    evaluation: ArmEvaluation


@dataclass(frozen=True, eq=False)
class _Run:
    """The candidate of one seed."""

    seed: int
    steps: Mapping[str, _Measured]
    opponents: Mapping[str, _Measured]
    method: str
    notes: Sequence[str]
    verdict: Mapping[str, Any]


_METHODS = {
    "learned": "learning over all cells",
    "weighted sum": "the sum of them all",
    "one source": "the best source alone",
}


def _against(key: str, runs: Sequence[_Run]) -> dict[str, Any]:
    """The candidate's gain over an opponent, and what the opponent achieves."""
    opponents = [run.opponents[key].scored for run in runs]
    if opponents[0].seed is None:
        opponents = opponents[:1]
    candidates = [run.steps[CANDIDATE].scored for run in runs]
    row = compared(candidates, opponents, confidence=CONFIDENCE, draws=DRAWS).to_json()
    return {
        "key": key,
        "opponent": compared(opponents, ()).to_json(),
        "change": row["change"],
        "gain": row["gain"],
    }


def _shown(verdict: Verdict) -> dict[str, Any]:
    failed = [rule for rule in verdict.rules if not rule.passed]
    return {
        "decision": verdict.decision,
        "blocked_by": [rule.detail for rule in failed if rule.severity == "block"],
        "warnings": [rule.detail for rule in failed if rule.severity == "warn"],
    }


def _multiple(weighted: WeightedSum) -> float:
    """The linear arm's weight as a multiple of the encoder's."""
    encoder, linear = (weighted.weights.get(name, 0.0) for name in (ENCODER, LINEAR))
    return linear / encoder if encoder else float("nan")
