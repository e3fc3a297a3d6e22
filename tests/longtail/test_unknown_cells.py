"""What nobody knows changes no number: truth and scores of unknown cells may be anything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from gate_case import ARMS, GROUPS, POLICY, Leak, make_test_set
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.config import CombinationSettings, LossSettings
from longtail.evaluation import evaluate, slice_counts
from longtail.gate import GateInputs, decide
from longtail.labels import support
from longtail.losses import build_loss
from longtail.models.combination import cooccurrence, cross_fit
from longtail.selection import on_validation
from longtail.thresholds import threshold_curve

HALF = np.full(6, 0.5)


def case(seed, share=0.7, texts=120):
    """A test set, scores of each arm, and both with the unknown cells spoilt."""
    rng = np.random.default_rng(seed)
    plain = make_test_set(seed, texts)
    y = plain.y.toarray()
    known = (rng.random(y.shape) < share) | y
    known[:, 0] = True
    test = replace(plain, known=known)
    spoilt = replace(
        plain, y=sp.csr_array(np.where(known, y, rng.random(y.shape) < 0.5)), known=known
    )
    scores = {name: (rng.random(y.shape) * 0.6 + 0.4 * y).astype(np.float32) for name in ARMS}
    other = {name: np.where(known, found, rng.random(y.shape)).astype(np.float32)
             for name, found in scores.items()}  # fmt: skip
    return (test, scores), (spoilt, other)


def judged(test, scores):
    arms = {name: evaluate(test, name, found, HALF, GROUPS) for name, found in scores.items()}
    inputs = GateInputs(
        test=test, groups=GROUPS, arms=arms, references={"champion": arms["bce"],
        "best_champion": arms["linear"]}, champion_state="scored", champion_error=None, looks=1,
        leaks=dict.fromkeys((*ARMS, "champion", "best_champion"), Leak()),
    )  # fmt: skip
    return arms, decide(inputs, POLICY)


@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 1.0))
@settings(max_examples=15, deadline=None)
def test_neither_a_metric_nor_the_verdict(seed, share):
    clean, spoilt = case(seed, share)
    (arms, verdict), (others, other) = judged(*clean), judged(*spoilt)
    assert clean[0].fingerprint == spoilt[0].fingerprint
    assert verdict == other
    member = np.eye(6, dtype=bool)
    for name in ARMS:
        assert arms[name].to_json() == others[name].to_json()
        assert arms[name].fingerprint == others[name].fingerprint
        counts = [slice_counts(test, found[name], member)
                  for test, found in ((clean[0], arms), (spoilt[0], others))]  # fmt: skip
        np.testing.assert_array_equal(*counts)


def test_the_mask_is_what_makes_the_difference():
    (test, scores), _ = case(1)
    _, masked = judged(test, scores)
    _, plain = judged(replace(test, known=None), scores)
    assert masked.rules != plain.rules
    assert test.fingerprint != replace(test, known=None).fingerprint


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_nothing_that_is_fitted_or_chosen_on_validation(seed):
    (test, scores), (spoilt, others) = case(seed)
    for name in ARMS:
        one, other = scores[name], others[name]
        assert on_validation(test.y, one, HALF, test.known) == on_validation(
            spoilt.y, other, HALF, test.known
        )
        assert threshold_curve(test.y, one, 9, test.known) == threshold_curve(
            spoilt.y, other, 9, test.known
        )
    assert on_validation(test.y, scores["bce"], HALF) != on_validation(
        test.y, scores["bce"], HALF, test.known
    )


@pytest.mark.parametrize("method", ["auto", "weighted sum"])
def test_nothing_that_is_combined_on_validation(method):
    """Truth alone: what sources say of an unknown cell may speak for the text's other labels."""
    (test, scores), (spoilt, _) = case(5, share=0.6, texts=200)
    evidence = {name: np.log(np.clip(found, 0.01, 0.99)) for name, found in scores.items()}
    settings = CombinationSettings(folds=3, min_texts=20)
    one, other = (
        cross_fit(evidence, y, test.known, test.units, support(test.y),
                  cooccurrence(y, test.known), settings, method=method)
        for y in (test.y, spoilt.y)
    )  # fmt: skip
    assert one.out_of_fold.tobytes() == other.out_of_fold.tobytes()
    assert (one.micro_f1, one.log_loss) == (other.micro_f1, other.log_loss)
    assert one.combination.weighted == other.combination.weighted


@pytest.mark.parametrize("name", ["bce", "db", "db-soft", "cb-focal"])
def test_a_loss_counts_each_labels_texts_where_it_is_known(name):
    (test, _), _ = case(2)
    half = test.known.copy()
    half[60:, 3] = test.y.toarray()[60:, 3]
    given_labels = {"support": support(test.y), "n_texts": 120, "y": test.y}
    loss = build_loss(LossSettings(name=name), **given_labels, known=half)
    whole = build_loss(LossSettings(name=name), **given_labels)
    if loss.spec.init_bias:
        n, total = support(test.y)[3], half[:, 3].sum()
        assert loss.bias[3].item() == pytest.approx(-loss.spec.init_bias * np.log(total / n - 1))
        assert loss.bias[3] != whole.bias[3]
    assert loss.bias[0] == whole.bias[0]
