"""Promotion and rollback: one protocol whose commit is the move of the alias ``champion``.

Under a lock: the champion is still the expected one; the intent is written; the alias
``champion`` moves (the commit); ``previous`` moves; the log gets its entry; the intent goes. A
process that dies on the way leaves an intent, and :meth:`Promotions.repair` either finishes what
was committed or discards what was not.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from longtail import storage
from longtail.errors import StoreError
from tasks.journal import Journal
from tasks.registry import Alias, Version

logger = logging.getLogger(__name__)

LOG = "promotions.jsonl"
INTENT = "promotion-intent.json"
LOCK = ".promotion.lock"
MEMORY = dt.timedelta(days=365)
Step = Literal["checked", "intended", "committed", "previous moved", "logged", "cleared"]


class StaleChampionError(StoreError):
    """The champion is no longer the one that the verdict, or the person, decided about."""


class ModelRegistry(Protocol):
    """What the protocol asks of a registry; :class:`tasks.registry.Registry` has it."""

    @property
    def name(self) -> str:
        """Of the model."""

    def register(self, bundle: Path, run_id: str | None, tags: Mapping[str, Any]) -> Version:
        """Upload a bundle and make a version of it."""

    def aliased(self, alias: Alias) -> Version | None:
        """The version that an alias points to."""

    def find(self, number: int) -> Version | None:
        """A version by its number."""

    def move_alias(self, alias: Alias, number: int) -> None:
        """Point an alias to a version, atomically."""

    def download(self, version: Version, to: Path) -> Path:
        """Fetch a version's bundle, verified."""

    def verify(self, version: Version) -> None:
        """Raise unless the version's bundle is what was registered."""


class Promotion(BaseModel):
    """One line of the promotion log; while it is under way, also the intent.

    Attributes:
        id: unique; an intent is logged once, however often it is repaired.
        kind: a retrain's promotion, or a rollback.
        at: when, ISO 8601 in UTC.
        by: who or what asked for it.
        from_version: the champion before; None at the first release.
        to_version: the champion after.
        micro_f1: of the new champion on its test set when it was registered.
        decision: of the verdict: "promote" or "block" (then there is an override).
        reasons: of the verdict, or of the person who rolls back.
        rules: fingerprint of the verdict's rules with all their numbers.
        override: by whom and why a block was overridden.
        approval: by whom and why a passing verdict was agreed to, where somebody was asked.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    kind: Literal["promote", "rollback"]
    at: str
    by: str
    from_version: int | None
    to_version: int
    run_id: str | None = None
    micro_f1: float | None = None
    decision: str | None = None
    reasons: tuple[str, ...] = ()
    rules: str | None = None
    override: Mapping[str, Any] | None = None
    approval: Mapping[str, Any] | None = None


def _no_step(step: Step) -> None:
    """Called after each step of the protocol; tests crash here."""


@dataclass(frozen=True)
class Promotions:
    """The champion of one model and how it changes.

    Attributes:
        registry: versions and aliases.
        directory: what persists of this model; the log, the intent and the lock are kept here.
        after: called after each step of the protocol.
    """

    registry: ModelRegistry
    directory: Path
    after: Callable[[Step], None] = _no_step

    def champion(self) -> Version | None:
        """The live version; None only where the log, too, knows of no promotion.

        Raises:
            StoreError: the registry cannot be read, or it has lost what the log says it had.
        """
        champion = self.registry.aliased("champion")
        log = self.log()
        if champion is None and log:
            raise StoreError(
                f"{self.directory / LOG}: version {log[-1].to_version} of {self.registry.name} was "
                "promoted, but the registry has no champion: another registry, or a lost one. "
                "Restore it; or, to start over without a champion, move the log away"
            )
        return champion

    def log(self) -> list[Promotion]:
        """All promotions and rollbacks, oldest first.

        Raises:
            StoreError: the log is damaged.
        """
        journal = Journal(self.directory / LOG)
        try:
            return [Promotion.model_validate(entry) for entry in journal.entries()]
        except ValidationError as error:
            raise StoreError(f"{journal.path}: not a promotion log ({error})") from error

    def repair(self) -> Promotion | None:
        """Finish or discard what an interrupted promotion left; call it when a run starts.

        Returns:
            The promotion that was finished, None where there was none to finish.

        Raises:
            StoreError: the registry cannot be read; the intent is kept for the next time.
        """
        if not (self.directory / INTENT).is_file():
            return None
        with self._locked():
            return self._repair()

    def promote(self, version: Version, entry: Promotion) -> Promotion:
        """Make a registered version the champion.

        Args:
            version: the candidate, registered.
            entry: what the log will say; ``from_version`` is the champion it was judged against.

        Returns:
            The entry as logged; an earlier one where the version is the champion already, so that
            a run which died after its promotion can be repeated.

        Raises:
            StaleChampionError: somebody else moved the champion in the meantime, maybe since this
                very version was promoted: what was rolled back must not come back by a repetition.
            StoreError: the version's bundle is not what was registered, or MLflow refuses.
        """
        if entry.to_version != version.number:
            raise ValueError(f"the entry is about {entry.to_version}, not {version.number}")
        self.registry.verify(version)
        with self._locked():
            self._repair()
            if (done := self._promoted_already(version)) is not None:
                return done
            self.check_champion(entry.from_version)
            self.after("checked")
            self._commit(entry)
        return entry

    def rollback(
        self,
        by: str,
        reason: str,
        to: int | None = None,
        *,
        check: Callable[[Version], None],
        at: dt.datetime | None = None,
    ) -> Promotion:
        """Make an earlier champion the champion again.

        Args:
            by: who asks for it.
            reason: why; stays in the log.
            to: version number; the previous champion by default.
            check: raises unless the version can be loaded and served; called before anything
                changes.
            at: when; now by default.

        Returns:
            The entry as logged. ``previous`` then names the version that was rolled back.

        Raises:
            StoreError: there is nothing to go back to, or its bundle cannot be served.
        """
        if not by.strip() or not reason.strip():
            raise StoreError("A rollback needs a name and a reason: they stay in the log.")
        self.repair()
        current = self.champion()
        if current is None:
            raise StoreError(f"{self.registry.name}: no champion, so nothing to roll back")
        target = self._rollback_target(current, to)
        self.registry.verify(target)
        check(target)
        entry = Promotion(
            kind="rollback",
            at=timestamp(at),
            by=by,
            from_version=current.number,
            to_version=target.number,
            run_id=target.run_id,
            micro_f1=target.micro_f1,
            reasons=(reason,),
        )
        with self._locked():
            self._repair()
            self.check_champion(entry.from_version)
            # Whoever prunes old versions holds this lock, too, and may have come first.
            self.registry.verify(self._rollback_target(current, to))
            self.after("checked")
            self._commit(entry)
        return entry

    def spared(self, heirs: int, now: dt.datetime | None = None) -> set[int]:
        """Versions whose bundles must stay: live, previous, best, and who is best after that.

        The best one is forgotten twelve months after it was live. Who is best then has to be there
        to be compared with: of those that were live later, the best, and so on.

        Args:
            heirs: how many of the last kind at most, the best first.
            now: the clock by default.

        Raises:
            StoreError: the registry or the log cannot be read.
        """
        aliased = (self.registry.aliased("champion"), self.registry.aliased("previous"))
        spared = {version.number for version in (*aliased, self.best(now)) if version is not None}
        order = {entry.id: place for place, entry in enumerate(self.log())}
        staircase: list[Promotion] = []
        for entry in sorted(self.recent(now), key=lambda entry: order[entry.id], reverse=True):
            highest = staircase[-1].micro_f1 if staircase else None
            if entry.micro_f1 is not None and (highest is None or entry.micro_f1 > highest):
                staircase.append(entry)
        return spared | {entry.to_version for entry in staircase[::-1][:heirs]}

    def recent(self, now: dt.datetime | None = None) -> list[Promotion]:
        """The last entry of each version that was live at some time in the last twelve months.

        A version that was rolled back and not promoted since is left out: whatever it scored, a
        person has withdrawn it, and it must not set the bar.
        """
        since = timestamp((now or dt.datetime.now(dt.UTC)) - MEMORY)
        log = self.log()
        ends: list[str | None] = [entry.at for entry in log[1:]]
        live: dict[int, Promotion] = {}
        for entry, end in zip(log, [*ends, None], strict=False):
            if entry.kind == "rollback" and entry.from_version is not None:
                live.pop(entry.from_version, None)
            if end is None or end >= since:
                live[entry.to_version] = entry
        return [live[number] for number in sorted(live)]

    def best(self, now: dt.datetime | None = None) -> Version | None:
        """The best champion of the last twelve months by the test micro-F1 recorded of it.

        Versions that were deleted from the registry, which takes a person, are passed over.

        Raises:
            StoreError: the registry or the log cannot be read.
        """
        scored = [entry for entry in self.recent(now) if entry.micro_f1 is not None]
        scored.sort(key=lambda entry: (entry.micro_f1 or 0.0, entry.to_version), reverse=True)
        for entry in scored:
            version = self.registry.find(entry.to_version)
            if version is not None and version.pruned is not None:
                continue
            if version is not None:
                return version
            logger.warning(
                "%s: version %d was deleted from the registry and cannot be compared with",
                self.registry.name,
                entry.to_version,
            )
        return None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with storage.lock(self.directory / LOCK):
            yield

    def _promoted_already(self, version: Version) -> Promotion | None:
        champion, log = self.champion(), self.log()
        if champion is None or not log:
            return None
        if champion.number == version.number:
            return log[-1] if log[-1].to_version == version.number else None
        if version.number in {entry.to_version for entry in log if entry.kind == "promote"}:
            raise StaleChampionError(
                f"{self.registry.name}: version {version.number} was promoted before, and the "
                f"champion is now {_spell(champion.number)}; nothing was changed, a rollback "
                f"brings version {version.number} back"
            )
        return None

    def check_champion(self, expected: int | None) -> None:
        """Raise unless the champion is the one that somebody decided about.

        Raises:
            StaleChampionError: it is another one.
        """
        champion = self.champion()
        found = None if champion is None else champion.number
        if found != expected:
            raise StaleChampionError(
                f"{self.registry.name}: decided about {_spell(expected)}, but the champion is now "
                f"{_spell(found)}; nothing was changed, run it again"
            )

    def _commit(self, entry: Promotion) -> None:
        storage.write_json(self.directory / INTENT, entry.model_dump(mode="json"))
        # Another machine must be able to finish it; and none that lost the lock may go on.
        storage.flush(self.directory / LOCK)
        self.after("intended")
        self.registry.move_alias("champion", entry.to_version)
        self.after("committed")
        self._finish(entry)

    def _finish(self, entry: Promotion) -> None:
        if entry.from_version is not None and self.registry.find(entry.from_version) is not None:
            self.registry.move_alias("previous", entry.from_version)
        self.after("previous moved")
        Journal(self.directory / LOG).append_once(entry.model_dump(mode="json"), key=("id",))
        self.after("logged")
        (self.directory / INTENT).unlink()
        self.after("cleared")

    def _repair(self) -> Promotion | None:
        path = self.directory / INTENT
        if not path.is_file():
            return None
        try:
            intent = Promotion.model_validate(storage.read_json(path))
        except ValidationError as error:
            raise StoreError(f"{path}: not a promotion's intent ({error})") from error
        champion = self.registry.aliased("champion")
        found = None if champion is None else champion.number
        if found == intent.to_version:
            logger.warning("Finishing the interrupted move of the champion to %d", found)
            self._finish(intent)
            return intent
        logger.warning(
            "Discarding the interrupted move of the champion to %d: it is still %s",
            intent.to_version,
            _spell(found),
        )
        path.unlink()
        return None

    def _rollback_target(self, current: Version, to: int | None) -> Version:
        name = self.registry.name
        target = self.registry.aliased("previous") if to is None else self.registry.find(to)
        if target is None:
            what = "no previous champion" if to is None else f"no version {to}"
            raise StoreError(f"{name}: there is {what}; {self._promoted()}")
        if target.number == current.number:
            raise StoreError(f"{name}: version {target.number} is the champion already")
        if target.number not in {entry.to_version for entry in self.log()}:
            raise StoreError(
                f"{name}: version {target.number} never was the champion; {self._promoted()}"
            )
        return target

    def _promoted(self) -> str:
        numbers = sorted({entry.to_version for entry in self.log()})
        return "promoted so far: " + (", ".join(map(str, numbers)) or "none")


def timestamp(at: dt.datetime | None = None) -> str:
    """A time, now by default, in UTC to the second, ISO 8601; sorts as text."""
    return (at or dt.datetime.now(dt.UTC)).astimezone(dt.UTC).isoformat(timespec="seconds")


def _spell(number: int | None) -> str:
    return "no champion" if number is None else f"version {number}"
