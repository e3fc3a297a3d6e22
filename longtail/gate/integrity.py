"""The rules that ask whether the numbers can be trusted at all."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial

import numpy as np

from longtail.config import GatePolicy
from longtail.gate.inputs import (
    BEST_CHAMPION,
    CANDIDATE,
    CHAMPION,
    GateInputs,
    UncheckedError,
    arms_to_judge,
    references_to_judge,
    title,
    usable,
)
from longtail.gate.rules import Finding, Rule
from longtail.gate.verdict import CANDIDATE_RULE


def integrity_rules(inputs: GateInputs, policy: GatePolicy) -> list[Rule]:
    """Rules on the inputs themselves; building the list reads none of them."""
    checks: dict[str, Callable[[GateInputs, GatePolicy], Finding]] = {
        CANDIDATE_RULE: _candidate_scored,
        "arms_scored": _arms_scored,
        "same_test_set": _same_test_set,
        "no_leaks": _no_leaks,
        "champion_known": _champion_known,
        "best_champion_known": _best_champion_known,
        "test_texts": _test_texts,
        "test_positives": _test_positives,
        "test_looks": _test_looks,
    }
    return [Rule(name, "block", partial(check, inputs, policy)) for name, check in checks.items()]


def _candidate_scored(inputs: GateInputs, _: GatePolicy) -> Finding:
    usable(inputs, CANDIDATE)
    return Finding(True, "The candidate was scored; all its probabilities are numbers from 0 to 1.")


def _arms_scored(inputs: GateInputs, policy: GatePolicy) -> Finding:
    problems = []
    arms = [name for name in arms_to_judge(inputs, policy) if name != CANDIDATE]
    for name in arms:
        try:
            usable(inputs, name)
        except UncheckedError as problem:
            problems.append(str(problem))
    fine = f"What it is held against was scored, too: {', '.join(title(name) for name in arms)}."
    return Finding(not problems, _sentence(problems, fine), len(arms) - len(problems), len(arms))


def _same_test_set(inputs: GateInputs, policy: GatePolicy) -> Finding:
    arms = arms_to_judge(inputs, policy)
    prints = {name: _print(inputs, name) for name in arms}
    strangers = [name for name, found in prints.items() if found != inputs.test.fingerprint]
    problems = [f"{title(name)} was scored on other test rows" for name in strangers]
    fine = f"All {len(arms)} arms were scored on the same {len(inputs.test.ids):,} test texts."
    return Finding(not problems, _sentence(problems, fine), len(strangers), 0)


def _print(inputs: GateInputs, name: str) -> str:
    arm = inputs.evaluation(name)
    if arm is None:
        raise UncheckedError(f"{title(name)} was not scored")
    return arm.test_fingerprint


def _no_leaks(inputs: GateInputs, policy: GatePolicy) -> Finding:
    problems, total = [], 0
    arms = arms_to_judge(inputs, policy)
    for name in arms:
        check = inputs.leaks.get(name)
        if check is None:
            problems.append(f"the training texts of {title(name)} were not checked for test texts")
            continue
        counts = [operator.index(n) for n in (check.test_ids, check.test_units, check.test_texts)]
        total += sum(abs(count) for count in counts)
        if any(counts):
            problems.append(
                f"{title(name)} was trained on {counts[0]:,} ids of the test set, on "
                f"{counts[1]:,} of its units and on {counts[2]:,} texts that repeat a test text"
            )
    fine = "No test text, and no near-duplicate of one, was among the training texts of any arm."
    return Finding(not problems, _sentence(problems, fine), total, 0)


def _champion_known(inputs: GateInputs, _: GatePolicy) -> Finding:
    if inputs.champion_state == "none":
        if inputs.references or inputs.champion_error:
            raise UncheckedError("the inputs say that there is no champion, and give one")
        return Finding(True, "First release: the registry was read and holds no champion yet.")
    if inputs.champion_state != "scored" or inputs.champion_error:
        reason = inputs.champion_error or "the registry could not be read"
        detail = (
            f"The champion could not be scored: {reason}. Repair it or roll back to the previous "
            "one, then run again."
        )
        return Finding(False, detail)
    usable(inputs, CHAMPION)
    version = inputs.versions.get(CHAMPION, "")
    named = f"The champion, version {version}," if version else "The champion"
    return Finding(True, f"{named} was loaded and scored on the same test texts.")


def _best_champion_known(inputs: GateInputs, _: GatePolicy) -> Finding:
    if inputs.champion_state == "none" and not inputs.references:
        return Finding(True, "First release: there is no earlier champion to fall short of.")
    if inputs.best_champion_error:
        detail = (
            "The best champion of the last twelve months could not be scored: "
            f"{inputs.best_champion_error}. Restore its bundle where MLflow keeps it; or delete "
            "that version of the registered model in MLflow, then it is passed over."
        )
        return Finding(False, detail)
    usable(inputs, BEST_CHAMPION)
    if BEST_CHAMPION in references_to_judge(inputs):
        detail = (
            "The best champion of the last twelve months was scored on the same test texts, too."
        )
    else:
        detail = "The champion is itself the best one of the last twelve months."
    return Finding(True, detail)


def _test_texts(inputs: GateInputs, policy: GatePolicy) -> Finding:
    """Units are counted: texts that belong together are one piece of evidence, not several."""
    units = len(np.unique(inputs.test.units))
    detail = (
        f"The test set has {len(inputs.test.ids):,} texts in {units:,} independent units; at "
        f"least {policy.min_test_texts:,} units are needed."
    )
    return Finding(units >= policy.min_test_texts, detail, units, policy.min_test_texts)


def _test_positives(inputs: GateInputs, policy: GatePolicy) -> Finding:
    found = int(inputs.test.positives.nnz)
    needed = policy.min_group_positives
    detail = f"The test set has {found:,} positives; at least {needed:,} are needed."
    return Finding(found >= needed, detail, found, needed)


def _test_looks(inputs: GateInputs, _: GatePolicy) -> Finding:
    looks = operator.index(inputs.looks)
    detail = (
        "This is the first verdict on this test set."
        if looks == 1
        else f"This is verdict number {looks:,} on this test set; every look wears it out a little."
    )
    if looks < 1:
        detail = "The looks at this test set were not counted."
    return Finding(looks >= 1, detail, looks, 1)


def _sentence(problems: list[str], fine: str) -> str:
    if not problems:
        return fine
    text = "; ".join(problems)
    return f"{text[0].upper()}{text[1:]}."
