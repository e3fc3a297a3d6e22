"""A cut per label: each fold's optimum, the mean over the folds, and the way back to the group."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from longtail.config import ThresholdSettings
from longtail.cuts import Scores
from longtail.label_cuts import SMOOTHING, cuts_of_labels
from longtail.labels import LabelGroups
from longtail.thresholds import decide, fit_thresholds

ONE_GROUP = LabelGroups(("HEAD", "HEAD"), (9, 5), (1, 2))
GROUP_CUT = 0.3


def smoothed_f1(y, decided):
    """(2·TP + a) / (given + positives + a), written out."""
    return (2 * (y & decided).sum() + SMOOTHING) / (y.sum() + decided.sum() + SMOOTHING)


def cuts(y, p, folds=10, group_cut=GROUP_CUT, known=None):
    """Cuts of the columns of dense labels."""
    return cuts_of_labels(sp.csr_array(y), p, np.full(y.shape[1], group_cut), known, folds)


def fit(y, p, known=None, **more):
    policy = ThresholdSettings(policy="label", **more)
    return fit_thresholds(sp.csr_array(y), p, ONE_GROUP, policy, known)


def noisy(seed, texts=400, labels=2, share=0.1):
    """Labels, and probabilities in which they can be seen."""
    draw = np.random.default_rng(seed)
    y = draw.random((texts, labels)) < share
    return y, expit(3.0 * y - 2.0 + draw.normal(size=y.shape)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=9))
def test_a_fold_has_the_best_of_all_cuts_by_the_smoothed_f1(cells):
    y = np.array([label for label, _ in cells])[:, None]
    p = np.array([step / 8 for _, step in cells], dtype=np.float32)[:, None]
    cut, found = Scores.of(y, p).cuts().best(SMOOTHING)
    between = [(a + b) / 2 for a, b in itertools.pairwise(sorted({*p.ravel().tolist()}))]
    best = max(smoothed_f1(y, p > other) for other in [-1.0, *between, 1.0])
    assert smoothed_f1(y, decide(p, cut)) == found
    assert found == pytest.approx(best, abs=1e-15)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=12),
    st.integers(2, 5),
    st.sampled_from([-0.5, 0.3, 1.0]),
)
def test_the_cut_is_the_mean_log_odds_of_the_folds(cells, folds, group_cut):
    y = np.array([label for label, _ in cells])[:, None]
    p = np.array([step / 8 for _, step in cells], dtype=np.float32)[:, None]
    shuffled = np.random.default_rng(0).permutation(len(y))
    dealt = np.concatenate([shuffled[y[shuffled, 0]], shuffled[~y[shuffled, 0]]])
    expected = []
    for fold in range(folds):
        rows = dealt[fold::folds]
        cut = Scores.of(y[rows], p[rows]).cuts().best(SMOOTHING)[0]
        expected.append(cut if 0 < cut < 1 else group_cut)
    found = cuts(y, p, folds, group_cut)[0]
    if set(expected) == {group_cut}:
        assert found == group_cut
    else:
        inside = np.clip(expected, 1e-12, 1 - 1e-12)
        assert found == pytest.approx(expit(np.mean(logit(inside))), rel=1e-9)


def test_a_label_that_needs_another_cut_than_its_group_gets_it():
    draw = np.random.default_rng(0)
    y = draw.random((600, 2)) < 0.2
    p = expit(2.5 * y - 1.25 + draw.normal(scale=0.8, size=y.shape) + [2.0, -3.0])
    fitted = fit(y, p.astype(np.float32))
    assert fitted.values[0] > fitted.by_group["HEAD"] > fitted.values[1]
    together = fit_thresholds(
        sp.csr_array(y), p.astype(np.float32), ONE_GROUP, ThresholdSettings(policy="group")
    )
    assert fitted.by_group == together.by_group
    assert fitted.validation_micro_f1 > together.validation_micro_f1 + 0.05


def test_the_fewer_positives_the_nearer_to_the_group():
    p = np.full((300, 3), 0.01, dtype=np.float32)
    y = np.zeros(p.shape, dtype=bool)
    for column, positives in enumerate((1, 5, 10)):
        y[:positives, column], p[:positives, column] = True, 0.99
    near, nearer, nearest = reversed(cuts(y, p).tolist())
    assert near == pytest.approx(0.5)
    assert near > nearer > nearest > GROUP_CUT


def test_a_label_with_too_few_positives_has_exactly_its_groups_cut():
    y, p = noisy(1)
    y[np.flatnonzero(y[:, 1])[3:], 1] = False
    enough = fit(y, p, min_label_positives=3)
    assert (enough.on_group_cut, enough.fallbacks.get("HEAD")) == ((), None)
    assert enough.values[1] != enough.by_group["HEAD"]
    few = fit(y, p, min_label_positives=4)
    assert few.on_group_cut == (1,)
    assert few.values[1] == few.by_group["HEAD"]
    assert few.values[0] == enough.values[0]
    assert few.fallbacks["HEAD"] == (
        "1 of 2 labels with fewer than 4 validation positives: they have the group's cut"
    )


def test_a_label_without_a_validation_positive_is_said_to_have_its_groups_cut():
    y, p = noisy(2)
    y[:, 0] = False
    fitted = fit(y, p)
    assert fitted.on_group_cut == (0,)
    assert fitted.values[0] == fitted.by_group["HEAD"]
    assert fitted.fallbacks["HEAD"].startswith("1 of 2 labels with no validation positive")


def test_positives_that_all_score_zero_leave_the_groups_cut():
    y, p = noisy(3)
    p[y[:, 0], 0] = 0.0
    assert cuts(y, p)[0] == GROUP_CUT
    fitted = fit(y, p)
    assert fitted.values[0] == fitted.by_group["HEAD"]
    assert 0.0 < fitted.values[1] < 1.0


def test_a_positive_far_down_the_ranking_is_given_up():
    p = np.linspace(0.1, 0.9, 100, dtype=np.float32)[:, None]
    y = np.zeros((100, 1), dtype=bool)
    y[10] = True
    plain, smoothed = (Scores.of(y, p).cuts().best(a)[0] for a in (0.0, SMOOTHING))
    assert plain < p[10] < smoothed == 1.0


def test_equal_scores_of_one_label():
    y = np.tile([[True], [False], [False]], (20, 1))
    p = np.full(y.shape, 0.5, dtype=np.float32)
    # per fold 2 of 6: everything (4 + 1)/(6 + 2 + 1) beats nothing 1/(2 + 1)
    assert cuts(y, p)[0] == pytest.approx(0.25)


def test_the_same_data_have_the_same_cuts_whatever_was_drawn_before():
    y, p = noisy(4)
    first = cuts(y, p)
    np.random.default_rng().random(5)
    assert np.array_equal(first, cuts(y.copy(), p.copy()))
    assert np.array_equal(first[1:], cuts(y[:, 1:], p[:, 1:]))


def test_unknown_cells_are_left_out_of_folds_and_positives():
    y, p = noisy(5)
    known = np.random.default_rng(6).random(y.shape) < 0.6
    known[:, 1] &= ~y[:, 1]
    clean = fit(y, p, known)
    spoilt = fit(np.where(known, y, ~y), np.where(known, p, np.float32(np.nan)), known)
    assert clean.to_json() == spoilt.to_json()
    assert clean.on_group_cut == (1,)
    assert clean.values[0] != fit(y, p).values[0]


def test_a_label_that_no_text_is_known_to_lack_has_its_groups_cut():
    y, p = noisy(5)
    known = np.ones(y.shape, dtype=bool)
    known[:, 1] = y[:, 1]
    fitted = fit(y, p, known)
    assert fitted.on_group_cut == (1,)
    assert fitted.values[1] == fitted.by_group[ONE_GROUP.of_label[1]]
    assert "or no known negative" in fitted.fallbacks[ONE_GROUP.of_label[1]]


def test_labels_stored_as_false_are_no_positives():
    y, p = noisy(7)
    stored = sp.csr_array(np.ones(y.shape, dtype=bool))
    stored.data[:] = y.ravel()
    group_cuts = np.full(2, GROUP_CUT)
    assert np.array_equal(cuts_of_labels(stored, p, group_cuts, None, 10), cuts(y, p))
