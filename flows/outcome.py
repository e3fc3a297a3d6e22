"""How a retrain ends: report, MLflow, links, and a state in its own name with its reason."""

from __future__ import annotations

from typing import Any

from prefect import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from longtail.config import PublishSettings
from longtail.gate import APPROVED_RULE, Verdict
from tasks.artifacts import location
from tasks.handles import DatasetHandle, RunHandle
from tasks.report import publish_links, write_report
from tasks.run import share_run
from tasks.track import track_run
from tasks.unchanged import note_judged

# What a person said, or what came between, explains a block better than the rules before it.
_SETTLES = frozenset({APPROVED_RULE, "champion_unchanged"})


def conclude(
    run: RunHandle, verdict: Verdict, dataset: DatasetHandle | None, settings: PublishSettings
) -> State[Any]:
    """Tell what came of a verdict that has been carried out.

    Returns:
        ``Promoted`` (completed) or ``Blocked`` (failed); its data is the run's directory.
    """
    return outcome(run, verdict, tell(run, dataset, settings))


def tell(run: RunHandle, dataset: DatasetHandle | None, settings: PublishSettings) -> list[str]:
    """Write the report, log to MLflow and show the links; what went wrong, as sentences.

    The verdict has been carried out by now: a page that fails must not make it look undone.
    """
    report = write_report(run, return_state=True)
    track = track_run(run, dataset, settings, return_state=True)
    publish_links(run, None if track.is_failed() else track.result())
    untold = [f"{state.message}" for state in (report, track) if state.is_failed()]
    if not untold:
        note_judged(run, settings)
    shared = share_run(run, return_state=True)
    return [*untold, f"{shared.message}"] if shared.is_failed() else untold


def outcome(run: RunHandle, verdict: Verdict, untold: list[str]) -> State[Any]:
    """The final state; its message is a sentence or two that a notification can carry."""
    promoted = verdict.decision == "promote"
    failed = sorted(verdict.failed, key=lambda rule: rule.name not in _SETTLES)
    said = verdict.reasons if promoted else [rule.detail for rule in failed]
    more = 0 if promoted else len(said) - 1
    what = "the candidate is live" if promoted else "the candidate does not go live"
    message = [f"{run.name}: {what}.", *said[:1]]
    if verdict.outdated and not promoted:
        message.append(verdict.outdated)
    if more:
        message.append(f"{more} more {'rules' if more > 1 else 'rule'} failed too.")
    state = Completed if promoted else Failed
    return state(
        name="Promoted" if promoted else "Blocked",
        message=f"{' '.join([*message, *untold])} {report_of(run)}",
        data=str(run.directory),
    )


def quarantined(run: RunHandle, error: Exception) -> State[Any]:
    """Too many bad rows: a failure that somebody who annotates can mend."""
    share_run(run, return_state=True)  # the rows that were set aside, for whoever mends them
    return Failed(name="Quarantined", message=f"{error}", data=str(run.directory))


def report_of(run: RunHandle) -> str:
    """Where the report is, as the end of a message."""
    return f"Report: {location(run, run.directory / 'report.html')}"


def who() -> str:
    """The flow run, as the promotion log names it."""
    return f"flow run {flow_run.get_name() or flow_run.get_id() or 'without a name'}"
