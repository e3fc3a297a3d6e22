"""The audit's page: what was found, safely, whatever is missing."""

import re

import pytest
from audit_case import tickets, with_labels
from test_report import HOSTILE, Page

from longtail import storage
from longtail.audit import AUDIT
from longtail.audit.audit import AuditInput, run_audit
from longtail.audit.output import write_audit
from longtail.config import AuditSettings
from longtail.errors import StoreError
from longtail.report.audit_page import render_audit, summary

PEOPLE = {
    "agreement": {
        "texts": 40, "voices": 90, "annotators": 3, "alpha": 0.61, "interval": [0.5, 0.7],
        "labels": [
            {"label": "billing", "alpha": 0.2, "interval": None, "texts": 40, "texts_given": 9},
            {"label": HOSTILE, "alpha": None, "interval": None, "texts": 40, "texts_given": 0},
        ],
    },
    "drift": {
        "annotators": [
            {"annotator": "ann", "texts": 50, "shared_texts": 30, "f1": 0.9,
             "interval": [0.8, 0.95], "q": 0.001, "differs": True},
            {"annotator": None, "texts": 50, "shared_texts": 30, "f1": 0.9, "interval": None,
             "q": None, "differs": False},
        ],
        "labels": [{"annotator": "ann", "label": "login", "period": "2024-05", "given": 9,
                    "expected": 3.5, "texts": 30, "q": 0.01}],
    },
    "shifts": {
        "tested": 4,
        "labels": [{"label": "printing", "date": "2024-05-01T00:00:00+00:00", "rate_before": 0.1,
                    "rate_after": 0.3, "q": 0.02, "words_more": ["toner"], "words_less": []}],
    },
}  # fmt: skip
NOBODY = {
    "agreement": {"texts": 0, "labels": []},
    "drift": {"annotators": [], "labels": []},
    "shifts": {"tested": 0, "labels": []},
}


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    table = with_labels(tickets(), 0, ["billing", "login", "printing", HOSTILE])
    rows = table.to_pylist()
    rows.append({**rows[4], "id": f"copy {HOSTILE}", "labels": [HOSTILE]})
    table = table.from_pylist(rows, schema=table.schema)
    audit = run_audit(AuditInput(table), AuditSettings(folds=3), similarity=0.8)
    directory = tmp_path_factory.mktemp("audit")

    def write(more):
        write_audit(directory, audit, table, more)
        return directory

    return write


def text_of(directory):
    return " ".join(Page(render_audit(directory).read_text(encoding="utf-8")).text.split())


def test_the_page_says_what_was_found(audited):
    directory = audited(PEOPLE)

    text = text_of(directory)

    found = summary(storage.read_json(directory / AUDIT))
    assert len(found) >= 5
    for sentence in found:
        assert " ".join(sentence.split()) in text
    assert "Krippendorff's alpha over all labels is 0.61" in text
    assert "1 of 1 annotator tested differs from the others" in text
    assert "toner" in text


def test_nothing_of_the_data_is_taken_for_markup(audited):
    html = render_audit(audited(PEOPLE)).read_text(encoding="utf-8")

    assert "<script>alert" not in html
    assert "49" not in re.findall(r"\{\{.*?\}\}|49(?=\}\})", html)
    page = Page(html)
    outside = {"src", "srcset", "action", "data", "poster", "background", "href"}
    assert not [(tag, attrs) for tag, attrs in page.tags if outside & attrs.keys()]
    assert not re.search(r"https?://", html)


def test_without_annotators_one_honest_sentence_each(audited):
    text = text_of(audited(NOBODY))

    assert "No text was annotated by several annotators" in text
    assert "Fewer than two annotators are named" in text
    assert "No label has enough dated texts" in text


def test_applied_corrections_are_told_with_what_was_skipped(audited):
    counts = {"accepted": 5, "applied": 3, "texts": 2, "text_changed": 1, "text_gone": 0,
              "already_so": 1}  # fmt: skip

    text = text_of(audited({**NOBODY, "corrections": counts}))

    assert "3 of 5 accepted corrections were applied, in 2 texts" in text
    assert "Skipped: 1 because the text has changed since and 1 because" in text


def test_a_table_to_sort_stands_with_its_search(audited):
    html = render_audit(audited(PEOPLE)).read_text(encoding="utf-8")

    for table in re.finditer(r'<table [^>]*class="sortable"', html):
        before = html[: table.start()]
        assert before.rfind("<details>") > before.rfind("</details>")
        assert before.rfind('<input type="search"') > before.rfind("<details>")


def test_an_audit_without_anything_has_a_page(tmp_path):
    storage.write_json(tmp_path / AUDIT, {})

    assert "There is nothing to correct" in text_of(tmp_path)


def test_without_an_audit_there_is_no_page(tmp_path):
    with pytest.raises(StoreError, match=r"audit\.json: not found"):
        render_audit(tmp_path)


def test_nobody_is_cleared_who_could_not_be_tested(audited):
    untested = [{**one, "q": None, "differs": False} for one in PEOPLE["drift"]["annotators"]]
    directory = audited({**PEOPLE, "drift": {**PEOPLE["drift"], "annotators": untested}})

    page = render_audit(directory).read_text(encoding="utf-8")

    assert "No annotator could be tested on the same texts" in page
    assert "differ from the others on the same texts" not in page


def test_missing_labels_are_counted_as_labels():
    *_, said = summary({"implied": {"implications": 2, "missing": 1}})

    assert said.endswith("where the one implies the other; 1 label is missing by that.")
