"""When the verdict of the last judged run stands, and when there is something to judge."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import pytest

import tasks.unchanged
from longtail import storage
from longtail.config import EncoderSettings, GatePolicy, PublishSettings, StageSettings
from longtail.errors import StoreError
from longtail.gate import Verdict, override
from longtail.gate.verdict import RuleResult
from tasks.gate import VERDICT
from tasks.handles import DatasetHandle, RunHandle, SplitHandle
from tasks.registry import Version
from tasks.tracking import RUN_TAG
from tasks.training_job import TINY
from tasks.unchanged import LAST_JUDGED, UNCHANGED, judged_by, note_judged, standing_verdict

SETTINGS = PublishSettings()
MATTERS = {"gate": {"min_gain": 0.0}, "loss": {"name": "db"}}


@dataclass
class Champions:
    """What the registry says; a version of ``broken`` cannot be read."""

    champion_version: Version | None = None
    best_version: Version | None = None
    broken: bool = False

    def champion(self) -> Version | None:
        if self.broken:
            raise StoreError("the registry cannot be read")
        return self.champion_version

    def best(self) -> Version | None:
        return self.best_version

    def promote(self, number: int, run: str) -> None:
        version = Version("desk", number, None, "", {RUN_TAG: run})
        self.champion_version = self.best_version = version


@pytest.fixture
def champions(monkeypatch) -> Champions:
    found = Champions()
    monkeypatch.setattr(tasks.unchanged, "open_promotions", lambda *_: found)
    return found


def rule(name: str, passed: bool = True) -> RuleResult:
    return RuleResult(
        name=name, passed=passed, severity="block", value=None, threshold=None, detail=f"{name}."
    )


def verdict(failed: str | None = None) -> Verdict:
    rules = (rule("candidate_scored"), *([rule(failed, passed=False)] if failed else []))
    return Verdict(
        decision="block" if failed else "promote",
        first_release=True,
        champion_mode="refresh",
        reasons=("Worse than BCE.",) if failed else ("Better than BCE.",),
        looks=1,
        rules=rules,
        policy=GatePolicy().model_dump(mode="json"),
        arms={"candidate": "f00d"},
    )


@pytest.fixture
def new_run(tmp_path):
    """Makes runs that have split their data."""
    number = iter(range(100))

    def make(out: bool = False, **stages) -> RunHandle:
        at = next(number)
        store = tmp_path / "store"
        directory = tmp_path / f"out{at}" if out else store / "desk" / "runs" / f"r{at}"
        run = RunHandle(
            id=f"r{at}", name="desk", directory=directory, store=store, started_at="now",
            stages=StageSettings(**stages),
        )  # fmt: skip
        for name in ("statistics.json", "run.json", "account.json"):
            storage.write_json(directory / name, {"texts": 9} if name == "statistics.json" else at)
        return run

    return make


def key_of(run: RunHandle, *, data="d", split="s", matters=MATTERS) -> str:
    dataset = DatasetHandle(
        directory=run.directory, fingerprint=data, version=1, n_texts=9, n_labels=3
    )
    handle = SplitHandle.of(run.directory).model_copy(update={"fingerprint": split})
    return judged_by(run, dataset, handle, EncoderSettings(source=TINY), matters)


def judged(run: RunHandle, given: Verdict) -> None:
    """Everything that a run does after its split, as far as it matters here."""
    key_of(run)
    storage.write_json(run.directory / VERDICT, given.model_dump(mode="json"))
    storage.write_text(run.directory / "report.html", "the page")
    note_judged(run, SETTINGS)


def standing(run: RunHandle, out: str | None = None, **changed):
    return standing_verdict(run, key_of(run, **changed), SETTINGS, out)


def test_a_first_run_has_nothing_to_stand_on(new_run, champions):
    assert standing(new_run()) is None


def test_a_block_stands_while_nothing_is_new(new_run, champions):
    champions.promote(3, "long-ago")
    judged(run := new_run(), verdict("bce_micro_f1"))
    found = standing(again := new_run())

    assert found is not None
    assert (found.directory, found.run) == (run.directory, "r0")
    assert found.verdict.decision == "block"
    assert found.sentence == (
        "desk: nothing has changed since run r0, whose verdict stands: blocked. Worse than BCE. "
        f"Report: {run.directory / 'report.html'}"
    )
    assert storage.read_json(again.directory / UNCHANGED)["run"] == "r0"


def test_a_promotion_stands_with_the_champion_that_it_made(new_run, champions):
    run = new_run()
    champions.promote(1, run.id)
    judged(run, verdict())

    assert standing(new_run()).verdict.decision == "promote"


@pytest.mark.parametrize(
    "changed",
    [{"data": "other"}, {"split": "other"}, {"matters": {**MATTERS, "gate": {"min_gain": 0.1}}}],
)
def test_what_is_new_is_judged(new_run, champions, changed):
    judged(new_run(), verdict("bce_micro_f1"))

    assert standing(new_run(), **changed) is None
    assert standing(new_run()) is not None


@pytest.mark.parametrize("what", ["encoder_identity", "device_kind", "code_fingerprint"])
def test_another_encoder_device_or_library_is_judged(new_run, champions, monkeypatch, what):
    judged(new_run(), verdict("bce_micro_f1"))
    monkeypatch.setattr(tasks.unchanged, what, lambda *_: "another")

    assert standing(new_run()) is None


def test_another_view_of_the_data_is_judged(new_run, champions):
    judged(new_run(), verdict("bce_micro_f1"))
    storage.write_json((run := new_run()).directory / "statistics.json", {"texts": 8})

    assert standing(run) is None


def test_force_judges_whatever_is_new(new_run, champions):
    judged(new_run(), verdict("bce_micro_f1"))

    assert standing(new_run(force=True)) is None


def test_an_override_since_makes_its_verdict_the_standing_one(new_run, champions):
    champions.promote(1, "long-ago")
    judged(run := new_run(), verdict("bce_micro_f1"))
    passed = override(verdict("bce_micro_f1"), "Ada", "tested by hand", dt.datetime.now(dt.UTC))
    storage.write_json(run.directory / VERDICT, passed.model_dump(mode="json"))
    champions.promote(2, run.id)

    assert standing(new_run()).verdict.decision == "promote"


@pytest.mark.parametrize("change", ["rolled back", "promoted otherwise", "best is another"])
def test_another_champion_is_judged_against(new_run, champions, change):
    run = new_run()
    champions.promote(2, run.id if change == "rolled back" else "long-ago")
    judged(run, verdict() if change == "rolled back" else verdict("bce_micro_f1"))
    if change == "best is another":
        champions.best_version = None
    else:
        champions.promote(1 if change == "rolled back" else 3, "another")

    assert standing(new_run()) is None


def test_a_registry_that_cannot_be_read_is_for_the_gate(new_run, champions, caplog):
    judged(new_run(), verdict("bce_micro_f1"))
    champions.broken = True

    assert standing(new_run()) is None
    assert "cannot be read" in caplog.text
    judged(new_run(), verdict("bce_micro_f1"))
    assert "judges again" in caplog.text


@pytest.mark.parametrize("failed", sorted(tasks.unchanged._MAY_PASS_NEXT_TIME))
def test_a_block_that_may_pass_next_time_is_not_remembered(new_run, champions, failed):
    judged(run := new_run(), verdict(failed))

    assert not (run.model_store / LAST_JUDGED).exists()
    assert standing(new_run()) is None


def test_a_run_whose_directory_is_gone_is_judged_again(new_run, champions):
    judged(run := new_run(), verdict("bce_micro_f1"))
    (run.directory / VERDICT).unlink()

    assert standing(new_run()) is None


def test_the_judged_runs_results_are_copied_to_where_they_were_asked_for(new_run, champions):
    judged(first := new_run(out=True), verdict("bce_micro_f1"))
    asked = new_run(out=True)
    found = standing(asked, str(asked.directory))

    assert found.directory == asked.directory
    assert (asked.directory / "report.html").read_text() == "the page"
    assert storage.read_json(asked.directory / "run.json") == 0  # for an override
    assert storage.read_json(asked.directory / "account.json") == 1  # its own
    report = asked.directory / "report.html"
    assert not report.samefile(first.directory / "report.html")
