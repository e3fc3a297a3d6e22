"""What an export would change of the labels, said before it is taken in."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from longtail.annotations.schema import RAW
from longtail.taxonomy import Taxonomy
from longtail.taxonomy_check import check_export

NOW = datetime(2026, 7, 1, tzinfo=UTC)


def row(number, *labels, **changed):
    return {
        "id": f"t{number}", "text": "a text", "labels": list(labels), "position": number,
        "problems": [], "raw": "", **changed,
    }  # fmt: skip


def check(*rows, per_batch=2, stored=None, taxonomy=None, **settings):
    batches = [
        pa.Table.from_pylist(list(rows[start : start + per_batch]), schema=RAW)
        for start in range(0, len(rows), per_batch)
    ]
    if stored is not None:
        lists = pa.array(list(stored.values()), pa.list_(pa.string()))
        stored = pa.table({"id": list(stored), "labels": lists})
    if taxonomy is not None:
        taxonomy = Taxonomy.model_validate({"labels": taxonomy})
    return check_export(batches, stored=stored, taxonomy=taxonomy, as_of=NOW, **settings)


def found(result):
    return {(one.kind, one.label): (one.attention, one.rows, one.other) for one in result.findings}


DESCRIBED = {"description": "said"}


def test_a_new_name_needs_attention_and_says_where_it_stands():
    result = check(
        row(1, "tax"), row(2, "vat", "tax"), row(3, "vat"), row(4), row(5, "vat"), row(6, "vat"),
        stored={"t9": ["tax"]},
    )  # fmt: skip
    (new,) = result.findings
    assert (new.kind, new.label, new.attention, new.rows) == ("new", "vat", True, 4)
    assert new.first == (2, 3, 5)
    assert "give it a since" in new.detail
    assert (result.rows, result.labels, result.attention) == (6, 2, 1)


@pytest.mark.parametrize(("quarantines", "said"), [(True, "set aside"), (False, "would be taken")])
def test_what_becomes_of_a_name_that_the_taxonomy_does_not_know_is_said(quarantines, said):
    (new,) = check(row(1, "vat"), taxonomy={"tax": DESCRIBED}, quarantines=quarantines).findings
    assert said in new.detail


def test_a_name_that_only_the_data_set_knows_is_unlisted():
    result = check(row(1, "vat"), stored={"t9": ["vat"]}, taxonomy={"tax": DESCRIBED})
    assert found(result) == {("unlisted", "vat"): (True, 1, None)}


def test_a_rename_is_told_by_the_names():
    result = check(row(1, "Sign-In"), row(2, "sign in"), stored={"t9": ["sign in"]})
    assert found(result) == {("renamed", "Sign-In"): (True, 1, "sign in")}
    assert "the names are alike; but 1 row still with the other" in result.findings[0].detail


def test_a_rename_is_told_by_the_texts_before_the_names():
    stored = {f"t{n}": ["login"] for n in range(1, 5)} | {"t9": ["account2"]}
    result = check(*(row(n, "account 2") for n in range(1, 5)), stored=stored, full=True)
    assert found(result) == {
        ("renamed", "account 2"): (True, 4, "login"),
        ("vanished", "account2"): (True, 1, None),
    }
    assert "of the 4 stored texts that now have it, 4 had the other" in result.findings[0].detail


def test_a_delta_export_says_nothing_of_labels_that_are_not_in_it():
    stored = {"t8": ["fax"], "t9": ["tax"]}
    result = check(row(1, "tax"), stored=stored)
    assert (result.findings, result.absent) == ((), 1)
    full = check(row(1, "tax"), stored=stored, full=True)
    assert found(full) == {("vanished", "fax"): (True, 1, None)}


def test_a_label_that_was_retired_or_has_a_new_name_has_not_vanished():
    result = check(
        row(1, "tax"), stored={"t7": ["fax"], "t8": ["vat"]}, full=True,
        taxonomy={"tax": DESCRIBED | {"aliases": ["vat"]}, "fax": {"until": "2026-06-30"}},
    )  # fmt: skip
    assert result.findings == ()


def test_a_retired_label_is_a_matter_once_it_is_given_later():
    before, after = (datetime(2026, 6, day, tzinfo=UTC) for day in (29, 30))
    taxonomy = {"fax": DESCRIBED | {"until": "2026-06-30", "aliases": ["telefax"]}}
    old = check(row(1, "fax", annotated_at=before), taxonomy=taxonomy)
    assert found(old) == {("retired", "fax"): (False, 1, None)}
    rows = [
        row(1, "telefax", annotated_at=before),
        row(2, "fax", annotated_at=after),
        row(3, "fax"),
    ]
    new = check(*rows, taxonomy=taxonomy)
    assert found(new)["retired", "fax"] == (True, 3, None)
    assert "2 rows from later or without a date" in new.findings[0].detail


def test_a_label_given_before_its_since_makes_the_date_doubtful():
    taxonomy = {"passkey": DESCRIBED | {"since": "2026-03-01"}}
    dates = [None, datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)]
    result = check(*(row(n, "passkey", annotated_at=d) for n, d in enumerate(dates, 1)),
                   taxonomy=taxonomy)  # fmt: skip
    assert found(result) == {("early", "passkey"): (True, 1, None)}


@pytest.mark.parametrize("add_parents", [False, True])
def test_rows_without_what_their_label_implies_are_counted(add_parents):
    taxonomy = {
        "corn": DESCRIBED | {"parents": ["grain"], "aliases": ["maize"]},
        "grain": DESCRIBED | {"parents": ["crop"]}, "crop": DESCRIBED,
    }  # fmt: skip
    result = check(
        row(1, "maize", "grain", "crop"), row(2, "corn", "crop"), row(3, "corn"), row(4, "grain"),
        taxonomy=taxonomy, add_parents=add_parents, per_batch=3,
    )  # fmt: skip
    lacking = {(f.label, f.other): (f.rows, f.attention) for f in result.findings
               if f.kind == "parents"}  # fmt: skip
    attention = not add_parents
    assert lacking == {
        ("corn", "grain"): (2, attention), ("corn", "crop"): (1, attention),
        ("grain", "crop"): (1, attention),
    }  # fmt: skip


def test_aliases_and_missing_descriptions_are_told_but_need_no_attention():
    result = check(row(1, "login"), row(2, "login"), taxonomy={"sign-in": {"aliases": ["login"]}})
    assert found(result) == {
        ("alias", "login"): (False, 2, "sign-in"), ("undescribed", "sign-in"): (False, 2, None)
    }  # fmt: skip
    assert result.attention == 0


def test_two_spellings_in_one_export_are_told_even_with_nothing_to_compare_with():
    result = check(row(1, "Tax"), row(2, "tax"), row(3, "tax"))
    assert found(result) == {("alike", "Tax"): (True, 1, "tax")}


def test_an_alias_is_not_another_spelling_of_its_label():
    result = check(row(1, "Tax"), row(2, "tax"), taxonomy={"tax": DESCRIBED | {"aliases": ["Tax"]}})
    assert found(result) == {("alias", "Tax"): (False, 1, "tax")}


def test_rows_that_are_skipped_or_cannot_be_read_say_nothing():
    result = check(
        row(1, "vat", skipped="cancelled"), row(2, "vat", problems=["text: missing"]),
        row(3, "vat", id=None), {**row(4), "labels": None}, row(5, "tax"),
        stored={"t9": ["tax"]},
    )  # fmt: skip
    assert (result.rows, result.unusable, result.findings) == (5, 4, ())


def test_what_was_found_is_plain_data():
    result = check(row(1, "vat"), stored={"t9": ["tax"]})
    content = json.loads(json.dumps(result.to_json()))
    assert content["attention"] == 1
    assert content["findings"][0]["first"] == [1]


def test_however_the_export_is_cut_into_batches_the_findings_are_the_same():
    rows = [row(n, *(("vat", "Tax")[n % 2 :]), "tax") for n in range(1, 20)]
    settings = {
        "stored": {"t1": ["fax"], "t2": ["tax"]},
        "taxonomy": {"tax": {"since": "2026-01-01"}},
    }
    whole = check(*rows, per_batch=100, **settings)
    assert all(check(*rows, per_batch=size, **settings) == whole for size in (1, 3, 7))
