"""Trees as plain arrays give what scikit-learn's own give."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from longtail import storage
from longtail.errors import StoreError
from longtail.models.trees import Trees

MONOTONE = (1, -1, 0, 1)


def data(n=900, seed=0):
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, 4)).astype(np.float32)
    features[:, 3] = np.round(features[:, 3])
    odds = 2 * features[:, 0] - features[:, 1] + np.sin(3 * features[:, 2])
    return features, random.random(n) < 1 / (1 + np.exp(-odds))


@pytest.fixture(scope="module")
def fitted():
    """The trees, and scikit-learn's learner that they were taken from."""
    kept = []
    plain = Trees._of.__func__

    def of(cls, learner):
        kept.append(learner)
        return plain(cls, learner)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trees, "_of", classmethod(of))
        found = Trees.fit(*data(), MONOTONE, trees=40)
    return found, kept[0]


def test_they_are_scikit_learns(fitted):
    found, learner = fitted
    assert isinstance(learner, HistGradientBoostingClassifier)
    for seed in (0, 1):
        features, _ = data(seed=seed)
        expected = learner.decision_function(features)
        np.testing.assert_allclose(found.log_odds(features), expected, rtol=0, atol=1e-12)


def test_they_are_so_at_the_thresholds_themselves(fitted):
    found, learner = fitted
    features = np.zeros((len(found.threshold), 4), dtype=np.float32)
    features[np.arange(len(features)), found.feature] = found.threshold
    np.testing.assert_allclose(
        found.log_odds(features), learner.decision_function(features), rtol=0, atol=1e-12
    )


def test_what_was_learned_tells_the_classes_apart(fitted):
    features, y = data(seed=2)
    assert np.mean((fitted[0].log_odds(features) > 0) == y) > 0.75


@pytest.mark.parametrize("column", [0, 1, 3])
def test_more_of_a_feature_never_moves_the_odds_the_wrong_way(fitted, column):
    features, _ = data(200, seed=3)
    rows = np.repeat(features, 41, axis=0)
    rows[:, column] = np.tile(np.linspace(-4, 4, 41, dtype=np.float32), len(features))
    steps = np.diff(fitted[0].log_odds(rows).reshape(len(features), 41), axis=1)
    assert (MONOTONE[column] * steps >= -1e-12).all()
    assert np.abs(steps).max() > 0 or column == 3


def test_the_same_trees_again_and_others_with_another_seed(fitted):
    again, other = (Trees.fit(*data(), MONOTONE, trees=40, seed=seed) for seed in (0, 1))
    features, _ = data(seed=4)
    assert again.log_odds(features).tobytes() == fitted[0].log_odds(features).tobytes()
    assert (other.log_odds(features) != again.log_odds(features)).any()


def test_a_row_alone_and_no_rows(fitted):
    features, _ = data(seed=4)
    expected = fitted[0].log_odds(features)
    assert fitted[0].log_odds(features[7:8]).tobytes() == expected[7:8].tobytes()
    assert fitted[0].log_odds(features[:0]).shape == (0,)


def test_nothing_to_split_is_the_share_of_all():
    features = np.zeros((100, 2), dtype=np.float32)
    found = Trees.fit(features, np.arange(100) < 20, (1, 1), trees=3)
    np.testing.assert_allclose(found.log_odds(features[:1]), np.log(0.2 / 0.8), atol=1e-6)


def test_they_come_back_exactly(fitted, tmp_path):
    features, _ = data(seed=5)
    fitted[0].save(tmp_path / "trees.parquet")
    loaded = Trees.load(tmp_path / "trees.parquet", 4)
    assert loaded.log_odds(features).tobytes() == fitted[0].log_odds(features).tobytes()
    assert loaded.feature.dtype == np.int32


def spoilt(path, column, at, value):
    table = storage.read_parquet(path)
    values = table[column].to_numpy().copy()
    values[at] = value
    at = table.schema.get_field_index(column)
    storage.write_parquet(path, table.set_column(at, column, storage.pa.array(values)))


@pytest.mark.parametrize(
    ("column", "at", "value"),
    [
        ("left", 1, 0),  # a circle
        ("right", 0, 0),  # half a leaf
        ("left", 0, -1),
        ("left", 0, 10**6),
        ("right", 0, 40),  # into the next tree
        ("feature", 0, 4),
        ("feature", 0, -1),
        ("threshold", 0, np.nan),
        ("value", 5, np.nan),
        ("value", 5, np.inf),
    ],
)
def test_damaged_nodes_are_refused(fitted, tmp_path, column, at, value):
    path = tmp_path / "trees.parquet"
    fitted[0].save(path)
    spoilt(path, column, at, value)
    with pytest.raises(StoreError, match="these are not whole trees"):
        Trees.load(path, 4)


@pytest.mark.parametrize(
    "about",
    [
        {b"roots": b"", b"base": b"0.0"},
        {b"roots": b"0 0", b"base": b"0.0"},
        {b"roots": b"1 9", b"base": b"0.0"},
        {b"roots": b"0 1000000", b"base": b"0.0"},
        {b"roots": b"0", b"base": b"nan"},
    ],
)
def test_damaged_roots_are_refused(fitted, tmp_path, about):
    path = tmp_path / "trees.parquet"
    fitted[0].save(path)
    storage.write_parquet(path, storage.read_parquet(path).replace_schema_metadata(about))
    with pytest.raises(StoreError, match="these are not whole trees"):
        Trees.load(path, 4)


def test_what_is_something_else_is_refused(fitted, tmp_path):
    path = tmp_path / "trees.parquet"
    with pytest.raises(StoreError, match="missing"):
        Trees.load(path, 4)
    fitted[0].save(path)
    table = storage.read_parquet(path)
    for other in (table.drop_columns(["value"]), table.replace_schema_metadata({}),
                  table.set_column(0, "feature", table["threshold"])):  # fmt: skip
        storage.write_parquet(path, other)
        with pytest.raises(StoreError, match="these are not trees"):
            Trees.load(path, 4)
    path.write_bytes(b"torn")
    with pytest.raises(StoreError, match="not a readable Parquet file"):
        Trees.load(path, 4)
