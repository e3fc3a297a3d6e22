"""The rules that weigh the candidate: the baseline, the champions, the linear arm, the floors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from longtail.config import GatePolicy
from longtail.gate.comparisons import Comparison
from longtail.gate.inputs import (
    CANDIDATE,
    LINEAR,
    MATCHED,
    GateInputs,
    UncheckedError,
    references_to_judge,
    shows_the_loss,
    title,
    usable,
)
from longtail.gate.verdict import Severity
from longtail.significance import Gain, loss_p_value, sign_test
from longtail.summaries import OVERALL

LOST_LABELS_LEVEL = 0.05
"""Level of the sign test that shows labels to be lost to a release."""


@dataclass(frozen=True)
class Finding:
    """What a check found; the fields are those of :class:`longtail.gate.RuleResult`."""

    passed: bool
    detail: str
    value: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Rule:
    """A rule still to be checked. ``headline`` rules give the reasons of a promotion."""

    name: str
    severity: Severity
    check: Callable[[], Finding]
    headline: bool = False


Comparisons = Mapping[str, Comparison | Exception]


def comparison_rules(
    comparisons: Comparisons, inputs: GateInputs, policy: GatePolicy
) -> list[Rule]:
    """The rules against the baseline, the champions and the linear arm."""
    rules = _baseline_rules(comparisons, policy)
    if shows_the_loss(inputs, policy):
        check = partial(_not_worse, comparisons, policy)
        rules.append(Rule("matched_not_worse", "warn", check))
    for name in references_to_judge(inputs):
        rules += _reference_rules(comparisons, name, policy)
    if policy.linear != "off":
        check = partial(_linear, comparisons, policy)
        rules.append(Rule("linear_micro_f1", policy.linear, check, headline=True))
    check = partial(_original_cohort, inputs, policy)
    rules.append(Rule("original_cohort_micro_f1", "info", check))
    return rules


def floor_rules(inputs: GateInputs, policy: GatePolicy) -> list[Rule]:
    """One rule per absolute floor of the policy."""
    return [
        Rule(f"floor_{metric}", "block", partial(_floor, inputs, metric, floor))
        for metric, floor in policy.floors.items()
    ]


def beats(comparison: Comparison, policy: GatePolicy) -> Finding:
    """Whether micro-F1 is shown to be better than that of the baseline."""
    found = _bounded("Micro-F1", comparison, comparison.overall, policy.min_gain, policy)
    deviation = policy.deviation
    if deviation == 0:
        return found
    source = "the default for" if policy.training_deviation is None else "configured for"
    allowance = (
        f" The bounds allow for a deviation of {100 * deviation:.2f} pt by training again, "
        f"{source} this baseline."
    )
    return replace(found, detail=found.detail + allowance)


def covers_more(comparison: Comparison) -> Finding:
    """Whether more labels are recognised than by the baseline, or all of them."""
    ours, theirs = comparison.recognised
    complete = 0 < comparison.with_positives == ours
    detail = _coverage_sentence(comparison, comparison.recognised, "recognised (F1 > 0)")
    needed = " More are needed, or all of them." if ours < comparison.with_positives else ""
    return Finding(ours > theirs or complete, detail + needed, ours, theirs)


def holds(comparison: Comparison, policy: GatePolicy) -> Finding:
    """Whether micro-F1 is shown not to be inferior to a release, or to be better."""
    needed = 0.0 if policy.champion_mode == "improve" else -policy.refresh_margin
    what = f"Micro-F1 ({policy.champion_mode})"
    return _bounded(what, comparison, comparison.overall, needed, policy)


def group_holds(comparison: Comparison, part: str, policy: GatePolicy) -> Finding:
    """Whether F1 within a label group is shown not to be inferior to a release."""
    what = f"F1 within {part.replace('+', ' and ')}"
    return _bounded(what, comparison, comparison.groups[part], -policy.group_margin, policy)


def keeps(comparison: Comparison) -> Finding:
    """Whether labels that a release recognises are not shown to be lost."""
    won, lost = len(comparison.won), len(comparison.lost)
    p = loss_p_value(won, lost)
    shown = p <= LOST_LABELS_LEVEL
    detail = (
        f"{_coverage_sentence(comparison, comparison.recognised, 'recognised (F1 > 0)')} {won:,} "
        f"won and {lost:,} lost: labels are {'' if shown else 'not '}shown to be lost (one-sided "
        f"sign test, p = {p:.2g}, needed above {LOST_LABELS_LEVEL:g})."
    )
    return Finding(not shown, detail, p, LOST_LABELS_LEVEL)


def points(share: float) -> str:
    """A difference of shares in percentage points, signed; never rounded to a false zero."""
    found = 100 * share
    if found == 0:
        return "0 pt"
    return f"{found:+.2f} pt" if abs(found) >= 0.005 else f"{found:+.1g} pt"


def percent(share: float) -> str:
    """A confidence such as 0.95 as '95 %'."""
    return f"{100 * share:g} %"


def _baseline_rules(comparisons: Comparisons, policy: GatePolicy) -> list[Rule]:
    name = policy.baseline
    baseline = partial(_of, comparisons, name)
    return [
        Rule(f"{name}_micro_f1", "block", lambda: beats(baseline(), policy), headline=True),
        Rule(f"{name}_label_coverage", "block", lambda: covers_more(baseline()), headline=True),
        Rule(f"{name}_labels_won_lost", "info", lambda: _won_lost(baseline())),
        Rule(f"{name}_label_coverage_two", "info", lambda: _covers_twice(baseline())),
    ]


def _not_worse(comparisons: Comparisons, policy: GatePolicy) -> Finding:
    """Whether the loss is not shown to make the candidate worse than it is without."""
    comparison = _of(comparisons, MATCHED)
    gain = comparison.overall
    low, high = gain.interval
    if high < 0:
        meaning = (
            "The loss costs something here: with the BCE encoder the same combination is better. "
            "Another loss may not (loss.name: auto chooses one on validation)."
        )
    elif low > 0:
        meaning = "The loss adds to the combination."
    else:
        meaning = "The loss is neither shown to add to the combination nor to cost anything."
    return Finding(
        high >= 0, f"{_measured('Micro-F1', comparison, gain, policy)}. {meaning}", high, 0.0
    )


def _reference_rules(comparisons: Comparisons, name: str, policy: GatePolicy) -> list[Rule]:
    against = partial(_of, comparisons, name)
    rules = [
        Rule(f"{name}_micro_f1", "block", lambda: holds(against(), policy), headline=True),
        Rule(f"{name}_label_coverage", "block", lambda: keeps(against()), headline=True),
    ]
    measured = comparisons.get(name)
    # Without a comparison nobody knows the slices: one rule then fails for all of them.
    slices: Iterable[str] = measured.groups if isinstance(measured, Comparison) else ("groups",)
    for part in slices:
        check = partial(_of_group, against, part, policy)
        rules.append(Rule(f"{name}_group_f1:{part}", "block", check))
    return rules


def _of(comparisons: Comparisons, name: str) -> Comparison:
    found = comparisons.get(name)
    if found is None:
        raise UncheckedError(f"{title(name)} was not compared with the candidate")
    if isinstance(found, Exception):
        raise found
    return found


def _of_group(against: Callable[[], Comparison], part: str, policy: GatePolicy) -> Finding:
    return group_holds(against(), part, policy)


def _linear(comparisons: Comparisons, policy: GatePolicy) -> Finding:
    comparison = _of(comparisons, LINEAR)
    return _bounded("Micro-F1", comparison, comparison.overall, -policy.linear_margin, policy)


def _bounded(
    what: str, comparison: Comparison, gain: Gain, needed: float, policy: GatePolicy
) -> Finding:
    """Whether the gain's lower bound is above what is needed."""
    detail = (
        f"{_measured(what, comparison, gain, policy)}; its one-sided {percent(policy.confidence)} "
        f"lower bound is {points(gain.lower)}, needed above {points(needed)}."
    )
    return Finding(gain.lower > needed, detail, gain.lower, needed)


def _measured(what: str, comparison: Comparison, gain: Gain, policy: GatePolicy) -> str:
    """Both values and the gain with its interval, as the beginning of a sentence."""
    low, high = (points(end) for end in gain.interval)
    return (
        f"{what} {gain.value_a:.3f} against {gain.value_b:.3f} of {title(comparison.opponent)}"
        f"{on_shared(comparison)}: gain {points(gain.gain)} ({percent(policy.confidence)} interval "
        f"{low} to {high})"
    )


def on_shared(comparison: Comparison) -> str:
    """Of a release with other labels, on how many it was compared."""
    if comparison.shared == comparison.labels:
        return ""
    return f", on the {comparison.shared:,} of {comparison.labels:,} labels that both know"


def _covers_twice(comparison: Comparison) -> Finding:
    pair = comparison.recognised_twice
    detail = _coverage_sentence(comparison, pair, "found at least twice")
    return Finding(pair[0] >= pair[1], detail, *pair)


def _coverage_sentence(comparison: Comparison, pair: tuple[int, int], how: str) -> str:
    return (
        f"{pair[0]:,} of {comparison.with_positives:,} labels with test positives are {how}, "
        f"{pair[1]:,} by {title(comparison.opponent)}{on_shared(comparison)}."
    )


def _won_lost(comparison: Comparison) -> Finding:
    won, lost = len(comparison.won), len(comparison.lost)
    p = sign_test(won, lost)
    detail = (
        f"{won:,} labels won and {lost:,} lost against {title(comparison.opponent)}; by even "
        f"chance a difference like this has p = {p:.3g} (sign test)."
    )
    return Finding(won >= lost, detail, p)


def _original_cohort(inputs: GateInputs, policy: GatePolicy) -> Finding:
    """The test set grows; the texts that were there from the start are the ones most looked at."""
    texts = int((inputs.test.cohort == 0).sum())
    if texts == 0:
        raise UncheckedError("no test text belongs to the original cohort")
    ours, theirs = (
        usable(inputs, name).original_cohort["micro_f1"] for name in (CANDIDATE, policy.baseline)
    )
    detail = (
        f"On the {texts:,} texts of the original test cohort, of {len(inputs.test.ids):,}: "
        f"micro-F1 {ours:.3f} against {theirs:.3f} of {title(policy.baseline)}."
    )
    return Finding(ours > theirs, detail, ours, theirs)


def _floor(inputs: GateInputs, metric: str, floor: float) -> Finding:
    if metric not in OVERALL or metric == "hamming_loss":
        known = ", ".join(name for name in OVERALL if name != "hamming_loss")
        raise UncheckedError(f"there is no floor on {metric!r}; the metrics with one are: {known}")
    value = usable(inputs, CANDIDATE).overall[metric]
    return Finding(
        value >= floor, f"The candidate's {metric} is {value:.4g}, at least {floor:.4g} is needed.",
        value, floor,
    )  # fmt: skip
