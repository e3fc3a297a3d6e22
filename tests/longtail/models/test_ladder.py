"""Sums of ever more sources, and evidence for texts that the sources have not seen."""

import numpy as np
import pytest
import scipy.sparse as sp
from evidence_case import SETTINGS, annotated, evidence, reading, truth

from longtail.models.evidence import MissingEvidenceError
from longtail.models.held_out import held_out_evidence, together
from longtail.models.ladder import Stacking, probabilities_of, sums, without_the_loss
from longtail.models.neighbours import Neighbours

N = 120
Y, NEW = truth(N), truth(40, seed=5)
STRENGTHS = {"encoder": 0.6, "bce": 0.5, "linear": 0.7, "neighbours": 0.4, "name_words": 0.2}
FOUND, ON_TEST = evidence(Y, **STRENGTHS), evidence(NEW, **STRENGTHS)
STACKING = Stacking(
    sp.csr_array(Y), None, np.arange(N), truth(500, seed=1).sum(axis=0), None, SETTINGS
)


def without(found, *names):
    return {name: scores for name, scores in found.items() if name not in names}


# ── the steps ────────────────────────────────────────────────────────────────────────────────


def test_every_step_adds_a_source_to_those_before():
    steps = list(sums(STACKING, FOUND, ON_TEST))

    assert [step.key for step in steps] == ["linear", "neighbours", "names", "both_encoders"]
    assert steps[0].sources == ("encoder", "linear")
    assert steps[2].sources == ("encoder", "linear", "neighbours", "name_words")
    assert set(steps[-1].sources) == set(FOUND)
    for step in steps:
        assert step.out_of_fold.shape == Y.shape
        assert step.test.shape == NEW.shape


def test_a_step_is_the_weighted_sum_of_its_sources():
    (first, *_) = sums(STACKING, FOUND, ON_TEST)
    both = {name: FOUND[name] for name in ("encoder", "linear")}
    fitted = STACKING.fit(both, "weighted sum")

    np.testing.assert_array_equal(first.out_of_fold, fitted.out_of_fold)
    np.testing.assert_array_equal(first.test, probabilities_of(fitted, ON_TEST))


@pytest.mark.parametrize(
    ("missing", "keys"),
    [
        (["linear"], ["neighbours", "names", "both_encoders"]),
        (["neighbours", "name_words"], ["linear", "both_encoders"]),
        (["bce"], ["linear", "neighbours", "names"]),
    ],
)
def test_a_step_that_would_add_nothing_is_left_out(missing, keys):
    steps = sums(STACKING, without(FOUND, *missing), without(ON_TEST, *missing))

    assert [step.key for step in steps] == keys


def test_the_encoder_alone_is_no_step():
    assert list(sums(STACKING, {"encoder": FOUND["encoder"]}, ON_TEST)) == []


# ── the same without the loss ────────────────────────────────────────────────────────────────


def test_the_bce_encoder_and_its_neighbours_take_the_candidates_place():
    near = {"bce": FOUND["bce"], "neighbours": FOUND["neighbours"] + 1}
    found = without_the_loss(FOUND, near)

    assert set(found) == set(FOUND) - {"encoder"}
    assert found["neighbours"] is near["neighbours"]
    assert found["linear"] is FOUND["linear"]


def test_a_source_that_is_switched_off_stays_off_but_not_the_encoder():
    near = {"bce": FOUND["bce"], "neighbours": FOUND["neighbours"]}
    found = without_the_loss(without(FOUND, "bce", "neighbours"), near)

    assert set(found) == {"bce", "linear", "name_words"}


# ── evidence for texts that were not seen ────────────────────────────────────────────────────


class Counting:
    """Says how many texts it remembers."""

    name = "counting"

    def fit(self, memory):
        self.texts = len(memory.ids)
        return self

    def score(self, texts):
        return np.full((len(texts.texts), 1), self.texts, dtype=np.float32)


class Silent(Counting):
    name = "silent"

    def fit(self, memory):
        raise MissingEvidenceError("there is nothing to say")


def test_validation_is_judged_by_training_texts_and_test_by_both():
    train, validation = annotated(7), annotated(4, seed=1)
    found = held_out_evidence(
        lambda: [Counting(), Silent()], train, validation, reading(["a", "b"])
    )

    assert list(found.validation) == list(found.test) == ["counting"]
    assert (found.validation["counting"] == 7).all()
    assert (found.test["counting"] == 11).all()
    assert found.notes == ["The source silent is left out: there is nothing to say."]


@pytest.mark.parametrize("known", [None, "some"])
def test_two_sets_of_texts_become_one(known):
    cells = None if known is None else np.random.default_rng(0).random((7, 4)) < 0.5
    first, second = annotated(7, known=cells), annotated(4, seed=1)
    both = together(first, second)

    assert (len(both.ids), both.y.shape) == (11, (11, 4))
    assert both.reading.texts == [*first.reading.texts, *second.reading.texts]
    np.testing.assert_array_equal(both.y.toarray()[7:], second.y.toarray())
    if cells is None:
        assert both.known is None
    else:
        np.testing.assert_array_equal(both.known[:7], cells)
        assert both.known[7:].all()
    assert Neighbours(3).fit(both).score(second.reading).shape == (4, 4)
