"""One cell at a time: what is taken, and what is said of the rest."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtail.annotations.fields import (
    describe,
    read_date,
    read_labels,
    read_name,
    read_record,
    read_split,
    read_text,
)
from longtail.annotations.schema import Record, Unreadable


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("  a12 ", "a12"),
        (12, "12"),
        (12.0, "12"),
        ("12.0", "12.0"),
        (Decimal(7), "7"),
        ("007", "007"),
        ("", None),
        (None, None),
        (float("nan"), None),
    ],
)
def test_names_are_texts_or_whole_numbers(cell, expected):
    assert read_name(cell) == (expected, None)


@pytest.mark.parametrize("cell", [True, 1.5, float("inf"), 2.0**60, ["a"], {"a": 1}])
def test_other_ids_are_refused_with_what_was_found(cell):
    value, problem = read_name(cell)
    assert value is None
    assert "a text or a whole number is expected" in problem


def test_text_is_kept_as_it_stands():
    assert read_text("  Über\tuns \n") == ("  Über\tuns \n", None)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (3, "the number 3"),
        (False, "false"),
        (["a"], "a list"),
        ("a\ud83d", "half of a character (\\ud83d) at character 2"),
        ("a\x00", "a NUL character at character 2"),
    ],
)
def test_text_that_is_no_text(cell, said):
    value, problem = read_text(cell)
    assert value is None
    assert said in problem


@pytest.mark.parametrize(
    ("cell", "separator", "expected"),
    [
        ('["a", " b "]', None, ["a", "b"]),
        ("[]", None, []),
        (["a", "b"], None, ["a", "b"]),
        (["a", "b"], "|", ["a", "b"]),
        ("a| b", "|", ["a", "b"]),
        ("a, b", ", ", ["a", "b"]),
        ("", "|", []),
        ("", None, None),
        (None, "|", None),
        ("a||b", "|", ["a", "", "b"]),
    ],
)
def test_labels_from_lists_json_and_separated_strings(cell, separator, expected):
    assert read_labels(cell, separator) == (expected, None)


@pytest.mark.parametrize(
    ("cell", "separator", "said"),
    [
        ("a|b", None, "data.label_separator"),
        ("['a']", None, "looks like a Python list"),
        ('["a"', None, "not valid JSON"),
        ('["a"]', "|", "remove that setting"),
        pytest.param("[" * 100_000, None, "nested too deeply", id="deep"),
        ({"a": 1}, None, "an object"),
        (3, None, "the number 3"),
        (["a", None], None, "label 2 is null"),
        ([True, ["x"]], None, "label 1 is true"),
        ([["x"]], None, "label 1 is a list"),
        ([1.5], None, "the number 1.5"),
        (["a\udc00"], None, "label 1 has half of a character"),
        ([1, 2, 3, 4, 5], None, "and 2 more"),
    ],
)
def test_labels_that_cannot_be_read(cell, separator, said):
    value, problem = read_labels(cell, separator)
    assert value is None
    assert said in problem


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2026-03-01T10:30:00+01:00", dt.datetime(2026, 3, 1, 9, 30, tzinfo=dt.UTC)),
        ("2026-03-01T09:30:00Z", dt.datetime(2026, 3, 1, 9, 30, tzinfo=dt.UTC)),
        ("2026-03-01 09:30", dt.datetime(2026, 3, 1, 9, 30, tzinfo=dt.UTC)),
        ("2026-03-01", dt.datetime(2026, 3, 1, tzinfo=dt.UTC)),
        (dt.date(2026, 3, 1), dt.datetime(2026, 3, 1, tzinfo=dt.UTC)),
        (" ", None),
    ],
)
def test_dates_become_utc(cell, expected):
    assert read_date(cell) == (expected, None)


@pytest.mark.parametrize("cell", ["01.03.2026", 1_700_000_000, "0001-01-01T00:00:00+14:00", [1]])
def test_other_dates_are_refused(cell):
    value, problem = read_date(cell)
    assert value is None
    assert "ISO 8601" in problem


@pytest.mark.parametrize(
    ("name", "split"),
    [("Train", "train"), ("TRAINING", "train"), ("val", "validation"), ("dev", "validation"),
     ("valid", "validation"), ("Validation", "validation"), ("testing", "test")],
)  # fmt: skip
def test_split_synonyms(name, split):
    assert read_split(name) == (split, None)


def test_an_unknown_split_is_a_problem():
    assert "write train, validation or test" in read_split("holdout")[1]


def test_a_record_lists_the_problems_of_all_its_fields():
    record = Record(7, {"key": 1.5, "body": None, "tags": 3}, "raw", ("text: half gone",))
    row = read_record(record, {"id": "key", "text": "body", "labels": "tags"}, None)
    assert row["position"] == 7
    assert [problem.split(":")[0] for problem in row["problems"]] == ["text", "id", "labels"]


def test_an_unreadable_cell_carries_its_reason():
    record = Record(1, {"id": "a", "text": Unreadable("not UTF-8", "x")}, "raw")
    row = read_record(record, {"id": "id", "text": "text"}, None)
    assert row["problems"] == ["text: not UTF-8"]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(
    st.characters(exclude_categories=())), lambda inner: st.lists(inner) | st.dictionaries(
    st.text(), inner), max_leaves=6), st.sampled_from([None, "|", ","]))  # fmt: skip
def test_whatever_the_cell_a_value_or_a_printable_problem(cell, separator):
    for read in (read_text, read_name, read_date, lambda c: read_labels(c, separator)):
        value, problem = read(cell)
        assert value is None or problem is None
        assert problem is None or problem.encode()
    assert describe(cell).encode()
