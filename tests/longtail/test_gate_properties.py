"""Whatever the numbers: a failed or uncheckable rule never promotes."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from gate_case import ARMS, GROUPS, POLICY, Leak, arm, clear_win, make_test_set, with_arm
from hypothesis import event, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from longtail.config import GatePolicy
from longtail.evaluation import evaluate
from longtail.gate import RuleResult, Verdict, decide
from longtail.gate.decision import check_rule
from longtail.gate.rules import Finding, Rule
from longtail.gate.verdict import all_passed
from longtail.metrics import f1
from longtail.significance import loss_p_value

WIN = clear_win()
TEST = WIN.test
PROMOTED = decide(WIN, POLICY).model_dump()
OPPONENTS = ("bce", "linear", "champion", "best_champion")
NAMES = ("candidate", *OPPONENTS)
NO_NUMBER = st.sampled_from([float("nan"), float("inf"), float("-inf")])
ANY_FLOAT = st.one_of(st.none(), st.floats())
ANY_QUALITY, GOOD = st.floats(0.0, 0.9), st.floats(0.5, 1.0)

rule_results = st.builds(
    RuleResult,
    name=st.sampled_from(["a", "b"]),
    passed=st.booleans(),
    severity=st.sampled_from(["block", "warn", "info"]),
    value=ANY_FLOAT,
    threshold=ANY_FLOAT,
    detail=st.text(max_size=5),
)


@st.composite
def cases(draw):
    """Arms of any quality, on one test set; sometimes without a champion."""
    inputs = WIN
    for name in NAMES:
        never = draw(st.sets(st.sampled_from(["tax", "vat"]))) if name != "candidate" else ()
        quality = draw(GOOD if name == "candidate" else ANY_QUALITY)
        evaluation = arm(TEST, name, quality, draw(st.integers(0, 99)), never=never)
        inputs = with_arm(inputs, name, evaluation)
    if draw(st.booleans()):
        inputs = replace(inputs, references={}, champion_state="none")
    return inputs


def poison(inputs, name, cell, value):
    """One cell of an arm's probabilities, or a threshold, becomes something else."""
    row, column = cell
    probabilities = np.full(TEST.y.shape, 0.1, dtype=np.float32)
    probabilities[TEST.y.toarray()] = 0.9
    probabilities[row, column] = value
    broken = evaluate(TEST, name, probabilities, np.full(6, 0.5), GROUPS)
    return with_arm(inputs, name, broken)


@st.composite
def sabotages(draw):
    """The clear win with one thing wrong that no other number can make good."""
    name = draw(st.sampled_from(NAMES))
    kind = draw(st.integers(0, 9))
    cell = (draw(st.integers(0, len(TEST.ids) - 1)), draw(st.integers(0, 5)))
    if kind == 0:
        return poison(WIN, name, cell, draw(NO_NUMBER))
    if kind == 1:
        return poison(WIN, name, cell, draw(st.sampled_from([-1e-3, 1.001, -5.0, 40.0])))
    if kind == 2:
        return with_arm(WIN, name, None)
    if kind == 3:
        return with_arm(WIN, name, arm(make_test_set(seed=5), name, 0.9))
    if kind == 4:
        return replace(WIN, leaks={**WIN.leaks, name: None})
    if kind == 5:
        counts = draw(st.lists(st.integers(-3, 10**9), min_size=3, max_size=3).filter(any))
        return replace(WIN, leaks={**WIN.leaks, name: Leak(*counts)})
    if kind == 6:
        state = draw(st.sampled_from(["unreadable", "none", "odd", None, 1.0]))
        return replace(WIN, champion_state=state)
    if kind == 7:
        return replace(WIN, champion_error=draw(st.text(min_size=1, max_size=5)))
    if kind == 8:
        return replace(WIN, looks=draw(st.sampled_from([0, -1, None, float("nan"), "three"])))
    lost = draw(st.sampled_from(["references", "leaks", "arms", "groups"]))
    return replace(WIN, **{lost: draw(st.sampled_from([None, {}, 3]))})


@settings(max_examples=100, deadline=None)
@given(sabotages())
def test_whatever_is_wrong_the_clear_win_no_longer_promotes(inputs):
    verdict = decide(inputs, POLICY)
    assert verdict.decision == "block"
    assert verdict.failed
    assert verdict.reasons
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from(["refresh", "improve"]))
def test_a_promotion_means_what_it_says(inputs, mode):
    verdict = decide(inputs, POLICY.model_copy(update={"champion_mode": mode}))
    assert (verdict.decision == "promote") == all_passed(verdict.rules)
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    event(verdict.decision)
    if verdict.decision == "block":
        assert verdict.failed
        return
    counts = {
        name: evaluation.label_counts
        for name, evaluation in {**inputs.arms, **inputs.references}.items()
    }
    ours = counts["candidate"]
    assert f1(ours.sum(axis=0)) > f1(counts["bce"].sum(axis=0))
    found, baseline = (np.count_nonzero(c[:, 0]) for c in (ours, counts["bce"]))
    assert found > baseline or found == 6
    for name in inputs.references:
        assert f1(ours.sum(axis=0)) > f1(counts[name].sum(axis=0)) - 0.01
        won, lost = ((a[:, 0] > 0) & (b[:, 0] == 0) for a, b in permutations((ours, counts[name])))
        assert loss_p_value(int(won.sum()), int(lost.sum())) > 0.05


@settings(max_examples=25, deadline=None)
@given(cases(), st.floats(0, 0.3), st.floats(0.6, 0.99), st.floats(0, 1), st.integers(0, 500))
def test_a_stricter_policy_never_promotes_more(inputs, step, confidence, floor, texts):
    lax = POLICY.model_copy(update={"confidence": 0.6, "min_test_texts": 1, "linear": "off"})
    stricter = [
        {"min_gain": lax.min_gain + step},
        {"training_deviation": lax.deviation + step},
        {"baseline": "matched"},
        {"confidence": confidence},
        {"floors": {"micro_f1": floor}},
        {"min_test_texts": 1 + texts},
        {"refresh_margin": max(0.0, lax.refresh_margin - step)},
        {"group_margin": max(0.0, lax.group_margin - step)},
        {"champion_mode": "improve"},
        {"linear": "block"},
        {"linear": "warn"},
    ]
    if decide(inputs, lax).decision == "block":
        for changes in stricter:
            assert decide(inputs, lax.model_copy(update=changes)).decision == "block", changes


@settings(max_examples=25, deadline=None)
@given(st.floats(0.9, 1.0), st.floats(0.0, 0.6), st.integers(0, 999))
def test_a_clear_win_on_everything_promotes(good, bad, seed):
    inputs = with_arm(WIN, "candidate", arm(TEST, "candidate", good, seed))
    for offset, name in enumerate(OPPONENTS, start=1):
        worse = arm(TEST, name, bad, seed + offset, never=("tax",))
        inputs = with_arm(inputs, name, worse)
    verdict = decide(inputs, POLICY)
    assert verdict.decision == "promote", verdict.reasons


@given(st.lists(rule_results, max_size=6))
def test_no_list_of_rules_promotes_unless_every_blocking_one_passed(rules):
    blocking = [rule.passed for rule in rules if rule.severity == "block"]
    build = {**PROMOTED, "rules": tuple(rules), "decision": "promote"}
    if blocking and all(blocking):
        assert Verdict.model_validate(build).decision == "promote"
    else:
        with pytest.raises(ValidationError):
            Verdict.model_validate(build)


@given(st.booleans(), ANY_FLOAT, ANY_FLOAT)
def test_a_rule_passes_only_on_numbers(passed, value, threshold):
    found = check_rule(Rule("r", "block", lambda: Finding(passed, "d", value, threshold)))
    finite = all(n is None or np.isfinite(n) for n in (value, threshold))
    assert found.passed == (passed and finite)


@given(
    st.sampled_from([ValueError, KeyError, ZeroDivisionError, MemoryError, RecursionError]),
    st.text(max_size=9),
)
def test_a_rule_that_raises_has_failed(kind, message):
    def crash():
        raise kind(message)

    assert not check_rule(Rule("r", "block", crash)).passed


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.text(max_size=12), st.floats(), min_size=1, max_size=3),
    st.floats(allow_nan=True),
)
def test_unknown_floors_and_odd_margins_never_crash(floors, min_gain):
    policy = POLICY.model_copy(update={"floors": floors, "min_gain": min_gain})
    verdict = decide(WIN, policy)
    assert verdict.decision == "block"
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_the_default_policy_judges_as_well():
    verdict = decide(WIN, GatePolicy(draws=100, min_group_positives=40))
    assert verdict.decision == "promote"
    assert set(ARMS) <= set(verdict.arms)
