"""One model over all cells: what it learns from, what it never does, what it falls back to."""

import numpy as np
import pytest
import scipy.sparse as sp
from evidence_case import SETTINGS, L, lopsided, source, truth
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail import storage
from longtail.errors import DataError, StoreError
from longtail.models.combination import Combination, WeightedSum, cooccurrence, cross_fit
from longtail.models.trees import Trees
from longtail.thresholds import best_global_threshold

N = 240
Y = truth(N)
TRAIN = truth(900, seed=1)
SUPPORT = TRAIN.sum(0)
PAIRS = cooccurrence(sp.csr_array(TRAIN))
UNITS = np.arange(N) // 2
KNOWN = np.random.default_rng(4).random(Y.shape) < 0.8
GOOD = lopsided(Y)
NEW = lopsided(truth(60, seed=5))


def fit(found=GOOD, y=Y, known=None, units=UNITS, pairs=PAIRS, support=SUPPORT, **changes):
    method = changes.pop("method", "auto")
    return cross_fit(
        found, sp.csr_array(y), known, units, support, pairs,
        SETTINGS.model_copy(update=changes), method=method,
    )  # fmt: skip


@pytest.fixture(scope="module")
def learned():
    fitted = fit()
    assert fitted.combination.method == "learned"
    return fitted


def f1(y, scores):
    return best_global_threshold(sp.csr_array(y), scores)[1]


# ── what comes out ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["auto", "weighted sum"])
def test_together_they_are_better_than_the_best_alone(method):
    fitted = fit(method=method)
    assert fitted.combination.method == ("learned" if method == "auto" else method)
    assert fitted.combination.sources == tuple(GOOD)
    name = fitted.combination.method
    alone = [fitted.micro_f1[source] for source in GOOD]
    assert fitted.micro_f1[name] == pytest.approx(f1(Y, fitted.out_of_fold))
    assert fitted.micro_f1[name] > max(alone) + 0.03
    assert f1(truth(60, seed=5), fitted.combination.probabilities(NEW)) > max(alone)


def test_probabilities_are_probabilities(learned):
    for found in (learned.out_of_fold, learned.combination.probabilities(NEW)):
        assert found.dtype == np.float32
        assert ((found >= 0) & (found <= 1)).all()


def test_they_are_frequencies(learned):
    """Out of fold as many labels are expected as there are, among likely and unlikely cells."""
    found = learned.out_of_fold
    for cells in (found > 0.5, (found > 0.1) & (found <= 0.5)):
        assert Y[cells].mean() == pytest.approx(found[cells].mean(), abs=0.06)


def test_beyond_the_candidates_nothing_is_likelier_than_among_them(learned):
    combination = learned.combination
    found = combination.probabilities(NEW)
    order = np.argsort(-combination.weighted.log_odds(NEW), axis=1)
    inside = np.take_along_axis(found, order[:, : SETTINGS.candidates], axis=1)
    beyond = np.take_along_axis(found, order[:, SETTINGS.candidates :], axis=1)
    assert beyond.shape[1] == L - SETTINGS.candidates
    assert (beyond <= inside.min(axis=1, keepdims=True)).all()


@pytest.mark.parametrize("name", list(GOOD))
def test_more_of_a_source_never_makes_a_label_less_likely(learned, name):
    combination = learned.combination
    chosen = np.argsort(-combination.weighted.log_odds(NEW), axis=1)[:, :6]
    before = combination.probabilities(NEW)
    for at in range(6):
        raised, rows, columns = NEW[name].copy(), np.arange(60), chosen[:, at]
        for _ in range(4):
            raised[rows, columns] += 0.7
            after = combination.probabilities({**NEW, name: raised})
            assert (after[rows, columns] >= before[rows, columns] - 1e-6).all()
            before = after
        before = combination.probabilities(NEW)


def test_the_same_again(learned):
    again = fit()
    assert again.out_of_fold.tobytes() == learned.out_of_fold.tobytes()
    assert again.combination.weighted == learned.combination.weighted
    assert (again.micro_f1, again.log_loss) == (learned.micro_f1, learned.log_loss)
    assert fit(seed=1).out_of_fold.tobytes() != learned.out_of_fold.tobytes()


def test_no_texts(learned):
    nothing = {name: np.zeros((0, L), np.float32) for name in GOOD}
    for found in (learned.combination, fit(method="weighted sum").combination):
        assert found.probabilities(nothing).shape == (0, L)


def test_contributions_are_by_how_much_a_source_stands_out_in_its_text(learned):
    found = learned.combination.contributions(NEW)
    for name, values in found.items():
        np.testing.assert_allclose(values.mean(axis=1), 0, atol=1e-4)
        weight = learned.combination.weighted.weights[name]
        np.testing.assert_allclose(np.diff(values[0]), weight * np.diff(NEW[name][0]), atol=1e-4)


# ── what it learns from ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["auto", "weighted sum"])
@pytest.mark.parametrize("unit", [0, 57])
def test_no_text_is_judged_by_what_learned_from_it_or_its_unit(method, unit):
    clean, inside = fit(method=method), np.flatnonzero(unit == UNITS)
    y = Y.copy()
    y[inside] = ~y[inside]
    spoilt = fit(y=y, method=method)
    assert spoilt.combination.method == clean.combination.method
    for row in inside:
        assert spoilt.out_of_fold[row].tobytes() == clean.out_of_fold[row].tobytes()
    assert spoilt.out_of_fold.tobytes() != clean.out_of_fold.tobytes()


@pytest.mark.parametrize("method", ["auto", "weighted sum"])
def test_unknown_cells_are_not_looked_at(method):
    clean, spoilt = (fit(y=y, known=KNOWN, method=method) for y in (Y, np.where(KNOWN, Y, ~Y)))
    assert clean.out_of_fold.tobytes() == spoilt.out_of_fold.tobytes()
    assert (clean.micro_f1, clean.log_loss) == (spoilt.micro_f1, spoilt.log_loss)
    assert clean.combination.probabilities(NEW).tobytes() == (
        spoilt.combination.probabilities(NEW).tobytes()
    )
    assert clean.out_of_fold.tobytes() != fit(method=method).out_of_fold.tobytes()


def test_weights_are_never_negative():
    against = {**GOOD, "linear": -GOOD["linear"]}
    weights = fit(against, method="weighted sum").combination.weighted.weights
    assert min(weights.values()) >= 0
    assert weights["linear"] == 0


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_source_that_knows_nothing_has_no_say(scale):
    noise = scale * source(Y, 0.0, 99)
    fitted = fit({**GOOD, "names": noise})
    weights = fitted.combination.weighted.weights
    assert weights["names"] * scale < 0.1 * weights["encoder"]
    assert f1(Y, fitted.out_of_fold) > f1(Y, fit().out_of_fold) - 0.02


@pytest.mark.parametrize("value", [0.0, -7.3])
@pytest.mark.parametrize("method", ["auto", "weighted sum"])
def test_an_arm_that_learned_nothing_never_drags_the_others_down(value, method):
    """Its logits are the same everywhere but for rounding, and on new texts a little otherwise."""
    constant = np.full(Y.shape, value, np.float32)
    constant += np.random.default_rng(1).normal(0, 1e-8, Y.shape).astype(np.float32)
    fitted = fit({**GOOD, "encoder": constant}, method=method)
    best = max(fitted.micro_f1[name] for name in GOOD)
    assert f1(Y, fitted.out_of_fold) >= best
    assert fitted.combination.weighted.weights.get("encoder", 0.0) == 0.0
    other = {**NEW, "encoder": np.full((60, L), value + 0.01, np.float32)}
    assert f1(truth(60, seed=5), fitted.combination.probabilities(other)) > 0.9 * best


def test_all_arms_learned_nothing():
    nothing = {name: np.zeros(Y.shape, np.float32) for name in GOOD}
    found = fit(nothing).out_of_fold
    assert np.isfinite(found).all()


@pytest.mark.parametrize("known", [None, KNOWN], ids=["known", "unknown"])
def test_what_goes_together(known):
    y = Y & KNOWN if known is not None else Y
    found = cooccurrence(sp.csr_array(Y), known).toarray()
    for given_label in range(L):
        for label in range(L):
            asked = y[:, given_label] if known is None else y[:, given_label] & known[:, label]
            share = (y[:, label] & asked).sum() / max(asked.sum(), 1)
            expected = 0.0 if label == given_label else share
            assert found[given_label, label] == pytest.approx(expected, abs=1e-6)
    if known is not None:
        spoilt = cooccurrence(sp.csr_array(np.where(known, Y, ~Y)), known).toarray()
        np.testing.assert_array_equal(spoilt, found)


# ── what it falls back to ────────────────────────────────────────────────────────────────────


def part(count):
    return {name: values[:count] for name, values in GOOD.items()}


def test_few_texts_are_added_up_and_it_says_so():
    fitted = fit(min_texts=N + 1)
    assert (fitted.combination.method, fitted.combination.trees) == ("weighted sum", None)
    (note,) = fitted.combination.notes
    assert note.startswith(f"Validation has {N} texts, fewer than the {N + 1} from which on a")
    assert note.endswith("the sources are added up.")


@pytest.mark.parametrize("order", [("encoder", "bce", "linear"), ("linear", "encoder")])
@pytest.mark.parametrize("count", [4, 10])
def test_too_few_texts_leave_the_encoder_as_it_is_and_it_says_so(order, count):
    found = {name: part(count)[name] for name in order}
    fitted = fit(found, Y[:count], units=UNITS[:count])
    expected = 1 / (1 + np.exp(-GOOD["encoder"][:count].astype(float)))
    assert (fitted.combination.method, fitted.combination.sources) == ("one source", ("encoder",))
    np.testing.assert_allclose(fitted.out_of_fold, expected, rtol=1e-5)
    (note,) = fitted.combination.notes
    assert note.startswith(f"Validation has {count} texts with {Y[:count].sum()} labels, too few")
    assert note.endswith("encoder decides alone.")


def test_few_positives_are_too_few_too():
    y = np.zeros_like(Y)
    y[:29, 0] = True
    assert fit(y=y).combination.sources == ("encoder",)
    assert fit(y=y[:0], found=part(0), units=UNITS[:0]).combination.sources == ("encoder",)


@pytest.mark.parametrize(("best", "plain"), [("encoder", True), ("linear", False)])
def test_one_source_that_is_better_alone_decides_and_it_says_so(monkeypatch, best, plain):
    """The encoder as it is: plain transformers serves the very probabilities that were tuned."""

    def none(y, scores, known=None):
        alone = scores is not None and np.allclose(scores, 1 / (1 + np.exp(-GOOD[best])), atol=1e-6)
        return 0.5, 0.9 if alone else 0.1

    monkeypatch.setattr("longtail.models.combination.best_global_threshold", none)
    fitted = fit()
    combination = fitted.combination
    assert (combination.method, combination.sources) == ("one source", (best,))
    said = f"No combination is better on validation than {best} alone, which decides."
    assert combination.notes == (said,)
    as_it_is = WeightedSum({best: 1.0}, 0.0)
    assert (combination.weighted == as_it_is) is plain
    served = combination.probabilities({best: GOOD[best]})
    tolerance = 1e-7 if plain else 0.05
    np.testing.assert_allclose(fitted.out_of_fold, served, atol=tolerance)


def test_what_was_learned_is_dropped_where_the_sum_is_better(monkeypatch):
    def bad(cls, features, targets, monotone, *, trees=150, seed=0):
        leaf = np.zeros(1, np.int32)
        return cls(leaf, np.zeros(1), leaf, leaf, np.zeros(1), leaf, 0.0)

    monkeypatch.setattr(Trees, "fit", classmethod(bad))
    fitted = fit()
    assert (fitted.combination.method, fitted.combination.trees) == ("weighted sum", None)
    assert fitted.combination.notes[0].startswith("What was learned over all cells is no better")
    assert fitted.log_loss["learned"] > fitted.log_loss["weighted sum"]


# ── odd sizes and bad input ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("labels", [1, 2, 5])
@pytest.mark.parametrize("method", ["auto", "weighted sum"])
def test_fewer_labels_than_candidates(labels, method):
    found = {name: values[:, :labels] for name, values in GOOD.items()}
    fitted = fit(found, Y[:, :labels], support=SUPPORT[:labels], method=method,
                 pairs=cooccurrence(sp.csr_array(TRAIN[:, :labels])))  # fmt: skip
    new = {name: values[:, :labels] for name, values in NEW.items()}
    assert fitted.out_of_fold.shape == (N, labels)
    assert np.isfinite(fitted.combination.probabilities(new)).all()
    assert f1(Y[:, :labels], fitted.out_of_fold) > 0.6


@pytest.mark.parametrize("pairs", [None, PAIRS], ids=["alone", "pairs"])
def test_a_label_seen_only_in_validation(pairs):
    support = SUPPORT.copy()
    support[3] = 0
    fitted = fit(support=support, pairs=pairs)
    assert np.isfinite(fitted.out_of_fold).all()
    hits = fitted.out_of_fold[Y[:, 3], 3].mean()
    assert hits > 2 * fitted.out_of_fold[~Y[:, 3], 3].mean()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_do_not_pass(learned, value):
    for at in ((0, 0), (59, L - 1)):
        spoilt = {name: values.copy() for name, values in NEW.items()}
        spoilt["linear"][at] = value
        with pytest.raises(DataError, match="linear gave a number that is not finite"):
            learned.combination.probabilities(spoilt)
    spoilt = {**GOOD, "bce": np.full(Y.shape, value, np.float32)}
    with pytest.raises(DataError, match="bce gave a number that is not finite"):
        fit(spoilt)


@pytest.mark.parametrize(
    "change",
    [
        {"y": Y[:5]}, {"units": UNITS[:5]}, {"support": SUPPORT[:5]}, {"known": KNOWN[:5]},
        {"found": {**GOOD, "bce": GOOD["bce"][:, :5]}},
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit(change):
    with pytest.raises(ValueError, match="units"):
        fit(**change)


@given(seed=st.integers(0, 1000), share=st.floats(0.0, 1.0), rare=st.floats(0.0, 0.2))
@settings(max_examples=25)
def test_whatever_is_unknown_or_rare_it_ends_in_probabilities(seed, share, rare):
    random = np.random.default_rng(seed)
    y = random.random((60, 4)) < rare
    y[:10] = True
    known = random.random(y.shape) < share
    found = {name: random.normal(size=y.shape).astype(np.float32) for name in ("encoder", "bce")}
    fitted = fit(found, y, known, units=np.arange(60) // 10, pairs=None, support=y.sum(0))
    assert ((fitted.out_of_fold >= 0) & (fitted.out_of_fold <= 1)).all()


# ── files ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("change", [{}, {"method": "weighted sum"}, {"pairs": None},
                                    {"min_texts": 999}])  # fmt: skip
def test_it_comes_back_as_it_was(change, tmp_path):
    made = fit(**change).combination
    made.save(tmp_path)
    loaded = Combination.load(tmp_path)
    assert loaded.probabilities(NEW).tobytes() == made.probabilities(NEW).tobytes()
    assert loaded.support.tolist() == made.support.tolist()
    for name in ("method", "sources", "weighted", "candidates", "notes"):
        assert getattr(loaded, name) == getattr(made, name)


def damaged(directory, **changes):
    path = directory / "combination.json"
    storage.write_json(path, {**storage.read_json(path), **changes})
    return path


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": 2}, "not a combination of format 1"),
        ({"weights": {"encoder": 1.0}}, "contradict each other"),
        ({"weights": {}, "sources": [], "trees": False}, "contradict each other"),
        ({"candidates": 0}, "contradict each other"),
        ({"weights": dict.fromkeys(GOOD, -1.0)}, "a weight is not a number of at least 0"),
        ({"intercept": None}, "not a whole combination"),
        ({"support": ["x"]}, "not a whole combination"),
        ({"support": [1, 2]}, "not a whole combination"),
        ({"sources": ["encoder"], "weights": {"encoder": 1.0}}, "these are not whole trees"),
    ],
)
def test_what_contradicts_itself_is_refused(learned, tmp_path, changes, why):
    learned.combination.save(tmp_path)
    damaged(tmp_path, **changes)
    with pytest.raises(StoreError, match=why):
        Combination.load(tmp_path)


def test_what_is_missing_is_refused(learned, tmp_path):
    with pytest.raises(StoreError, match="nothing to combine the evidence with"):
        Combination.load(tmp_path)
    learned.combination.save(tmp_path)
    for name in ("trees.parquet", "cooccurrence.parquet"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        with pytest.raises(StoreError, match=f"{name}: missing"):
            Combination.load(tmp_path)
        (tmp_path / name).write_bytes(content)
    Combination.load(tmp_path)
