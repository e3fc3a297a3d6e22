"""The linear arm: the same each time, constants where nothing can be learnt, scores in (0, 1)."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC
from tiny_case import labelled

from longtail.baselines import LinearBaseline
from longtail.config import LinearSettings
from longtail.errors import DataError
from longtail.thresholds import best_global_threshold

TRAIN = labelled(120, 1)
TEST = labelled(60, 2)
ESTIMATORS = ["svm", "logistic"]


def fit(part=TRAIN, *, seed=0, **settings):
    return LinearBaseline(LinearSettings(**settings), seed=seed).fit(part.texts, part.y, part.known)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_it_learns(estimator):
    scores = fit(estimator=estimator).predict(TEST.texts)
    assert scores.shape == TEST.y.shape
    assert scores.dtype == np.float32
    assert ((scores > 0) & (scores < 1)).all()
    everything = best_global_threshold(TEST.y, np.ones(TEST.y.shape, np.float32))[1]
    assert best_global_threshold(TEST.y, scores)[1] > everything + 0.15


def test_it_is_scikit_learns_one_versus_rest():
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2,
                            token_pattern=r"(?u)\b\w+\b")  # fmt: skip
    reference = OneVsRestClassifier(LinearSVC(random_state=0, dual=True, tol=1e-6))
    reference.fit(words.fit_transform(TRAIN.texts), TRAIN.y.toarray())
    decision = reference.decision_function(words.transform(TEST.texts))
    expected = 1 / (1 + np.exp(-2 * decision))
    np.testing.assert_allclose(fit().predict(TEST.texts), expected, atol=2e-3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_same_seed_gives_the_same_scores(estimator):
    first = fit(estimator=estimator).predict(TEST.texts)
    np.testing.assert_array_equal(first, fit(estimator=estimator).predict(TEST.texts))


def test_labels_that_nothing_can_be_learnt_about():
    y = TRAIN.y.toarray()
    y[:, 1], y[:, 4] = False, True
    scores = LinearBaseline(LinearSettings()).fit(TRAIN.texts, sp.csr_array(y)).predict(TEST.texts)
    assert (scores[:, 1] == 0).all()
    assert (scores[:, 4] == 1).all()
    assert ((scores[:, 0] > 0) & (scores[:, 0] < 1)).all()


def test_unknown_cells_do_not_teach():
    part = labelled(120, 1, unknown=True)
    flipped = sp.csr_array(part.y.toarray() ^ ~part.known)
    one, two = (LinearBaseline(LinearSettings()).fit(part.texts, y, part.known)
                for y in (part.y, flipped))  # fmt: skip
    np.testing.assert_array_equal(one.predict(TEST.texts), two.predict(TEST.texts))


def test_words_never_seen_give_the_intercepts_score():
    scores = fit().predict(["zzz qqq", ""])
    assert (scores[0] == scores[1]).all()
    assert (scores < 0.5).all()


def test_the_settings_are_followed():
    assert fit(max_features=7).weights.shape == (6, 7)
    assert fit(ngram_max=1).weights.shape[1] < fit(ngram_max=2).weights.shape[1]
    assert not np.allclose(fit(c=0.01).weights, fit(c=1.0).weights)


def test_a_handful_of_texts_is_enough():
    few = LinearBaseline(LinearSettings()).fit(["red apple", "green pear"], TRAIN.y[:2])
    assert few.predict(["apple"]).shape == (1, 6)


@pytest.mark.parametrize(("texts", "message"), [([], "no training text"), (["", "…"], "no word")])
def test_texts_without_words(texts, message):
    with pytest.raises(DataError, match=message):
        LinearBaseline(LinearSettings()).fit(texts, TRAIN.y[: len(texts)])


def test_predicting_before_fitting():
    with pytest.raises(RuntimeError, match="fit"):
        LinearBaseline(LinearSettings()).predict(["x"])
