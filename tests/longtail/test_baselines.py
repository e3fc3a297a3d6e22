"""The linear arm: the same each time, constants where nothing can be learnt, scores in (0, 1)."""

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC
from tiny_case import labelled

from longtail import storage
from longtail.baselines import LinearBaseline
from longtail.config import LinearSettings
from longtail.errors import DataError, StoreError
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
    found = fit(smallest_weight=0.0)
    np.testing.assert_allclose(found.predict(TEST.texts), expected, atol=2e-3)
    np.testing.assert_allclose(found.decisions(TEST.texts), decision, atol=4e-3)


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
    assert not np.allclose(fit(c=0.01).weights.toarray(), fit(c=1.0).weights.toarray())


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


def test_decision_values_are_what_the_scores_are_made_of():
    for estimator, slope in (("svm", 2.0), ("logistic", 1.0)):
        model = fit(estimator=estimator)
        decisions = model.decisions(TEST.texts)
        assert decisions.dtype == np.float32
        expected = 1 / (1 + np.exp(-slope * decisions.astype(np.float64)))
        np.testing.assert_allclose(model.predict(TEST.texts), expected, rtol=1e-6)
    assert model.decisions([]).shape == (0, 6)


def test_labels_that_nothing_can_be_learnt_about_are_decided_by_the_margin():
    y = TRAIN.y.toarray()
    y[:, 1], y[:, 4] = False, True
    model = LinearBaseline(LinearSettings()).fit(TRAIN.texts, sp.csr_array(y))
    decisions = model.decisions(TEST.texts)
    assert (decisions[:, 1] == -1).all()
    assert (decisions[:, 4] == 1).all()
    assert (decisions[:, [0, 2, 3, 5]].std(axis=0) > 0).all()


def test_small_weights_are_dropped_and_the_rest_is_in_half_precision():
    whole, kept = (fit(smallest_weight=least).weights.toarray() for least in (0.0, 0.1))
    small = np.abs(whole) < 0.1
    assert 0 < small[whole != 0].mean() < 1
    np.testing.assert_array_equal(kept, np.where(small, 0, whole))
    np.testing.assert_array_equal(whole, whole.astype(np.float16))


# ── on disk ──────────────────────────────────────────────────────────────────────────────────


def with_constants(estimator="svm"):
    y = TRAIN.y.toarray()
    y[:, 1], y[:, 4] = False, True
    settings = LinearSettings(estimator=estimator, ngram_max=1)
    return LinearBaseline(settings, seed=3).fit(TRAIN.texts, sp.csr_array(y))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_it_comes_back_bit_for_bit(tmp_path, estimator):
    model = with_constants(estimator)
    loaded = LinearBaseline.load(model.save(tmp_path / "linear"))
    texts = [*TEST.texts, "", "zzz", "Ünïcode \N{SNOWMAN} printer"]
    np.testing.assert_array_equal(loaded.decisions(texts), model.decisions(texts))
    np.testing.assert_array_equal(loaded.predict(texts), model.predict(texts))
    assert (loaded.settings, loaded.seed) == (model.settings, 3)
    again = loaded.save(tmp_path / "again")
    for file in ("terms.parquet", "linear.json"):
        assert (again / file).read_bytes() == (tmp_path / "linear" / file).read_bytes()


def test_saving_before_fitting(tmp_path):
    with pytest.raises(RuntimeError, match="fit"):
        LinearBaseline(LinearSettings()).save(tmp_path / "linear")
    assert not (tmp_path / "linear").exists()


@pytest.mark.parametrize("file", ["terms.parquet", "linear.json"])
def test_a_changed_file_is_refused(tmp_path, file):
    saved = fit().save(tmp_path / "linear")
    content = bytearray((saved / file).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / file).write_bytes(content)
    with pytest.raises(StoreError, match=f"{file}: content differs"):
        LinearBaseline.load(saved)


def test_what_is_not_a_linear_arm_is_refused(tmp_path):
    with pytest.raises(StoreError, match="never finished"):
        LinearBaseline.load(tmp_path / "nothing")
    with storage.committed_directory(tmp_path / "other") as staging:
        storage.write_json(staging / "something.json", {})
    with pytest.raises(StoreError, match=r"linear.json: missing"):
        LinearBaseline.load(tmp_path / "other")


def resealed(saved, file, change):
    """The saved arm with a file changed by somebody who also mended the manifest."""
    if file == "linear.json":
        storage.write_json(saved / file, change(storage.read_json(saved / file)))
    else:
        columns = storage.read_parquet(saved / file).to_pydict()
        storage.write_parquet(saved / file, change(columns))
    storage.write_manifest(saved)
    return saved


def terms(columns, **changed):
    fields = {"term": pa.string(), "idf": pa.float64(),
              "labels": pa.list_(pa.int32()), "weights": pa.list_(pa.float16())}  # fmt: skip
    return pa.table(columns | changed, schema=pa.schema(fields))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("linear.json", lambda about: about | {"format": 99}, "format 99, this version"),
        ("linear.json", lambda about: [about], "format None"),
        ("linear.json", lambda about: about | {"intercepts": [0.0]}, "as many intercepts"),
        ("linear.json", lambda about: about | {"intercepts": [None] * 6}, "not finite"),
        ("linear.json", lambda about: about | {"settings": {"c": -1}}, "greater than 0"),
        ("linear.json", lambda about: {"format": 1}, "settings"),
        ("terms.parquet", lambda columns: pa.table({"term": ["a"]}), "other columns: term"),
        ("terms.parquet", lambda c: terms(c, idf=[np.nan] * len(c["idf"])), "not finite"),
        ("terms.parquet", lambda c: terms(c, labels=[[9] * len(row) for row in c["labels"]]),
         "not a whole linear arm"),
        ("terms.parquet", lambda c: terms(c, weights=[[]] * len(c["idf"])), "as many weights"),
        ("terms.parquet", lambda c: terms(c, term=["same"] * len(c["idf"])),
         "not a whole linear arm"),
    ],
)  # fmt: skip
def test_contents_that_contradict_each_other_are_refused(tmp_path, file, change, message):
    saved = resealed(fit(max_features=30).save(tmp_path / "linear"), file, change)
    with pytest.raises(StoreError, match=message):
        LinearBaseline.load(saved)
