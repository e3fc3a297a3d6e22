"""The ladder: what each step adds, against a bootstrap text by text; it never blocks."""

import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from gate_case import GROUPS, POLICY, TEST, WIN, arm, not_a_number, on_other_rows, results
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from longtail.evaluation import TestSet, evaluate
from longtail.gate import Verdict, decide
from longtail.gate import ladder as module
from longtail.gate.ladder import Estimate, climb
from longtail.labels import LabelGroups
from longtail.metrics import f1, label_counts, label_coverage
from longtail.significance import drawn_weights

STEPS = (
    ("half", "BERT + BCE, cut at 0.5", arm(TEST, "half", 0.4, 7, never=("tax", "vat"))),
    ("bce", "tuned thresholds", WIN.arms["bce"]),
    ("candidate", "the learned combination", WIN.arms["candidate"]),
)
ASKED = {"draws": 200, "seed": 3, "confidence": 0.95}


def naive(test, arms, draws, seed):
    """Micro-F1, macro-F1 and coverage of every draw: the drawn texts put together anew."""
    _, unit = np.unique(test.units, return_inverse=True)
    y = test.y.toarray()
    found = []
    (weights,) = drawn_weights(unit.max() + 1, draws, seed)
    for row in weights.astype(int):
        texts = np.repeat(np.arange(len(unit)), row[unit])
        found.append([])
        for one in arms:
            counts = label_counts(y[texts], one.decided.toarray()[texts])
            measures = float(f1(counts.sum(axis=0))), f1(counts).mean(), label_coverage(counts)
            found[-1].append(measures)
    return np.array(found)


def interval(drawn, value=None):
    """Percentiles; with a value, moved so that the draws' mean comes to lie on it."""
    shift = 0.0 if value is None else value - drawn.mean()
    low, high = (
        np.quantile(drawn, q, method=m) + shift for q, m in ((0.025, "lower"), (0.975, "higher"))
    )
    return (low, high) if value is None else (max(0.0, low), min(1.0, high))


@pytest.mark.parametrize("per_unit", [1, 3])
def test_the_ladder_is_that_of_a_naive_bootstrap(per_unit):
    test = replace(TEST, units=np.arange(len(TEST.ids))[::-1] // per_unit)
    drawn = naive(test, [one for _, _, one in STEPS], 200, 3)
    for at, step in enumerate(climb(test, STEPS, **ASKED)):
        overall = STEPS[at][2].overall
        for name, measure in (("micro_f1", 0), ("macro_f1", 1), ("label_coverage", 2)):
            found = getattr(step, name)
            moved = found.value if measure else None
            assert found.value == pytest.approx(overall[name])
            assert (found.low, found.high) == pytest.approx(interval(drawn[:, at, measure], moved))
            assert found.low <= found.value <= found.high
        if at:
            gain = drawn[:, at, 0] - drawn[:, at - 1, 0]
            assert (step.gain_micro_f1.low, step.gain_micro_f1.high) == pytest.approx(
                interval(gain)
            )
        else:
            assert step.gain_micro_f1 is None


def test_gains_add_up_to_the_whole():
    steps = climb(TEST, STEPS, **ASKED)
    whole = steps[-1].micro_f1.value - steps[0].micro_f1.value
    assert sum(step.gain_micro_f1.value for step in steps[1:]) == pytest.approx(whole)
    assert [(step.key, step.name) for step in steps] == [(key, name) for key, name, _ in STEPS]


def test_equal_steps_gain_nothing_for_sure():
    same = (STEPS[0], ("again", "the same once more", STEPS[0][2]))
    assert climb(TEST, same, **ASKED)[1].gain_micro_f1 == Estimate(value=0, low=0, high=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 1 << 20), st.integers(0, 99))
def test_the_memory_allowed_changes_no_number(size, seed):
    asked = {**ASKED, "draws": 30, "seed": seed}
    whole = climb(TEST, STEPS, **asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_BYTES", size)
        assert climb(TEST, STEPS, **asked) == whole


def test_many_labels_and_texts_take_seconds_and_little_memory():
    rng = np.random.default_rng(0)
    texts, labels, steps = 3000, 622, 8
    share = np.minimum(0.4, 1.0 / np.arange(1, labels + 1))
    y = rng.random((texts, labels)) < share
    test = TestSet(
        tuple(map(str, range(texts))), np.arange(texts), np.zeros(texts, int), sp.csr_array(y),
        tuple(map(str, range(labels))),
    )  # fmt: skip
    groups = LabelGroups(("HEAD",) * labels, (9,) * labels, (1, 2))
    # The scores need not be good, and one evaluation is as dear as the next.
    one = evaluate(
        test, "a", np.where(y, 0.8, 0.1).astype(np.float32), np.full(labels, 0.5), groups
    )
    given_steps = [(str(at), f"step {at}", one) for at in range(steps)]
    tracemalloc.start()
    began = time.perf_counter()
    assert len(climb(test, given_steps, draws=1000, seed=0, confidence=0.95)) == steps
    spent, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spent < 30  # half a second on one idle core
    assert peak < 300 << 20


@pytest.mark.parametrize(
    ("steps", "changes", "said"),
    [
        ((("x", "the odd one", not_a_number("bce").arms["bce"]),), {}, "the odd one has a prob"),
        ((("x", "the odd one", on_other_rows("bce").arms["bce"]),), {}, "other test rows"),
        (STEPS, {"draws": 0}, "0 draws"),
        (STEPS, {"confidence": 1.0}, "confidence of 1"),
        (STEPS, {"confidence": float("nan")}, "confidence of nan"),
    ],
)
def test_what_cannot_be_measured_is_an_error(steps, changes, said):
    with pytest.raises(ValueError, match=said):
        climb(TEST, steps, **{**ASKED, **changes})


def test_no_steps_are_no_ladder():
    assert climb(TEST, (), **ASKED) == ()


def test_an_estimate_is_a_number():
    with pytest.raises(ValidationError):
        Estimate(value=float("nan"), low=0, high=1)


# In the verdict


def test_the_verdict_carries_the_ladder_and_says_it():
    verdict = decide(replace(WIN, ladder=STEPS), POLICY)
    rule = results(verdict)["ladder"]
    assert [step.key for step in verdict.ladder] == ["half", "bce", "candidate"]
    assert rule.severity == "info"
    assert rule.detail.startswith("From BERT + BCE, cut at 0.5 to the learned combination micro-F1")
    assert "tuned thresholds +" in rule.detail
    assert "the loss adds and what the combination adds are apart" in rule.detail
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    assert decide(replace(WIN, ladder=STEPS), POLICY) == verdict


def test_without_steps_there_is_no_ladder_and_no_rule():
    verdict = decide(WIN, POLICY)
    assert verdict.ladder == ()
    assert "ladder" not in results(verdict)


def test_one_step_is_no_gain():
    verdict = decide(replace(WIN, ladder=STEPS[:1]), POLICY)
    assert "no gain to take apart" in results(verdict)["ladder"].detail


@pytest.mark.parametrize(
    "ladder",
    [
        None,
        7,
        [("half",)],
        [("half", "BERT", None)],
        [("", "", STEPS[0][2])],
        [("half", "BERT", evaluate(TEST, "b", np.full(TEST.y.shape, np.nan), np.ones(6), GROUPS))],
    ],
)
@pytest.mark.parametrize("inputs", [WIN, replace(WIN, looks=0)])
def test_a_ladder_that_cannot_be_measured_decides_nothing(inputs, ladder):
    without, verdict = decide(inputs, POLICY), decide(replace(inputs, ladder=ladder), POLICY)
    assert verdict.ladder == ()
    assert "could not be measured" in results(verdict)["ladder"].detail
    assert (verdict.decision, verdict.reasons) == (without.decision, without.reasons)
    assert verdict.rules[:-1] == without.rules
