"""The whole audit: every section, and files that hold what it found."""

import csv
import json

import numpy as np
import pyarrow as pa
import pytest
from audit_case import annotations, tickets, with_labels

from longtail import storage
from longtail.audit import AUDIT, CORRECTIONS, LABELLING, WORK_LIST
from longtail.audit.audit import AuditInput, run_audit
from longtail.audit.output import write_audit
from longtail.audit.worklist import ID_KEY
from longtail.config import AuditSettings
from longtail.errors import DataError

SETTINGS = AuditSettings(folds=3)


def case() -> pa.Table:
    """Tickets with a conflict among duplicates, a near-duplicate and a wrong label."""
    rows = with_labels(tickets(), 0, ["billing", "login", "printing"]).to_pylist()
    long = " ".join(f"sentence{at}" for at in range(40))
    rows += [
        {**rows[4], "id": "copy", "text": rows[4]["text"].upper(), "labels": []},
        {**rows[0], "id": "near-1", "text": long + " end", "labels": ["billing"]},
        {**rows[0], "id": "near-2", "text": long + " stop", "labels": ["login"]},
    ]
    return annotations(rows)


@pytest.fixture(scope="module")
def audit():
    return run_audit(AuditInput(case()), SETTINGS, similarity=0.8)


def test_every_section_has_its_counts(audit):
    sections = audit.sections

    assert (sections["texts"], sections["labels"]) == (243, 4)
    assert sections["duplicates"]["beyond_first"] == 1
    assert sections["duplicates"]["conflicting_sets"] == 1
    assert sections["near_duplicates"]["pairs"] == 1
    assert sections["near_duplicates"]["conflicts"] == 1
    assert sections["near_duplicates"]["sides"] == "by chance"
    assert sections["label_errors"]["labels"] == 4
    assert sections["rare_labels"]["labels"] == 0
    assert sections["candidates"]["cells"] == len(audit.candidates)
    by_kind = sections["candidates"]["by_kind"]
    assert sum(sum(actions.values()) for actions in by_kind.values()) == len(audit.candidates)


def test_the_files_agree_with_each_other(audit, tmp_path):
    write_audit(tmp_path, audit, case(), {"corrections": {"applied": 3}})

    found = storage.read_json(tmp_path / AUDIT)
    tasks = storage.read_json(tmp_path / WORK_LIST)
    with (tmp_path / CORRECTIONS).open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert found["corrections"] == {"applied": 3}
    assert len(tasks) == found["candidates"]["texts"]
    assert len(rows) == found["candidates"]["cells"]
    assert {task["data"][ID_KEY] for task in tasks} == {row["id"] for row in rows}
    assert all(row["accepted"] == "" for row in rows)
    assert set(found["excerpts"]) >= {row["id"] for row in rows}
    assert (tmp_path / LABELLING).read_text(encoding="utf-8").count("<Choice ") == 4


def test_the_split_of_the_data_is_where_pairs_would_leak(audit):
    rows = case().to_pylist()
    for row in rows:
        row["split"] = "test" if row["id"] == "near-2" else "train"

    found = run_audit(
        AuditInput(annotations(rows)), AuditSettings(label_errors=False), similarity=0.8
    ).sections

    assert found["near_duplicates"]["sides"] == "data"
    assert found["near_duplicates"]["divided"] == 1
    assert found["near_duplicates"]["test_texts"] == 1
    assert found["near_duplicates"]["held_out_texts"] == 1
    assert found["duplicates"]["test_in_train"] == 0
    assert found["label_errors"] is None
    assert found["rare_labels"]["not_in_test"] == 3


def test_groups_bind_units_but_are_no_near_duplicates():
    rows = tickets(60).to_pylist()
    for at, row in enumerate(rows):
        row["group"] = f"case{at % 2}"

    found = run_audit(
        AuditInput(annotations(rows)), AuditSettings(label_errors=False), similarity=0.8
    ).sections

    assert found["near_duplicates"]["pairs"] == 0
    assert found["rare_labels"]["too_few_units"] == 4


def test_the_ledgers_sides_say_what_the_test_set_lacks():
    sides = np.zeros(240, dtype=np.int8)

    found = run_audit(
        AuditInput(tickets(), sides=np.where(np.arange(240) < 1, 2, sides).astype(np.int8)),
        AuditSettings(label_errors=False), similarity=0.8,
    ).sections  # fmt: skip

    assert found["rare_labels"]["not_in_test"] == 3


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_a_handful_of_texts_can_be_audited(n, tmp_path):
    table = tickets(n)

    audit = run_audit(AuditInput(table), AuditSettings(min_label_texts=2), similarity=0.8)
    write_audit(tmp_path, audit, table)

    assert json.loads((tmp_path / AUDIT).read_text(encoding="utf-8"))["texts"] == n


def test_texts_without_any_label_can_be_audited():
    table = annotations([{"id": f"t{at}", "text": f"text {at}", "labels": []} for at in range(9)])

    assert run_audit(AuditInput(table), SETTINGS, similarity=0.8).candidates == ()


def test_nothing_to_audit_is_an_error():
    with pytest.raises(DataError, match="no text to audit"):
        run_audit(AuditInput(annotations([])), SETTINGS, similarity=0.8)
