"""Losses against the baseline: means, spreads, gains, and their order."""

from __future__ import annotations

import math

import numpy as np
import pytest

from longtail.comparison import Scored, Setting, climbed, compared, leaderboard, paired_gain

NAN = float("nan")
EQUAL = [[3, 1, 1], [2, 0, 2]]


def scored(seed, counts=EQUAL, *, loss="db", data="desk", policy="group", fused=False, micro=0.5,
           tail=0.25, seconds=10.0, weight=0.0):  # fmt: skip
    return Scored(
        Setting(data, loss, policy, fused), seed,
        {"micro_f1": micro, "macro_f1": micro / 2, "label_coverage": micro},
        {"HEAD": micro, "MEDIUM": micro, "TAIL": tail},
        np.array(counts, dtype=np.int64), seconds, weight,
    )  # fmt: skip


def gain(pairs, **changed):
    return paired_gain(pairs, **{"confidence": 0.95, "draws": 4000, "seed": 0} | changed)


def f1(tp, fp, fn):
    return 2 * tp / (2 * tp + fp + fn)


# ── the gain ─────────────────────────────────────────────────────────────────────────────────


def test_one_unit_leaves_the_seeds_as_the_only_chance():
    pairs = [
        (scored(0, [[8, 2, 0]]), scored(0, [[6, 2, 2]])),
        (scored(1, [[5, 5, 0]]), scored(1, [[7, 1, 2]])),
    ]
    first, second = f1(8, 2, 0) - f1(6, 2, 2), f1(5, 5, 0) - f1(7, 1, 2)

    found = gain(pairs)

    assert found.value_a == pytest.approx((f1(8, 2, 0) + f1(5, 5, 0)) / 2)
    assert found.value_b == pytest.approx((f1(6, 2, 2) + f1(7, 1, 2)) / 2)
    assert found.gain == pytest.approx((first + second) / 2)
    # Half of the draws take both seeds, a quarter each takes one of them twice.
    assert (found.lower, *found.interval) == pytest.approx((second, second, first))
    assert gain(pairs, confidence=0.7).lower == pytest.approx((first + second) / 2)


def test_one_seed_leaves_the_units_as_the_only_chance():
    opposite = (scored(0, [[1, 0, 0], [0, 1, 1]]), scored(0, [[0, 1, 1], [1, 0, 0]]))

    found = gain([opposite])

    assert (found.gain, found.lower, found.interval) == (0.0, -1.0, (-1.0, 1.0))
    assert gain([opposite], confidence=0.7).lower == 0.0


def test_all_seeds_see_the_same_units_in_a_draw():
    pairs = [
        (scored(seed, [[1, 0, 0], [0, 1, 1]]), scored(seed, [[0, 1, 1], [1, 0, 0]]))
        for seed in range(2)
    ]
    # A draw of one unit twice is a quarter of them; seeds with draws of their own: a sixteenth.
    assert gain(pairs, confidence=0.8).lower == -1.0


def test_equal_models_have_no_gain_and_no_spread():
    found = gain([(scored(seed), scored(seed)) for seed in range(3)])

    assert (found.gain, found.lower, found.interval) == (0.0, 0.0, (0.0, 0.0))


def test_the_same_draws_are_made_every_time():
    random = np.random.default_rng(3)
    pairs = [
        tuple(scored(seed, random.integers(0, 5, (30, 3))) for _ in range(2)) for seed in range(3)
    ]

    assert gain(pairs, draws=200) == gain(pairs, draws=200)
    assert gain(pairs, draws=200) != gain(pairs, draws=200, seed=1)


def test_without_a_pair_there_is_nothing_to_compare():
    with pytest.raises(ValueError, match="no seed in common"):
        gain([])


# ── the rows ─────────────────────────────────────────────────────────────────────────────────


def test_mean_and_standard_deviation_are_those_of_the_seeds():
    (row,) = leaderboard([
        scored(2, micro=0.6, seconds=30.0, weight=2.0),
        scored(0, micro=0.1, seconds=10.0, weight=1.0),
        scored(1, micro=0.2, seconds=20.0, weight=0.0),
    ])  # fmt: skip

    assert row.seeds == (0, 1, 2)
    assert row.values["micro_f1"] == (0.1, 0.2, 0.6)
    assert row.mean["micro_f1"] == pytest.approx(0.3)
    assert row.deviation["micro_f1"] == pytest.approx(math.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert (row.mean["TAIL"], row.deviation["TAIL"]) == (0.25, 0.0)
    assert (row.seconds, row.fusion_weight) == (20.0, 1.0)


def test_one_seed_has_no_deviation_and_an_empty_group_no_number():
    (row,) = leaderboard([scored(0, tail=NAN)])

    assert math.isnan(row.deviation["micro_f1"])
    plain = row.to_json()
    assert plain["deviation"]["micro_f1"] is None
    assert (plain["mean"]["TAIL"], plain["values"]["TAIL"]) == (None, [None])
    assert (plain["data"], plain["loss"], plain["policy"], plain["fused"]) == (
        "desk", "db", "group", False,
    )  # fmt: skip


def test_only_seeds_that_both_have_are_compared():
    rows = leaderboard([
        *(scored(seed, loss="bce", micro=micro) for seed, micro in ((0, 0.2), (1, 0.3))),
        *(scored(seed, micro=micro) for seed, micro in ((1, 0.4), (2, 0.9))),
    ])  # fmt: skip

    db = next(row for row in rows if row.setting.loss == "db")
    assert db.mean["micro_f1"] == pytest.approx(0.65)
    assert db.change["micro_f1"] == pytest.approx(0.4 - 0.3)
    assert db.change["macro_f1"] == pytest.approx((0.4 - 0.3) / 2)
    assert db.gain is not None


def test_the_baseline_and_what_shares_no_seed_with_it_have_no_gain():
    rows = leaderboard([scored(0, loss="bce"), scored(1)])

    assert [(row.gain, row.change) for row in rows] == [(None, {}), (None, {})]


def test_a_loss_is_compared_with_the_baseline_of_its_own_data_policy_and_fusion():
    elsewhere = [{"data": "shop"}, {"policy": "global"}, {"fused": True}]
    rows = leaderboard([scored(0), *(scored(0, loss="bce", **one) for one in elsewhere)])

    assert all(row.gain is None for row in rows)


def test_a_model_without_a_seed_meets_every_seed_of_the_baseline():
    perfect = [[4, 0, 0]]
    rows = leaderboard([
        *(scored(seed, [[seed, 1, 1]], loss="bce", micro=seed / 10) for seed in (1, 3)),
        scored(None, perfect, loss="linear", micro=0.9),
    ])  # fmt: skip

    linear = rows[0]
    assert (linear.setting.loss, linear.seeds) == ("linear", ())
    assert linear.change["micro_f1"] == pytest.approx(0.9 - 0.2)
    assert linear.gain is not None
    assert linear.gain.gain == pytest.approx(1 - (f1(1, 1, 1) + f1(3, 1, 1)) / 2)


def test_data_sets_and_policies_keep_their_order_and_the_best_comes_first():
    rows = leaderboard([
        scored(0, data=data, policy=policy, fused=fused, loss=loss, micro=micro)
        for data in ("shop", "desk")
        for fused in (True, False)
        for policy in ("label", "global")
        for loss, micro in (("bce", 0.1), ("db", 0.3), ("asl", 0.2))
    ])  # fmt: skip

    found = [(row.setting.data, row.setting.fused, row.setting.policy) for row in rows]
    assert list(dict.fromkeys(found)) == [
        (data, fused, policy)
        for data in ("shop", "desk") for fused in (False, True) for policy in ("label", "global")
    ]  # fmt: skip
    assert [row.setting.loss for row in rows[:3]] == ["db", "asl", "bce"]


# ── one against another ──────────────────────────────────────────────────────────────────────


def test_a_row_of_several_seeds_meets_a_model_without_one_in_every_seed():
    ones = [scored(seed, [[seed, 1, 1]], micro=seed / 10) for seed in (3, 1)]
    row = compared(ones, [scored(None, [[4, 0, 0]], loss="linear", micro=0.9)])

    assert row.seeds == (1, 3)
    assert row.change["micro_f1"] == pytest.approx(0.2 - 0.9)
    assert row.gain is not None
    assert row.gain.gain == pytest.approx((f1(1, 1, 1) + f1(3, 1, 1)) / 2 - 1)


def test_a_row_compared_with_nothing_has_no_gain():
    row = compared([scored(0)], [])

    assert (row.gain, row.change) == (None, {})


def test_each_step_of_a_ladder_is_compared_with_the_one_before():
    steps = [[scored(seed, [[hits, 1, 1]], loss=f"step {hits}", micro=hits / 10)
              for seed in (0, 1)] for hits in (2, 5, 4)]  # fmt: skip

    rows = climbed(steps)

    assert [row.setting.loss for row in rows] == ["step 2", "step 5", "step 4"]
    assert rows[0].gain is None
    assert rows[1].change["micro_f1"] == pytest.approx(0.3)
    assert rows[2].change["micro_f1"] == pytest.approx(-0.1)
    assert rows[2].gain.gain == pytest.approx(f1(4, 1, 1) - f1(5, 1, 1))
