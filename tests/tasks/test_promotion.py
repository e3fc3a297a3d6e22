"""The promotion protocol against an in-memory registry: crashes, races, rollbacks, the log."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.errors import StoreError
from tasks.journal import Journal
from tasks.promotion import (
    INTENT,
    LOG,
    Promotion,
    Promotions,
    StaleChampionError,
    timestamp,
)
from tasks.registry import MICRO_F1_TAG, Alias, Version

STEPS = ["checked", "intended", "committed", "previous moved", "logged", "cleared"]
NOW = dt.datetime(2026, 11, 23, 6, 0, tzinfo=dt.UTC)


class Crash(BaseException):
    """Stands for kill -9: no handler of ours may catch it."""


@dataclass
class Memory:
    """A registry in memory; ``broken`` holds versions whose bundle does not verify."""

    name: str = "tickets"
    versions: dict[int, Version] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)

    def add(self, micro_f1: float | None = 0.5) -> Version:
        number = len(self.versions) + 1
        tags = {} if micro_f1 is None else {MICRO_F1_TAG: str(micro_f1)}
        self.versions[number] = Version(self.name, number, f"run{number}", "memory", tags)
        return self.versions[number]

    def aliased(self, alias: Alias) -> Version | None:
        number = self.aliases.get(alias)
        return None if number is None else self.versions[number]

    def find(self, number: int) -> Version | None:
        return self.versions.get(number)

    def move_alias(self, alias: Alias, number: int) -> None:
        assert number in self.versions
        self.aliases[alias] = number

    def verify(self, version: Version) -> None:
        if version.number in self.broken:
            raise StoreError(f"version {version.number} is damaged")


def crash_at(wanted: str):
    def step(name: str) -> None:
        if name == wanted:
            raise Crash

    return step


def entry(version: Version, against: int | None, at: dt.datetime = NOW) -> Promotion:
    return Promotion(
        kind="promote",
        at=timestamp(at),
        by="test",
        from_version=against,
        to_version=version.number,
        micro_f1=version.micro_f1,
        decision="promote",
    )


def loads(_: Version) -> None:
    pass


@pytest.fixture
def registry() -> Memory:
    return Memory()


@pytest.fixture
def promotions(registry: Memory, tmp_path: Path) -> Promotions:
    return Promotions(registry, tmp_path / "tickets")


def promote(promotions: Promotions, micro_f1: float | None = 0.5, at: dt.datetime = NOW) -> Version:
    version = promotions.registry.add(micro_f1)
    champion = promotions.champion()
    against = None if champion is None else champion.number
    promotions.promote(version, entry(version, against, at))
    return version


def test_promotion_moves_both_aliases_and_is_logged(registry, promotions):
    promote(promotions)
    assert registry.aliases == {"champion": 1}
    promote(promotions)
    assert registry.aliases == {"champion": 2, "previous": 1}
    assert [(line.from_version, line.to_version) for line in promotions.log()] == [
        (None, 1),
        (1, 2),
    ]
    assert not (promotions.directory / INTENT).exists()


def test_of_two_promotions_one_wins_and_the_other_is_stale(registry, promotions):
    promote(promotions)
    first, second = registry.add(), registry.add()
    promotions.promote(first, entry(first, 1))
    with pytest.raises(StaleChampionError, match="version 1, but the champion is now version 2"):
        promotions.promote(second, entry(second, 1))
    assert registry.aliases == {"champion": 2, "previous": 1}
    assert len(promotions.log()) == 2


def test_a_first_release_is_stale_when_there_is_a_champion(registry, promotions):
    promote(promotions)
    late = registry.add()
    with pytest.raises(StaleChampionError, match="no champion, but the champion is now version 1"):
        promotions.promote(late, entry(late, None))


def test_what_was_rolled_back_does_not_come_back_by_repeating_its_promotion(registry, promotions):
    """A run that was killed after its promotion repeats it, maybe after a person's rollback."""
    promote(promotions)
    second = promote(promotions)
    promotions.rollback("ann", "It answers in riddles", check=loads)
    with pytest.raises(StaleChampionError, match="version 2 was promoted before"):
        promotions.promote(second, entry(second, 1))
    assert registry.aliases == {"champion": 1, "previous": 2}
    assert len(promotions.log()) == 3


def test_promoting_the_champion_again_changes_nothing(registry, promotions):
    version = promote(promotions)
    again = promotions.promote(version, entry(version, None))
    assert again == promotions.log()[0]
    assert len(promotions.log()) == 1


def test_a_damaged_bundle_is_never_promoted(registry, promotions):
    promote(promotions)
    damaged = registry.add()
    registry.broken.add(damaged.number)
    with pytest.raises(StoreError, match="damaged"):
        promotions.promote(damaged, entry(damaged, 1))
    assert registry.aliases["champion"] == 1


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("first_release", [True, False])
def test_a_crash_after_any_step_is_repaired(registry, promotions, step, first_release):
    if not first_release:
        promote(promotions)
    before = dict(registry.aliases)
    candidate = registry.add()
    judged = entry(candidate, before.get("champion"))
    with pytest.raises(Crash):
        Promotions(registry, promotions.directory, crash_at(step)).promote(candidate, judged)

    committed = step not in {"checked", "intended"}
    finished = promotions.repair()

    assert not (promotions.directory / INTENT).exists()
    if committed:
        assert registry.aliases["champion"] == candidate.number
        assert registry.aliases.get("previous") == before.get("champion")
        assert promotions.log()[-1] == judged
        assert finished == (None if step == "cleared" else judged)
    else:
        assert registry.aliases == before
        assert finished is None
    assert len({line.id for line in promotions.log()}) == len(promotions.log())
    assert promotions.repair() is None
    # The interrupted run can be repeated whatever was reached.
    promotions.promote(candidate, judged)
    assert registry.aliases["champion"] == candidate.number
    assert [line.id for line in promotions.log()].count(judged.id) == 1


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_in_the_repair_is_repaired(registry, promotions, step):
    promote(promotions)
    candidate = registry.add()
    with pytest.raises(Crash):
        Promotions(registry, promotions.directory, crash_at("committed")).promote(
            candidate, entry(candidate, 1)
        )
    if step in {"previous moved", "logged", "cleared"}:
        with pytest.raises(Crash):
            Promotions(registry, promotions.directory, crash_at(step)).repair()
    promotions.repair()
    assert registry.aliases == {"champion": 2, "previous": 1}
    assert [line.to_version for line in promotions.log()] == [1, 2]


def test_a_registry_that_fails_keeps_the_intent(registry, promotions, monkeypatch):
    candidate = registry.add()

    def unreachable(*_):
        raise StoreError("connection lost")

    monkeypatch.setattr(registry, "move_alias", unreachable)
    with pytest.raises(StoreError, match="connection lost"):
        promotions.promote(candidate, entry(candidate, None))
    assert (promotions.directory / INTENT).exists()
    # The answer was lost, the move was not.
    registry.aliases["champion"] = candidate.number
    monkeypatch.undo()
    assert promotions.repair() is not None
    assert [line.to_version for line in promotions.log()] == [1]


def test_a_lost_registry_is_not_a_first_release(registry, promotions):
    promote(promotions)
    registry.aliases.clear()
    with pytest.raises(StoreError, match="version 1 of tickets was promoted, but the registry has"):
        promotions.champion()


@given(st.lists(st.tuples(st.sampled_from(["promote", "rollback"]), st.sampled_from([*STEPS, ""]))))
@settings(max_examples=60, deadline=None)
def test_whatever_crashes_one_verified_champion_is_live(actions):
    with TemporaryDirectory() as folder:
        registry = Memory()
        directory = Path(folder)
        champion: int | None = None
        for action, step in actions:
            clean = Promotions(registry, directory)
            clean.repair()
            doomed = Promotions(registry, directory, crash_at(step))
            target = None
            try:
                if action == "promote":
                    version = registry.add()
                    target = version.number
                    doomed.promote(version, entry(version, champion))
                elif "previous" in registry.aliases:
                    target = registry.aliases["previous"]
                    doomed.rollback("test", "because", check=loads)
            except Crash:
                pass
            if target is not None and step not in {"checked", "intended"}:
                champion = target
            clean.repair()
            live = clean.champion()
            assert (None if live is None else live.number) == champion
            log = clean.log()
            assert [line.to_version for line in log][-1:] == (
                [] if champion is None else [champion]
            )
            assert [line.from_version for line in log] == [None, *(x.to_version for x in log)][:-1]
            if len(log) > 1:
                assert registry.aliases["previous"] == log[-1].from_version


def test_rollback_returns_to_the_previous_version(registry, promotions):
    promote(promotions)
    promote(promotions)
    checked = []
    line = promotions.rollback("ada", "wrong tags", check=checked.append, at=NOW)
    assert registry.aliases == {"champion": 1, "previous": 2}
    assert [version.number for version in checked] == [1]
    assert promotions.log()[-1] == line
    assert (line.kind, line.by, line.reasons) == ("rollback", "ada", ("wrong tags",))


def test_rollback_to_a_version_that_cannot_be_served_changes_nothing(registry, promotions):
    promote(promotions)
    promote(promotions)

    def broken(_):
        raise StoreError("does not load")

    with pytest.raises(StoreError, match="does not load"):
        promotions.rollback("ada", "wrong tags", check=broken)
    registry.broken.add(1)
    with pytest.raises(StoreError, match="damaged"):
        promotions.rollback("ada", "wrong tags", check=loads)
    assert registry.aliases["champion"] == 2


def test_rollback_says_why_it_cannot(registry, promotions):
    with pytest.raises(StoreError, match="no champion, so nothing to roll back"):
        promotions.rollback("ada", "why", check=loads)
    promote(promotions)
    with pytest.raises(StoreError, match="no previous champion; promoted so far: 1"):
        promotions.rollback("ada", "why", check=loads)
    promote(promotions)
    registry.add()
    with pytest.raises(StoreError, match="version 3 never was the champion; promoted so far: 1, 2"):
        promotions.rollback("ada", "why", to=3, check=loads)
    with pytest.raises(StoreError, match="version 2 is the champion already"):
        promotions.rollback("ada", "why", to=2, check=loads)
    with pytest.raises(StoreError, match="there is no version 9"):
        promotions.rollback("ada", "why", to=9, check=loads)
    with pytest.raises(StoreError, match="a name and a reason"):
        promotions.rollback("ada", " ", check=loads)


def test_the_best_champion_is_of_the_last_twelve_months(registry, promotions):
    old = promote(promotions, 0.9, NOW - dt.timedelta(days=800))
    good = promote(promotions, 0.7, NOW - dt.timedelta(days=400))
    promote(promotions, 0.6, NOW - dt.timedelta(days=300))
    promote(promotions, None, NOW)
    # The second one went live more than a year ago, but was live within the year.
    assert [line.to_version for line in promotions.recent(NOW)] == [2, 3, 4]
    assert promotions.best(NOW) == good
    assert promotions.best(NOW - dt.timedelta(days=400)) == old
    del registry.versions[good.number]
    assert promotions.best(NOW).number == 3


def test_a_withdrawn_champion_sets_no_bar(registry, promotions):
    promote(promotions, 0.5)
    promote(promotions, 0.9)
    promotions.rollback("ada", "leak in the test set", check=loads, at=NOW)
    assert promotions.best(NOW).number == 1
    promotions.rollback("ada", "no leak after all", to=2, check=loads, at=NOW)
    assert promotions.best(NOW).number == 2


def test_no_champion_no_best(promotions):
    assert promotions.best(NOW) is None
    assert promotions.champion() is None


def test_a_torn_last_line_of_the_log_is_dropped(registry, promotions):
    promote(promotions)
    log = promotions.directory / LOG
    log.write_text(log.read_text() + '{"kind": "prom')
    assert len(promotions.log()) == 1
    promote(promotions)
    assert [line.to_version for line in promotions.log()] == [1, 2]
    assert all(json.loads(line) for line in log.read_text().splitlines())


def test_a_damaged_log_is_refused_with_its_line(registry, promotions):
    promote(promotions)
    log = promotions.directory / LOG
    log.write_text("{broken}\n" + log.read_text())
    with pytest.raises(StoreError, match=r"promotions\.jsonl, line 1: not JSON"):
        promotions.champion()
    log.write_text('{"kind": "promote"}\n')
    with pytest.raises(StoreError, match="not a promotion log"):
        promotions.champion()
    log.write_text("[1]\n")
    with pytest.raises(StoreError, match="expected a JSON object"):
        promotions.champion()


def test_a_damaged_intent_stops_the_repair(promotions):
    promotions.directory.mkdir()
    (promotions.directory / INTENT).write_text("{}")
    with pytest.raises(StoreError, match="not a promotion's intent"):
        promotions.repair()


def test_an_intent_that_somebody_overtook_is_discarded(registry, promotions):
    promote(promotions)
    candidate, other = registry.add(), registry.add()
    with pytest.raises(Crash):
        Promotions(registry, promotions.directory, crash_at("intended")).promote(
            candidate, entry(candidate, 1)
        )
    registry.move_alias("champion", other.number)  # by hand, in MLflow's UI
    assert promotions.repair() is None
    assert registry.aliases["champion"] == other.number
    assert len(promotions.log()) == 1


def test_a_line_separator_inside_a_string_is_no_line(tmp_path):
    journal = Journal(tmp_path / "log.jsonl")
    journal.append({"text": "one\u2028two\x85three"})
    journal.append({"text": float("nan")})
    assert journal.entries() == [{"text": "one\u2028two\x85three"}, {"text": None}]
