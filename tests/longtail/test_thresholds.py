"""Thresholds against brute force, and the corners where cuts go wrong."""

import itertools
import json
import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from longtail.config import GroupSettings, ThresholdSettings
from longtail.errors import DataError
from longtail.labels import LabelGroups, group_labels
from longtail.thresholds import (
    GRID,
    Thresholds,
    best_global_threshold,
    decide,
    fit_thresholds,
    threshold_curve,
)

GROUPS = LabelGroups(("HEAD", "MEDIUM", "MEDIUM", "TAIL"), (9, 5, 4, 1), (2, 6))
POLICIES = ("global", "grid", "group", "group_joint", "label")


def micro_f1(y, decided, known=None):
    """F1 over the known cells, written out."""
    known = np.ones(y.shape, dtype=bool) if known is None else known
    hit = int((y & decided & known).sum())
    denominator = int((y & known).sum()) + int((decided & known).sum())
    return 2 * hit / denominator if denominator else 0.0


def all_cuts(scores):
    """One cut in every gap between the scores, below them all and above them all."""
    distinct = sorted({float(score) for score in scores})
    return [-1.0, *[(a + b) / 2 for a, b in itertools.pairwise(distinct)], 1.0]


@st.composite
def tables(draw, rows=6, columns=4, steps=8):
    """Labels, probabilities with many ties (0 and 1 among them), and a mask or None."""
    n = draw(st.integers(1, rows))
    cells = n * columns
    y = draw(st.lists(st.booleans(), min_size=cells, max_size=cells))
    p = draw(st.lists(st.integers(0, steps), min_size=cells, max_size=cells))
    mask = draw(st.none() | st.lists(st.booleans(), min_size=cells, max_size=cells))
    probabilities = (np.array(p, dtype=np.float32) / steps).reshape(n, columns)
    known = None if mask is None else np.array(mask).reshape(n, columns)
    return np.array(y).reshape(n, columns), probabilities, known


def fit(y, probabilities, policy, known=None, groups=GROUPS, **more):
    return fit_thresholds(
        sp.csr_array(y), probabilities, groups, ThresholdSettings(policy=policy, **more), known
    )


# --- exactness ---------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(tables())
def test_global_is_the_best_of_all_cuts(table):
    y, p, known = table
    threshold, f1 = best_global_threshold(sp.csr_array(y), p, known)
    best = max(micro_f1(y, p > cut, known) for cut in all_cuts(p.ravel()))
    assert f1 == best
    assert micro_f1(y, decide(p, threshold), known) == f1


@settings(max_examples=50, deadline=None)
@given(tables())
def test_of_equally_good_cuts_the_highest_is_taken(table):
    y, p, known = table
    threshold, f1 = best_global_threshold(y, p, known)
    seen = p.ravel() if known is None else p[known]
    higher = [cut for cut in all_cuts(seen) if (seen > cut).sum() < (seen > threshold).sum()]
    assert all(micro_f1(y, p > cut, known) < f1 for cut in higher)


def cuts_with(overall, columns, cut):
    """The overall cut everywhere but in some columns."""
    values = np.full(4, overall)
    values[columns] = cut
    return values


def weak_tail(tail_score):
    """Two good labels, two whose one positive stands among or below two hundred negatives."""
    rng = np.random.default_rng(0)
    y = np.zeros((200, 4), dtype=bool)
    y[:100, 0] = y[100:, 1] = True
    y[7, 3] = True
    p = rng.uniform(0.1, 0.3, (200, 4)).astype(np.float32)
    p[y] = 0.9
    p[7, 3] = tail_score
    return y, p


@pytest.mark.parametrize("policy", ["group", "label"])
def test_a_group_that_cannot_be_told_is_not_given_to_every_text(policy):
    y, p = weak_tail(0.05)
    fitted = fit(y, p, policy)
    assert fitted.by_group["TAIL"] == best_global_threshold(y, p)[0]
    assert (
        "cost 32.9 points of overall micro-F1, more than 1: the global cut"
        in (fitted.fallbacks["TAIL"])
    )
    assert fitted.validation_micro_f1 > 0.99


def test_a_group_may_cost_what_the_setting_allows():
    y, p = weak_tail(0.05)
    assert fit(y, p, "group", max_micro_f1_cost=0.5).by_group["TAIL"] < 0.05
    y, p = weak_tail(0.2999)  # among the highest negatives: cheap
    fitted = fit(y, p, "group")
    assert (fitted.by_group["TAIL"] < 0.2999, "TAIL" in fitted.fallbacks) == (True, False)


@settings(max_examples=40, deadline=None)
@given(tables(steps=4))
def test_group_is_the_best_of_each_group(table):
    y, p, known = table
    fitted = fit(y, p, "group", known)
    for group in ("HEAD", "MEDIUM", "TAIL"):
        columns = GROUPS.columns(group)
        part = None if known is None else known[:, columns]
        cut = fitted.by_group[group]
        overall = best_global_threshold(y, p, known)[0]
        if "no validation positives" in fitted.fallbacks.get(group, ""):
            assert cut == overall
            continue
        if group in fitted.fallbacks:
            assert (
                micro_f1(y, p > overall, known)
                - micro_f1(y, p > cuts_with(overall, columns, cut), known)
                <= 0.01
            )
            continue
        best = max(micro_f1(y[:, columns], p[:, columns] > c, part) for c in all_cuts(p.ravel()))
        assert micro_f1(y[:, columns], p[:, columns] > cut, part) == best


@settings(max_examples=40, deadline=None)
@given(tables(rows=5, steps=4))
def test_group_joint_is_the_best_of_all_combinations(table):
    y, p, known = table
    fitted = fit(y, p, "group_joint", known)
    candidates = [
        [fitted.by_group[group]] if group in fitted.fallbacks else all_cuts(p.ravel())
        for group in ("HEAD", "MEDIUM", "TAIL")
    ]
    best = max(
        micro_f1(y, p > np.array([head, medium, medium, tail]), known)
        for head, medium, tail in itertools.product(*candidates)
    )
    assert fitted.validation_micro_f1 == best


@settings(max_examples=40, deadline=None)
@given(tables(steps=30))
def test_grid_is_the_best_of_the_articles_cuts(table):
    y, p, known = table
    fitted = fit(y, p, "grid", known)
    best = max(micro_f1(y, p.astype(np.float64) > cut, known) for cut in GRID)
    assert fitted.validation_micro_f1 == best
    assert (fitted.values == fitted.values[0]).all()
    assert fitted.values[0] in GRID


@settings(max_examples=40, deadline=None)
@given(tables(), st.sampled_from(POLICIES))
def test_validation_f1_is_that_of_the_decisions(table, policy):
    y, p, known = table
    fitted = fit(y, p, policy, known)
    assert fitted.values.dtype == np.float64
    assert fitted.validation_micro_f1 == micro_f1(y, decide(p, fitted.values), known)
    expected = np.array([fitted.by_group[group] for group in GROUPS.of_label])
    columns = list(fitted.on_group_cut) if policy == "label" else list(range(4))
    assert np.array_equal(fitted.values[columns], expected[columns])


@settings(max_examples=40, deadline=None)
@given(tables())
def test_joint_is_never_worse_than_global_or_group(table):
    y, p, known = table
    f1 = {policy: fit(y, p, policy, known).validation_micro_f1 for policy in POLICIES}
    assert f1["group_joint"] >= max(f1["global"], f1["group"])
    assert f1["global"] >= f1["grid"]


def test_larger_random_data_agrees_with_scikit_learn():
    draw = np.random.default_rng(5)
    y = draw.random((200, 30)) < 0.1
    p = np.clip(0.4 * y + draw.random((200, 30)) * 0.6, 0, 1).astype(np.float32)
    threshold, f1 = best_global_threshold(sp.csr_array(y), p)
    assert f1 == pytest.approx(f1_score(y, decide(p, threshold), average="micro"), abs=1e-15)
    coarse = max(f1_score(y, p > t, average="micro") for t in np.linspace(0, 1, 200))
    assert f1 >= coarse


def test_unknown_cells_change_nothing_whatever_they_hold():
    draw = np.random.default_rng(1)
    y = draw.random((50, 4)) < 0.3
    p = draw.random((50, 4)).astype(np.float32)
    known = draw.random((50, 4)) < 0.6
    spoilt_y = np.where(known, y, ~y)
    spoilt_p = np.where(known, p, np.float32(np.nan))
    for policy in POLICIES:
        clean, spoilt = fit(y, p, policy, known), fit(spoilt_y, spoilt_p, policy, known)
        assert clean.to_json() == spoilt.to_json()


# --- where cuts go wrong -----------------------------------------------------------------------


def test_a_cut_between_neighbouring_float32_numbers_separates_them():
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    y, p = np.array([[True], [False]]), np.array([[high], [low]])
    threshold, f1 = best_global_threshold(y, p)
    assert f1 == 1.0
    assert float(low) < threshold < float(high)
    assert decide(p, threshold).tolist() == [[True], [False]]
    assert decide(p, [threshold]).tolist() == [[True], [False]]


def test_a_cut_between_neighbouring_float64_numbers_separates_them():
    for low in (0.3, np.nextafter(0.3, 1)):
        high = np.nextafter(low, 1)
        y, p = np.array([[True], [False]]), np.array([[high], [low]])
        threshold, f1 = best_global_threshold(y, p)
        assert f1 == 1.0
        assert decide(p, threshold).tolist() == [[True], [False]]


def test_cuts_lie_midway():
    y = np.array([[True, False, False, True]])
    p = np.array([[0.75, 0.25, 0.125, 0.5]], dtype=np.float32)
    assert best_global_threshold(y, p) == (0.375, 1.0)


def test_equal_scores_are_given_together():
    y = np.array([[True, False, True, False]])
    p = np.full((1, 4), 0.5, dtype=np.float32)
    threshold, f1 = best_global_threshold(y, p)
    assert (threshold, f1) == (0.25, 2 / 3)


def test_a_positive_with_score_zero_can_still_be_given():
    threshold, f1 = best_global_threshold(np.array([[True]]), np.zeros((1, 1), np.float32))
    assert (threshold, f1) == (-0.5, 1.0)


def test_a_positive_with_score_one_can_be_given():
    y, p = np.array([[True, False]]), np.array([[1.0, np.nextafter(1, 0)]])
    threshold, f1 = best_global_threshold(y, p)
    assert f1 == 1.0
    assert decide(p, threshold).tolist() == [[True, False]]


@pytest.mark.parametrize("shape", [(3, 4), (0, 4)])
@pytest.mark.parametrize("policy", ["global", "group", "group_joint", "label"])
def test_without_positives_nothing_is_given(policy, shape):
    y, p = np.zeros(shape, dtype=bool), np.ones(shape, dtype=np.float32)
    fitted = fit(y, p, policy)
    assert fitted.values.tolist() == [1.0] * 4
    assert fitted.validation_micro_f1 == 0.0
    assert not decide(p, fitted.values).any()
    assert best_global_threshold(y, p) == (1.0, 0.0)


def test_without_positives_the_grid_is_at_its_highest_cut():
    fitted = fit(np.zeros((2, 4), dtype=bool), np.full((2, 4), 0.5, np.float32), "grid")
    assert fitted.values.tolist() == [0.64] * 4


@pytest.mark.parametrize("policy", ["group", "group_joint", "label"])
def test_a_group_without_positives_falls_back_to_the_global_cut(policy):
    y = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]], dtype=bool)
    p = np.array([[0.9, 0.6, 0.1, 0.7], [0.8, 0.2, 0.5, 0.1], [0.3, 0.1, 0.1, 0.2]], np.float32)
    fitted = fit(y, p, policy)
    assert set(fitted.fallbacks) == {"TAIL"}
    assert "no validation positives" in fitted.fallbacks["TAIL"]
    assert fitted.by_group["TAIL"] == best_global_threshold(y, p)[0]


def test_a_group_without_labels_is_said_to_fall_back():
    groups = group_labels(np.array([3, 3]), GroupSettings())
    y = np.array([[True, False]])
    fitted = fit(y, np.array([[0.9, 0.1]], np.float32), "group", groups=groups)
    assert set(fitted.by_group) == {"HEAD", "MEDIUM", "TAIL"}
    assert set(fitted.fallbacks) == {"MEDIUM", "TAIL"}
    assert fitted.validation_micro_f1 == 1.0


def test_nan_and_what_is_no_probability_are_refused():
    y = np.array([[True, False]])
    with pytest.raises(DataError, match="1 of 2 probabilities are NaN"):
        best_global_threshold(y, np.array([[0.5, np.nan]], np.float32))
    with pytest.raises(DataError, match=r"must lie in \[0, 1\], found -2 to 0\.5"):
        best_global_threshold(y, np.array([[0.5, -2.0]], np.float32))
    with pytest.raises(DataError, match=r"found 0\.5 to inf"):
        best_global_threshold(y, np.array([[0.5, math.inf]], np.float32))


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_refuses_nan(policy):
    p = np.full((3, 4), 0.5, np.float32)
    p[1, 2] = np.nan
    with pytest.raises(DataError, match="1 of 12 probabilities are NaN"):
        fit(np.eye(3, 4, dtype=bool), p, policy)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="must have one shape"):
        best_global_threshold(np.ones((2, 2), bool), np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match="must have one shape"):
        best_global_threshold(
            np.ones((2, 2), bool), np.ones((2, 2), np.float32), np.ones((2, 1), bool)
        )


# --- the curve, and JSON -----------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(tables(), st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_curve_is_scikit_learns(table, points):
    y, p, known = table
    curve = threshold_curve(sp.csr_array(y), p, points, known)
    seen = np.ones(y.shape, bool) if known is None else known
    truth = y[seen]
    for k, cut in enumerate(points):
        given = p[seen].astype(np.float64) > cut
        scores = [curve[f"micro_{name}"][k] for name in ("precision", "recall", "f1")]
        expected = [
            metric(truth, given, zero_division=0) if len(truth) else 0.0
            for metric in (precision_score, recall_score, f1_score)
        ]
        assert scores == pytest.approx(expected, abs=1e-12)
    assert curve["threshold"] == points


def test_curve_points_are_evenly_spaced():
    curve = threshold_curve(np.eye(2, dtype=bool), np.eye(2, dtype=np.float32))
    assert len(curve["threshold"]) == 99
    assert curve["threshold"] == pytest.approx([k / 100 for k in range(1, 100)])
    assert {len(values) for values in curve.values()} == {99}


def test_json_keeps_every_digit():
    draw = np.random.default_rng(0)
    y, p = draw.random((20, 4)) < 0.4, draw.random((20, 4)).astype(np.float32)
    y[:, 3] = False
    fitted = fit(y, p, "label")
    back = Thresholds.from_json(json.loads(json.dumps(fitted.to_json())))
    assert np.array_equal(back.values, fitted.values)
    assert back.to_json() == fitted.to_json()
    assert back.on_group_cut == (3,)


def test_json_without_the_labels_that_fell_back_is_still_read():
    old = fit(np.eye(4, dtype=bool), np.eye(4, dtype=np.float32), "group").to_json()
    del old["on_group_cut"]
    assert Thresholds.from_json(old).on_group_cut == ()
