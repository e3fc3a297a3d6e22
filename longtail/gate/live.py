"""How the arms stand to the live model; the first thing that a verdict says."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from longtail.config import GatePolicy
from longtail.gate.comparisons import Comparison
from longtail.gate.inputs import (
    BCE,
    CHAMPION,
    LINEAR,
    MATCHED,
    GateInputs,
    UncheckedError,
    usable,
)
from longtail.gate.rules import Comparisons, Finding, Rule, on_shared, percent, points
from longtail.gate.verdict import LIVE_RULE, OUTDATED_RULE
from longtail.metrics import f1

_SHORT = {BCE: "BCE", MATCHED: "the same with the BCE encoder", LINEAR: "linear"}


def live_rules(
    comparisons: Comparisons, inputs: GateInputs, policy: GatePolicy, *, promoted: bool
) -> list[Rule]:
    """What is said of the live model; none where no champion could be compared.

    Args:
        comparisons: of the candidate.
        inputs: of the verdict.
        policy: of the verdict.
        promoted: whether every blocking rule has passed.
    """
    champion = comparisons.get(CHAMPION)
    if not isinstance(champion, Comparison):
        return []
    return [
        Rule(LIVE_RULE, "info", lambda: _standing(champion, inputs, policy)),
        Rule(OUTDATED_RULE, "warn", lambda: _outdated(champion, inputs, promoted=promoted)),
    ]


def _standing(champion: Comparison, inputs: GateInputs, policy: GatePolicy) -> Finding:
    gain = champion.overall
    low, high = (points(end) for end in gain.interval)
    version = inputs.versions.get(CHAMPION, "")
    named = f"version {version}" if version else "the champion"
    candidate = (
        f"Candidate {_share(gain.value_a)} ({points(gain.gain)}, {percent(policy.confidence)} "
        f"interval {low} to {high})"
    )
    arms = (candidate, *_others(inputs, policy))
    detail = (
        f"Live when judged: {named}, micro-F1 {_share(gain.value_b)}{on_shared(champion)}. "
        f"{', '.join(arms)}."
    )
    return Finding(gain.gain >= 0, detail, gain.value_a, gain.value_b)


def _others(inputs: GateInputs, policy: GatePolicy) -> Iterator[str]:
    """Arms beside the candidate, on the labels that the champion knows; without unusable ones."""
    shared = usable(inputs, CHAMPION).scored
    for name in dict.fromkeys((BCE, policy.baseline, LINEAR)):
        try:
            counts = usable(inputs, name).label_counts[shared]
        except UncheckedError:
            continue
        yield f"{_SHORT[name]} {_share(float(f1(counts.sum(axis=0))))}"


def _outdated(champion: Comparison, inputs: GateInputs, *, promoted: bool) -> Finding:
    lower = champion.overall.lower
    bound = f"(lower bound of the gain {points(lower)})"
    if promoted:
        return Finding(True, "The candidate takes the place of the live model.", lower, 0.0)
    if not lower > 0:
        detail = f"The live model is not shown to be worse than the candidate {bound}."
        return Finding(True, detail, lower, 0.0)
    detail = (
        f"The live model is shown to be worse than the candidate {bound}, and stays live because "
        "the candidate is blocked. To let the candidate pass all the same, in your name: "
        f'longtail promote {shlex.quote(inputs.run)} --by NAME --reason "…"'
    )
    return Finding(False, detail, lower, 0.0)


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
