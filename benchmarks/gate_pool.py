"""Predictions of several arms as a population that test sets are drawn from.

The layout on disk is the one that benchmarks/out_of_fold.py writes. Rows whose fold is below 0 are
those that thresholds were fitted on; they are never drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import scipy.special

from longtail import storage
from longtail.config import GROUPS, CombinationSettings, ThresholdSettings
from longtail.labels import LabelGroups, LabelSpace
from longtail.metrics import f1, text_counts
from longtail.models.ladder import ENCODER, Stacking, probabilities_of
from longtail.predictions import Predictions, read_predictions
from longtail.significance import sum_by_unit
from longtail.thresholds import decide, fit_thresholds

LINEAR = "linear"


@dataclass(frozen=True, eq=False)
class Arm:
    """One trained model on a population, per unit.

    Attributes:
        name: such as ``bce-s0``.
        recipe: arms of one recipe differ in nothing but the seed, and are exchangeable.
        seeds: the trainings it is made of; two arms that share one are not independent.
        counts: TP, FP, FN of shape (units, 1 + 3 groups, 3); slice 0 is all labels.
        hits: true positives per unit and label, CSR of shape (units, labels).
    """

    name: str
    recipe: str
    seeds: frozenset[int]
    counts: np.ndarray
    hits: sp.csr_array

    @property
    def micro_f1(self) -> float:
        """On the whole population."""
        return float(f1(self.counts[:, 0].sum(axis=0)))

    @property
    def recognised(self) -> int:
        """Labels with a true positive on the whole population."""
        return int(np.count_nonzero(self.hits.sum(axis=0)))


@dataclass(frozen=True, eq=False)
class Population:
    """The scored texts of one fold, and every arm on them; one training per arm.

    Attributes:
        pool: name of the pool.
        name: of the pool and the fold.
        sizes: texts of each unit.
        positives: positives per unit and label, CSR of shape (units, labels).
        in_group: shape (labels, 3 groups).
        arms: all arms.
    """

    pool: str
    name: str
    sizes: np.ndarray
    positives: sp.csr_array
    in_group: np.ndarray
    arms: tuple[Arm, ...]

    @property
    def texts(self) -> int:
        """Texts in all units."""
        return int(self.sizes.sum())


def read_pool(directory: Path) -> list[Population]:
    """Every fold of a pool with the arms that are there."""
    truth = storage.read_parquet(directory / "truth.parquet")
    space = LabelSpace(tuple(storage.read_json(directory / "labels.json")))
    rows = {name: row for row, name in enumerate(truth["id"].to_pylist())}
    y = space.encode(truth["labels"].to_pylist())
    units, folds = truth["unit"].to_numpy(), truth["fold"].to_numpy()
    found = []
    for fold in np.unique(folds[folds >= 0]):
        cells = dict(_cells(directory, int(fold)))
        if not cells:
            continue
        scored = np.flatnonzero(folds == fold)
        reader = _Reader(rows, y, units, scored)
        found.append(reader.population(directory.name, int(fold), cells))
    return found


def mixed(own: Arm, other: Arm, target: float, generator: np.random.Generator) -> Arm | None:
    """``own`` with the decisions of ``other`` on as many units as bring micro-F1 to ``target``.

    Which units take the other arm's decisions is drawn anew; how many is chosen so that micro-F1
    on the whole population comes as near to the target as it can. None: the target does not lie
    between the two arms.
    """
    if not min(own.micro_f1, other.micro_f1) < target < max(own.micro_f1, other.micro_f1):
        return None
    order = generator.permutation(len(own.counts))
    steps = (other.counts[:, 0] - own.counts[:, 0])[order].cumsum(axis=0)
    reached = f1(own.counts[:, 0].sum(axis=0) + steps)
    taken = order[: int(np.argmin(np.abs(reached - target))) + 1]
    chosen = np.zeros(len(order), dtype=bool)
    chosen[taken] = True
    return Arm(
        name=f"{own.name} with {chosen.mean():.0%} of {other.name}",
        recipe="mixed",
        seeds=own.seeds | other.seeds,
        counts=np.where(chosen[:, None, None], other.counts, own.counts),
        hits=sp.csr_array(_rows(chosen) @ other.hits + _rows(~chosen) @ own.hits),
    )


def _rows(chosen: np.ndarray) -> sp.dia_array:
    return sp.diags_array(chosen.astype(np.int64), dtype=np.int64)


@dataclass(frozen=True)
class _Cell:
    recipe: str
    seed: int
    scored: Predictions
    validation: Predictions
    groups: LabelGroups
    thresholds: np.ndarray


def _cells(directory: Path, fold: int) -> Iterator[tuple[tuple[str, int], _Cell]]:
    for about in sorted(directory.glob(f"*-s*/fold{fold}/cell.json")):
        value = storage.read_json(about)
        recipe, _, seed = about.parent.parent.name.rpartition("-s")
        yield (
            (recipe, int(seed)),
            _Cell(
                recipe=recipe,
                seed=int(seed),
                scored=read_predictions(about.parent / "scored.parquet"),
                validation=read_predictions(about.parent / "validation.parquet"),
                groups=LabelGroups(
                    tuple(value["groups"]), tuple(value["support"]), tuple(value["cutoffs"])
                ),
                thresholds=np.asarray(value["thresholds"]["values"]),
            ),
        )


@dataclass(frozen=True)
class _Reader:
    """Turns the cells of one fold into arms.

    Attributes:
        rows: of all texts, by id.
        y: their labels.
        every_unit: their units.
        scored: rows of the texts of the fold.
    """

    rows: Mapping[str, int]
    y: sp.csr_array
    every_unit: np.ndarray
    scored: np.ndarray

    @property
    def units(self) -> np.ndarray:
        """Units of the texts of the fold."""
        return self.every_unit[self.scored]

    def population(
        self, pool: str, fold: int, cells: Mapping[tuple[str, int], _Cell]
    ) -> Population:
        first = next(iter(cells.values()))
        in_group = np.stack([np.asarray(first.groups.of_label) == group for group in GROUPS], 1)
        truth = self.y[self.scored].toarray()
        arms = [
            self._arm(f"{recipe}-s{seed}", recipe, (seed,), cell.scored.probabilities,
                      cell.thresholds, truth, in_group)
            for (recipe, seed), cell in cells.items()
        ]  # fmt: skip
        for made, seeds, parts in _blends(cells):
            arms.append(self._blend(made, seeds, parts, truth, in_group))
        ones = np.ones((len(self.scored), 1), dtype=np.int64)
        return Population(
            pool=pool,
            name=f"{pool}, fold {fold}",
            sizes=sum_by_unit(ones, self.units)[:, 0],
            positives=_by_unit(truth, self.units),
            in_group=in_group,
            arms=tuple(arms),
        )

    def _blend(
        self,
        recipe: str,
        seeds: Sequence[int],
        parts: Sequence[_Cell],
        truth: np.ndarray,
        in_group: np.ndarray,
    ) -> Arm:
        """Several arms as one, with thresholds of its own."""
        if len({cell.scored.ids for cell in parts}) > 1:
            raise SystemExit("cells of one fold were scored on different texts; train them again")
        rows = [self.rows[name] for name in parts[0].validation.ids]
        y, units = self.y[rows], self.every_unit[rows]
        fused = parts[-1].recipe == LINEAR
        validation, scored = _fused(y, units, *parts) if fused else _mean(parts)
        fitted = fit_thresholds(y, validation, parts[0].groups, ThresholdSettings(policy="group"))
        name = f"{recipe}-s{'+'.join(map(str, seeds))}"
        return self._arm(name, recipe, seeds, scored, fitted.values, truth, in_group)

    def _arm(
        self,
        name: str,
        recipe: str,
        seeds: Sequence[int],
        probabilities: np.ndarray,
        thresholds: np.ndarray,
        truth: np.ndarray,
        in_group: np.ndarray,
    ) -> Arm:
        given = decide(probabilities, thresholds)
        slices = [np.ones(len(in_group), dtype=bool), *in_group.T]
        counts = np.stack([text_counts(truth[:, at], given[:, at]) for at in slices], axis=1)
        return Arm(
            name=name,
            recipe=recipe,
            seeds=frozenset(seeds),
            counts=sum_by_unit(counts, self.units),
            hits=_by_unit(truth & given, self.units),
        )


def _blends(
    cells: Mapping[tuple[str, int], _Cell],
) -> Iterator[tuple[str, list[int], list[_Cell]]]:
    """Arms made of others: all seeds of a recipe but one, and each seed fused with linear."""
    recipes = list(dict.fromkeys(name for name, _ in cells))
    seeds = {recipe: [seed for name, seed in cells if name == recipe] for recipe in recipes}
    for recipe in recipes:
        for left_out in seeds[recipe] if len(seeds[recipe]) > 2 else ():
            others = [seed for seed in seeds[recipe] if seed != left_out]
            yield f"{recipe} of {len(others)}", others, [cells[recipe, seed] for seed in others]
        if recipe.startswith(LINEAR) or LINEAR not in recipes:
            continue
        linear = cells[LINEAR, seeds[LINEAR][0]]
        for seed in seeds[recipe]:
            yield f"fused {recipe}", [seed], [cells[recipe, seed], linear]


def _mean(parts: Sequence[_Cell]) -> tuple[np.ndarray, np.ndarray]:
    """Mean probabilities on validation and on the scored texts."""
    return (
        np.mean([cell.validation.probabilities for cell in parts], axis=0),
        np.mean([cell.scored.probabilities for cell in parts], axis=0),
    )


def _fused(
    y: sp.csr_array, units: np.ndarray, encoder: _Cell, linear: _Cell
) -> tuple[np.ndarray, np.ndarray]:
    """The weighted sum with the linear arm, out of fold on validation."""
    support = np.asarray(encoder.groups.support)
    stacking = Stacking(y, None, units, support, None, CombinationSettings())
    validation, scored = (
        {ENCODER: _logits(getattr(encoder, name).probabilities),
         LINEAR: _decisions(getattr(linear, name))} for name in ("validation", "scored")
    )  # fmt: skip
    fitted = stacking.fit(validation, "weighted sum")
    return fitted.out_of_fold, probabilities_of(fitted, scored)


def _logits(p: np.ndarray) -> np.ndarray:
    """Finite logits of probabilities that may have been rounded to 0 or 1."""
    limits = np.finfo(np.float32)
    return scipy.special.logit(np.clip(p.astype(np.float32), limits.tiny, 1 - limits.epsneg))


def _decisions(scores: Predictions) -> np.ndarray:
    """The SVM's decision values back from its scores σ(2d); −1 and 1 where it had nothing to learn.

    Such a label's scores are 0 and 1, see :meth:`longtail.baselines.LinearBaseline.decisions`.
    """
    p = scores.probabilities
    return np.where((p > 0) & (p < 1), _logits(p) / 2, 2 * p - 1).astype(np.float32)


def _by_unit(cells: np.ndarray, units: np.ndarray) -> sp.csr_array:
    _, row = np.unique(units, return_inverse=True)
    member = sp.csr_array((np.ones(len(row), np.int64), (row, np.arange(len(row)))))
    return sp.csr_array(member @ sp.csr_array(cells.astype(np.int64)))
