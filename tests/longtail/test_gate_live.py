"""The live model comes first in every verdict, and one that stays although it is worse is named."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from gate_case import (
    LABELS,
    POLICY,
    WIN,
    arm,
    policy,
    replaced,
    results,
    with_arm,
    with_matched,
    without_champion,
)

from longtail.gate import RuleResult, decide, override, reject, with_rule

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
BLOCKED = decide(replaced("bce", 0.96), POLICY)


@pytest.mark.parametrize("inputs", [WIN, replaced("bce", 0.96)])
def test_both_decisions_begin_with_what_is_live(inputs):
    verdict = decide(inputs, POLICY)
    arms = {**inputs.arms, **inputs.references}
    shares = {name: f"{100 * arms[name].overall['micro_f1']:.1f} %" for name in arms}
    first = verdict.reasons[0]
    assert first == verdict.live == results(verdict)["live_model"].detail
    assert first.startswith(f"Live when judged: version 7, micro-F1 {shares['champion']}. ")
    assert f"Candidate {shares['candidate']} (+" in first
    assert first.endswith(f"BCE {shares['bce']}, linear {shares['linear']}.")
    low, high = first.partition("95 % interval ")[2].partition(")")[0].split(" to ")
    assert float(low.removesuffix(" pt")) < float(high.removesuffix(" pt"))


def test_a_block_although_the_live_model_is_worse_is_a_finding_with_the_command():
    (finding,) = (rule for rule in BLOCKED.warnings if rule.name == "live_model_outdated")
    assert BLOCKED.decision == "block"
    assert finding.detail == BLOCKED.outdated
    assert BLOCKED.reasons[1] == f"Warning: {finding.detail}"
    assert BLOCKED.reasons.count(f"Warning: {finding.detail}") == 1
    assert finding.value == results(BLOCKED)["champion_micro_f1"].value > finding.threshold
    assert finding.detail.endswith('longtail promote RUN --by NAME --reason "…"')


def test_the_command_takes_the_runs_directory_as_a_shell_does():
    verdict = decide(replace(replaced("bce", 0.96), run="my store/desk/runs/r1"), POLICY)
    assert "longtail promote 'my store/desk/runs/r1' --by NAME" in verdict.outdated


def test_a_promotion_leaves_no_outdated_model():
    verdict = decide(WIN, POLICY)
    assert results(verdict)["live_model_outdated"].passed
    assert verdict.outdated == ""


@pytest.mark.parametrize("quality", [0.95, 0.97])
def test_a_live_model_that_is_not_shown_to_be_worse_is_none_either(quality):
    verdict = decide(replaced("champion", quality), policy(champion_mode="improve"))
    assert verdict.decision == "block"
    assert "not shown to be worse" in results(verdict)["live_model_outdated"].detail
    assert verdict.outdated == ""


def test_the_edge_is_a_lower_bound_of_0():
    """A champion that decides as the candidate does is not worse by anything."""
    same = with_arm(replaced("bce", 0.96), "champion", WIN.arms["candidate"])
    rule = results(decide(same, POLICY))["live_model_outdated"]
    assert rule.value == rule.threshold == 0.0
    assert rule.passed


@pytest.mark.parametrize(
    "inputs",
    [
        without_champion(WIN),
        replace(WIN, champion_state="unreadable", champion_error="disk full", references={}),
        replace(WIN, references={"champion": None, "best_champion": None}),
    ],
)
def test_without_a_champion_that_was_compared_there_is_nothing_to_say(inputs):
    verdict = decide(inputs, POLICY)
    assert not {"live_model", "live_model_outdated"} & set(results(verdict))
    assert (verdict.live, verdict.outdated) == ("", "")


def test_all_arms_are_measured_on_the_labels_that_the_live_model_knows():
    champion = arm(WIN.test, "champion", 0.6, 4, scored_labels=LABELS[:2])
    verdict = decide(with_arm(WIN, "champion", champion), POLICY)
    assert "on the 2 of 6 labels that both know" in verdict.live
    counts = WIN.arms["linear"].label_counts[:2].sum(axis=0)
    found = 2 * counts[0] / (2 * counts[0] + counts[1] + counts[2])
    assert f"linear {100 * found:.1f} %" in verdict.live


def test_arms_that_were_not_scored_are_left_out_of_the_sentence():
    live = decide(with_arm(WIN, "linear", None), POLICY).live
    assert "BCE" in live
    assert "linear" not in live
    matched = decide(with_matched(0.5), policy(baseline="matched")).live
    assert "the same with the BCE encoder" in matched


def test_later_checks_and_persons_keep_the_live_model_in_sight():
    check = RuleResult(
        name="served_as_evaluated", passed=False, severity="block", value=1.0, threshold=0.0,
        detail="It serves something else.",
    )  # fmt: skip
    verdict = decide(WIN, POLICY)
    assert with_rule(verdict, check).reasons[:2] == (check.detail, verdict.live)
    assert reject(verdict, "Ada", "Not yet", NOON).reasons[1] == verdict.live
    assert override(BLOCKED, "Ada", "It is better", NOON).reasons[1] == BLOCKED.live
