"""Trained cells → thresholds, fusion and test metrics → the leaderboard."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import task

from longtail import storage
from longtail.baselines import LinearBaseline
from longtail.comparison import GROUP_METRIC, Scored, Setting, chosen_by_validation, leaderboard
from longtail.config import (
    GROUPS,
    FusionSettings,
    LossSettings,
    Settings,
    SplitName,
    ThresholdPolicy,
    ThresholdSettings,
)
from longtail.evaluation import evaluate
from longtail.fusion import fit_fusion, fuse
from longtail.metrics import Scores
from longtail.predictions import read_predictions
from longtail.report.leaderboard import LEADERBOARD, LINEAR, render_leaderboard
from longtail.selection import on_validation
from longtail.significance import sum_by_unit
from longtail.thresholds import fit_thresholds
from tasks.arms import ARM_FILE
from tasks.cells import CELL, PARTS
from tasks.data import SplitData
from tasks.handles import SplitHandle
from tasks.train import DECISIONS, LINEAR_MODEL

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


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


@task(name="write leaderboard", task_run_name="write leaderboard")
def write_leaderboard(
    root: Path,
    data_sets: Sequence[DataSet],
    cells: Sequence[Cell],
    policies: Sequence[ThresholdPolicy],
    fused: Sequence[bool],
    command: str,
) -> Path:
    """Tune and evaluate every cell with every policy, alone and fused; write page and table.

    Args:
        root: where ``leaderboard.json``, ``leaderboard.html`` and ``results.md`` go.
        data_sets: prepared ones.
        cells: all of them trained.
        policies: threshold policies, the first one being that of the figures.
        fused: whether with the linear arm: False, True or both.
        command: what makes the comparison again, for the page.
    """
    scored: list[Scored] = []
    about = []
    for data_set in data_sets:
        bench = _Bench(data_set)
        mine = [cell for cell in cells if cell.data == data_set.name]
        about.append(bench.about() | _trained(mine))
        scored += [bench.linear(policy, beside) for beside in fused for policy in policies]
        for number, cell in enumerate(mine, start=1):
            logger.info("%s: cell %d of %d", data_set.name, number, len(mine))
            scored += bench.cell(cell, policies, fused)
    scored += chosen_by_validation(scored, SHORTLIST, baseline=BASELINE, name=AUTO)
    rows = leaderboard(scored, baseline=BASELINE, confidence=CONFIDENCE, draws=DRAWS)
    storage.write_json(root / LEADERBOARD, {
        "command": command, "baseline": BASELINE, "confidence": CONFIDENCE, "draws": DRAWS,
        "data": about, "rows": [row.to_json() for row in rows],
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
        validation = read_predictions(self.arm / f"validation{DECISIONS}")
        test = LinearBaseline.load(self.arm / LINEAR_MODEL).decisions(self.data.texts("test"))
        self.decisions = {"validation": validation.probabilities, "test": test}

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
        scores = {part: self._read(self.arm, part) for part in PARTS}
        seconds = storage.read_json(self.arm / ARM_FILE)["seconds"]
        setting = Setting(self.name, LINEAR, policy, beside)
        return self._scored(setting, None, scores, seconds, 0.0)

    def cell(
        self, cell: Cell, policies: Sequence[ThresholdPolicy], fused: Sequence[bool]
    ) -> list[Scored]:
        """A trained cell, alone and fused, under every policy."""
        alone = {part: self._read(cell.directory, part) for part in PARTS}
        seconds = storage.read_json(cell.directory / CELL)["seconds"]
        scored = []
        for with_linear in fused:
            weight, scores = 0.0, alone
            if with_linear:
                weight = self._weight(alone["validation"])
                scores = {part: fuse(alone[part], self.decisions[part], weight) for part in PARTS}
            for policy in policies:
                setting = Setting(self.name, cell.title, policy, with_linear)
                scored.append(self._scored(setting, cell.seed, scores, seconds, weight))
        return scored

    def _weight(self, validation: Scores) -> float:
        settings = FusionSettings()
        return fit_fusion(
            self.truth["validation"], validation, self.decisions["validation"], settings, self.known
        ).weight

    def _read(self, directory: Path, part: SplitName) -> Scores:
        predictions = read_predictions(directory / f"{part}.parquet")
        return predictions.aligned(self.data.ids(part), self.data.space.names)

    def _scored(
        self,
        setting: Setting,
        seed: int | None,
        scores: Mapping[SplitName, Scores],
        seconds: float,
        weight: float,
    ) -> Scored:
        groups, test = self.data.groups, self.data.test
        cuts = fit_thresholds(
            self.truth["validation"], scores["validation"], groups,
            ThresholdSettings(policy=setting.policy), self.known,
        )  # fmt: skip
        found = evaluate(test, setting.loss, scores["test"], cuts.values, groups)
        # A text's counts within the groups add up to those over all labels.
        counts = sum_by_unit(found.text_counts.sum(axis=1), test.units)
        by_group: dict[str, float] = {group: found.groups[group][GROUP_METRIC] for group in GROUPS}
        validated = on_validation(
            self.truth["validation"], scores["validation"], cuts.values, self.known
        )
        return Scored(
            setting, seed, found.overall, by_group, counts, seconds, weight, validated
        )  # fmt: skip
