"""A person lets a blocked candidate pass: in the open, in a name, and not past a broken bundle."""

from __future__ import annotations

import shutil

import pytest

from flows.cli import main
from longtail import storage
from longtail.config import PublishSettings
from longtail.serve_check import ServeCheck
from tasks.publishing import open_promotions
from tasks.run import RUN

pytestmark = pytest.mark.slow

NAME = "smoke"


@pytest.fixture
def blocked(week_three, tmp_path):
    """The blocked run and its store, to change."""
    store = shutil.copytree(week_three.snapshot, tmp_path / "store")
    directory = shutil.copytree(week_three.directory, tmp_path / "run")
    about = storage.read_json(directory / RUN)
    storage.write_json(directory / RUN, {**about, "store": str(store)})
    return directory


def promotions(blocked):
    return open_promotions(PublishSettings(), blocked.with_name("store"), NAME)


def overrule(blocked, reason="The floor was set too high"):
    return main(["promote", str(blocked), "--by", "amara", "--reason", reason])


def test_an_overruled_block_goes_live_and_says_in_whose_name(blocked, capsys):
    assert overrule(blocked) == 0

    verdict = storage.read_json(blocked / "verdict.json")
    entry = promotions(blocked).log()[-1]
    assert promotions(blocked).champion().number == entry.to_version == 3
    assert (entry.by, entry.override["by"]) == ("amara", "amara")
    assert entry.override["reason"] == "The floor was set too high"
    assert verdict["override"]["by"] == "amara"
    failed = [rule["name"] for rule in verdict["rules"] if not rule["passed"]]
    assert any("floor" in name for name in failed)
    assert "amara" in (blocked / "report.html").read_text(encoding="utf-8")
    assert "Promoted by amara against the gate" in " ".join(capsys.readouterr().out.split())

    assert overrule(blocked) == 2
    assert "already says promote" in capsys.readouterr().err
    assert promotions(blocked).champion().number == 3


def test_an_override_does_not_get_past_another_champion(blocked, monkeypatch):
    # Loading the bundle in a fresh process takes seconds, and the test above has done it.
    served = ServeCheck(passed=True, largest_difference=0.0, n=1)
    monkeypatch.setattr("tasks.publish.run_serve_check", lambda *_: served)
    registry = promotions(blocked).registry
    registry.move_alias("champion", 1)

    assert overrule(blocked) == 3
    verdict = storage.read_json(blocked / "verdict.json")
    assert "champion changed while this waited for a decision" in verdict["reasons"][0]
    assert registry.aliased("champion").number == 1


def test_an_override_needs_a_reason_and_a_run(blocked, tmp_path, capsys):
    assert overrule(blocked, reason=" ") == 2
    assert "a reason" in capsys.readouterr().err

    (blocked / "verdict.json").unlink()
    assert overrule(blocked) == 2
    assert "never reached a verdict" in capsys.readouterr().err

    assert overrule(tmp_path / "nowhere") == 2
    assert "not the directory of a retrain" in capsys.readouterr().err
    assert promotions(blocked).champion().number == 2
