"""Krippendorff's alpha against his own example, by hand and by brute force."""

from __future__ import annotations

import datetime as dt
import itertools
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.agreement import agreement
from longtail.annotations.schema import ANNOTATIONS

# Krippendorff 2011, section C: four observers, twelve units, five categories; None is missing.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def voice(text, by, labels, day=None, about="t"):
    when = None if day is None else dt.datetime(2026, 1, day, tzinfo=dt.UTC)
    return {"id": f"{text}", "text": about, "labels": labels, "annotator": by, "annotated_at": when}


def table_of(rows):
    return pa.Table.from_pylist(rows, schema=ANNOTATIONS)


def measured(rows, **options):
    return agreement(table_of(rows), **{"draws": 20, **options})


def by_label(found):
    return {one["label"]: one for one in found["labels"]}


def example():
    return [
        voice(u, f"o{o}", [f"c{value}"])
        for o, values in enumerate(OBSERVERS)
        for u, value in enumerate(values)
        if value is not None
    ]


def brute_force(units):
    """Alpha by its definition: pairs within units against pairs of all values.

    Args:
        units: per unit the list of values of its annotators; any hashable values.
    """
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    if not values:
        return None
    observed = sum(
        (a != b) / (len(unit) - 1) for unit in units for a, b in itertools.permutations(unit, 2)
    ) / len(values)  # fmt: skip
    pairs = list(itertools.permutations(values, 2))
    expected = sum(a != b for a, b in pairs) / len(pairs) if pairs else 0
    return 1 - observed / expected if expected else None


def test_the_published_example():
    units = [
        [value for value in unit if value is not None] for unit in zip(*OBSERVERS, strict=True)
    ]
    assert brute_force(units) == pytest.approx(0.743, abs=5e-4)
    found = measured(example())
    assert (found["texts"], found["voices"], found["annotators"]) == (11, 40, 4)
    # One label per annotation: sets differ in two labels or in none, as nominal values do.
    assert found["alpha"] == pytest.approx(0.743, abs=5e-4)


def test_each_label_of_the_published_example_by_hand():
    found = by_label(measured(example()))
    # c1: units 1 (3 of 3), 6 (1 of 4), 8 (3 of 4), 11 (2 of 2): 1 - 39 * 2 / (9 * 31)
    assert found["c1"]["alpha"] == pytest.approx(1 - 39 * (3 / 3 + 3 / 3) / (9 * 31))
    assert (found["c1"]["given"], found["c1"]["texts_given"], found["c1"]["texts"]) == (9, 4, 11)
    assert found["c5"]["alpha"] == pytest.approx(1.0)


LABELS = st.sets(st.sampled_from("xyz")).map(sorted)
UNITS = st.lists(st.lists(LABELS, min_size=1, max_size=4), min_size=1, max_size=6)


@given(UNITS)
def test_alpha_is_its_definition(units):
    rows = [voice(u, f"r{r}", said) for u, unit in enumerate(units) for r, said in enumerate(unit)]
    for label, found in by_label(measured(rows, draws=1)).items():
        expected = brute_force([[label in said for said in unit] for unit in units])
        assert (found["alpha"] is None) == (expected is None) == (found["undefined"] is not None)
        if expected is not None:
            assert found["alpha"] == pytest.approx(expected)


def known(label, day, labels, since):
    return label in labels or label not in since or (day is not None and day >= since[label])


@given(
    st.lists(
        st.lists(st.tuples(LABELS, st.none() | st.integers(1, 4)), min_size=2, max_size=4),
        min_size=1, max_size=5,
    ),
    st.dictionaries(st.sampled_from("xyz"), st.integers(1, 4)),
)  # fmt: skip
def test_cells_of_before_a_label_are_unknown(units, since):
    rows = [voice(u, f"r{r}", *said) for u, unit in enumerate(units) for r, said in enumerate(unit)]
    moments = {label: dt.datetime(2026, 1, day, tzinfo=dt.UTC) for label, day in since.items()}
    for label, found in by_label(measured(rows, draws=1, since=moments)).items():
        values = [
            [label in labels for labels, day in unit if known(label, day, labels, since)]
            for unit in units
        ]
        expected = brute_force(values)
        assert found["texts"] == sum(len(unit) > 1 for unit in values)
        assert found["given"] == sum(sum(unit) for unit in values if len(unit) > 1)
        assert found["alpha"] == (None if expected is None else pytest.approx(expected))


def test_what_does_not_vary_has_no_alpha_and_says_why():
    found = by_label(measured([voice(0, "a", ["x"]), voice(0, "b", ["x"])]))["x"]
    assert (found["alpha"], found["interval"]) == (None, None)
    assert found["undefined"] == "everybody gave it on every text of several annotators"
    since = {"x": dt.datetime(2027, 1, 1, tzinfo=dt.UTC)}
    found = by_label(measured([voice(0, "a", ["x"]), voice(0, "b", [])], since=since))["x"]
    assert found["undefined"] == "no text has two annotators who could know the label"


@pytest.mark.parametrize("rows", [[], [voice(0, "a", ["x"])]])
def test_nothing_to_compare(rows):
    found = measured(rows)
    assert (found["texts"], found["alpha"], found["interval"], found["labels"]) == (
        0,
        None,
        None,
        [],
    )


def test_outdated_and_unlabelled_voices_do_not_disagree():
    rows = [voice(0, "a", ["x"], 1, "old"), voice(0, "b", ["y"], 2), voice(0, "c", ["y"], 2),
            voice(1, "a", []), voice(1, "b", []), voice(1, "c", None)]  # fmt: skip
    found = measured(rows)
    assert (found["texts"], found["voices"], found["outdated"]) == (2, 4, 1)
    assert by_label(found).keys() == {"y"}
    assert found["alpha"] == 1.0


def random_voices(n_texts, n_labels, flip, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.random((n_texts, n_labels)) < 0.3
    return [
        voice(u, f"r{r}", np.flatnonzero(truth[u] ^ (rng.random(n_labels) < flip)).astype(str))
        for u in range(n_texts)
        for r in range(3)
    ]


def test_the_interval_is_that_of_resampled_texts():
    rows = random_voices(60, 2, 0.1)
    found = measured(rows, draws=400)
    said = {}
    for row in rows:
        said.setdefault(row["id"], []).append("0" in row["labels"])
    units, rng = list(said.values()), np.random.default_rng(9)
    drawn = [brute_force([units[i] for i in rng.integers(0, 60, 60)]) for _ in range(100)]
    expected = np.quantile(drawn, [0.025, 0.975])
    assert by_label(found)["0"]["interval"] == pytest.approx(expected, abs=0.08)
    low, high = by_label(found)["0"]["interval"]
    assert low < by_label(found)["0"]["alpha"] < high
    assert found["interval"][0] < found["alpha"] < found["interval"][1]


@settings(max_examples=5)
@given(st.integers(0, 100))
def test_the_interval_covers_the_alpha_of_many_texts(seed):
    truth = measured(random_voices(3000, 1, 0.1, 1234), draws=1)["alpha"]
    low, high = measured(random_voices(150, 1, 0.1, seed), draws=200)["interval"]
    assert low - 0.1 < truth < high + 0.1


def test_a_label_of_two_texts_has_no_interval():
    rows = random_voices(50, 1, 0.0)
    rows += [voice("a", "r0", ["rare"]), voice("a", "r1", [])]
    found = by_label(measured(rows, draws=400))
    assert found["rare"]["alpha"] is not None
    assert found["rare"]["interval"] is None
    assert found["0"]["interval"] == [1.0, 1.0]


def test_the_same_seed_gives_the_same_and_it_is_json():
    rows = random_voices(30, 2, 0.2)
    assert measured(rows) == measured(rows)
    assert measured(rows, seed=1)["interval"] != measured(rows, seed=2)["interval"]
    assert json.loads(json.dumps(measured(rows))) == measured(rows)
