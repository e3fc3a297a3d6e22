"""Annotators who differ: planted ones are found, and few of those who do not are."""

from __future__ import annotations

import datetime as dt
import itertools
import json

import numpy as np
import pyarrow as pa
import pytest

from longtail.annotations.schema import ANNOTATIONS
from longtail.annotator_drift import annotator_drift
from longtail.voices import periods_of

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def table_of(rows):
    return pa.Table.from_pylist(rows, schema=ANNOTATIONS)


def said(text, by, labels, hours=0, dated=True):
    when = START + dt.timedelta(hours=hours) if dated else None
    return {"id": f"{text}", "text": f"t{text}", "labels": labels, "annotator": by,
            "annotated_at": when}  # fmt: skip


def world(seed, flips, per_text=3, shared=0.5, n=600, n_labels=4, habit=None):
    """Texts over a year. ``flips``: how often each annotator errs, by cell.

    ``habit``: (annotator, from which share of the year) who then always gives label 0.
    """
    rng = np.random.default_rng(seed)
    table, voices = [], []
    for u in range(n):
        truth = rng.random(n_labels) < 0.3
        who = rng.permutation(len(flips))[: per_text if rng.random() < shared else 1]
        rows = []
        for a in who:
            given = truth ^ (rng.random(n_labels) < flips[a])
            if habit is not None and a == habit[0] and u >= habit[1] * n:
                given[0] = True
            rows.append(said(u, f"r{a}", [f"l{j}" for j in np.flatnonzero(given)], 8760 * u / n))
        table.append(rows[0])
        voices += rows if len(rows) > 1 else []
    return table_of(table), table_of(voices)


def differing(found):
    return [one["annotator"] for one in found["annotators"] if one["differs"]]


def test_who_errs_three_times_as_often_is_found():
    found = annotator_drift(*world(1, [0.05, 0.05, 0.15, 0.05, 0.05]))
    assert differing(found) == ["r2"]
    bad, good = found["annotators"][2], found["annotators"][0]
    assert bad["f1"] < bad["interval"][1] < good["interval"][0] < good["f1"]
    assert bad["q"] < 0.001


def test_who_is_like_the_others_is_left_alone():
    """At a false discovery rate of 5 %, at most 5 % of such worlds may have a false alarm."""
    found = [annotator_drift(*world(seed, [0.1] * 4, n=300)) for seed in range(40)]
    assert sum(bool(differing(one)) for one in found) <= 6  # P(more) < 1 % at 5 %
    assert sum(bool(one["labels"]) for one in found) <= 6
    assert min(one["label_tests"] for one in found) > 10


def test_of_two_nobody_can_say_who_is_wrong():
    found = annotator_drift(*world(1, [0.02, 0.3, 0.02], per_text=2, shared=1.0))
    assert differing(found) == []
    assert {(one["deciding_texts"], one["p"], one["q"]) for one in found["annotators"]} == {
        (0, None, None)
    }
    assert found["annotators"][1]["f1"] < found["annotators"][0]["f1"]


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_who_begins_to_give_a_label_is_found_with_the_period(shared):
    found = annotator_drift(*world(3, [0.05] * 4, shared=shared, n=1200, habit=(1, 0.7)))
    assert {(one["annotator"], one["label"]) for one in found["labels"]} >= {("r1", "l0")}
    mine = [one for one in found["labels"] if one["annotator"] == "r1" and one["label"] == "l0"]
    assert all(one["given"] > one["expected"] for one in mine)
    assert {one["period"] for one in mine} <= {"all", "2026-09", "2026-10", "2026-11", "2026-12"}
    strengths = [one["p"] for one in found["labels"]]
    assert strengths == sorted(strengths)


def test_texts_that_change_for_all_accuse_nobody():
    """r0 works in spring and r1 in autumn, when label 0 is everywhere; r2 works all year."""
    rng = np.random.default_rng(0)
    rows = []
    for u in range(1200):
        autumn = u >= 600
        by = rng.choice(["r1" if autumn else "r0", "r2"])
        rows.append(said(u, by, ["x"] if rng.random() < (0.8 if autumn else 0.1) else ["y"], 7 * u))
    assert annotator_drift(table_of(rows), table_of([]))["labels"] == []


def brute_force(voices):
    """Mean and variance of what each annotator gives, by exchanging annotators within texts."""
    texts = {}
    for row in voices:
        texts.setdefault(row["id"], {})[row["annotator"]] = row["labels"]
    found = {}
    for by_annotator in texts.values():
        orders = list(itertools.permutations(by_annotator.values()))
        for place, who in enumerate(by_annotator):
            given = np.array([["x" in order[place]] for order in orders], dtype=float)
            mean, variance = found.get(who, (0.0, 0.0))
            found[who] = mean + given.mean(), variance + given.var()
    return found


def test_expected_of_shared_texts_is_that_of_exchanged_annotators():
    rng = np.random.default_rng(0)
    voices = [
        said(u, by, ["x"] if rng.random() < (0.9 if by == "a" else 0.3) else [])
        for u in range(80)
        for by in rng.permutation(list("abcd"))[: rng.integers(2, 5)]
    ]
    found = annotator_drift(table_of([]), table_of(voices))
    mine = next(one for one in found["labels"] if one["annotator"] == "a")
    mean, variance = brute_force(voices)["a"]
    assert mine["expected"] == pytest.approx(mean)
    z = (mine["given"] - 0.5 - mean) / variance**0.5
    assert mine["p"] < 10 ** (-(z**2) / 2 / np.log(10) + 2)


def test_figures_of_shared_texts_by_hand():
    voices = [said(0, "a", ["x", "y"]), said(0, "b", ["x"]), said(0, "c", ["x", "z"]),
              said(1, "a", ["y"]), said(1, "b", ["z"])]  # fmt: skip
    first = annotator_drift(table_of([voices[0]]), table_of(voices))["annotators"][0]
    # Text 0: the others both gave x. a has x right, y too much. Text 1: y too much, z missing.
    assert (first["precision"], first["recall"]) == (pytest.approx(1 / 3), pytest.approx(1 / 2))
    assert first["f1"] == pytest.approx(2 / 5)
    assert (first["texts"], first["shared_texts"]) == (2, 2)
    assert first["by_period"] == [{"period": "2026-01", "shared_texts": 2, "f1": first["f1"]}]


def test_annotations_of_before_a_label_are_left_out_of_it():
    since = {"x": START + dt.timedelta(hours=100)}
    early = [said(u, by, ["x"] if by == "a" else []) for u in range(60) for by in "ab"]
    late = [said(100 + u, by, ["x"][: u % 2], 200) for u in range(60) for by in "ab"]
    found = annotator_drift(table_of([]), table_of(early + late), since=since)
    assert found["labels"] == []
    assert [one["f1"] for one in found["annotators"]] == [1.0, 1.0]
    assert annotator_drift(table_of([]), table_of(early + late))["labels"] != []


@pytest.mark.parametrize("rows", [[], [said(0, None, ["x"])], [said(0, "a", None)]])
def test_nobody_to_compare_with(rows):
    found = annotator_drift(table_of(rows), table_of([]))
    assert (found["annotators"], found["labels"], found["label_tests"]) == ([], [], 0)


def test_texts_without_any_label_and_without_dates():
    rows = [said(u, by, [], dated=False) for u in range(3) for by in ("a", None)]
    found = annotator_drift(table_of(rows[::2]), table_of(rows))
    assert [(one["annotator"], one["f1"], one["texts"]) for one in found["annotators"]] == [
        (None, None, 3), ("a", None, 3)
    ]  # fmt: skip
    assert found["periods"] == [None]


def test_labels_in_blocks_are_the_labels_at_once(monkeypatch):
    data = world(5, [0.05, 0.3, 0.05], n=400)
    at_once = annotator_drift(*data)
    monkeypatch.setattr("longtail.annotator_rates._CELLS_AT_ONCE", 1)
    assert annotator_drift(*data) == at_once
    assert at_once["labels"]


def test_it_is_json():
    found = annotator_drift(*world(0, [0.1, 0.3, 0.1], n=100))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_periods_are_months_quarters_or_years():
    def named(*days):
        dates = np.array(days, dtype="datetime64[us]").astype(np.int64)
        number, names = periods_of(dates)
        return [names[i] for i in number]

    assert named("2026-11-22", "NaT", "1969-12-31") == ["2026-11", None, "1969-12"]
    months = np.arange("2024-01", "2026-01", dtype="datetime64[M]")
    assert named(*months)[3:5] == ["2024-Q2", "2024-Q2"]
    assert named(*np.arange("2000", "2020", dtype="datetime64[Y]"))[-1] == "2019"
