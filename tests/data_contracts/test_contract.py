"""The suites: what they find, what they report, what their pages show."""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from data_contracts.contract import AnnotationContract, check_predictions, check_splits
from data_contracts.expectations import validate
from data_contracts.sentences import reason_kind
from data_contracts.suites import Rule, Suite, annotations_suite, predictions_suite, splits_suite
from longtail.annotations.schema import RAW
from longtail.config import DataSettings
from longtail.errors import ConfigError, DataError
from longtail.predictions import Predictions

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


class Outcome(NamedTuple):
    accepted: pa.Table
    quarantined: pa.Table
    warnings: tuple[str, ...]


def raw(*rows):
    base = {"id": "a", "text": "t", "labels": ["x"], "problems": [], "raw": "r"}
    numbered = [{**base, "position": n, **row} for n, row in enumerate(rows, 1)]
    return pa.Table.from_pylist(numbered, schema=RAW)


def check(*rows, settings=None, **options):
    contract = AnnotationContract(settings or DataSettings(as_of=NOW), file="x.csv", **options)
    checked = contract.check(raw(*rows))
    return Outcome(checked.accepted, checked.quarantined, contract.warnings)


def test_a_field_the_reader_could_not_read_is_not_reported_as_missing():
    checked = check({"text": None, "labels": None, "problems": ["text: odd"]})
    first, second = checked.quarantined["reasons"].to_pylist()[0]
    assert first == "text: odd"
    assert second.startswith("labels: missing")


def test_an_unreadable_row_has_one_reason():
    nothing = {"id": None, "text": None, "labels": None, "problems": ["row: not UTF-8"]}
    assert check(nothing).quarantined["reasons"].to_pylist() == [["row: not UTF-8"]]


def test_rows_are_known_by_number_not_by_id():
    checked = check({}, {"text": ""}, {}, {"text": " "})
    assert checked.quarantined["position"].to_pylist() == [2, 4]
    assert checked.accepted["position"].to_pylist() == [1, 3]


def test_warnings_do_not_quarantine():
    future = NOW + dt.timedelta(days=2)
    checked = check({"annotated_at": future}, {"annotated_at": NOW}, {"labels": ["x", "x"]})
    assert checked.accepted.num_rows == 3
    assert checked.warnings == (
        "A label stands twice in one row and was counted once: 1 row (3)",
        "The date of annotation lies in the future: 1 row (1)",
    )


def test_parts_are_judged_as_one(tmp_path):
    contract = AnnotationContract(DataSettings(as_of=NOW.replace(tzinfo=None)), file="x.csv")
    parts = [raw({"labels": []}, {"text": ""}), raw(), raw(*[{"labels": []}] * 9)]
    found = [contract.check(part) for part in parts]
    contract.write_pages(tmp_path)
    assert [one.accepted.num_rows for one in found] == [1, 0, 9]
    assert [one.quarantined.num_rows for one in found] == [1, 0, 0]
    assert contract.warnings == ("A text has no labels: 10 rows (1, 1, 2, 3, 4, …)",)
    pages = [page for page in tmp_path.rglob("*.html") if "validations" in page.parts]
    assert len(pages) == 2


def test_labels_are_stored_as_sets():
    labels = [["b", "a", "b"], [], ["a"], ["é", "z"]]
    checked = check(*({"labels": one} for one in labels))
    assert checked.accepted["labels"].to_pylist() == [["a", "b"], [], ["a"], ["z", "é"]]


def test_labels_that_the_taxonomy_does_not_name(tmp_path):
    path = tmp_path / "taxonomy.yaml"
    path.write_text("labels:\n  x: {aliases: [old]}\n")
    strict = DataSettings(as_of=NOW, taxonomy=str(path), unknown_labels="quarantine")
    rows = [
        {},
        {"labels": ["old"]},
        {"labels": ["x", "new"]},
        {"labels": [f"n{n}" for n in range(8)]},
    ]
    checked = check(*rows, settings=strict)
    assert checked.accepted["position"].to_pylist() == [1, 2]
    one, many = (reasons for (reasons,) in checked.quarantined["reasons"].to_pylist())
    assert one == (
        "labels: 'new' is no label or alias of the taxonomy; add what is meant to it, as a label "
        "or as an alias of one, or set data.unknown_labels: add"
    )
    assert "'n5' and 2 more are no labels" in many
    lenient = DataSettings(as_of=NOW, taxonomy=str(path))
    assert check(*rows, settings=lenient).accepted.num_rows == 4


def test_a_taxonomy_that_is_not_there():
    settings = DataSettings(taxonomy="absent.yaml", unknown_labels="quarantine")
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        AnnotationContract(settings, file="x.csv")


def test_no_rows_at_all():
    checked = check()
    assert (checked.accepted.num_rows, checked.quarantined.num_rows) == (0, 0)


def test_data_docs_are_written_without_any_text(tmp_path):
    secret = "a-very-private-text"
    contract = AnnotationContract(DataSettings(), file="x.csv")
    contract.check(raw({"text": secret, "labels": [""]}, {"id": secret, "text": None}))
    contract.write_pages(tmp_path / "d")
    pages = list((tmp_path / "d").rglob("*.html"))
    assert any(page.name == "index.html" for page in pages)
    assert any("No label is blank" in page.read_text() for page in pages)
    assert not any(secret in page.read_text() for page in pages)


def test_nothing_is_printed(capfd):
    check({}, {"text": None})
    assert capfd.readouterr() == ("", "")


def test_an_unchecked_rule_is_an_error():
    rule = Rule("r", "no_such_column", 0, 0, "critical", "Nothing.")
    with pytest.raises(RuntimeError, match="rule r could not be checked"):
        validate(pd.DataFrame({"other": [1.0]}), Suite("s", (rule,)))


@pytest.mark.parametrize(
    "suite", [annotations_suite(9), splits_suite(leaks_allowed=False), predictions_suite()]
)
def test_rule_names_are_unique(suite):
    assert len({rule.name for rule in suite.rules}) == len(suite.rules)


def test_reasons_of_one_kind_are_counted_together():
    one = "id: 'a\\'b' stands in rows 1, 2 with 1,000 \"x\""
    other = "id: 'c' stands in rows 3, 4 with 7 \"y\""
    assert reason_kind(one) == reason_kind(other)
    assert reason_kind(one) != reason_kind("id: is missing")


def split(*rows):
    base = {"text": "t", "labels": ["x"], "cohort": 0}
    schema = pa.schema([("id", pa.string()), ("text", pa.string()),
                        ("labels", pa.list_(pa.string())), ("unit", pa.int64()),
                        ("cohort", pa.int64())])  # fmt: skip
    return pa.Table.from_pylist([{**base, **row} for row in rows], schema=schema)


def splits(**changed):
    base = {"train": split({"id": "a", "unit": 0}), "validation": split({"id": "b", "unit": 1}),
            "test": split({"id": "c", "unit": 2})}  # fmt: skip
    return {**base, **changed}


def test_good_splits():
    found = check_splits(splits(), ["x"])
    assert (found.errors, found.warnings) == ((), ())
    found.require()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"test": split({"id": "a", "unit": 2})}, "stands in one split, once"),
        ({"test": split({"id": "c", "unit": 0})}, "both in train and held out"),
        ({"test": split({"id": "c", "unit": 2, "labels": ["q"]})}, "in the label space"),
        ({"test": split({"id": "c", "unit": 2, "labels": ["x", "x"]})}, "twice in a row"),
        ({"test": split({"id": "c", "unit": 2, "text": " "})}, "not blank"),
        ({"test": split({"id": "c", "unit": 2, "cohort": None})}, "cohort"),
    ],
)
def test_broken_splits(changed, said):
    found = check_splits(splits(**changed), ["x"])
    with pytest.raises(DataError, match="the splits break their contract") as caught:
        found.require()
    assert said in str(caught.value)


def test_what_splits_only_warn_about():
    held_out = split({"id": "c", "unit": 1, "labels": ["y"]})
    found = check_splits(splits(test=held_out), ["x", "y"])
    assert found.errors == ()
    assert len(found.warnings) == 2
    leaking = splits(test=split({"id": "c", "unit": 0}))
    assert check_splits(leaking, ["x"], leaks_allowed=True).errors == ()


def predictions(values, ids=("a", "b")):
    return Predictions(tuple(ids), ("x", "y"), np.array(values, dtype=np.float32))


def test_good_predictions():
    check_predictions(predictions([[0, 1], [0.5, 0.2]]), ["b", "a"]).require()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (predictions([[0, np.nan], [0.5, 0.2]]), "finite"),
        (predictions([[0, np.inf], [0.5, 0.2]]), "finite"),
        (predictions([[-0.1, 0], [0.5, 0.2]]), "below 0"),
        (predictions([[0, 1.1], [0.5, 0.2]]), "above 1"),
        (predictions([[0, 1], [0.5, 0.2]], "aa"), "scored once"),
        (predictions([[0, 1], [0.5, 0.2]], "az"), "was to be scored"),
        (predictions([[0, 1]], "a"), "1 texts were not scored, the first is 'b'"),
    ],
)
def test_broken_predictions(found, said):
    with pytest.raises(DataError, match="the predictions break their contract") as caught:
        check_predictions(found, ["a", "b"]).require()
    assert said in str(caught.value)
