import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import f1_score

from longtail.evaluation import TestSet, evaluate, slice_counts
from longtail.labels import LabelGroups
from longtail.storage import finite

LABELS = ("billing", "login", "refund", "sso", "tax", "vat")
GROUPS = LabelGroups(
    ("HEAD", "HEAD", "MEDIUM", "MEDIUM", "TAIL", "TAIL"), (90, 80, 20, 18, 3, 2), (10, 50)
)
HALF = np.full(6, 0.5)


def make_test_set(seed=0, texts=60, known=None):
    rng = np.random.default_rng(seed)
    y = rng.random((texts, 6)) < np.array([0.5, 0.4, 0.2, 0.2, 0.1, 0.05])
    y[0, :] = True
    return TestSet(
        ids=tuple(f"t{i}" for i in range(texts)),
        units=np.arange(texts) // 2,
        cohort=np.where(np.arange(texts) < texts // 2, 0, 3),
        y=sp.csr_array(y),
        labels=LABELS,
        known=known,
    )


def scores_for(test, seed=1):
    rng = np.random.default_rng(seed)
    return (0.6 * rng.random(test.y.shape) + 0.4 * test.y.toarray()).astype(np.float32)


def test_overall_and_groups_match_scikit_learn():
    test = make_test_set()
    scores = scores_for(test)
    found = evaluate(test, "bce", scores, HALF, GROUPS)
    y, decided = test.y.toarray(), scores > 0.5
    assert found.overall["micro_f1"] == pytest.approx(f1_score(y, decided, average="micro"))
    assert found.overall["macro_f1"] == pytest.approx(f1_score(y, decided, average="macro"))
    assert found.overall["samples_f1"] == pytest.approx(
        f1_score(y, decided, average="samples", zero_division=0)
    )
    medium = f1_score(y[:, 2:4], decided[:, 2:4], average="micro", zero_division=0)
    assert found.groups["MEDIUM"]["micro_f1"] == pytest.approx(medium)
    assert found.groups["TAIL"]["test_positives"] == y[:, 4:].sum()
    half = f1_score(y[:30], decided[:30], average="micro")
    assert found.original_cohort["micro_f1"] == pytest.approx(half)
    assert found.finite
    assert found.in_range


def test_coverage_at_one_and_at_two_true_positives_and_over_all_labels():
    y = np.zeros((4, 6), dtype=bool)
    y[:3, 0] = y[0, 1] = y[1, 2] = True
    test = TestSet(tuple("abcd"), np.arange(4), np.zeros(4, int), sp.csr_array(y), LABELS)
    scores = np.where(y, 0.9, 0.1)
    scores[1, 2] = 0.1
    overall = evaluate(test, "bce", scores, HALF, GROUPS).overall
    assert overall["label_coverage"] == pytest.approx(2 / 3)
    assert overall["label_coverage_two"] == pytest.approx(1 / 3)
    assert overall["label_coverage_all"] == pytest.approx(2 / 6)
    assert (overall["recognised_labels"], overall["labels_with_positives"]) == (2, 3)


def test_a_label_is_given_strictly_above_its_own_threshold():
    test = make_test_set()
    scores = np.full(test.y.shape, 0.3, dtype=np.float64)
    thresholds = np.array([0.3, 0.29, 0.3, 0.9, 0.0, 0.31])
    found = evaluate(test, "bce", scores, thresholds, GROUPS)
    assert found.decided.toarray().any(axis=0).tolist() == [False, True, False, False, True, False]


def test_counts_per_text_group_and_label_agree():
    test = make_test_set()
    found = evaluate(test, "bce", scores_for(test), HALF, GROUPS)
    assert found.text_counts.shape == (60, 3, 3)
    assert found.text_counts.sum(axis=(0, 1)).tolist() == found.label_counts.sum(axis=0).tolist()
    member = np.array([[g == name for name in ("HEAD", "MEDIUM", "TAIL")] for g in GROUPS.of_label])
    np.testing.assert_array_equal(slice_counts(test, found, member), found.text_counts)


def test_zero_labels_leave_their_group_in_table_2_only():
    test = make_test_set()
    never = np.array([0.5, 0.5, 0.5, 1.0, 1.0, 0.5])  # sso and tax are never given
    found = evaluate(test, "bce", scores_for(test), never, GROUPS)
    positives = test.y.toarray().sum(axis=0)
    assert found.table2["ZERO"] == {
        "labels": 2,
        "test_positives": positives[3] + positives[4],
        "mean_test_support": (positives[3] + positives[4]) / 2,
    }
    assert [found.table2[g]["labels"] for g in ("HEAD", "MEDIUM", "TAIL")] == [2, 1, 1]
    assert found.groups["TAIL"]["labels"] == 2
    assert found.table2["TAIL"]["micro_f1"] > found.groups["TAIL"]["micro_f1"]
    assert found.table2["MEDIUM"]["mean_test_support"] == positives[2]


def test_a_label_without_test_positives_is_no_zero_label():
    test = make_test_set()
    y = test.y.toarray()
    y[:, 5] = False
    found = evaluate(replace(test, y=sp.csr_array(y)), "bce", scores_for(test), np.ones(6), GROUPS)
    assert found.table2["ZERO"]["labels"] == 5
    assert found.table2["TAIL"]["labels"] == 1
    assert found.overall["labels_with_positives"] == 5


def test_labels_the_arm_does_not_know_count_as_never_given():
    test = make_test_set()
    scores = scores_for(test)
    scores[:, 2] = np.nan  # whatever stands there
    found = evaluate(test, "champion", scores, np.zeros(6), GROUPS, scored_labels=LABELS[:2])
    assert found.scored.tolist() == [True, True, False, False, False, False]
    assert not found.decided.toarray()[:, 2:].any()
    assert found.finite
    assert found.overall["recognised_labels"] == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_probability_that_is_no_number_leaves_no_metric_standing(bad):
    test = make_test_set()
    scores = scores_for(test)
    scores[5, 1] = bad
    found = evaluate(test, "bce", scores, HALF, GROUPS)
    assert not found.finite
    assert not found.in_range
    assert all(np.isnan(value) for value in found.overall.values())
    assert np.isnan(found.groups["HEAD"]["micro_f1"])
    assert found.to_json()["overall"]["micro_f1"] is None


def test_a_threshold_that_is_no_number_is_not_finite():
    test = make_test_set()
    thresholds = HALF.copy()
    thresholds[2] = np.nan
    assert not evaluate(test, "bce", scores_for(test), thresholds, GROUPS).finite


@pytest.mark.parametrize("bad", [-0.01, 1.01])
def test_a_score_outside_zero_and_one_is_seen(bad):
    test = make_test_set()
    scores = scores_for(test)
    scores[5, 1] = bad
    found = evaluate(test, "linear", scores, HALF, GROUPS)
    assert found.finite
    assert not found.in_range


def test_unknown_cells_do_not_count():
    known = np.random.default_rng(3).random((60, 6)) < 0.6
    test = make_test_set(known=known)
    scores = scores_for(test)
    found = evaluate(test, "bce", scores, HALF, GROUPS)
    flipped = np.where(known, test.y.toarray(), ~test.y.toarray())
    other = replace(test, y=sp.csr_array(flipped))
    again = evaluate(other, "bce", np.where(known, scores, 1 - scores), HALF, GROUPS)
    assert json.dumps(found.to_json()) == json.dumps(again.to_json())
    assert found.fingerprint == again.fingerprint
    assert found.overall["hamming_loss"] == pytest.approx(
        ((scores > 0.5) != test.y.toarray())[known].mean()
    )


def test_json_is_plain_and_complete():
    test = make_test_set()
    entry = evaluate(test, "bce", scores_for(test), HALF, GROUPS).to_json()
    assert json.loads(json.dumps(entry, allow_nan=False)) == finite(entry)
    assert set(entry) == {"overall", "groups", "table2", "original_cohort", "per_label"}
    assert set(entry["groups"]) == {"HEAD", "MEDIUM", "TAIL"}
    assert set(entry["table2"]) == {"HEAD", "MEDIUM", "TAIL", "ZERO"}
    assert set(entry["original_cohort"]) == set(entry["overall"])
    assert all(len(values) == 6 for values in entry["per_label"].values())
    assert isinstance(entry["overall"]["recognised_labels"], int)


def test_an_empty_group_has_no_metrics_and_no_original_cohort_neither():
    test = make_test_set()
    test = replace(test, cohort=np.full(60, 2))
    groups = LabelGroups(("HEAD",) * 6, GROUPS.support, (0, 0))
    entry = evaluate(test, "bce", scores_for(test), HALF, groups).to_json()
    assert entry["groups"]["TAIL"]["micro_f1"] is None
    assert entry["groups"]["TAIL"]["labels"] == 0
    assert entry["table2"]["ZERO"]["mean_test_support"] is None
    assert entry["original_cohort"]["micro_f1"] is None


def test_the_fingerprint_is_of_ids_labels_truth_and_known_cells_in_their_order():
    test = make_test_set()
    y = test.y.toarray()
    flipped = y.copy()
    flipped[3, 3] ^= True
    known = np.ones_like(y)
    known[0, 0] = False
    others = [
        replace(test, ids=test.ids[::-1]),
        replace(test, labels=LABELS[::-1]),
        replace(test, y=sp.csr_array(flipped)),
        replace(test, known=known),
    ]
    prints = {test.fingerprint, *(other.fingerprint for other in others)}
    assert len(prints) == 5
    explicit_zero = sp.csr_array(y.astype(np.int64))
    explicit_zero[0, 0] = 1
    assert replace(test, y=explicit_zero).fingerprint == test.fingerprint


def test_the_arm_fingerprint_follows_its_decisions():
    test = make_test_set()
    scores = scores_for(test)
    one = evaluate(test, "bce", scores, HALF, GROUPS).fingerprint
    assert one == evaluate(test, "candidate", scores, HALF, GROUPS).fingerprint
    assert one != evaluate(test, "bce", scores, HALF - 0.2, GROUPS).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"ids": ("a",)},
        {"ids": ("t",) * 60},
        {"labels": ("a",) * 6},
        {"units": np.zeros(3, dtype=np.int64)},
        {"cohort": np.zeros(3, dtype=np.int64)},
        {"known": np.ones((2, 2), dtype=bool)},
    ],
)
def test_a_test_set_that_does_not_fit_together_is_refused(change):
    with pytest.raises(ValueError, match=r"shape|unique"):
        replace(make_test_set(), **change)


def test_shapes_that_do_not_fit_are_refused():
    test = make_test_set()
    with pytest.raises(ValueError, match="do not fit"):
        evaluate(test, "bce", scores_for(test)[:5], HALF, GROUPS)
    with pytest.raises(ValueError, match="do not fit"):
        evaluate(test, "bce", scores_for(test), HALF[:2], GROUPS)
    with pytest.raises(ValueError, match="groups of 2"):
        evaluate(test, "bce", scores_for(test), HALF, LabelGroups(("HEAD", "TAIL"), (1, 1), (1, 1)))
