"""Late fusion: σ(z + a·d), and a weight that validation alone chooses."""

import numpy as np
import pytest
import scipy.sparse as sp
from pydantic import ValidationError
from tiny_case import labelled

from longtail.baselines import LinearBaseline
from longtail.config import FusionSettings, LinearSettings
from longtail.errors import DataError
from longtail.fusion import fit_fusion, fuse, fuse_logits, logits_of
from longtail.thresholds import best_global_threshold

RANDOM = np.random.default_rng(3)
Y = sp.csr_array(RANDOM.random((80, 5)) < 0.3)
SIGN = np.where(Y.toarray(), 1.0, -1.0)


def noisy(strength, seed):
    """Values that tell positives from negatives, the better the higher the strength."""
    noise = np.random.default_rng(seed).normal(size=Y.shape)
    return (strength * SIGN + noise).astype(np.float32)


def sigmoid(values):
    return 1.0 / (1.0 + np.exp(-np.asarray(values, dtype=np.float64)))


def test_it_is_the_sigmoid_of_the_weighted_sum():
    logits, decisions = noisy(1, 1), noisy(1, 2)
    before = logits.copy(), decisions.copy()
    found = fuse_logits(logits, decisions, 1.5)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, sigmoid(logits + 1.5 * decisions), rtol=1e-5)
    np.testing.assert_array_equal((logits, decisions), before)


def test_from_probabilities_it_is_the_same():
    logits, decisions = noisy(1, 1), noisy(1, 2)
    probabilities = sigmoid(logits).astype(np.float32)
    np.testing.assert_allclose(logits_of(probabilities), logits, atol=1e-5)
    found = fuse(probabilities, decisions, 2.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, fuse_logits(logits, decisions, 2.0), atol=1e-6)
    np.testing.assert_array_equal(fuse(probabilities, decisions, 0.0), probabilities)


def test_probabilities_of_0_and_1_stay_finite_and_in_order():
    values = np.array([0.0, 1e-45, 1e-30, 0.5, 1 - 1e-7, 1.0], dtype=np.float32)
    logits = logits_of(values)
    assert np.isfinite(logits).all()
    assert (np.diff(logits) >= 0).all()
    assert logits[3] == 0
    fused = fuse(values[:, None], np.full((6, 1), -1, np.float32), 8.0)
    assert np.isfinite(fused).all()
    assert fused[-1] == pytest.approx(sigmoid(16.6 - 8), abs=1e-4)


def test_shapes_that_differ():
    with pytest.raises(ValueError, match="shape"):
        fuse_logits(noisy(1, 1), noisy(1, 2)[:, :1], 1.0)


def test_the_weight_is_the_best_of_validation():
    probabilities, decisions = sigmoid(noisy(1, 1)).astype(np.float32), noisy(1, 2)
    settings = FusionSettings(weights=(0.5, 1.0, 4.0))
    found = fit_fusion(Y, probabilities, decisions, settings)
    by_hand = {
        weight: best_global_threshold(Y, fuse(probabilities, decisions, weight))[1]
        for weight in (0.0, 0.5, 1.0, 4.0)
    }

    assert dict(found.curve) == pytest.approx(by_hand)
    assert found.weight == max(by_hand, key=by_hand.get) > 0
    assert found.validation_micro_f1 == max(by_hand.values()) > found.alone_micro_f1 + 0.05
    assert found.alone_micro_f1 == by_hand[0.0]


def test_a_linear_arm_that_knows_nothing_is_not_fused():
    probabilities = sigmoid(noisy(3, 1)).astype(np.float32)
    for useless in (-SIGN.astype(np.float32), np.zeros(Y.shape, np.float32)):
        found = fit_fusion(Y, probabilities, useless, FusionSettings())
        assert found.weight == 0
        assert found.validation_micro_f1 == found.alone_micro_f1


def test_each_arm_chooses_its_own_weight():
    """The surer the encoder's logits, the more the same decision values must weigh."""
    weak, decisions = noisy(0.7, 1), noisy(0.7, 2)
    settings = FusionSettings(weights=(0.25, 0.5, 1, 2, 4, 8, 16))
    small, large = (fit_fusion(Y, sigmoid(scale * weak).astype(np.float32), decisions, settings)
                    for scale in (1, 4))  # fmt: skip
    assert large.weight == 4 * small.weight
    assert large.validation_micro_f1 == pytest.approx(small.validation_micro_f1)


def test_a_label_without_a_training_text_is_not_raised_above_the_others():
    """Its encoder's logits are as low as those of any rare label; the fusion must leave it so."""
    train, test = labelled(200, 1), labelled(100, 2)
    y = train.y.toarray()
    y[:, 3] = False
    linear = LinearBaseline(LinearSettings()).fit(train.texts, sp.csr_array(y))
    truth = test.y.toarray()
    truth[:, 3] = False
    logits = np.where(truth, -3.0, -4.0).astype(np.float32)
    fused = fuse_logits(logits, linear.decisions(test.texts), 8.0)
    cut, micro_f1 = best_global_threshold(truth, fused)
    assert micro_f1 > 0.95
    assert not (fused[:, 3] > cut).any()


def test_unknown_cells_do_not_choose():
    probabilities, decisions = sigmoid(noisy(1, 1)).astype(np.float32), noisy(1, 2)
    known = np.random.default_rng(5).random(Y.shape) < 0.7
    wrong = sp.csr_array(np.where(known, Y.toarray(), ~Y.toarray()))
    one, two = (fit_fusion(y, probabilities, decisions, FusionSettings(), known)
                for y in (Y, wrong))  # fmt: skip
    assert one == two


def test_numbers_that_are_none():
    decisions = noisy(1, 2)
    decisions[3, 2] = np.nan
    probabilities = sigmoid(noisy(1, 1)).astype(np.float32)
    with pytest.raises(DataError):
        fit_fusion(Y, probabilities, decisions, FusionSettings())


@pytest.mark.parametrize("weights", [[-1.0], [float("nan")], [float("inf")]])
def test_weights_that_are_none(weights):
    with pytest.raises(ValidationError):
        FusionSettings(weights=weights)
