"""Enough to train on, and labels that are too rare."""

from __future__ import annotations

import pyarrow as pa
import pytest

from longtail.annotations.schema import ANNOTATIONS
from longtail.errors import DataError
from longtail.trainable import check_trainable, drop_rare_labels


def text(name, labels=("x",)):
    return {"id": name, "text": f"text {name}", "labels": list(labels)}


def table(*rows):
    return pa.Table.from_pylist(list(rows), schema=ANNOTATIONS)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([text(str(n), []) for n in range(50)], "none of the 50 texts has a label"),
        ([text(str(n)) for n in range(50)], "the same one label, 'x'"),
        ([text(str(n), ["x", "y"]) for n in range(29)], "only 29 texts have a label"),
    ],
)
def test_too_little_to_train_on(rows, said):
    with pytest.raises(DataError, match=said):
        check_trainable(table(*rows))


def test_enough_to_train_on():
    check_trainable(table(*(text(str(n), ["x", "y"][: 1 + n % 2]) for n in range(30))))


def test_rare_labels_are_dropped_with_the_texts_that_had_no_other():
    rows = [text("1", ["a", "b"]), text("2", ["a"]), text("3", ["c"]), text("4", [])]
    reduced, dropped, skipped = drop_rare_labels(table(*rows), 2)
    assert reduced.select(["id", "labels"]).to_pylist() == [
        {"id": "1", "labels": ["a"]}, {"id": "2", "labels": ["a"]}, {"id": "4", "labels": []},
    ]  # fmt: skip
    assert (dropped, skipped) == (("b", "c"), 1)
    assert reduced.schema == ANNOTATIONS


def test_no_rare_labels_leave_the_table_as_it_is():
    rows = table(text("1", ["a"]))
    assert drop_rare_labels(rows, 1) == (rows, (), 0)


def test_texts_that_never_had_a_label_stay_as_they_are():
    rows = [text("1", ["a"]), text("2", ["a", "b"]), {**text("3"), "labels": None}]
    reduced, dropped, skipped = drop_rare_labels(table(*rows), 2)
    assert reduced["labels"].to_pylist() == [["a"], ["a"], None]
    assert (dropped, skipped) == (("b",), 0)
