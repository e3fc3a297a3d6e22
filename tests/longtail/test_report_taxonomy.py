"""What the report says of a taxonomy: what it changed, and what nobody knows."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from longtail.report.distribution import dropped_sentence, statistics_table
from longtail.report.files import RunFiles


def run(**statistics):
    return RunFiles(Path("run"), dt.datetime(2026, 3, 1, tzinfo=dt.UTC), {}, statistics=statistics)


def test_what_the_taxonomy_changed_is_said_in_numbers():
    said = dropped_sentence(
        run(taxonomy={"renamed": {"login": 2, "log-in": 1}, "retired": {"fax": 1}, "added": {},
                      "emptied": 1})
    )  # fmt: skip
    assert said == (
        "By the taxonomy, over all texts: 3 labels read under a new name and 1 label dropped as "
        "retired. 1 text lost every label to it: a text that had retired labels alone stays as one "
        "without labels."
    )


def test_labels_that_cannot_be_taught_are_named_beside_the_rare_ones():
    said = dropped_sentence(
        run(dropped_labels=["once"], texts_left_out_with_them=1,
            never_known_absent=[f"l{n}" for n in range(12)])
    )  # fmt: skip
    assert "1 label with fewer than data.min_label_support texts" in said
    assert "12 labels that no training text is known to lack" in said
    assert "l9 and 2 more." in said


def test_a_run_without_a_taxonomy_says_nothing_of_one():
    assert dropped_sentence(run()) == ""
    assert dropped_sentence(run(never_known_absent=[], taxonomy={})) == ""


def test_unknown_cells_are_a_row_of_the_statistics_where_there_are_any():
    rows = [cell for row in statistics_table(run(n_texts=10, unknown_cells=3)).rows for cell in row]
    assert any("Cells that nobody knows" in str(cell) for cell in rows)
    rows = [cell for row in statistics_table(run(n_texts=10, unknown_cells=0)).rows for cell in row]
    assert not any("Cells that nobody knows" in str(cell) for cell in rows)
