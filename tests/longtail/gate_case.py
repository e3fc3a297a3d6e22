"""A small case for the gate: a clear win, from which each test breaks one thing."""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from longtail.config import GatePolicy
from longtail.evaluation import ArmEvaluation, TestSet, evaluate
from longtail.gate import GateInputs
from longtail.labels import LabelGroups

TEXTS = 240
LABELS = ("billing", "login", "refund", "sso", "tax", "vat")
PREVALENCE = np.array([0.6, 0.55, 0.3, 0.25, 0.12, 0.1])
GROUPS = LabelGroups(
    ("HEAD", "HEAD", "MEDIUM", "MEDIUM", "TAIL", "TAIL"), (430, 400, 200, 180, 90, 70), (150, 300)
)
POLICY = GatePolicy(draws=200, min_group_positives=40, linear="block")
ARMS = ("candidate", "bce", "linear")


@dataclass(frozen=True)
class Leak:
    test_ids: int = 0
    test_units: int = 0
    test_texts: int = 0


def make_test_set(seed=0, texts=TEXTS):
    rng = np.random.default_rng(seed)
    y = rng.random((texts, 6)) < PREVALENCE
    cohort = np.where(np.arange(texts) < texts // 2, 0, 1)
    ids = tuple(f"t{i}" for i in range(texts))
    return TestSet(ids, np.arange(texts), cohort, sp.csr_array(y), LABELS)


def scores(test, quality, seed):
    """Probabilities of an arm that finds a positive with the chance ``quality``."""
    rng = np.random.default_rng(seed)
    found = rng.random(test.y.shape) < quality
    noise = rng.random(test.y.shape) < 0.01
    return np.where(test.y.toarray() & found | noise, 0.8, 0.1).astype(np.float32)


def arm(test, name, quality, seed=1, never=(), **more) -> ArmEvaluation:
    """An arm of a quality; labels in ``never`` are never given."""
    thresholds = np.array([1.0 if label in never else 0.5 for label in test.labels])
    return evaluate(test, name, scores(test, quality, seed), thresholds, GROUPS, **more)


def clear_win(**changes) -> GateInputs:
    """A candidate far better than everything it is held against."""
    test = make_test_set()
    inputs = GateInputs(
        test=test,
        groups=GROUPS,
        arms={
            "candidate": arm(test, "candidate", 0.95),
            "bce": arm(test, "bce", 0.5, 2, never=("tax",)),
            "linear": arm(test, "linear", 0.4, 3),
        },
        references={
            "champion": arm(test, "champion", 0.5, 4),
            "best_champion": arm(test, "best_champion", 0.55, 5),
        },
        champion_state="scored",
        leaks=dict.fromkeys((*ARMS, "champion", "best_champion"), Leak()),
        looks=4,
        versions={"champion": "7"},
    )
    return replace(inputs, **changes)


def with_arm(inputs, name, evaluation) -> GateInputs:
    """The same case with another evaluation of one arm or reference."""
    if name in inputs.references:
        return replace(inputs, references={**inputs.references, name: evaluation})
    return replace(inputs, arms={**inputs.arms, name: evaluation})


def with_matched(quality, seed=6, inputs=None, **more) -> GateInputs:
    """The case with the candidate's combination, but with the BCE encoder."""
    case = WIN if inputs is None else inputs
    with_it = with_arm(case, "matched", arm(case.test, "matched", quality, seed, **more))
    return replace(with_it, leaks={**case.leaks, "matched": Leak()})


def without_champion(inputs) -> GateInputs:
    return replace(inputs, references={}, champion_state="none")


def results(verdict):
    return {rule.name: rule for rule in verdict.rules}


WIN = clear_win()
TEST = WIN.test


def policy(**changes):
    return POLICY.model_copy(update=changes)


def replaced(name, quality, **more):
    return with_arm(WIN, name, arm(TEST, name, quality, **more))


def not_a_number(name):
    values = scores(TEST, 0.9, 1)
    values[3, 2] = np.nan
    return with_arm(WIN, name, evaluate(TEST, name, values, np.full(6, 0.5), GROUPS))


def on_other_rows(name):
    return with_arm(WIN, name, arm(make_test_set(seed=9), name, 0.95))


def leaking(name, leak):
    return replace(WIN, leaks={**WIN.leaks, name: leak})
