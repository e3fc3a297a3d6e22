"""The promote flow: a person lets a candidate pass; name and reason stay for ever."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from prefect import flow

from flows.approval import carry_out, end_suspended
from flows.config import RetrainConfig
from flows.outcome import outcome, tell
from flows.runtime import show_progress
from longtail import storage
from longtail.config import PublishSettings
from longtail.errors import ConfigError
from longtail.gate import Verdict, override
from longtail.mirror import fetch
from longtail.mirror_scopes import JOURNALS
from tasks.arms import candidate_of
from tasks.champion import repair_registry
from tasks.decisions import Decision, Waiting, decide, read_waiting
from tasks.gate import VERDICT
from tasks.handles import RunHandle, SplitHandle
from tasks.pruned_runs import require_whole
from tasks.publish import publish_candidate
from tasks.run import CONFIG, read_run


@flow(name="promote", validate_parameters=True)
def promote(run_directory: Path, by: str, reason: str) -> Verdict:
    """Publish the candidate of a finished run: approve a verdict that waits, or override a block.

    The candidate must still be judged against today's champion and must serve the probabilities
    that were evaluated; neither an approval nor an override gets around either.

    Args:
        run_directory: of a retrain whose verdict waits, or that ended in a block.
        by: who decides.
        reason: why, in words.

    Raises:
        ConfigError: the run is promoted already, its candidate is not sound, or somebody else has
            decided otherwise.
    """
    show_progress()
    run = read_run(run_directory)
    fetch(run.model_store, [JOURNALS])
    require_whole(run_directory)
    settings = RetrainConfig.model_validate(storage.read_json(run_directory / CONFIG)).publish
    now = dt.datetime.now(dt.UTC)
    waiting = read_waiting(run)
    if waiting is None:
        verdict = _overridden(run, settings, by, reason, now)
    else:
        waiting = _approved(run, by, reason, now)
        verdict = carry_out(run, waiting, settings)
    untold = tell(run, None if waiting is None else waiting.dataset, settings)
    if waiting is not None and waiting.flow_run is not None:
        end_suspended(run, waiting.flow_run, outcome(run, verdict, untold))
    return verdict


def _approved(run: RunHandle, by: str, reason: str, now: dt.datetime) -> Waiting:
    """What waits, approved; a verdict that nobody decided about in time is none any more."""
    if not (by.strip() and reason.strip()):
        raise ConfigError("a decision needs the name of a person and a reason; both stay for ever")
    waiting = decide(run, Decision(decision="approve", by=by, reason=reason, at=now))
    decided = waiting.decided
    if decided is None or decided.decision != "approve":
        said = "nobody has" if decided is None else f"{decided.by} has: {decided.reason}"
        raise ConfigError(
            f"{run.directory}: this was decided otherwise, {said}; resume its flow run, which then "
            "ends as a block that can be overridden"
        )
    return waiting


def _overridden(
    run: RunHandle, settings: PublishSettings, by: str, reason: str, now: dt.datetime
) -> Verdict:
    if not (run.directory / VERDICT).is_file():
        raise ConfigError(f"{run.directory}: the run never reached a verdict; retrain first")
    verdict = Verdict.model_validate(storage.read_json(run.directory / VERDICT))
    passed = override(verdict, by, reason, now)
    repair_registry(run, settings)
    split, candidate = SplitHandle.of(run.directory), candidate_of(run.directory)
    return publish_candidate(run, split, candidate, passed, settings, by=by)
