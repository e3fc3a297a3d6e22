"""A person in the loop: a run that asks, the form it asks with, and what follows the answer.

A suspended flow run has no process: whoever resumes it starts a new one, which finds the verdict
in the store and goes straight to the decision.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import Annotated, Any, Literal
from uuid import UUID

from prefect import State, suspend_flow_run
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.input import RunInput
from prefect.runtime import deployment, flow_run
from prefect.states import Failed
from pydantic import Field, StringConstraints, ValidationError

from flows.config import RetrainConfig
from flows.outcome import conclude, report_of
from longtail import storage
from longtail.config import PublishSettings
from longtail.errors import LongtailError
from longtail.gate import Verdict
from longtail.report import render_report
from tasks.arms import candidate_of
from tasks.artifacts import link
from tasks.champion import repair_registry
from tasks.decisions import (
    Decision,
    Waiting,
    ask_again,
    decide,
    decided_verdict,
    forget,
    keep_waiting,
    lapsed,
    read_ticket,
    read_waiting,
    run_of,
)
from tasks.gate import VERDICT, VERDICT_PAGE, show_verdict, verdict_markdown
from tasks.handles import DatasetHandle, RunHandle, SplitHandle
from tasks.publish import publish_candidate
from tasks.report import publish_links, write_report
from tasks.run import share_run
from tasks.track import track_run

logger = logging.getLogger(__name__)

WAITS = "WAITS FOR A DECISION"
# The pattern stands in the form's schema, so that the server refuses blanks; the flow strips.
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=r"\S")]


class Answer(RunInput):
    """What the form of a run that waits asks for; without a default, so that nobody skips it."""

    decision: Literal["approve", "reject"] = Field(
        description="approve: the candidate goes live, against the gate where the gate blocks it; "
        "reject: the champion stays."
    )
    by: Words = Field(description="Your name; it is kept for ever.")
    reason: Words = Field(description="Why, in words; kept for ever.")


def wait_for_decision(
    run: RunHandle, verdict: Verdict, dataset: DatasetHandle, config: RetrainConfig
) -> State[Any]:
    """Put a verdict before a person.

    A run of a deployment is suspended here, which ends this process. Any other ends as
    ``Waiting``: the command ``longtail promote`` decides then.
    """
    since = dt.datetime.now(dt.UTC)
    number = _suspendable()
    until = since + dt.timedelta(days=config.approval_days)
    waiting = Waiting(
        verdict=verdict,
        dataset=dataset,
        since=since,
        until=None if number is None else until,
        flow_run=number,
    )
    show_verdict(run, verdict, WAITS)
    keep_waiting(run, waiting)
    write_report(run, return_state=True)  # a page that fails is written again at the end
    publish_links(run)
    share_run(run, return_state=True)  # another worker may resume it
    if number is None:
        return _waits(run)
    return _decided(run, config, number)


def resumed(config: RetrainConfig) -> State[Any] | None:
    """The end of a flow run that was suspended for a decision; None for one that begins."""
    number = flow_run.get_id()
    model_store = config.store_directory / config.model_name
    ticket = None if number is None else read_ticket(model_store, number)
    if number is None or ticket is None:
        return None
    run = run_of(ticket, config.store_directory, config.model_name)
    return _decided(run, config, number)


def carry_out(run: RunHandle, waiting: Waiting, settings: PublishSettings) -> Verdict:
    """Do what was decided; the checks of publishing are made again, days may have passed."""
    verdict = decided_verdict(waiting)
    repair_registry(run, settings)
    by = "nobody" if waiting.decided is None else waiting.decided.by
    return publish_candidate(
        run, SplitHandle.of(run.directory), candidate_of(run.directory), verdict, settings, by=by
    )


def close_lapsed(config: RetrainConfig) -> None:
    """Write down the blocks of runs about which nobody decided in time.

    Prefect has failed those flow runs without starting anything, so the next run says it in the
    store. They are not this run's: no artifact of it tells of them.
    """
    now = dt.datetime.now(dt.UTC)
    for run, waiting in lapsed(config.store_directory, config.model_name, now):
        verdict = decided_verdict(waiting)
        page = verdict_markdown(verdict, f"{run.name}: BLOCKED")
        storage.write_text(run.directory / VERDICT_PAGE, page)
        storage.write_json(run.directory / VERDICT, verdict.model_dump(mode="json"))
        logger.warning("%s: %s", run.directory, verdict.reasons[0])
        try:
            render_report(run.directory)
            track_run.fn(run, waiting.dataset, config.publish)
        except LongtailError as error:
            logger.warning("%s: %s", run.directory, error)
        share_run.fn(run)
        forget(run, waiting.flow_run)


def end_suspended(run: RunHandle, number: str, state: State[Any]) -> None:
    """Give a flow run whose verdict was decided elsewhere its end, where this server knows it.

    Another server may: then it ends so when it is resumed.
    """
    with get_client(sync_client=True) as client:
        try:
            found = client.read_flow_run(UUID(number))
        except ObjectNotFound:
            logger.info("Flow run %s is not on this server; resume it there to end it", number)
            return
        if found.state is not None and found.state.is_paused():
            client.set_flow_run_state(found.id, state, force=True)
            forget(run, number)


def question(run: RunHandle, waiting: Waiting) -> str:
    """What stands above the form: the verdict, and what either answer does."""
    promotes = waiting.verdict.decision == "promote"
    approve = (
        "it goes live, once it has been checked again"
        if promotes
        else "it goes live against the gate, which is kept in the promotion log as an override"
    )
    lines = [
        f"Approve the candidate and {approve}. Reject it and the champion stays.",
        f"[Report]({link(run, run.directory / 'report.html')})",
    ]
    if waiting.until is not None:
        lines.append(
            f"Without a decision by {waiting.until:%Y-%m-%d %H:%M} UTC the champion stays, and "
            'Prefect ends this run as Failed: "The flow was paused and never resumed."'
        )
    title = f"{run.name}: the gate says {'PROMOTE' if promotes else 'BLOCK'}"
    return verdict_markdown(waiting.verdict, title, *lines)


def _decided(run: RunHandle, config: RetrainConfig, number: str) -> State[Any]:
    waiting = read_waiting(run)
    if waiting is None:  # decided and carried out by the command
        logger.info("%s: decided already", run.directory)
        verdict, dataset = Verdict.model_validate(storage.read_json(run.directory / VERDICT)), None
    else:
        if waiting.decided is None:
            waiting = decide(run, _ask(run, waiting))
        verdict, dataset = carry_out(run, waiting, config.publish), waiting.dataset
    state = conclude(run, verdict, dataset, config.publish)
    forget(run, number)
    return state


def _ask(run: RunHandle, waiting: Waiting) -> Decision:
    """The answer that was given, or the end of this process until there is one."""
    now = dt.datetime.now(dt.UTC)
    left = dt.timedelta(minutes=1) if waiting.until is None else waiting.until - now
    form = Answer.with_initial_data(description=question(run, waiting))
    while True:
        try:
            answer = suspend_flow_run(
                wait_for_input=form,
                timeout=max(60, round(left.total_seconds())),
                key=f"decision-{waiting.asked}",
            )
            return Decision(**answer.model_dump(), at=now)
        except ValidationError:
            logger.warning("The answer has no decision, name or reason: asking again")
            waiting = ask_again(run, waiting)


def _suspendable() -> str | None:
    """The id of this flow run where it can be suspended: one of a deployment, and no subflow."""
    if deployment.get_id() is None or flow_run.get_parent_flow_run_id() is not None:
        return None
    return flow_run.get_id()


def _waits(run: RunHandle) -> State[Any]:
    """Nothing went live, so what follows a completed retrain must not start."""
    command = f"longtail promote {run.directory} --by NAME --reason WHY"
    return Failed(
        name="Waiting",
        message=f"{run.name}: the verdict waits for a decision: {command}. {report_of(run)}",
        data=str(run.directory),
    )
