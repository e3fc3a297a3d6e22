"""From inputs and policy to the verdict: check every rule, fail closed, say why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from longtail import storage
from longtail.config import GatePolicy
from longtail.gate.comparisons import Comparison, compare_all
from longtail.gate.inputs import GateInputs, UncheckedError
from longtail.gate.integrity import integrity_rules
from longtail.gate.ladder import LADDER_DRAWS, LadderStep, climb
from longtail.gate.live import live_rules
from longtail.gate.rules import (
    Comparisons,
    Finding,
    Rule,
    comparison_rules,
    floor_rules,
    points,
)
from longtail.gate.verdict import LIVE_RULE, OUTDATED_RULE, RuleResult, Verdict, all_passed


def decide(inputs: GateInputs, policy: GatePolicy) -> Verdict:
    """Decide whether the candidate may be published.

    Equal inputs and policies give equal verdicts, on any machine.

    Args:
        inputs: evaluations of all arms on one test set, and what is known about them.
        policy: the rules as data.
    """
    comparisons = _compare(inputs, policy)
    rules = [
        *integrity_rules(inputs, policy),
        *_built("comparisons", partial(comparison_rules, comparisons, inputs, policy)),
        *_built("floors", partial(floor_rules, inputs, policy)),
    ]
    results = [check_rule(rule) for rule in rules]
    # The live model and the ladder are information: by now it is decided.
    promoted = all_passed(tuple(results))
    steps, ladder_rules = _ladder(inputs, policy)
    live = live_rules(comparisons, inputs, policy, promoted=promoted)
    rules = [*live, *rules, *ladder_rules]
    results = [*map(check_rule, live), *results, *map(check_rule, ladder_rules)]
    first = _first_release(inputs, results)
    baseline = comparisons.get(policy.baseline)
    won, lost = (baseline.won, baseline.lost) if isinstance(baseline, Comparison) else ((), ())
    return Verdict(
        decision="promote" if promoted else "block",
        first_release=first,
        champion_mode=policy.champion_mode,
        reasons=_reasons(rules, results, promoted=promoted, first=first),
        looks=inputs.looks if isinstance(inputs.looks, int) else 0,
        rules=tuple(results),
        labels_won=won,
        labels_lost=lost,
        ladder=steps,
        policy=storage.finite(policy.model_dump(mode="json")),
        arms=_versions(inputs),
    )


def check_rule(rule: Rule) -> RuleResult:
    """Check one rule; whatever goes wrong in it, it has failed and says why."""
    try:
        found = rule.check()
    except UncheckedError as reason:
        found = Finding(False, f"Could not be checked: {reason}.")
    except Exception as error:  # noqa: BLE001 - a rule that crashes must block, not the run
        found = Finding(False, f"Could not be checked: {type(error).__name__}: {error}.")
    numbers = (n for n in (found.value, found.threshold) if n is not None)
    if not all(math.isfinite(n) for n in numbers):
        found = Finding(False, f"{found.detail} Not a finite number, so not checked.")
    return RuleResult(
        name=rule.name,
        passed=bool(found.passed),
        severity=rule.severity,
        value=found.value,
        threshold=found.threshold,
        detail=found.detail,
    )


def _compare(inputs: GateInputs, policy: GatePolicy) -> Comparisons:
    try:
        return compare_all(inputs, policy)
    except Exception as error:  # noqa: BLE001 - the rules that needed it fail with the reason
        return {policy.baseline: error}


def _built(family: str, build: Callable[[], list[Rule]]) -> list[Rule]:
    """The rules of a family; if they cannot even be listed, one that fails with the reason."""
    try:
        return build()
    except Exception as error:  # noqa: BLE001 - as above

        def fail(reason: Exception = error) -> Finding:
            raise reason

        return [Rule(family, "block", fail)]


def _ladder(inputs: GateInputs, policy: GatePolicy) -> tuple[tuple[LadderStep, ...], list[Rule]]:
    """The ladder, and the rule that says it in words or why there is none."""
    try:
        given = tuple(inputs.ladder)
        if not given:
            return (), []
        prints = [arm.fingerprint for _, _, arm in given]
        seed = int(storage.fingerprint(inputs.test.fingerprint, prints)[:16], 16)
        steps = climb(
            inputs.test, given, draws=LADDER_DRAWS, seed=seed, confidence=policy.confidence
        )
        finding = Finding(True, _climbed(steps))
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not change the verdict
        steps = ()
        finding = Finding(False, f"Where the gain comes from could not be measured: {error}.")
    return steps, [Rule("ladder", "info", lambda: finding)]


def _climbed(steps: Sequence[LadderStep]) -> str:
    """What each step adds, so that no gain is credited to another cause."""
    if len(steps) == 1:
        return f"There is no step after {steps[0].name}, so that there is no gain to take apart."
    total = steps[-1].micro_f1.value - steps[0].micro_f1.value
    parts = [f"{step.name} {points(g.value)}" for step in steps if (g := step.gain_micro_f1)]
    return (
        f"From {steps[0].name} to {steps[-1].name} micro-F1 changes by {points(total)}, step by "
        f"step: {'; '.join(parts)}. What the loss adds and what the combination adds are apart."
    )


def _first_release(inputs: GateInputs, results: Sequence[RuleResult]) -> bool:
    known = [result.passed for result in results if result.name == "champion_known"]
    return inputs.champion_state == "none" and all(known)


def _reasons(
    rules: Sequence[Rule], results: Sequence[RuleResult], *, promoted: bool, first: bool
) -> tuple[str, ...]:
    pairs = list(zip(rules, results, strict=True))
    warnings = [r for r in results if r.severity == "warn" and not r.passed]
    said = [r.detail for r in results if r.name == LIVE_RULE]
    said += [f"Warning: {r.detail}" for r in warnings if r.name == OUTDATED_RULE]
    if promoted:
        said += [
            result.detail for rule, result in pairs if rule.headline and result.severity == "block"
        ]
    else:
        said += [r.detail for r in results if r.severity == "block" and not r.passed]
    said += [result.detail for result in results if result.name == "champion_known" and first]
    said += [f"Warning: {r.detail}" for r in warnings]
    return tuple(dict.fromkeys(said))


def _versions(inputs: GateInputs) -> dict[str, str]:
    arms = {**_mapping(inputs.arms), **_mapping(inputs.references)}
    prints = {name: arm.fingerprint for name, arm in arms.items() if arm is not None}
    return {**prints, **{name: str(found) for name, found in _mapping(inputs.versions).items()}}


def _mapping(value: object) -> Mapping[str, Any]:
    """What is no mapping has made its rules fail already; the record must not crash on it."""
    return value if isinstance(value, Mapping) else {}
