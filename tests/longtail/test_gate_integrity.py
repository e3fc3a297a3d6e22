"""The gate fails closed: what cannot be trusted or checked blocks, and nothing crashes."""

from dataclasses import replace

import numpy as np
import pytest
from gate_case import (
    ARMS,
    GROUPS,
    LABELS,
    POLICY,
    TEST,
    WIN,
    Leak,
    arm,
    clear_win,
    leaking,
    make_test_set,
    not_a_number,
    on_other_rows,
    policy,
    replaced,
    results,
    scores,
    with_arm,
)

from longtail.evaluation import evaluate
from longtail.gate import decide
from longtail.gate.comparisons import _seed
from longtail.gate.decision import check_rule
from longtail.gate.rules import Finding, Rule
from longtail.significance import paired_bootstrap, sum_by_unit


def few_texts(texts):
    """The clear win on a smaller test set."""
    test = make_test_set(texts=texts)
    return replace(
        clear_win(),
        test=test,
        arms={
            "candidate": arm(test, "candidate", 0.95),
            "bce": arm(test, "bce", 0.5, 2, never=("tax",)),
            "linear": arm(test, "linear", 0.4, 3),
        },
        references={},
        champion_state="none",
    )


@pytest.mark.parametrize("name", [*ARMS, "champion", "best_champion"])
@pytest.mark.parametrize("breakage", [not_a_number, on_other_rows, None])
def test_any_arm_that_cannot_be_judged_blocks(name, breakage):
    inputs = with_arm(WIN, name, None) if breakage is None else breakage(name)
    verdict = decide(inputs, POLICY)
    assert verdict.decision == "block"
    failed = {rule.name for rule in verdict.failed}
    assert "candidate_scored" in failed if name == "candidate" else "arms_scored" in failed


@pytest.mark.parametrize("name", [*ARMS, "champion", "best_champion"])
@pytest.mark.parametrize(
    "leak", [None, Leak(test_ids=1), Leak(test_units=1), Leak(test_texts=1), Leak(-1, 0, 1)]
)
def test_a_leak_or_an_unchecked_one_blocks_for_every_arm(name, leak):
    verdict = decide(leaking(name, leak), POLICY)
    assert verdict.decision == "block"
    assert [rule.name for rule in verdict.failed] == ["no_leaks"]


def test_an_unchecked_arm_is_named():
    reasons = decide(leaking("bce", None), POLICY).reasons
    assert "The training texts of the BCE baseline were not checked" in " ".join(reasons)


@pytest.mark.parametrize("name", [*ARMS, "champion", "best_champion"])
def test_a_threshold_that_is_no_number_blocks(name):
    thresholds = np.array([0.5, 0.5, np.nan, 0.5, 0.5, 0.5])
    broken = evaluate(TEST, name, scores(TEST, 0.95, 1), thresholds, GROUPS)
    verdict = decide(with_arm(WIN, name, broken), POLICY)
    assert verdict.decision == "block"
    assert any("threshold that is not a number" in reason for reason in verdict.reasons)


def test_a_leak_count_that_is_no_number_blocks():
    verdict = decide(leaking("bce", Leak(test_ids=float("nan"))), POLICY)
    assert [rule.name for rule in verdict.failed] == ["no_leaks"]
    assert "Could not be checked" in verdict.failed[0].detail


def test_probabilities_outside_zero_and_one_block():
    values = scores(TEST, 0.95, 1) * 1.5
    inputs = with_arm(WIN, "candidate", evaluate(TEST, "c", values, np.full(6, 0.5), GROUPS))
    assert "outside 0 to 1" in results(decide(inputs, POLICY))["candidate_scored"].detail


def test_a_candidate_must_know_every_label():
    inputs = replaced("candidate", 0.95, scored_labels=LABELS[:5])
    verdict = decide(inputs, POLICY)
    assert "does not know every label" in results(verdict)["candidate_scored"].detail
    assert verdict.decision == "block"


def test_texts_of_one_unit_are_one_piece_of_evidence():
    """A hundred near-duplicates of one text would make any bootstrap certain."""
    one_unit = replace(TEST, units=np.zeros(len(TEST.ids), dtype=np.int64))
    rule = results(decide(replace(WIN, test=one_unit), POLICY))["test_texts"]
    assert not rule.passed
    assert rule.value == 1


def test_the_bootstrap_draws_units():
    units = np.repeat(np.arange(120), 2)
    inputs = replace(WIN, test=replace(TEST, units=units))
    sides = [sum_by_unit(WIN.arms[a].text_counts.sum(axis=1), units) for a in ("candidate", "bce")]
    expected = paired_bootstrap(*sides, POLICY.draws, _seed(inputs), POLICY.confidence)
    of_texts = policy(training_deviation=0.0)
    rule = results(decide(inputs, of_texts))["bce_micro_f1"]
    assert rule.value == pytest.approx(expected.lower, abs=1e-12)
    assert rule.value != results(decide(WIN, of_texts))["bce_micro_f1"].value


@pytest.mark.parametrize("texts", [0, 1, 99])
def test_too_small_a_test_set_blocks_and_never_crashes(texts):
    verdict = decide(few_texts(texts), policy(min_group_positives=1))
    assert verdict.decision == "block"
    assert not results(verdict)["test_texts"].passed


def test_groups_that_do_not_fit_block():
    inputs = replace(WIN, groups=replace(GROUPS, of_label=GROUPS.of_label[:3]))
    assert decide(inputs, POLICY).decision == "block"


def test_a_rule_that_crashes_has_failed_and_says_why():
    def crash():
        raise ZeroDivisionError("by zero")

    found = check_rule(Rule("odd", "block", crash))
    assert not found.passed
    assert found.detail == "Could not be checked: ZeroDivisionError: by zero."


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("at", ["value", "threshold"])
def test_a_rule_that_passes_on_no_number_has_failed(number, at):
    found = check_rule(Rule("odd", "block", lambda: Finding(True, "fine", **{at: number})))
    assert not found.passed
    assert getattr(found, at) is None


def test_inputs_that_break_the_listing_of_rules_block():
    verdict = decide(replace(WIN, references=None), POLICY)
    assert verdict.decision == "block"
    assert not results(verdict)["comparisons"].passed


def test_the_same_inputs_give_the_same_verdict():
    assert decide(clear_win(), POLICY) == decide(clear_win(), POLICY)


def test_the_draws_follow_the_arms():
    other = replaced("linear", 0.41, seed=12)
    one, two = (results(decide(i, POLICY))["bce_micro_f1"] for i in (WIN, other))
    assert one.value != two.value


def test_reasons_do_not_repeat_themselves():
    verdict = decide(with_arm(WIN, "bce", None), POLICY)
    assert len(set(verdict.reasons)) == len(verdict.reasons)


def test_a_best_champion_that_cannot_be_scored_is_named_with_what_to_do():
    inputs = replace(with_arm(WIN, "best_champion", None), best_champion_error="version 3, no file")
    verdict = decide(inputs, POLICY)
    (rule,) = (one for one in verdict.failed if one.name == "best_champion_known")
    assert "could not be scored: version 3, no file. Restore its bundle" in rule.detail
    assert "champion_known" not in {one.name for one in verdict.failed}
