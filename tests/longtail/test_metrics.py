import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from longtail import metrics


def sample(seed: int, texts: int = 80, labels: int = 9):
    """Truth with an unlabelled text and labels without positives; scores with many ties."""
    rng = np.random.default_rng(seed)
    y = rng.random((texts, labels)) < rng.uniform(0.02, 0.4, labels)
    y[:, 0] = False
    y[0] = False
    scores = np.round(rng.random((texts, labels)) * 0.6 + 0.4 * y, 1).astype(np.float32)
    return y, scores, scores > 0.55


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("average", ["micro", "macro", "weighted", "samples"])
def test_precision_recall_f1_match_scikit_learn(seed, average):
    y, _, decided = sample(seed)
    expected = reference.precision_recall_fscore_support(
        y, decided, average=average, zero_division=0
    )
    per_label, per_text = metrics.label_counts(y, decided), metrics.text_counts(y, decided)
    counts = {"micro": per_label.sum(axis=0), "samples": per_text}.get(average, per_label)
    if average == "weighted":
        assert metrics.weighted_f1(per_label) == pytest.approx(expected[2])
        return
    found = [np.mean(metric(counts)) for metric in (metrics.precision, metrics.recall, metrics.f1)]
    assert found == pytest.approx(list(expected[:3]))


@pytest.mark.parametrize("seed", range(5))
def test_hamming_loss_and_average_precision_match_scikit_learn(seed):
    y, scores, decided = sample(seed)
    loss = metrics.hamming_loss(metrics.label_counts(y, decided), y.size)
    assert loss == pytest.approx(reference.hamming_loss(y, decided))
    found = metrics.average_precision(y, scores)
    assert np.isnan(found[0])  # a label without positives has no average precision
    for j in np.flatnonzero(y.any(axis=0)):
        assert found[j] == pytest.approx(reference.average_precision_score(y[:, j], scores[:, j]))
    assert metrics.micro_average_precision(y, scores) == pytest.approx(
        reference.average_precision_score(y, scores, average="micro")
    )


@pytest.mark.parametrize("k", [1, 3, 5])
def test_ranking_matches_scikit_learn_and_the_definition(k):
    rng = np.random.default_rng(k)
    y, _, _ = sample(k)
    scores = rng.permutation(y.size).reshape(y.shape) / y.size
    found = metrics.ranking_at(y, scores, (1, 3, 5))[k]
    assert found.ndcg == pytest.approx(reference.ndcg_score(y, scores, k=k))
    top = np.argsort(-scores, axis=1)[:, :k]
    hits = [set(row) & set(np.flatnonzero(truth)) for row, truth in zip(top, y, strict=True)]
    recalls = [len(h) / t.sum() if t.any() else 0 for h, t in zip(hits, y, strict=True)]
    assert found.precision == pytest.approx(np.mean([len(h) / k for h in hits]))
    assert found.recall == pytest.approx(np.mean(recalls))


def test_ranking_with_fewer_labels_than_k_divides_by_k():
    y = np.array([[True, True], [False, True]])
    at = metrics.ranking_at(y, np.array([[0.9, 0.8], [0.9, 0.1]]), (5,))[5]
    assert at.precision == pytest.approx((2 / 5 + 1 / 5) / 2)
    assert at.recall == 1.0


def test_ties_in_the_ranking_go_to_the_first_label():
    y = np.array([[True, False, False]])
    assert metrics.ranking_at(y, np.full((1, 3), 0.5), (1,))[1].precision == 1.0
    assert metrics.ranking_at(y[:, ::-1], np.full((1, 3), 0.5), (1,))[1].precision == 0.0


def test_zero_over_zero_is_zero():
    nothing = np.zeros((3, 4), dtype=bool)
    counts = metrics.label_counts(nothing, nothing)
    assert metrics.precision(counts).tolist() == [0.0] * 4
    assert metrics.recall(counts).tolist() == [0.0] * 4
    assert metrics.f1(counts.sum(axis=0)) == 0.0
    assert metrics.weighted_f1(counts) == 0.0
    assert metrics.label_coverage(counts) == 0.0
    assert metrics.hamming_loss(counts, 0) == 0.0
    assert metrics.micro_average_precision(nothing, np.zeros((3, 4))) == 0.0
    assert metrics.ranking_at(nothing, np.zeros((3, 4)), (1,))[1] == metrics.AtK(0.0, 0.0, 0.0)


def test_no_texts_gives_zeros_not_nan():
    empty = np.zeros((0, 3), dtype=bool)
    assert metrics.ranking_at(empty, np.zeros((0, 3)), (5,))[5] == metrics.AtK(0.0, 0.0, 0.0)
    assert metrics.label_counts(empty, empty).tolist() == [[0, 0, 0]] * 3


def test_label_coverage_counts_only_labels_with_positives():
    #                   TP FP FN
    counts = np.array([[2, 0, 1], [1, 5, 0], [0, 3, 4], [0, 7, 0]])
    assert metrics.label_coverage(counts) == pytest.approx(2 / 3)
    assert metrics.label_coverage(counts, true_positives=2) == pytest.approx(1 / 3)
    assert metrics.recognised(counts).tolist() == [True, True, False, False]


@pytest.mark.parametrize("seed", range(3))
def test_unknown_cells_change_nothing_whatever_they_hold(seed):
    y, scores, decided = sample(seed)
    rng = np.random.default_rng(seed + 100)
    known = rng.random(y.shape) < 0.7
    noise = rng.random(y.shape) < 0.5
    other_y, other_decided = np.where(known, y, noise), np.where(known, decided, noise)
    other_scores = np.where(known, scores, rng.random(y.shape)).astype(np.float32)

    def everything(y, scores, decided):
        return [
            metrics.label_counts(y, decided, known),
            metrics.text_counts(y, decided, known),
            metrics.average_precision(y, scores, known),
            metrics.micro_average_precision(y, scores, known),
            list(vars(metrics.ranking_at(y, scores, (3,), known)[3]).values()),
        ]

    first = everything(y, scores, decided)
    second = everything(other_y, other_scores, other_decided)
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("seed", range(3))
def test_masked_label_equals_scikit_learn_on_its_known_rows(seed):
    y, scores, decided = sample(seed)
    known = np.random.default_rng(seed).random(y.shape) < 0.6
    counts = metrics.label_counts(y, decided, known)
    precisions = metrics.average_precision(y, scores, known)
    for j in range(y.shape[1]):
        rows = known[:, j]
        truth, given_ = y[rows, j], decided[rows, j]
        expected = reference.f1_score(truth, given_, zero_division=0)
        assert metrics.f1(counts)[j] == pytest.approx(expected)
        if truth.any():
            expected = reference.average_precision_score(truth, scores[rows, j])
            assert precisions[j] == pytest.approx(expected)


def test_an_unknown_cell_is_no_hit_even_when_a_row_has_no_known_label():
    y = np.ones((1, 2), dtype=bool)
    at = metrics.ranking_at(y, np.array([[0.9, 0.8]]), (1,), np.zeros((1, 2), dtype=bool))[1]
    assert at == metrics.AtK(0.0, 0.0, 0.0)


def test_a_hit_counts_once_when_a_row_has_fewer_known_labels_than_k():
    y = np.array([[True, False, False, True]])
    known = np.array([[True, True, False, False]])
    at = metrics.ranking_at(y, np.array([[0.9, 0.8, 0.7, 0.6]]), (3,), known)[3]
    assert at == metrics.AtK(precision=pytest.approx(1 / 3), recall=1.0, ndcg=1.0)


@given(st.integers(0, 10_000))
def test_counts_add_up(seed):
    y, _, decided = sample(seed, texts=12, labels=5)
    by_label, by_text = metrics.label_counts(y, decided), metrics.text_counts(y, decided)
    assert by_label.sum(axis=0).tolist() == by_text.sum(axis=0).tolist()
    assert (by_label[:, 0] + by_label[:, 2] == y.sum(axis=0)).all()
    assert (by_label[:, 0] + by_label[:, 1] == decided.sum(axis=0)).all()


def test_inputs_are_left_alone():
    y, scores, decided = sample(1)
    known = np.ones_like(y)
    known[0, 0] = False
    before = [a.copy() for a in (y, scores, decided, known)]
    metrics.ranking_at(y, scores, (5,), known)
    metrics.average_precision(y, scores, known)
    metrics.label_counts(y, decided, known)
    for old, new in zip(before, (y, scores, decided, known), strict=True):
        np.testing.assert_array_equal(old, new)


def test_six_thousand_texts_by_six_hundred_labels_take_seconds():
    rng = np.random.default_rng(0)
    y = rng.random((6000, 600)) < 0.006
    scores = rng.random((6000, 600), dtype=np.float32)
    start = time.perf_counter()
    metrics.average_precision(y, scores)
    metrics.micro_average_precision(y, scores)
    metrics.ranking_at(y, scores, (1, 3, 5))
    metrics.label_counts(y, scores > 0.9)
    assert time.perf_counter() - start < 5.0  # about 0.15 s; the rest is for a busy machine
