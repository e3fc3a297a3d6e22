"""What the report of a run says of its audit."""

import shutil
from pathlib import Path

import pytest
from report_run import write_run
from test_report import Page

from longtail import storage
from longtail.audit import AUDIT, AUDIT_FAILED
from longtail.report import render_report
from longtail.report.audit_tables import conflicts_table

FOUND = {"duplicates": {"texts": 9, "sets": 1, "beyond_first": 2, "conflicting_sets": 1}}
COUNTS = {"accepted": 2, "applied": 1, "texts": 1, "text_changed": 1, "text_gone": 0,
          "already_so": 0}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run") / "run", n_labels=12, n_texts=200)


@pytest.fixture
def run(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def rendered(run: Path) -> tuple[str, list[str]]:
    page = Page(render_report(run).read_text(encoding="utf-8"))
    links = [attrs["href"] or "" for _, attrs in page.tags if "href" in attrs]
    return " ".join(page.text.split()), links


def test_the_findings_stand_in_the_report_with_a_link_to_the_page(run):
    storage.write_json(run / AUDIT, FOUND)

    text, links = rendered(run)

    assert "2 texts of 9 repeat another one" in text
    assert links == ["audit.html"]


def test_a_failed_audit_is_a_sentence_and_no_link(run):
    storage.write_json(run / AUDIT_FAILED, {"reason": "the disk is full <b>"})

    text, links = rendered(run)

    assert "The annotations could not be audited: the disk is full <b>" in text
    assert links == []


def test_without_an_audit_the_report_says_so(run):
    text, links = rendered(run)

    assert "This run has no audit of its annotations." in text
    assert links == []


def test_corrections_that_were_applied_are_told(run):
    storage.write_json(run / AUDIT, FOUND)
    statistics = storage.read_json(run / "statistics.json")
    storage.write_json(run / "statistics.json", {**statistics, "corrections": COUNTS})

    text, _ = rendered(run)

    assert "1 of 2 accepted corrections was applied, in 1 text" in text
    assert "Skipped: 1 because the text has changed since." in text


def test_rows_that_say_the_same_of_one_text_stand_together():
    sayings = [{"id": f"r{n}", "labels": ["tax"]} for n in range(9)]
    sayings.insert(3, {"id": "odd", "labels": [], "annotator": "kim", "split": "test"})
    section = {"listed": [{"excerpt": "A text", "disputed": ["tax"], "sayings": sayings}],
               "conflicting_sets": 1}  # fmt: skip

    shown = conflicts_table(section).rows[0][-1].text

    assert shown == "r0, r1, r2, r3, r4, r5 and 3 more: tax · odd (kim, test): none"
