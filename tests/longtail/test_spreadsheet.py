"""Cells that a spreadsheet would calculate are shown instead, and read back as they were."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtail.annotations.csv_reader import csv_records
from longtail.spreadsheet import csv_text, guarded, json_cell, unguarded

TRIGGERS = "=+-@\t\r\n＝＋－＠"
NASTY = st.text(alphabet="=+-@\t\r\n＝＋－＠﹦';,|\" \u200b\ufeff\xa0\x00a1.", max_size=12)


@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\u200b=1", "\ufeff@a",
     "＝1", "＋1", "－1", "＠a", "=cmd|' /C calc'!A0", "-1e5", "+49", "- 5", "-5 ", "-٥", "'=1"],
)  # fmt: skip
def test_what_could_be_a_formula_gets_an_apostrophe(cell):
    assert guarded(cell).startswith(f"'{cell[0]}")
    assert unguarded(guarded(cell)) == cell


@pytest.mark.parametrize("cell", ["", "a", "1", "-5", "-0.25", "'-5", "'tis", "a=b", "a-b", "[-1]"])
def test_everything_else_is_left_alone(cell):
    assert guarded(cell) == unguarded(cell) == cell


def test_a_spreadsheet_that_divides_at_semicolons():
    assert guarded("a;=1; -2;b") == "a;'=1;' -2;b"


@given(NASTY | st.text())
def test_every_cell_is_read_back_as_it_was(cell):
    assert unguarded(guarded(cell)) == cell


@given(NASTY)
def test_no_part_begins_a_formula(cell):
    for part in guarded(cell).split(";"):
        bare = part.lstrip(" \u200b\ufeff\xa0\x00")
        if bare[:1] and bare[0] in TRIGGERS:
            assert float(cell) < 0  # no more than a number


@given(st.lists(NASTY) | st.dictionaries(NASTY, st.floats(-1, 1)))
def test_json_cells_need_no_apostrophe(value):
    cell = json_cell(value)
    assert json.loads(cell) == value
    assert guarded(cell) == cell


def test_numbers_stay_numbers_and_texts_are_quoted():
    text = csv_text(["id", "score"], [["-1+1", -0.5], ["b", 3], ["c", None]])
    assert text == '"id","score"\n"\'-1+1",-0.5\n"b",3\n"c",""\n'


@given(st.lists(NASTY, min_size=1))
def test_a_csv_parser_finds_the_guarded_cells(cells):
    rows = list(csv.reader(io.StringIO(csv_text(["id"], [[cell] for cell in cells]), newline="")))
    assert [unguarded(cell) for (cell,) in rows[1:]] == cells


@given(st.lists(st.text("=-@';+a1 ", min_size=1, max_size=6), min_size=1))
def test_the_reader_of_exports_gives_the_ids_back(ids):
    written = csv_text(["id", "text"], [[one, "t"] for one in ids]).encode()
    wanted = {"id": "id", "text": "text"}
    records = csv_records(io.BytesIO(written), "a.csv", wanted)
    assert [record.values["id"] for record in records] == ids
