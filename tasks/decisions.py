"""A verdict that waits for a person: kept on the disk, because no process waits with it.

``pending.json`` in the run's directory holds the verdict and, once somebody has decided, the
decision. ``STORE/NAME/waiting/<flow run id>.json`` leads a flow run that is resumed to it. Whoever
decides first has decided: a decision is written under a lock and never replaced, so that a run
that dies while it carries it out does the same when it is repeated.
"""

from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field

from longtail import storage
from longtail.config import Settings
from longtail.errors import ConfigError
from longtail.gate import Verdict, approve, disapprove, override, reject
from longtail.gate.verdict import CANDIDATE_RULE
from longtail.mirror import fetch, share
from longtail.report import PENDING
from tasks.artifacts import location
from tasks.gate import VERDICT
from tasks.handles import DatasetHandle, RunHandle
from tasks.publishing import NotPublishableError, judged_against
from tasks.run import read_run
from tasks.unchanged import JUDGED_BY, Standing

logger = logging.getLogger(__name__)

_FOLDER = "waiting"
_LOCK = ".waiting.lock"
# A decision of the last minute may still be queued behind another run.
_GRACE = dt.timedelta(days=1)
_SOUND = frozenset({CANDIDATE_RULE, "thresholds_as_evaluated", "served_as_evaluated"})

Approval = Literal["never", "on_override", "required"]


class Decision(Settings):
    """What a person decided; ``lapse`` is that nobody did in time."""

    decision: Literal["approve", "reject", "lapse"]
    by: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    at: AwareDatetime


class Waiting(Settings):
    """The content of ``pending.json``.

    Attributes:
        verdict: of the gate and the check in a fresh process; not carried out yet.
        dataset: what the candidate was trained on.
        since: when it began to wait.
        until: when it stops; None where nothing but a command can end it.
        flow_run: the suspended flow run; None for a run of the command line.
        asked: how often the question was put; an answer that says nothing is asked again.
        decided: what was decided, once somebody has.
    """

    verdict: Verdict
    dataset: DatasetHandle
    since: AwareDatetime
    until: AwareDatetime | None = None
    flow_run: str | None = None
    asked: int = 1
    decided: Decision | None = None


class Ticket(Settings):
    """What a flow run needs to find its run again; the content of ``waiting/<id>.json``.

    Attributes:
        directory: of the run, relative to the model's store where it is in there.
    """

    directory: str


def asks(verdict: Verdict, approval: Approval) -> bool:
    """Whether a verdict is for a person to decide.

    Nobody is asked about what nobody may publish: a candidate that was not scored or cannot be
    served, and a verdict that does not know which champion it is about.
    """
    if approval == "never" or (approval == "on_override" and verdict.decision == "promote"):
        return False
    if any(rule.name in _SOUND for rule in verdict.failed):
        return False
    try:
        judged_against(verdict)
    except NotPublishableError:
        return False
    return True


def keep_waiting(run: RunHandle, waiting: Waiting) -> None:
    """Write down that a verdict waits, before the process that knows of it ends."""
    with storage.lock(run.model_store / _LOCK):
        storage.write_json(run.directory / PENDING, waiting.model_dump(mode="json"))
        if waiting.flow_run is not None:
            ticket = Ticket(directory=_relative(run))
            storage.write_json(_ticket(run.model_store, waiting.flow_run), ticket.model_dump())


def read_ticket(model_store: Path, flow_run: str) -> Ticket | None:
    """What a flow run left before it was suspended; None where it was not."""
    path = _ticket(model_store, flow_run)
    return Ticket.model_validate(storage.read_json(path)) if path.is_file() else None


def ask_again(run: RunHandle, waiting: Waiting) -> Waiting:
    """Count one more question: a flow run is suspended once under each key."""
    again = waiting.model_copy(update={"asked": waiting.asked + 1})
    with storage.lock(run.model_store / _LOCK):
        storage.write_json(run.directory / PENDING, again.model_dump(mode="json"))
    return again


def run_of(ticket: Ticket, store: Path, name: str) -> RunHandle:
    """The run that a ticket leads to, in the store as it is mounted here.

    Raises:
        ConfigError: its directory is gone.
    """
    fetch(store / name / ticket.directory)
    run = read_run(store / name / ticket.directory)
    return run.model_copy(update={"store": store})


def read_waiting(run: RunHandle) -> Waiting | None:
    """The run's waiting verdict; None where none waits, or the decision was carried out."""
    path = run.directory / PENDING
    if not path.is_file() or (run.directory / VERDICT).is_file():
        return None
    return Waiting.model_validate(storage.read_json(path))


def is_waiting(run_directory: Path) -> bool:
    """Whether a run's verdict still waits; such a run must not be moved or deleted."""
    return (run_directory / PENDING).is_file() and not (run_directory / VERDICT).is_file()


def is_suspended(run_directory: Path) -> bool:
    """Whether a flow run waits with the verdict: that ends, unlike the wait of a command."""
    if not is_waiting(run_directory):
        return False
    return storage.read_json(run_directory / PENDING).get("flow_run") is not None


def decide(run: RunHandle, decision: Decision) -> Waiting:
    """Record a decision; the first one stands.

    Returns:
        What waits, with the decision that holds: an earlier one where there was one.

    Raises:
        ConfigError: nothing waits here any more.
    """
    with storage.lock(run.model_store / _LOCK):
        fetch(run.directory)  # somebody at another machine may have decided
        waiting = read_waiting(run)
        if waiting is None:
            raise ConfigError(f"{run.directory}: no verdict waits for a decision here")
        if waiting.decided is None:
            waiting = waiting.model_copy(update={"decided": decision})
            storage.write_json(run.directory / PENDING, waiting.model_dump(mode="json"))
            share(run.directory)
    return waiting


def decided_verdict(waiting: Waiting) -> Verdict:
    """The verdict that a decision makes of the one that waited.

    Raises:
        ConfigError: nobody has decided, or the block cannot be overridden.
    """
    decided, verdict = waiting.decided, waiting.verdict
    if decided is None:
        raise ConfigError("nobody has decided about this verdict yet")
    if decided.decision == "lapse":
        return disapprove(verdict, decided.reason)
    signed = (decided.by, decided.reason, decided.at)
    if decided.decision == "reject":
        return reject(verdict, *signed)
    return (approve if verdict.decision == "promote" else override)(verdict, *signed)


def forget(run: RunHandle, flow_run: str | None) -> None:
    """The decision was carried out: nothing leads to the run any more."""
    if flow_run is not None:
        with storage.lock(run.model_store / _LOCK):
            _ticket(run.model_store, flow_run).unlink(missing_ok=True)


def lapsed(store: Path, name: str, now: dt.datetime) -> list[tuple[RunHandle, Waiting]]:
    """Runs about which nobody decided in time, which is now decided; dead tickets go.

    Args:
        store: directory of everything that persists.
        name: of the model.
        now: with a time zone.
    """
    found = []
    for path in sorted((store / name / _FOLDER).glob("*.json")):
        directory = store / name / Ticket.model_validate(storage.read_json(path)).directory
        fetch(directory)
        if not is_waiting(directory):
            # A flow run of another server may still be resumed, and finds here that it was decided.
            if not (directory / PENDING).is_file() or now >= _over(directory):
                path.unlink(missing_ok=True)
            continue
        run = read_run(directory).model_copy(update={"store": store})
        waiting = read_waiting(run)
        if waiting is None or waiting.until is None or now < waiting.until + _GRACE:
            continue
        why = f"Nobody decided by {waiting.until:%Y-%m-%d %H:%M} UTC, so the champion stays."
        waiting = decide(run, Decision(decision="lapse", by="nobody", reason=why, at=now))
        if waiting.decided is not None and waiting.decided.decision == "lapse":
            found.append((run, waiting))
    return found


def _over(directory: Path) -> dt.datetime:
    """When nobody can resume the flow run of a run any more."""
    waiting = Waiting.model_validate(storage.read_json(directory / PENDING))
    return (waiting.until or waiting.since) + _GRACE


def waiting_alike(run: RunHandle, key: str) -> Standing | None:
    """A suspended run made of the same as this one: nobody is asked the same thing twice.

    Args:
        run: this run; with ``stages.force`` everything is new.
        key: see :func:`tasks.unchanged.judged_by`.
    """
    if run.stages.force:
        return None
    for path in sorted((run.model_store / _FOLDER).glob("*.json")):
        ticket = Ticket.model_validate(storage.read_json(path))
        directory = run.model_store / ticket.directory
        fetch(directory)
        made_of = directory / JUDGED_BY
        if not made_of.is_file() or storage.read_json(made_of)["key"] != key:
            continue
        other = run_of(ticket, run.store, run.name)
        waiting = read_waiting(other)
        if waiting is not None and waiting.until is not None and _now() < waiting.until:
            report = location(run, directory / "report.html")
            sentence = (
                f"{run.name}: nothing has changed since run {other.id}, whose verdict "
                f"{_where_it_stands(waiting)}. Report: {report}"
            )
            return Standing(directory, other.id, waiting.verdict, sentence)
    return None


def _where_it_stands(waiting: Waiting) -> str:
    if waiting.decided is None:
        return "waits for a decision"
    return (
        f"{waiting.decided.by} has decided about ({waiting.decided.decision}), which was not "
        f"carried out yet; if flow run {waiting.flow_run} has crashed, retry it"
    )


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _ticket(model_store: Path, flow_run: str) -> Path:
    return model_store / _FOLDER / f"{flow_run}.json"


def _relative(run: RunHandle) -> str:
    directory, home = run.directory.resolve(), run.model_store.resolve()
    inside = directory.is_relative_to(home)
    return (directory.relative_to(home) if inside else directory).as_posix()
