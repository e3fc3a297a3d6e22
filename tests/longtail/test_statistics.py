from __future__ import annotations

import json
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtail.annotations.merge import normalise_text
from longtail.labels import LabelGroups, LabelSpace
from longtail.statistics import co_occurrence, describe, duplicates, imbalance

ROWS = [
    ("1", "Printer on fire", ["fire", "printer"]),
    ("2", "printer  on FIRE", ["fire", "printer"]),
    ("3", "Printer out of paper", ["printer"]),
    ("4", "Door is open", ["door"]),
    ("5", "door is open", ["printer"]),
    ("6", "Nothing to see here, move along", []),
    ("7", "Printer on fire", None),
]


def make(rows):
    ids, texts, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "text": pa.array(texts, pa.string()),
            "labels": pa.array(labels, pa.list_(pa.string())),
        }
    )


SPACE = LabelSpace(("door", "fire", "printer"))
GROUPS = LabelGroups(("TAIL", "MEDIUM", "HEAD"), (1, 2, 4), (2, 4))


@pytest.fixture(scope="module")
def found():
    return describe(make(ROWS), SPACE, GROUPS)


def test_table_1(found):
    assert {key: found[key] for key in list(found)[:13]} == {
        "n_texts": 7,
        "n_labels": 3,
        "n_positives": 7,
        "cardinality": 1.0,
        "density": pytest.approx(1 / 3),
        "unknown_cells": 0,
        "known_texts": {},
        "n_label_sets": 4,
        "texts_without_labels": 2,
        "mean_texts_per_label": pytest.approx(7 / 3),
        "median_texts_per_label": 2.0,
        "min_texts_per_label": 1,
        "max_texts_per_label": 4,
    }


def test_density_is_over_the_cells_that_are_known():
    found = describe(make(ROWS), SPACE, GROUPS, np.array([7, 3, 5]))
    assert found["density"] == pytest.approx(7 / 15)
    assert found["unknown_cells"] == 6
    assert found["known_texts"] == {"fire": 3, "printer": 5}
    assert found["cardinality"] == 1.0


def test_figure_1(found):
    assert found["support"] == [["printer", 4], ["fire", 2], ["door", 1]]
    assert found["texts_by_number_of_labels"] == [2, 3, 2]
    assert found["co_occurrence"]["labels"] == ["printer", "fire", "door"]
    assert found["co_occurrence"]["texts"] == [[4, 2, 0], [2, 2, 0], [0, 0, 1]]
    assert found["co_occurrence"]["share_with_group"] == {
        "HEAD": {"HEAD": 0.0, "MEDIUM": 0.5, "TAIL": 0.0},
        "MEDIUM": {"HEAD": 1.0, "MEDIUM": 0.0, "TAIL": 0.0},
        "TAIL": {"HEAD": 0.0, "MEDIUM": 0.0, "TAIL": 0.0},
    }


def test_imbalance_by_the_equations(found):
    ratios = {"printer": 1.0, "fire": 2.0, "door": 4.0}
    assert found["imbalance"]["mean_irlbl"] == pytest.approx(sum(ratios.values()) / 3)
    assert found["imbalance"]["max_irlbl"] == 4.0
    per_text = 1 - np.sqrt(1.0 * 2.0) / 1.5
    assert found["imbalance"]["scumble"] == pytest.approx(2 * per_text / 7)


def test_duplicates_and_conflicts(found):
    assert found["duplicates"] == {
        "exact": 1,
        "normalised": 3,
        "in_agreement": 0,
        "in_conflict": 2,
        "conflicts": [["1", "2", "7"], ["4", "5"]],
    }
    agreed = duplicates(make(ROWS[:2]))
    assert (agreed["in_agreement"], agreed["in_conflict"]) == (1, 0)


def test_conflicts_listed_are_capped():
    rows = [(f"{at:03d}", f"text {at // 2}", ["a"] if at % 2 else ["b"]) for at in range(100)]
    result = duplicates(make(rows))
    assert result["in_conflict"] == 50
    assert len(result["conflicts"]) == 20


def test_text_length(found):
    assert found["text_length"]["words"]["max"] == 6
    assert found["text_length"]["words"]["median"] == 3.0
    assert found["text_length"]["characters"]["min"] == len("Door is open")


TEXTS = st.text("aB \x1c\t\x85\xa0\u00a8\u1680ßé", max_size=6)
LABELS = st.none() | st.lists(st.sampled_from("xyz"), max_size=3)


@given(st.lists(st.tuples(TEXTS, LABELS), max_size=12))
def test_texts_are_counted_as_python_would_count_them(found):
    rows = [(f"{at:02d}", text, labels) for at, (text, labels) in enumerate(found)]
    result = describe(make(rows), LabelSpace(("x", "y", "z")))
    words = [len(text.split()) for _, text, _ in rows]
    kinds = {}
    for name, text, labels in rows:
        kinds.setdefault(normalise_text(text), []).append((name, frozenset(labels or ())))
    repeats = [kind for kind in kinds.values() if len(kind) > 1]
    conflicts = [[name for name, _ in kind] for kind in repeats if len({s for _, s in kind}) > 1]

    assert result["text_length"]["words"].get("mean", 0) == (np.mean(words) if words else 0)
    assert result["text_length"]["words"].get("max", 0) == max(words, default=0)
    assert result["n_label_sets"] == len({frozenset(labels or ()) for _, _, labels in rows})
    assert result["duplicates"] == {
        "exact": len(rows) - len({text for _, text, _ in rows}),
        "normalised": len(rows) - len(kinds),
        "in_agreement": len(repeats) - len(conflicts),
        "in_conflict": len(conflicts),
        "conflicts": sorted(conflicts),
    }


def test_a_large_table_is_described_quickly():
    n = 100_000
    ids, texts = np.arange(n).astype(str), [f"some words of the text {at}" for at in range(n)]
    labels = pa.ListArray.from_arrays(
        np.arange(0, 2 * n + 1, 2, dtype=np.int32), pa.array(np.arange(2 * n) % 997).cast("string")
    )
    table = pa.table({"id": ids, "text": texts, "labels": labels})
    space = LabelSpace.of(labels)
    start = time.process_time()
    assert describe(table, space)["n_labels"] == 997
    assert time.process_time() - start < 4


def test_it_is_json(found):
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_co_occurrence_is_that_of_the_dense_product():
    generator = np.random.default_rng(0)
    dense = generator.random((200, 40)) < 0.2
    y = LabelSpace(tuple(f"{at:02d}" for at in range(40))).encode(
        [[f"{at:02d}" for at in np.flatnonzero(row)] for row in dense]
    )
    columns = np.array([5, 3, 30])
    expected = dense[:, columns].astype(int).T @ dense[:, columns].astype(int)
    assert np.array_equal(co_occurrence(y, columns), expected)


def test_groups_follow_from_the_support_where_none_are_given():
    shares = describe(make(ROWS), SPACE)["co_occurrence"]["share_with_group"]
    assert set(shares) == {"HEAD", "MEDIUM", "TAIL"}


def test_labels_outside_the_space_do_not_count():
    assert describe(make(ROWS), LabelSpace(("door",)))["n_positives"] == 1


@pytest.mark.parametrize("names", [(), ("a",)])
def test_an_empty_data_set_has_no_statistics_but_no_nan_either(names):
    result = describe(make([]), LabelSpace(names))
    assert result["n_texts"] == 0
    assert result["cardinality"] == 0.0
    json.dumps(result, allow_nan=False)


def test_labels_without_any_text_do_not_divide_by_zero():
    y = LabelSpace(("a", "b")).encode([[], []])
    assert imbalance(y) == {"mean_irlbl": 0.0, "max_irlbl": 0.0, "scumble": 0.0}
