"""What a run learns from: the annotations under today's names, and the labels it can teach."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from longtail.annotations.schema import ANNOTATIONS
from longtail.audit.corrections import text_hashes
from longtail.config import DataSettings
from longtail.errors import DataError
from longtail.labels import LabelSpace
from tasks.view import teachable, view_annotations

MARCH = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def taxonomy(tmp_path):
    path = tmp_path / "taxonomy.yaml"
    path.write_text(
        "labels:\n  sign-in: {aliases: [login]}\n  fax: {until: 2026-06-30}\n"
        "  passkey: {since: 2026-03-01, parents: [sign-in]}\n"
    )
    return str(path)


def stored(*rows):
    return pa.Table.from_pylist(
        [{"id": str(n), "text": "t", "labels": labels, "annotated_at": at}
         for n, (labels, at) in enumerate(rows)],
        schema=ANNOTATIONS,
    )  # fmt: skip


ROWS = stored((["login"], MARCH - DAY), (["passkey"], MARCH), (["fax"], None), (None, None))


def test_without_a_taxonomy_the_annotations_are_what_they_are():
    view = view_annotations(ROWS, DataSettings())
    assert view.table is ROWS
    assert view.about == {}
    assert view.since(LabelSpace(("a", "b"))) == (None, None)


def test_a_run_sees_todays_names_and_says_what_it_changed(taxonomy, caplog):
    data = DataSettings(taxonomy=taxonomy, as_of=datetime(2026, 7, 1, tzinfo=UTC), add_parents=True)
    with caplog.at_level(logging.INFO):
        view = view_annotations(ROWS, data)
    assert view.table["labels"].to_pylist() == [["sign-in"], ["passkey", "sign-in"], [], None]
    assert view.since(LabelSpace(("passkey", "sign-in"))) == (MARCH, None)
    about = view.about["taxonomy"]
    assert about["renamed"] == {"login": 1}
    assert (about["retired"], about["added"], about["emptied"]) == ({"fax": 1}, {"sign-in": 1}, 1)
    assert len(about["fingerprint"]) == 64
    assert "taxonomy: renamed 1, retired 1, added 1, emptied 1" in caplog.text


def test_the_present_moment_is_the_clocks_where_none_is_given(taxonomy):
    view = view_annotations(ROWS, DataSettings(taxonomy=taxonomy))
    retired = datetime.now(UTC) >= datetime(2026, 6, 30, tzinfo=UTC)
    assert view.about["taxonomy"]["retired"] == ({"fax": 1} if retired else {})


def write_corrections(path, *rows):
    (shown,) = text_hashes(["t"])
    lines = [
        f"{name},{label},{action},{shown},{accepted}" for name, label, action, accepted in rows
    ]
    path.write_text("\n".join(["id,label,action,text_hash,accepted", *lines]))
    return str(path)


def test_accepted_corrections_are_seen_under_todays_names_and_counted(tmp_path, taxonomy, caplog):
    corrections = write_corrections(
        tmp_path / "corrections.csv",
        ("0", "sign-in", "remove", "yes"),
        ("1", "sign-in", "add", "no"),
        ("3", "passkey", "add", "yes"),
        ("7", "passkey", "add", "yes"),
    )
    data = DataSettings(corrections=corrections, taxonomy=taxonomy, as_of=MARCH)
    with caplog.at_level(logging.INFO):
        view = view_annotations(ROWS, data)
    assert view.table["labels"].to_pylist() == [[], ["passkey"], ["fax"], ["passkey"]]
    counts = {"accepted": 3, "applied": 2, "text_gone": 1, "text_changed": 0, "already_so": 0}
    assert view.about["corrections"] == {**counts, "texts": 2}
    assert set(view.about) == {"taxonomy", "corrections"}
    assert "2 of 3 accepted corrections applied to 2 texts; skipped: 0" in caplog.text


def test_a_list_older_than_the_taxonomy_brings_no_old_name_back(tmp_path, taxonomy):
    path = write_corrections(
        tmp_path / "corrections.csv", ("1", "login", "add", "yes"), ("1", "fax", "add", "yes")
    )
    data = DataSettings(corrections=path, taxonomy=taxonomy, as_of=MARCH + 200 * DAY)
    view = view_annotations(ROWS, data)
    assert view.table["labels"].to_pylist()[1] == ["passkey", "sign-in"]
    assert view.about["corrections"]["accepted"] == 1


def test_corrections_do_without_a_taxonomy(tmp_path):
    path = write_corrections(tmp_path / "corrections.csv", ("0", "login", "remove", "1"))
    view = view_annotations(ROWS, DataSettings(corrections=path))
    assert view.table["labels"].to_pylist()[0] == []
    assert view.taxonomy is None


def test_a_label_that_no_training_text_is_known_to_lack_cannot_be_taught(caplog):
    train = stored((["a", "b"], None), (["a"], None), ([], None))
    taught = teachable(train, LabelSpace(("a", "b", "c")), (None, MARCH, None))
    assert taught.space.names == ("a", "c")
    assert taught.since == (None, None)
    assert taught.left_out == ("b",)
    assert "no training text is known not to have them: b" in caplog.text


def test_one_text_that_is_known_to_lack_it_is_enough():
    train = stored((["b"], None), ([], MARCH))
    space = LabelSpace(("a", "b"))
    taught = teachable(train, space, (MARCH, MARCH))
    assert (taught.space, taught.since, taught.left_out) == (space, (MARCH, MARCH), ())


def test_a_training_set_that_teaches_nothing_is_refused():
    with pytest.raises(DataError, match=r"check data\.columns\.annotated_at"):
        teachable(stored((["a"], None), ([], None)), LabelSpace(("a",)), (MARCH,))
