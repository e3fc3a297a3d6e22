"""Choosing a loss by validation: in a run, and in a comparison of trained losses."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from longtail.comparison import Scored, Setting, chosen_by_validation
from longtail.selection import OnValidation, on_validation, preferred


def found(micro_f1, labels):
    return OnValidation(micro_f1=micro_f1, macro_f1=0.0, recognised_labels=labels)


def test_what_an_arm_achieves_at_its_own_thresholds():
    y = sp.csr_array(np.array([[1, 0], [1, 1], [0, 0]], dtype=bool))
    scores = np.array([[0.9, 0.2], [0.6, 0.4], [0.3, 0.1]], dtype=np.float32)
    given = on_validation(y, scores, np.array([0.5, 0.15]))
    # Label 0: two found. Label 1: one found, one given wrongly.
    assert given.micro_f1 == pytest.approx(2 * 3 / (4 + 3))
    assert given.macro_f1 == pytest.approx((1 + 2 / 3) / 2)
    assert given.recognised_labels == 2
    assert on_validation(y, scores, np.array([0.5, 0.5])).recognised_labels == 1


@pytest.mark.parametrize(
    ("shortlist", "best"),
    [
        ([found(0.5, 9), found(0.6, 10)], 1),
        ([found(0.7, 9), found(0.6, 10)], 1),
        ([found(0.7, 9), found(0.6, 8)], 0),
        ([found(0.6, 11), found(0.6, 12)], 0),
    ],
    ids=["higher micro-F1", "labels first", "none covers enough", "of equals the first"],
)
def test_micro_f1_decides_among_those_that_cover_what_the_baseline_covers(shortlist, best):
    assert preferred(shortlist, found(0.9, 10)) == best


def scored(loss, seed, validation, micro_f1=0.5, data="desk"):
    return Scored(
        setting=Setting(data, loss, "group", fused=True),
        seed=seed,
        overall={"micro_f1": micro_f1},
        groups={},
        counts=np.ones((3, 3), dtype=np.int64),
        seconds=10.0,
        validation=validation,
    )


def test_a_comparison_says_what_choosing_would_have_reached_seed_by_seed():
    trained = [
        scored("bce", 0, found(0.5, 10)), scored("bce", 1, found(0.5, 10)),
        scored("db", 0, found(0.6, 10), 0.61), scored("asl", 0, found(0.5, 12), 0.99),
        scored("db", 1, found(0.6, 9), 0.62), scored("asl", 1, found(0.5, 12), 0.55),
    ]  # fmt: skip
    chosen = chosen_by_validation(trained, ("db", "asl"), name="auto")

    assert [one.setting.loss for one in chosen] == ["auto", "auto"]
    assert {one.seed: one.overall["micro_f1"] for one in chosen} == {0: 0.61, 1: 0.55}
    assert [one.seconds for one in chosen] == [20.0, 20.0]


def test_without_the_whole_shortlist_or_the_baseline_nothing_is_chosen():
    db = scored("db", 0, found(0.6, 10))
    bce = scored("bce", 0, found(0.5, 10))
    assert chosen_by_validation([bce, db], ("db", "asl")) == []
    assert chosen_by_validation([db], ("db",)) == []
    assert chosen_by_validation([db, scored("bce", 1, found(0.5, 10))], ("db",)) == []
    assert chosen_by_validation([db, scored("bce", 0, found(0.5, 10), data="other")], ("db",)) == []
    assert [one.seed for one in chosen_by_validation([bce, db], ("db",))] == [0]
