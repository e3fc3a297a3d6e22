"""Labels that are given otherwise from a moment on: planted ones, none, and their words."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from longtail.annotations.schema import ANNOTATIONS
from longtail.label_shifts import _likelihood_ratio, _maximal_tail, label_shifts

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def row(i, labels, hours=None, text="some words"):
    when = None if hours is None else START + dt.timedelta(hours=hours)
    return {"id": f"{i:06d}", "text": text, "labels": labels, "annotated_at": when}


def table_of(rows):
    return pa.Table.from_pylist(rows, schema=ANNOTATIONS)


def world(seed, n=800, rates=(0.1, 0.2, 0.4), after=None, cut=0.6):
    rng = np.random.default_rng(seed)
    rates, after = np.array(rates), np.array(after or rates)
    return [
        row(i, [f"l{j}" for j in np.flatnonzero(rng.random(len(rates)) < now)], i)
        for i in range(n)
        for now in [after if i >= cut * n else rates]
    ]


def test_a_planted_shift_is_found_near_its_date():
    rows = world(0, after=(0.1, 0.4, 0.4))
    np.random.default_rng(1).shuffle(rows)
    found = label_shifts(table_of(rows))
    (shift,) = found["labels"]
    assert (shift["label"], found["tested"], found["dated_texts"]) == ("l1", 3, 800)
    hours = (dt.datetime.fromisoformat(shift["date"]) - START) / dt.timedelta(hours=1)
    assert hours == pytest.approx(480, abs=40)
    assert shift["texts_before"] == hours
    assert shift["rate_before"] == pytest.approx(0.2, abs=0.05)
    assert shift["rate_after"] == pytest.approx(0.4, abs=0.07)
    assert shift["p"] <= shift["q"] < 0.001
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_labels_that_do_not_move_are_left_alone():
    """At a false discovery rate of 5 %, at most 5 % of such worlds may have a false alarm."""
    alarms = sum(bool(label_shifts(table_of(world(seed)))["labels"]) for seed in range(60))
    assert alarms <= 8  # P(more) < 1 % at 5 %


@pytest.mark.parametrize("positives", [30, 100, 500])
def test_the_p_value_is_that_of_permuted_texts(positives):
    """P(p ≤ level) over permutations is the level or, ties and few texts, less."""
    rng, n = np.random.default_rng(positives), 1000
    given = np.zeros((2000, n))
    given[:, :positives] = 1
    given = rng.permuted(given, axis=1).cumsum(axis=1)
    margin = max(0.1, 5 / positives)
    before = np.arange(1, n)[None].astype(float)
    inside = (before[0] / n >= margin) & (before[0] / n <= 1 - margin)
    ratio = _likelihood_ratio(
        before[:, inside], given[:, :-1][:, inside], np.full((1, 1), n), np.full((1, 1), positives)
    )
    p = _maximal_tail(np.sqrt(ratio.max(axis=1)), np.full(2000, margin))
    for level, most in [(0.05, 0.06), (0.01, 0.014), (0.002, 0.005)]:
        assert level / 4 < (p <= level).mean() <= most


def test_the_ratio_is_scipys_g():
    table = np.array([[12.0, 88.0], [40.0, 160.0]])
    g = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
    found = _likelihood_ratio(*(np.full((1, 1), one) for one in (100.0, 12.0, 300.0, 52.0)))
    assert found[0, 0] == pytest.approx(g)


def test_a_label_that_began_is_judged_from_its_beginning():
    rng = np.random.default_rng(0)
    rows = [row(i, ["new"] if i >= 400 and rng.random() < 0.3 else ["old"], i) for i in range(800)]
    plain = label_shifts(table_of(rows))
    assert {one["label"] for one in plain["labels"]} == {"new", "old"}
    since = {"new": START + dt.timedelta(hours=400)}
    dated = label_shifts(table_of(rows), since=since)
    assert "new" not in {one["label"] for one in dated["labels"]}
    assert dated["tested"] == 2


def test_dates_of_one_moment_are_not_cut():
    rows = [row(i, ["x"] if i % 2 else ["y"], 0 if i < 200 else 5) for i in range(400)]
    rows = [{**one, "labels": ["x"]} if i < 100 else one for i, one in enumerate(rows)]
    (x, y) = label_shifts(table_of(rows))["labels"]
    assert {x["texts_before"], y["texts_before"]} == {200}
    assert x["date"] == (START + dt.timedelta(hours=5)).isoformat()


@pytest.mark.parametrize(
    "rows",
    [[], [row(0, ["x"], 1)], [row(i, ["x"], None) for i in range(100)],
     [row(i, ["x"], 1) for i in range(100)], [row(i, [], i) for i in range(100)],
     [row(i, None, i) for i in range(100)]],
)  # fmt: skip
def test_too_little_to_judge(rows):
    found = label_shifts(table_of(rows))
    assert (found["tested"], found["labels"]) == (0, [])


def test_few_texts_of_a_label_are_not_tested():
    rows = [row(i, ["rare"] if i < 29 else ["all"], i) for i in range(300)]
    assert label_shifts(table_of(rows))["tested"] == 0
    rows[29]["labels"] = ["rare"]
    assert label_shifts(table_of(rows))["tested"] == 2


def spoken(rng, words):
    return " ".join([*rng.choice(words, 3), *rng.choice(["the", "text", "goes", "along"], 3)])


def test_words_tell_a_wider_meaning_from_more_of_the_same():
    rng = np.random.default_rng(0)
    rows = []
    for i in range(1000):
        late = i >= 500
        if rng.random() < (0.5 if late else 0.2):
            kind = ["engine", "wheel"] if rng.random() < 0.6 or not late else ["battery", "cable"]
            rows.append(row(i, ["wider"], i, spoken(rng, kind)))
        else:
            rows.append(row(i, ["rest"], i, spoken(rng, ["paper", "pencil"])))
    shifts = {one["label"]: one for one in label_shifts(table_of(rows))["labels"]}
    assert set(shifts["wider"]["words_more"]) == {"battery", "cable"}
    assert set(shifts["wider"]["words_less"]) == {"engine", "wheel"}
    assert (shifts["rest"]["words_more"], shifts["rest"]["words_less"]) == ([], [])


def test_words_that_come_for_everybody_are_not_shown():
    rng = np.random.default_rng(0)
    rows = [
        row(i, ["x"] if rng.random() < (0.6 if i >= 400 else 0.2) else ["y"], i,
            "covid text" if i >= 400 else "plain text")
        for i in range(800)
    ]  # fmt: skip
    found = label_shifts(table_of(rows))["labels"]
    assert len(found) == 2
    assert [(one["words_more"], one["words_less"]) for one in found] == [([], [])] * 2


def test_words_that_went_elsewhere_are_not_shown():
    rng = np.random.default_rng(0)
    rows = [
        row(i, ["x"], i, "plain text") if rng.random() < (0.6 if i >= 400 else 0.2)
        else row(i, ["y"], i, "plain text" if i >= 400 or rng.random() < 0.5 else "dividend text")
        for i in range(800)
    ]  # fmt: skip
    shifts = {one["label"]: one for one in label_shifts(table_of(rows))["labels"]}
    assert (shifts["x"]["words_more"], shifts["x"]["words_less"]) == ([], [])
    assert shifts["y"]["words_less"] == ["dividend"]


def test_texts_without_words():
    rows = [{**one, "text": "1 2"} for one in world(0, after=(0.1, 0.6, 0.4))]
    assert label_shifts(table_of(rows))["labels"][0]["words_more"] == []
