"""Every rule of the gate by name: it passes on a clear win, and fails when its ground goes."""

from dataclasses import replace

import numpy as np
import pytest
from gate_case import (
    GROUPS,
    LABELS,
    POLICY,
    TEST,
    WIN,
    Leak,
    arm,
    leaking,
    not_a_number,
    on_other_rows,
    policy,
    replaced,
    results,
    with_arm,
    with_matched,
    without_champion,
)
from pydantic import ValidationError

from longtail.config import GatePolicy
from longtail.gate import decide
from longtail.gate.comparisons import merge_small_groups
from longtail.gate.inputs import UncheckedError
from longtail.gate.rules import points


def test_a_clear_win_passes_every_rule_and_promotes():
    verdict = decide(WIN, policy(floors={"micro_f1": 0.5, "label_coverage": 0.9}))
    assert [rule.name for rule in verdict.rules if not rule.passed] == []
    assert verdict.decision == "promote"
    assert verdict.labels_won == ("tax",)
    assert verdict.labels_lost == ()
    assert verdict.looks == 4
    assert verdict.arms["champion"] == "7"
    assert verdict.arms["bce"] == WIN.arms["bce"].fingerprint
    assert not verdict.first_release


LOSING = LABELS[1:]  # five labels lost and none won have p = 1/32
OPTIONAL = {"matched_not_worse", "ladder"}  # only where the inputs have what they are about

FAILURES = {
    "live_model": (replaced("champion", 0.97), {}),
    "live_model_outdated": (replaced("bce", 0.96), {}),
    "matched_not_worse": (with_matched(0.99), {}),
    "ladder": (replace(WIN, ladder=[("half", "BERT + BCE, cut at 0.5", None)]), {}),
    "candidate_scored": (not_a_number("candidate"), {}),
    "arms_scored": (not_a_number("linear"), {}),
    "same_test_set": (on_other_rows("champion"), {}),
    "no_leaks": (leaking("best_champion", Leak(test_texts=1)), {}),
    "champion_known": (replace(WIN, champion_error="its folder is empty"), {}),
    "best_champion_known": (
        replace(WIN, references={"champion": WIN.references["champion"]}),
        {},
    ),
    "test_texts": (WIN, {"min_test_texts": 241}),
    "test_positives": (WIN, {"min_group_positives": 5000}),
    "test_looks": (replace(WIN, looks=0), {}),
    "bce_micro_f1": (replaced("bce", 0.96, never=("tax",)), {}),
    "bce_label_coverage": (replaced("candidate", 0.95, never=("vat",)), {}),
    "bce_labels_won_lost": (replaced("candidate", 0.95, never=("vat", "sso")), {}),
    "bce_label_coverage_two": (replaced("candidate", 0.95, never=("vat", "sso")), {}),
    "champion_micro_f1": (replaced("champion", 0.97), {}),
    "champion_label_coverage": (replaced("candidate", 0.95, never=LOSING), {}),
    "champion_group_f1:HEAD": (WIN, {"group_margin": -0.4}),
    "champion_group_f1:MEDIUM": (WIN, {"group_margin": -0.4}),
    "champion_group_f1:TAIL": (replaced("candidate", 0.95, never=("vat",)), {}),
    "best_champion_micro_f1": (replaced("best_champion", 0.97), {}),
    "best_champion_label_coverage": (replaced("candidate", 0.95, never=LOSING), {}),
    "best_champion_group_f1:HEAD": (WIN, {"group_margin": -0.4}),
    "best_champion_group_f1:MEDIUM": (WIN, {"group_margin": -0.4}),
    "best_champion_group_f1:TAIL": (replaced("candidate", 0.95, never=("vat",)), {}),
    "linear_micro_f1": (replaced("linear", 0.97), {}),
    "original_cohort_micro_f1": (replaced("bce", 0.99), {}),
    "floor_micro_f1": (WIN, {"floors": {"micro_f1": 0.999}}),
}


@pytest.mark.parametrize("name", FAILURES)
def test_each_rule_fails_when_its_ground_goes(name):
    inputs, changes = FAILURES[name]
    verdict = decide(inputs, policy(**{"floors": {"micro_f1": 0.5}, **changes}))
    rule = results(verdict)[name]
    assert not rule.passed
    if rule.severity == "block":
        assert verdict.decision == "block"
        assert rule.detail in verdict.reasons


def test_every_rule_of_a_verdict_has_a_failing_case():
    verdict = decide(WIN, policy(floors={"micro_f1": 0.5}))
    assert {rule.name for rule in verdict.rules} == set(FAILURES) - OPTIONAL


def test_details_say_value_threshold_and_unit():
    rules = results(decide(replaced("champion", 0.6, scored_labels=LABELS[:5]), POLICY))
    micro = rules["bce_micro_f1"]
    assert micro.value > micro.threshold == 0.0
    assert "of the BCE baseline: gain +" in micro.detail
    assert "95 % lower bound is +" in micro.detail
    assert "pt, needed above 0 pt." in micro.detail
    assert "on the 5 of 6 labels that both know" in rules["champion_micro_f1"].detail
    assert "needed above -1.00 pt" in rules["champion_micro_f1"].detail
    assert (rules["bce_label_coverage"].value, rules["bce_label_coverage"].threshold) == (6, 5)


def test_points_never_round_a_difference_away():
    assert [points(x) for x in (0.0, -0.0, 0.0123, -0.005, 0.00001)] == [
        "0 pt", "0 pt", "+1.23 pt", "-0.50 pt", "+0.001 pt",
    ]  # fmt: skip


# Against BCE


def test_equal_arms_do_not_beat_bce():
    same = replace(WIN, arms={**WIN.arms, "bce": WIN.arms["candidate"]})
    rules = results(decide(same, policy(training_deviation=0.0)))
    assert rules["bce_micro_f1"].value == 0.0
    assert not rules["bce_micro_f1"].passed


def test_a_gain_within_the_noise_does_not_beat_bce():
    inputs = replaced("bce", 0.92, seed=77)
    rule = results(decide(inputs, POLICY))["bce_micro_f1"]
    assert not rule.passed
    assert "gain +" in rule.detail  # better on the face of it


def test_min_gain_is_asked_of_the_lower_bound():
    bound = results(decide(WIN, POLICY))["bce_micro_f1"].value
    assert results(decide(WIN, policy(min_gain=bound - 1e-9)))["bce_micro_f1"].passed
    assert not results(decide(WIN, policy(min_gain=bound)))["bce_micro_f1"].passed


def test_all_labels_in_both_arms_is_coverage_enough():
    rules = results(decide(replaced("bce", 0.5), POLICY))
    assert rules["bce_label_coverage"].value == rules["bce_label_coverage"].threshold == 6
    assert rules["bce_label_coverage"].passed


def test_equal_coverage_short_of_all_is_not_enough():
    rules = results(decide(replaced("candidate", 0.95, never=("vat",)), POLICY))
    assert rules["bce_label_coverage"].value == rules["bce_label_coverage"].threshold == 5
    assert not rules["bce_label_coverage"].passed


def test_labels_won_and_lost_are_named():
    verdict = decide(replaced("candidate", 0.95, never=("vat", "sso")), POLICY)
    assert verdict.labels_won == ("tax",)
    assert verdict.labels_lost == ("sso", "vat")
    assert "1 labels won and 2 lost" in results(verdict)["bce_labels_won_lost"].detail


def test_the_deviation_of_training_widens_the_bound_against_bce_alone():
    sure, unsure = (results(decide(WIN, policy(training_deviation=d))) for d in (0.0, 0.05))
    gain = WIN.arms["candidate"].overall["micro_f1"] - WIN.arms["bce"].overall["micro_f1"]
    distance = np.hypot(gain - sure["bce_micro_f1"].value, 1.6448536 * 0.05)
    assert unsure["bce_micro_f1"].value == pytest.approx(gain - distance)
    for name in ("champion_micro_f1", "champion_group_f1:TAIL", "linear_micro_f1"):
        assert unsure[name].value == sure[name].value
    assert "5.00 pt by training again, configured for" in unsure["bce_micro_f1"].detail
    assert "training" not in sure["bce_micro_f1"].detail


@pytest.mark.parametrize("deviation", [float("nan"), float("inf"), 1.0])
def test_a_deviation_that_is_no_number_or_too_large_blocks(deviation):
    rule = results(decide(WIN, policy(training_deviation=deviation)))["bce_micro_f1"]
    assert not rule.passed


def test_the_deviation_is_the_default_for_the_baseline():
    assert (policy().deviation, policy(baseline="matched").deviation) == (0.005, 0.0015)
    measured = results(decide(WIN, POLICY))["bce_micro_f1"]
    same = results(decide(WIN, policy(training_deviation=0.005)))["bce_micro_f1"]
    assert measured.value == same.value
    assert "0.50 pt by training again, the default for this baseline" in measured.detail


@pytest.mark.parametrize("deviation", [float("nan"), float("inf"), -0.1])
def test_a_deviation_that_is_no_number_is_refused(deviation):
    with pytest.raises(ValidationError, match="training_deviation"):
        GatePolicy(training_deviation=deviation)


def test_the_same_combination_with_bce_can_be_the_baseline():
    """It takes the place of BCE in every rule, and nothing is asked of BCE any more."""
    inputs = with_matched(0.5, never=("tax",), inputs=with_arm(WIN, "bce", None))
    verdict = decide(inputs, policy(baseline="matched"))
    rules = results(verdict)
    assert verdict.decision == "promote", verdict.reasons
    assert not [name for name in rules if name.startswith("bce_")]
    assert "of the same combination with the BCE encoder" in rules["matched_micro_f1"].detail
    assert {"matched_label_coverage", "matched_labels_won_lost"} <= set(rules)
    assert "matched_not_worse" not in rules
    assert verdict.labels_won == ("tax",)
    weaker = decide(with_matched(0.96), policy(baseline="matched"))
    assert "matched_micro_f1" in {rule.name for rule in weaker.failed}


def test_a_missing_baseline_blocks_whichever_it_is():
    for name, inputs in (("matched", WIN), ("bce", with_arm(WIN, "bce", None))):
        verdict = decide(inputs, policy(baseline=name))
        assert verdict.decision == "block"
        assert "was not scored" in results(verdict)[f"{name}_micro_f1"].detail


def test_what_the_loss_costs_is_a_warning_and_decides_nothing():
    verdict = decide(with_matched(0.99), POLICY)
    (warning,) = verdict.warnings
    assert verdict.decision == "promote"
    assert warning.name == "matched_not_worse"
    assert warning.value < warning.threshold == 0.0
    assert "The loss costs something here" in verdict.reasons[-1]


@pytest.mark.parametrize(
    ("quality", "meaning"), [(0.5, "adds to the combination"), (0.95, "neither shown to add")]
)
def test_what_the_loss_adds_is_said_too(quality, meaning):
    rule = results(decide(with_matched(quality), POLICY))["matched_not_worse"]
    assert rule.passed
    assert meaning in rule.detail


def test_the_edge_of_the_warning_is_the_upper_end_of_the_interval():
    """At 0 nothing is shown; training's own noise is allowed for, as against any baseline."""
    same = with_arm(with_matched(0.5), "matched", WIN.arms["candidate"])
    rule = results(decide(same, POLICY))["matched_not_worse"]
    assert rule.value == pytest.approx(1.959964 * 0.0015)
    assert rule.passed


def test_an_arm_that_is_compared_must_be_as_sound_as_the_others():
    inputs = with_matched(0.5)
    leaky = replace(inputs, leaks={**inputs.leaks, "matched": Leak(test_ids=1)})
    assert {rule.name for rule in decide(leaky, POLICY).failed} == {"no_leaks"}


# Against the champions


def test_a_release_may_win_a_few_labels_back_but_not_show_a_loss():
    """Four labels lost and none won may be chance, p = 1/16; five are not."""
    for never, passed in ((LABELS[2:], True), (LABELS[1:], False)):
        rule = results(decide(replaced("candidate", 0.95, never=never), POLICY))[
            "champion_label_coverage"
        ]
        assert rule.passed is passed
        assert (rule.value, rule.threshold) == (0.5 ** len(never), 0.05)
        assert f"0 won and {len(never)} lost" in rule.detail


def test_refresh_lets_an_equal_candidate_pass_and_improve_does_not():
    champion = WIN.arms["candidate"]
    equal = replace(WIN, references={"champion": champion, "best_champion": champion})
    refresh = decide(equal, POLICY)
    improve = decide(equal, policy(champion_mode="improve"))
    assert (refresh.decision, refresh.champion_mode) == ("promote", "refresh")
    assert (improve.decision, improve.champion_mode) == ("block", "improve")
    assert "Micro-F1 (improve)" in improve.reasons[1]


def test_the_best_champion_is_not_judged_twice_when_it_is_the_champion():
    champion = WIN.references["champion"]
    same = replace(WIN, references={"champion": champion, "best_champion": champion})
    verdict = decide(same, POLICY)
    assert verdict.decision == "promote"
    names = results(verdict)
    assert not [name for name in names if name.startswith("best_champion_micro")]
    assert "itself the best" in names["best_champion_known"].detail


def test_margins_do_not_add_up_because_the_best_champion_is_asked_too():
    verdict = decide(replaced("best_champion", 0.99), POLICY)
    assert results(verdict)["champion_micro_f1"].passed
    assert not results(verdict)["best_champion_micro_f1"].passed
    assert verdict.decision == "block"


def test_any_other_release_can_be_a_reference():
    more = {**WIN.references, "2025-11": arm(TEST, "2025-11", 0.99, 8)}
    inputs = replace(WIN, references=more, leaks={**WIN.leaks, "2025-11": Leak()})
    rules = results(decide(inputs, POLICY))
    assert not rules["2025-11_micro_f1"].passed
    assert "release '2025-11'" in rules["2025-11_micro_f1"].detail


def test_a_champion_of_another_label_set_is_compared_on_the_shared_labels():
    """The candidate never gives vat; that cannot count where the champion does not know it."""
    candidate = arm(TEST, "candidate", 0.95, never=("vat",))
    champion = arm(TEST, "champion", 0.9, 4, scored_labels=LABELS[:5])
    inputs = with_arm(with_arm(WIN, "candidate", candidate), "champion", champion)
    rules = results(decide(inputs, POLICY))
    assert "0 won and 0 lost" in rules["champion_label_coverage"].detail
    assert "0 won and 1 lost" in rules["best_champion_label_coverage"].detail


def test_without_a_shared_label_nothing_can_be_checked():
    inputs = replaced("champion", 0.6, scored_labels=["retired"])
    verdict = decide(inputs, POLICY)
    rules = results(verdict)
    for name in ("micro_f1", "label_coverage", "group_f1:groups"):
        assert "no label in common" in rules[f"champion_{name}"].detail
    assert verdict.decision == "block"


def test_too_few_positives_on_the_shared_labels_cannot_be_checked():
    inputs = replaced("champion", 0.6, scored_labels=["vat"])
    rule = results(decide(inputs, POLICY))["champion_micro_f1"]
    assert not rule.passed
    assert "test positives, at least 40 are needed" in rule.detail


def test_small_groups_are_judged_with_the_next_one():
    shared = np.ones(6, dtype=bool)

    def slices(positives, minimum=100):
        found = merge_small_groups(GROUPS, shared, np.array(positives), minimum)
        return {name: np.flatnonzero(member).tolist() for name, member in found.items()}

    assert slices([80, 80, 60, 60, 50, 50]) == {"HEAD": [0, 1], "MEDIUM": [2, 3], "TAIL": [4, 5]}
    assert slices([80, 80, 60, 60, 5, 5]) == {"HEAD": [0, 1], "MEDIUM+TAIL": [2, 3, 4, 5]}
    assert slices([80, 80, 30, 30, 5, 5]) == {"HEAD+MEDIUM+TAIL": [0, 1, 2, 3, 4, 5]}
    assert slices([30, 30, 60, 60, 50, 50]) == {"HEAD+MEDIUM": [0, 1, 2, 3], "TAIL": [4, 5]}
    assert slices([9, 9, 9, 9, 50, 50]) == {"HEAD+MEDIUM+TAIL": [0, 1, 2, 3, 4, 5]}
    with pytest.raises(UncheckedError, match="60 test positives, at least 100"):
        slices([10] * 6)


def test_merged_groups_are_named_in_the_rule():
    rules = results(decide(WIN, policy(min_group_positives=100)))
    assert "champion_group_f1:MEDIUM+TAIL" in rules
    assert "F1 within MEDIUM and TAIL" in rules["champion_group_f1:MEDIUM+TAIL"].detail


def test_a_group_may_lose_no_more_than_its_margin():
    rule = results(decide(WIN, POLICY))["champion_group_f1:TAIL"]
    assert rule.threshold == -0.05
    tight = results(decide(WIN, policy(group_margin=-rule.value)))["champion_group_f1:TAIL"]
    assert not tight.passed  # the lower bound must be above minus the margin, not at it


# No champion


def test_a_first_release_is_said_aloud_and_the_other_rules_hold():
    verdict = decide(without_champion(WIN), POLICY)
    assert verdict.decision == "promote"
    assert verdict.first_release
    assert any(reason.startswith("First release") for reason in verdict.reasons)
    worse = decide(without_champion(replaced("bce", 0.99)), POLICY)
    assert worse.decision == "block"
    assert worse.first_release
    assert worse.reasons[0].startswith("Micro-F1")


@pytest.mark.parametrize(
    "changes",
    [
        {"champion_state": "unreadable", "references": {}},
        {"champion_state": "unreadable"},
        {"champion_state": "scored", "references": {}},
        {"champion_state": "none"},
        {"champion_state": "none", "references": {}, "champion_error": "connection refused"},
        {"champion_state": None, "references": {}},
        {"references": {"champion": None, "best_champion": None}},
    ],
)
def test_an_unreadable_or_contradicting_champion_blocks(changes):
    verdict = decide(replace(WIN, **changes), POLICY)
    assert verdict.decision == "block"
    assert not results(verdict)["champion_known"].passed
    assert not verdict.first_release


def test_the_reason_of_an_unreadable_champion_reaches_people():
    inputs = replace(WIN, champion_state="unreadable", champion_error="disk full", references={})
    assert any("disk full" in reason for reason in decide(inputs, POLICY).reasons)


# Linear


def test_the_linear_arm_can_be_off_warn_or_block():
    strong = replaced("linear", 0.99)
    off, warn, block = (decide(strong, policy(linear=s)) for s in ("off", "warn", "block"))
    assert "linear_micro_f1" not in results(off)
    assert (off.decision, warn.decision, block.decision) == ("promote", "promote", "block")
    assert warn.warnings[0].name == "linear_micro_f1"
    assert warn.reasons[-1].startswith("Warning: Micro-F1")
    assert off.reasons != warn.reasons


def test_a_missing_linear_arm_matters_unless_it_is_off():
    arms = {name: WIN.arms[name] for name in ("candidate", "bce")}
    inputs = replace(WIN, arms=arms)
    assert decide(inputs, policy(linear="off")).decision == "promote"
    assert decide(inputs, policy(linear="warn")).decision == "block"


def test_the_linear_margin():
    bound = results(decide(WIN, POLICY))["linear_micro_f1"].value
    inputs = replaced("linear", 0.99)
    bound = results(decide(inputs, POLICY))["linear_micro_f1"].value
    assert bound < 0
    assert results(decide(inputs, policy(linear_margin=1e-9 - bound)))["linear_micro_f1"].passed


# Floors


@pytest.mark.parametrize("metric", ["micro_f1", "ndcg_at_5", "labels_with_positives"])
def test_a_floor_is_kept_at_its_own_value(metric):
    value = WIN.arms["candidate"].overall[metric]
    assert decide(WIN, policy(floors={metric: value})).decision == "promote"
    assert decide(WIN, policy(floors={metric: value + 1e-6})).decision == "block"


@pytest.mark.parametrize("metric", ["mirco_f1", "hamming_loss", ""])
def test_a_floor_on_a_metric_that_has_none_fails(metric):
    verdict = decide(WIN, policy(floors={metric: 0.0}))
    rule = results(verdict)[f"floor_{metric}"]
    assert verdict.decision == "block"
    assert "Could not be checked" in rule.detail
    assert "micro_f1" in rule.detail


@pytest.mark.parametrize("floor", [float("nan"), float("inf"), float("-inf")])
def test_a_floor_that_is_no_number_fails(floor):
    assert decide(WIN, policy(floors={"micro_f1": floor})).decision == "block"
