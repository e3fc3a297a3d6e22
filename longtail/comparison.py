"""Trained models compared on several data sets and seeds: means, spreads and paired gains.

The gain of one over another is judged over both sources of chance at once: each draw resamples
the test units, the same ones for both and for all seeds, and the seeds, as pairs of one seed. From
few seeds their spread is known roughly, and taken too small: by (n − 1)/n in the variance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtail.metrics import Counts, f1
from longtail.selection import OnValidation, preferred
from longtail.significance import Gain, resample
from longtail.storage import finite

SHOWN = ("micro_f1", "macro_f1", "label_coverage")
GROUP_METRIC = "micro_f1"


@dataclass(frozen=True)
class Setting:
    """What is compared: everything but the seed."""

    data: str
    loss: str
    policy: str
    fused: bool


@dataclass(frozen=True, eq=False)
class Scored:
    """One trained loss on one test set, with one seed, policy and kind of fusion.

    Attributes:
        setting: data set, loss, policy, fused or not.
        seed: of the training; None for a model without one, which meets every seed of the others.
        overall: metrics by name, those of ``metrics.json``.
        groups: micro-F1 within HEAD, MEDIUM and TAIL.
        counts: true positives, false positives and false negatives per test unit, (units, 3).
        seconds: of training.
        fusion_weight: of the linear arm's decision values, as a multiple of the weight of the
            encoder's logits; 0: not fused, NaN: the linear arm decides alone.
        validation: what it achieves on the validation texts; needed to be chosen by it.
    """

    setting: Setting
    seed: int | None
    overall: Mapping[str, float]
    groups: Mapping[str, float]
    counts: Counts
    seconds: float
    fusion_weight: float = 0.0
    validation: OnValidation | None = None


Pair = tuple[Scored, Scored]


@dataclass(frozen=True)
class Row:
    """One line of a leaderboard.

    Attributes:
        setting: data set, loss, policy, fused or not.
        seeds: the seeds it was trained with, ascending; empty for a model without a seed.
        values: every overall metric and ``HEAD``, ``MEDIUM``, ``TAIL`` micro-F1, each seed's in the
            order of ``seeds``; one value for a model without a seed.
        mean: mean of the values over the seeds; NaN for a group without labels.
        deviation: their standard deviation (n − 1), NaN for one value.
        change: mean minus the baseline's, over the seeds that both have; empty without a baseline
            or a seed in common, and for the baseline itself.
        gain: the change in micro-F1 with its uncertainty; None where there is no change.
        seconds: mean seconds of training.
        fusion_weight: mean weight of the linear arm.
    """

    setting: Setting
    seeds: tuple[int, ...]
    values: Mapping[str, tuple[float, ...]]
    mean: Mapping[str, float]
    deviation: Mapping[str, float]
    change: Mapping[str, float]
    gain: Gain | None
    seconds: float
    fusion_weight: float

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes null."""
        values: dict[str, Any] = finite(asdict(self))
        return {**values.pop("setting"), **values}


def leaderboard(
    scored: Iterable[Scored],
    *,
    baseline: str = "bce",
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> list[Row]:
    """One row per setting.

    Data sets and policies keep the order given, alone stands before fused, and within them the
    highest micro-F1 comes first.

    Args:
        scored: what was measured; a setting's seeds in any order.
        baseline: the loss the others are compared with, within data set, policy and fusion.
        confidence: of the gain's one-sided lower bound and of its interval.
        draws: bootstrap draws.
        seed: of the draws.
    """
    by_setting: dict[Setting, list[Scored]] = {}
    for one in scored:
        by_setting.setdefault(one.setting, []).append(one)
    data_sets = list(dict.fromkeys(setting.data for setting in by_setting))
    policies = list(dict.fromkeys(setting.policy for setting in by_setting))
    rows = []
    for setting, ones in by_setting.items():
        against = replace(setting, loss=baseline)
        others = [] if against == setting else by_setting.get(against, [])
        rows.append(compared(ones, others, confidence=confidence, draws=draws, seed=seed))
    return sorted(
        rows,
        key=lambda row: (data_sets.index(row.setting.data), row.setting.fused,
                         policies.index(row.setting.policy), -row.mean["micro_f1"],
                         row.setting.loss),
    )  # fmt: skip


def compared(
    ones: Sequence[Scored],
    others: Sequence[Scored],
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Row:
    """The row of one setting, with its change and gain over another one.

    Args:
        ones: the setting's seeds in any order.
        others: what it is compared with, seed by seed; empty: with nothing.
        confidence: of the gain's one-sided lower bound and of its interval.
        draws: bootstrap draws.
        seed: of the draws.
    """
    pairs = _pairs(ones, others)
    gain = paired_gain(pairs, confidence=confidence, draws=draws, seed=seed) if pairs else None
    return _row(ones[0].setting, ones, pairs, gain)


def climbed(
    steps: Sequence[Sequence[Scored]],
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> list[Row]:
    """The row of each step, with its change and gain over the step before.

    Args:
        steps: the seeds of each step, from the plainest to the candidate.
        confidence: as in :func:`compared`.
        draws: likewise.
        seed: likewise.
    """
    before = [(), *steps[:-1]]
    return [
        compared(step, others, confidence=confidence, draws=draws, seed=seed)
        for step, others in zip(steps, before, strict=True)
    ]


def chosen_by_validation(
    scored: Iterable[Scored], shortlist: Sequence[str], *, baseline: str = "bce", name: str = "auto"
) -> list[Scored]:
    """What a run reaches that trains a shortlist and takes the loss that validation prefers.

    Args:
        scored: what was measured, with what it achieves on validation.
        shortlist: the losses to choose from, in order.
        baseline: the loss whose labels the choice must cover; see
            :func:`longtail.selection.preferred`.
        name: what the choice is called as a loss.

    Returns:
        One entry per data set, policy, fusion and seed for which all of them were trained; the
        seconds are those of the whole shortlist.
    """
    by_case: dict[tuple[Setting, int | None], dict[str, Scored]] = {}
    for one in scored:
        case = (replace(one.setting, loss=name), one.seed)
        by_case.setdefault(case, {})[one.setting.loss] = one
    chosen = []
    for (setting, _), found in by_case.items():
        given = [found[loss] for loss in (*shortlist, baseline) if loss in found]
        judged = [one.validation for one in given if one.validation is not None]
        if len(judged) == len(shortlist) + 1:
            best = given[preferred(judged[:-1], judged[-1])]
            seconds = sum(one.seconds for one in given[:-1])
            chosen.append(replace(best, setting=setting, seconds=seconds))
    return chosen


def paired_gain(pairs: Sequence[Pair], *, confidence: float, draws: int, seed: int) -> Gain:
    """Mean gain in micro-F1 over pairs of one seed each, units and seeds resampled jointly.

    Args:
        pairs: (a loss, what it is compared with), both trained with one seed and scored on the
            same test units; one pair per seed.
        confidence: in (0, 1).
        draws: bootstrap draws.
        seed: of the draws.

    Raises:
        ValueError: no pair, or the units differ.
    """
    if not pairs:
        raise ValueError("no seed in common: there is no pair to compare")
    stacked = np.concatenate([side.counts for pair in pairs for side in pair], axis=1)
    shape = (len(pairs), 2, 3)
    sums = resample(stacked, draws, seed).reshape(draws, *shape)
    # A stream of its own: the units are drawn from that of the plain seed.
    picked = np.random.default_rng([seed, 1]).integers(0, len(pairs), size=(draws, len(pairs)))
    values = np.take_along_axis(f1(sums), picked[:, :, None], axis=1).mean(axis=1)
    gains = values[:, 0] - values[:, 1]
    value, opponent = f1(stacked.sum(axis=0).reshape(shape)).mean(axis=0)
    tail = 1.0 - confidence
    return Gain(
        float(value), float(opponent), float(value - opponent),
        float(np.quantile(gains, tail, method="lower")),
        (float(np.quantile(gains, tail / 2, method="lower")),
         float(np.quantile(gains, 1 - tail / 2, method="higher"))),
    )  # fmt: skip


def _pairs(ones: Sequence[Scored], others: Sequence[Scored]) -> list[Pair]:
    """Those of one seed side by side, ascending; a model without a seed meets all of the others."""
    ordered = sorted(others, key=_by_seed)
    if any(one.seed is None for one in ones):
        return [(ones[0], other) for other in ordered]
    if any(other.seed is None for other in others):
        return [(one, others[0]) for one in sorted(ones, key=_by_seed)]
    mine = {one.seed: one for one in ones}
    return [(mine[other.seed], other) for other in ordered if other.seed in mine]


def _by_seed(one: Scored) -> int:
    return -1 if one.seed is None else one.seed


def _measured(one: Scored) -> dict[str, float]:
    return {**one.overall, **one.groups}


def _row(setting: Setting, ones: Sequence[Scored], pairs: Sequence[Pair], gain: Gain | None) -> Row:
    ordered = sorted(ones, key=_by_seed)
    names = list(_measured(ordered[0]))
    values = _table(ordered, names)
    several = len(ordered) > 1
    deviation = values.std(axis=0, ddof=1) if several else np.full(len(names), np.nan)
    change: dict[str, float] = {}
    if pairs:
        mine, theirs = (_table([pair[side] for pair in pairs], names) for side in (0, 1))
        change = dict(zip(names, (mine - theirs).mean(axis=0).tolist(), strict=True))
    return Row(
        setting=setting,
        seeds=tuple(one.seed for one in ordered if one.seed is not None),
        values={name: tuple(values[:, at].tolist()) for at, name in enumerate(names)},
        mean=dict(zip(names, values.mean(axis=0).tolist(), strict=True)),
        deviation=dict(zip(names, deviation.tolist(), strict=True)),
        change=change,
        gain=gain,
        seconds=float(np.mean([one.seconds for one in ordered])),
        fusion_weight=float(np.mean([one.fusion_weight for one in ordered])),
    )


def _table(ones: Sequence[Scored], names: Sequence[str]) -> NDArray[np.float64]:
    """Metrics by name, shape (scored, names)."""
    rows = [_measured(one) for one in ones]
    return np.array([[row[name] for name in names] for row in rows], dtype=np.float64)
