"""A run that has lost its heavy parts says so, wherever somebody asks for them."""

from __future__ import annotations

import datetime as dt

import pytest

from flows.config import RetrainConfig
from flows.console import run_report
from flows.promote import promote
from longtail import storage
from longtail.errors import ConfigError
from tasks.pruned_runs import prune_run
from tasks.run import open_run


@pytest.fixture
def pruned(tmp_path):
    store = tmp_path / "store"
    run = open_run("desk", store, None, RetrainConfig(name="desk", store=str(store)))
    for name in ("report.html", "splits/test.parquet", "arms/candidate/bundle/manifest.json"):
        storage.write_text(run.directory / name, "as it was")
    storage.write_json(run.directory / "verdict.json", {"decision": "block"})
    prune_run(run.directory, dt.datetime(2026, 11, 23, tzinfo=dt.UTC))
    return run.directory


def test_its_report_stays_as_it_was_written(pruned, capsys):
    assert run_report(str(pruned)) == 0
    said = capsys.readouterr().out
    assert "removed on 2026-11-23, because it is older" in said
    assert f"Its report stays as it was written: {pruned / 'report.html'}" in said
    assert (pruned / "report.html").read_text() == "as it was"


def test_its_candidate_cannot_be_promoted_and_a_sentence_says_why(pruned):
    with pytest.raises(ConfigError, match=r"removed on 2026-11-23.*retrain to get a candidate"):
        promote.fn(pruned, by="ann", reason="it is good")
    assert storage.read_json(pruned / "verdict.json") == {"decision": "block"}
