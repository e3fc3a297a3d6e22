"""Corrections: nothing happens that nobody accepted, and nothing to a text that has changed."""

import csv
import io

import pytest
from audit_case import annotations
from hypothesis import given
from hypothesis import strategies as st

from longtail.audit.candidates import Candidate
from longtail.audit.corrections import (
    Correction,
    apply_corrections,
    corrections_csv,
    read_corrections,
    text_hashes,
)
from longtail.errors import DataError

TEXTS = {"a": "the printer jams", "=b": "refund please", "c": "nothing"}
CANDIDATES = [
    Candidate("a", "urgent", "add", "label error", 0.9, "why"),
    Candidate("=b", "-billing", "remove", "conflict", 0.5, "@because"),
]


def table():
    return annotations(
        [
            {"id": "a", "text": TEXTS["a"], "labels": ["printing"]},
            {"id": "=b", "text": TEXTS["=b"], "labels": ["-billing", "refund"]},
            {"id": "c", "text": TEXTS["c"], "labels": None},
        ]
    )


def filled(accepted, *, separator=","):
    """The list as a person saves it, with the column accepted filled in."""
    rows = list(csv.reader(io.StringIO(corrections_csv(CANDIDATES, TEXTS))))
    for row, said in zip(rows[1:], accepted, strict=True):
        row[-1] = said
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows(rows)
    return text.getvalue()


def labels_of(view):
    return dict(zip(view["id"].to_pylist(), view["labels"].to_pylist(), strict=True))


def test_a_list_that_nobody_touched_accepts_nothing(tmp_path):
    path = tmp_path / "corrections.csv"
    path.write_text(corrections_csv(CANDIDATES, TEXTS), encoding="utf-8")

    found = read_corrections(path)

    assert (found.accepted, found.proposed) == ((), 2)


@pytest.mark.parametrize("said", ["yes", "TRUE", " 1 ", "x", "Y"])
@pytest.mark.parametrize("separator", [",", ";"])
def test_what_was_accepted_is_applied_as_a_view(tmp_path, said, separator):
    path = tmp_path / "corrections.csv"
    path.write_text("\ufeff" + filled([said, said], separator=separator), encoding="utf-8")
    stored = table()

    view, counts = apply_corrections(stored, read_corrections(path).accepted)

    assert labels_of(view) == {"a": ["printing", "urgent"], "=b": ["refund"], "c": None}
    assert (counts.accepted, counts.applied, counts.texts) == (2, 2, 2)
    assert stored.equals(table())
    assert view.schema == stored.schema
    assert view.drop_columns("labels").equals(stored.drop_columns("labels"))


def test_ids_and_labels_come_back_from_a_safe_spreadsheet(tmp_path):
    written = corrections_csv(CANDIDATES, TEXTS)
    assert "'=b" in written
    assert "'-billing" in written
    path = tmp_path / "corrections.csv"
    path.write_text(filled(["", "yes"]), encoding="utf-8")

    (one,) = read_corrections(path).accepted

    assert (one.id, one.label, one.action) == ("=b", "-billing", "remove")


def test_a_text_that_changed_or_went_is_skipped_and_counted():
    (of_a, of_b) = text_hashes([TEXTS["a"], "something else"])
    asked = [
        Correction("a", "urgent", "add", of_a),
        Correction("=b", "refund", "remove", of_b),
        Correction("gone", "x", "add", of_a),
        Correction("a", "never", "remove", of_a),
        Correction("a", "printing", "add", of_a),
    ]

    view, counts = apply_corrections(table(), asked)

    assert counts.as_json() == {
        "accepted": 5, "applied": 1, "text_changed": 1, "text_gone": 1, "already_so": 2, "texts": 1,
    }  # fmt: skip
    assert labels_of(view)["=b"] == ["-billing", "refund"]


def test_a_text_without_labels_can_be_given_one():
    asked = [Correction("c", "misc", "add", text_hashes([TEXTS["c"]])[0])]

    assert labels_of(apply_corrections(table(), asked)[0])["c"] == ["misc"]


def test_without_corrections_the_table_is_the_same():
    stored = table()

    view, counts = apply_corrections(stored, [])

    assert view is stored
    assert counts.accepted == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,label\na,b\n", "no column action, text_hash, accepted"),
        ("", "no column id"),
        ("id,label,action,text_hash,accepted\na,b,add,h,maybe\n", "row 1: accepted is 'maybe'"),
        ("id,label,action,text_hash,accepted\na,b,swap,h,yes\n", "row 1: action is 'swap'"),
        ("id,label,action,text_hash,accepted\na,,add,h,yes\n", "without an id or a label"),
        (
            "id,label,action,text_hash,accepted\na,b,add,h,yes\na,b,remove,h,yes\n",
            "both added and removed",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, content, message):
    path = tmp_path / "corrections.csv"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(DataError, match=message):
        read_corrections(path)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    with pytest.raises(DataError, match="not found"):
        read_corrections(tmp_path / "no.csv")
    path = tmp_path / "bytes.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_corrections(path)


@given(st.text(max_size=400))
def test_no_content_makes_a_traceback(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("lists") / "corrections.csv"
    path.write_text(content, encoding="utf-8", errors="replace")

    try:
        found = read_corrections(path)
    except DataError:
        return
    assert len(found.accepted) <= found.proposed


actions = st.lists(
    st.tuples(st.sampled_from(["a", "=b", "c", "d"]), st.sampled_from(["p", "q"]),
              st.sampled_from(["add", "remove"]), st.booleans()), max_size=12,
)  # fmt: skip


@given(actions)
def test_the_counts_always_add_up(asked):
    hashes = dict(zip(TEXTS, text_hashes(list(TEXTS.values())), strict=True))
    wanted = [
        Correction(name, label, action, hashes.get(name, "h") if fresh else "h0")
        for name, label, action, fresh in asked
    ]

    view, counts = apply_corrections(table(), wanted)

    parts = (counts.applied, counts.text_changed, counts.text_gone, counts.already_so)
    assert sum(parts) == counts.accepted == len(wanted)
    assert view.num_rows == 3
