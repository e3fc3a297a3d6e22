"""The benchmark of the gate asks the gate's own question, of arms that are what they claim."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp

from longtail import storage
from longtail.baselines import LinearBaseline
from longtail.config import GROUPS, GatePolicy, LinearSettings
from longtail.gate.comparisons import compare_all
from longtail.metrics import text_counts
from longtail.predictions import Predictions, write_predictions
from longtail.significance import sum_by_unit

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def modules():
    """The benchmark's modules and the gate's test case; neither is a package."""
    added = [str(ROOT / "benchmarks"), str(ROOT / "tests" / "longtail")]
    sys.path[:0] = added
    try:
        yield tuple(importlib.import_module(name) for name in ("gate", "gate_pool", "gate_case"))
    finally:
        for path in added:
            sys.path.remove(path)


def make_arm(gate_pool, y, decided, units, name="a", recipe="bce", seed=0, in_group=None):
    slices = [np.ones(y.shape[1], dtype=bool), *([] if in_group is None else in_group.T)]
    counts = np.stack([text_counts(y[:, at], decided[:, at]) for at in slices], axis=1)
    hits = gate_pool._by_unit(y & decided, units)
    return gate_pool.Arm(name, recipe, frozenset([seed]), sum_by_unit(counts, units), hits)


def test_a_trial_compares_as_the_gate_does(modules):
    gate, gate_pool, case = modules
    units = np.arange(len(case.TEST.ids)) // 2
    policy = GatePolicy(draws=4000, min_group_positives=40)
    inputs = replace(case.WIN, test=replace(case.TEST, units=units))
    expected = compare_all(inputs, policy)["bce"]
    y = case.TEST.y.toarray()
    in_group = np.stack([np.asarray(case.GROUPS.of_label) == group for group in GROUPS], axis=1)
    pair = [
        make_arm(gate_pool, y, case.WIN.arms[name].decided.toarray(), units, in_group=in_group)
        for name in ("candidate", "bce")
    ]
    population = gate_pool.Population(
        "p", "p", np.full(len(units) // 2, 2), gate_pool._by_unit(y, units), in_group, tuple(pair)
    )
    every = np.arange(len(population.sizes))
    found = gate.trial(population, tuple(pair), every, policy, np.random.default_rng(0)).comparison
    assert found.overall.gain == expected.overall.gain
    assert found.overall.lower == pytest.approx(expected.overall.lower, abs=3e-3)
    for name, gain in expected.groups.items():
        assert found.groups[name].gain == pytest.approx(gain.gain)
        assert found.groups[name].lower == pytest.approx(gain.lower, abs=2e-2)
    for field in ("with_positives", "recognised", "recognised_twice"):
        assert getattr(found, field) == getattr(expected, field)
    assert [case.LABELS[int(label)] for label in found.won] == list(expected.won)
    assert found.lost == expected.lost


def test_a_mixture_is_as_good_as_asked_and_made_of_both(modules):
    gate_pool = modules[1]
    rng = np.random.default_rng(0)
    y = rng.random((3000, 5)) < 0.3
    units = np.arange(3000)
    good, poor = (
        make_arm(gate_pool, y, y & (rng.random(y.shape) < quality), units, name, seed=seed)
        for seed, (name, quality) in enumerate((("good", 0.8), ("poor", 0.6)))
    )
    target = poor.micro_f1 + 0.01
    found = gate_pool.mixed(poor, good, target, rng)
    assert found.micro_f1 == pytest.approx(target, abs=1e-3)
    assert found.seeds == {0, 1}
    taken = (found.counts == good.counts).all(axis=(1, 2)).mean()
    assert 0.05 < taken < 0.95
    np.testing.assert_array_equal(found.hits.sum(), found.counts[:, 0, 0].sum())
    assert gate_pool.mixed(poor, good, good.micro_f1 + 0.01, rng) is None


def write_cell(pool, recipe, seed, ids, y, quality):
    directory = pool / f"{recipe}-s{seed}" / "fold0"
    directory.mkdir(parents=True)
    rng = np.random.default_rng([seed, len(recipe)])
    for name, rows in (("scored", slice(0, 60)), ("validation", slice(60, 120))):
        given = y[rows] & (rng.random(y[rows].shape) < quality)
        p = np.where(given, 0.8, 0.2) + rng.uniform(-0.1, 0.1, given.shape)
        write_predictions(directory / f"{name}.parquet", Predictions(ids[rows], ("x", "y", "z"), p))
    about = {"groups": GROUPS, "support": [30, 20, 10], "cutoffs": [15, 25]}
    storage.write_json(directory / "cell.json", {**about, "thresholds": {"values": [0.5] * 3}})


def test_a_pool_gives_its_arms_and_what_is_made_of_them(modules, tmp_path):
    gate, gate_pool, _ = modules
    y = np.random.default_rng(0).random((120, 3)) < 0.4
    ids = tuple(f"t{row}" for row in range(120))
    labels = [[name for name, given in zip("xyz", row, strict=True) if given] for row in y]
    truth = {"id": ids, "unit": np.arange(120) // 2, "fold": [0] * 60 + [-1] * 60, "labels": labels}
    storage.write_json(tmp_path / "labels.json", list("xyz"))
    storage.write_parquet(tmp_path / "truth.parquet", pa.table(truth))
    for seed in range(3):
        write_cell(tmp_path, "bce", seed, ids, y, 0.7)
    write_cell(tmp_path, "linear", 0, ids, y, 0.6)
    (population,) = gate_pool.read_pool(tmp_path)
    assert (population.texts, len(population.sizes)) == (60, 30)
    recipes = [arm.recipe for arm in population.arms]
    assert {name: recipes.count(name) for name in recipes} == {
        "bce": 3, "linear": 1, "bce of 2": 3, "fused bce": 3,
    }  # fmt: skip
    arms = {(arm.recipe, *sorted(arm.seeds)): arm.micro_f1 for arm in population.arms}
    gains = gate.gains_by_seed(population, "fused bce", "bce")
    assert gains == [arms["fused bce", seed] - arms["bce", seed] for seed in range(3)]
    assert len(gate.gains_by_seed(population, "linear", "bce")) == 3
    equal = gate.exchangeable([population])
    assert len(equal) == 12  # ordered pairs of three seeds, alone and fused; of two seeds none
    for contest in equal:
        assert contest.candidate.recipe == contest.baseline.recipe
        assert not contest.candidate.seeds & contest.baseline.seeds
    for contests in gate.better(equal, 0.01, np.random.default_rng(0)).values():
        for contest in contests:
            gain = contest.candidate.micro_f1 - contest.baseline.micro_f1
            assert gain == pytest.approx(0.01, abs=0.01)


def test_a_drawn_test_set_has_whole_units_and_the_asked_size(modules):
    gate, gate_pool, _ = modules
    sizes = np.array([3, 1, 2, 5, 4, 1, 1, 2, 3, 2])
    population = gate_pool.Population("p", "p", sizes, None, None, ())
    rng = np.random.default_rng(0)
    for again in (False, True):
        for _ in range(20):
            units = gate.draw(population, 12, rng, again=again)
            assert 12 - 5 < sizes[units].sum() <= 12
            assert again or len(set(units)) == len(units)


def test_decision_values_come_back_from_the_scores_of_the_linear_arm(modules):
    texts = ["red hat", "red coat", "blue hat", "blue coat"] * 5
    y = sp.csr_array(np.array([[1, 0, 1], [1, 0, 1], [0, 0, 1], [0, 0, 1]] * 5, dtype=bool))
    arm = LinearBaseline(LinearSettings()).fit(texts, y)
    scores = Predictions(tuple(map(str, range(20))), ("red", "none", "all"), arm.predict(texts))
    found = modules[1]._decisions(scores)
    np.testing.assert_allclose(found, arm.decisions(texts), atol=1e-5)
    np.testing.assert_array_equal(found[:, 1:], np.tile([-1.0, 1.0], (20, 1)))
