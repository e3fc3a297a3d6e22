"""Whether a verdict stands by what MLflow's registry and the promotion log say, and not a fake."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from longtail import storage
from longtail.config import EncoderSettings, GatePolicy, PublishSettings
from longtail.gate import Verdict, approve, override, reject
from longtail.gate.verdict import RuleResult
from longtail.serve_check import ServeCheck
from tasks import publishing
from tasks.gate import VERDICT
from tasks.handles import DatasetHandle, RunHandle, SplitHandle
from tasks.publishing import open_promotions, publish
from tasks.run import open_run
from tasks.tracking import RUN_TAG
from tasks.training_job import TINY
from tasks.unchanged import judged_by, note_judged, standing_verdict

SETTINGS = PublishSettings()
NOW = dt.datetime(2026, 11, 23, 6, 0, tzinfo=dt.UTC)
SIGNED = ("amara", "I have read the tail", NOW)


class Weeks:
    """Retrains of one model, each made of the same data, without their training."""

    def __init__(self, store: Path, make_bundle) -> None:
        self.store, self.bundle = store, make_bundle("candidate")

    def promotions(self):
        return open_promotions(SETTINGS, self.store, "desk")

    def begin(self) -> tuple[RunHandle, str]:
        """A run after its split."""
        run = open_run("desk", self.store, None, GatePolicy())
        storage.write_json(run.directory / "statistics.json", {"texts": 9})
        dataset = DatasetHandle(
            directory=run.directory, fingerprint="d", version=1, n_texts=9, n_labels=3
        )
        split = SplitHandle.of(run.directory).model_copy(update={"fingerprint": "s"})
        return run, judged_by(run, dataset, split, EncoderSettings(source=TINY), {})

    def gate(self, *, blocks: bool) -> Verdict:
        """What the gate says of the candidate against today's champion."""
        champion = self.promotions().champion()
        rules = [rule("candidate_scored")] + ([rule("micro_f1", passed=False)] if blocks else [])
        return Verdict(
            decision="block" if blocks else "promote",
            first_release=champion is None,
            champion_mode="refresh",
            reasons=("Worse.",) if blocks else ("Better.",),
            looks=1,
            rules=tuple(rules),
            policy=GatePolicy().model_dump(mode="json"),
            arms={} if champion is None else {"champion": str(champion.number)},
        )

    def carry_out(self, run: RunHandle, verdict: Verdict) -> None:
        """Publish where the verdict says so, write it down and remember it."""
        if verdict.decision == "promote":
            check = ServeCheck(passed=True, largest_difference=0.0, n=1)
            publish(
                self.promotions(), self.bundle, verdict, check,
                by="a test", micro_f1=0.5, tags={RUN_TAG: run.id}, at=NOW,
            )  # fmt: skip
        storage.write_json(run.directory / VERDICT, verdict.model_dump(mode="json"))
        note_judged(run, SETTINGS)

    def stands(self) -> Verdict | None:
        """The verdict with which the next run ends, if it finds nothing new."""
        found = standing_verdict(*self.begin(), SETTINGS, None)
        return None if found is None else found.verdict


def rule(name: str, passed: bool = True) -> RuleResult:
    return RuleResult(
        name=name, passed=passed, severity="block", value=None, threshold=None, detail=f"{name}."
    )


@pytest.fixture
def weeks(store_directory, make_bundle, monkeypatch) -> Weeks:
    monkeypatch.setattr(publishing, "check_serves", lambda *_: None)  # no model in the bundles
    return Weeks(store_directory, make_bundle)


@pytest.fixture
def live(weeks) -> RunHandle:
    """The run whose candidate is version 1, live."""
    run, _ = weeks.begin()
    weeks.carry_out(run, weeks.gate(blocks=False))
    return run


def test_a_promotion_stands(weeks, live):
    assert weeks.promotions().champion().number == 1
    assert weeks.stands().decision == "promote"


def test_a_block_stands_until_it_is_overridden_and_then_the_override(weeks, live):
    run, _ = weeks.begin()
    blocked = weeks.gate(blocks=True)
    weeks.carry_out(run, blocked)
    assert weeks.stands().decision == "block"

    weeks.carry_out(run, override(blocked, *SIGNED))
    assert weeks.promotions().champion().number == 2
    assert weeks.stands().override.by == "amara"


@pytest.mark.parametrize(("answer", "decision"), [(approve, "promote"), (reject, "block")])
def test_what_a_person_answered_stands(weeks, live, answer, decision):
    run, _ = weeks.begin()
    weeks.carry_out(run, answer(weeks.gate(blocks=False), *SIGNED))
    assert weeks.stands().decision == decision


def test_after_a_rollback_there_is_something_to_judge(weeks, live):
    run, _ = weeks.begin()
    weeks.carry_out(run, weeks.gate(blocks=False))
    assert weeks.stands().decision == "promote"

    publishing.rollback(weeks.promotions(), "amara", "It answers in riddles")
    assert weeks.promotions().champion().number == 1
    assert weeks.stands() is None


def test_a_rollback_of_an_override_that_was_not_told_of_is_judged_again(weeks, live):
    """The report failed after the override: the block before it must not stand in its place."""
    run, _ = weeks.begin()
    blocked = weeks.gate(blocks=True)
    weeks.carry_out(run, blocked)
    remembered = (live.model_store / "last-judged.json").read_bytes()
    weeks.carry_out(run, override(blocked, *SIGNED))
    (live.model_store / "last-judged.json").write_bytes(remembered)

    publishing.rollback(weeks.promotions(), "amara", "It answers in riddles")
    assert weeks.stands() is None


def test_a_publish_that_failed_is_not_remembered(weeks, live):
    before = (live.model_store / "last-judged.json").read_bytes()
    run, _ = weeks.begin()
    (weeks.bundle / "model.safetensors").write_text("damaged")
    with pytest.raises(Exception, match="content differs"):
        weeks.carry_out(run, weeks.gate(blocks=False))

    assert (live.model_store / "last-judged.json").read_bytes() == before
    assert weeks.promotions().champion().number == 1
