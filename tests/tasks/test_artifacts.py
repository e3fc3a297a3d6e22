"""Keys of artifacts, and where a browser finds a run's files."""

from __future__ import annotations

import pytest

from longtail.config import GatePolicy
from tasks.artifacts import REPORTS_VARIABLE, artifact_key, link, location
from tasks.run import open_run


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.delenv(REPORTS_VARIABLE, raising=False)
    return open_run("help_desk", tmp_path / "the store", None, GatePolicy())


def test_each_model_has_artifacts_of_its_own(run):
    assert artifact_key(run, "verdict") == "help-desk-verdict"


def test_without_a_server_of_reports_a_link_is_a_file_and_a_message_names_its_path(run):
    page = run.directory / "report.html"
    assert link(run, page) == page.as_uri()
    assert location(run, page) == str(page)


def test_below_a_server_of_reports_paths_are_those_in_the_store(run, monkeypatch, tmp_path):
    monkeypatch.setenv(REPORTS_VARIABLE, "https://reports.example/store/")
    page = run.directory / "a b.html"
    expected = f"https://reports.example/store/help_desk/runs/{run.id}/a%20b.html"
    assert link(run, page) == location(run, page) == expected

    outside = tmp_path / "out" / "report.html"
    assert link(run, outside) == outside.as_uri()
    assert location(run, outside) == str(outside)
