"""The promote flow: a person lets a blocked candidate pass; name and reason stay for ever."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from prefect import flow

from flows.config import RetrainConfig
from flows.runtime import show_progress
from longtail import storage
from longtail.errors import ConfigError
from longtail.gate import Verdict, override
from tasks.arms import ARM_FILE
from tasks.champion import repair_registry
from tasks.handles import ArmHandle, SplitHandle
from tasks.publish import publish_candidate
from tasks.report import write_report
from tasks.run import CONFIG, read_run


@flow(name="promote", validate_parameters=True)
def promote(run_directory: Path, by: str, reason: str) -> Verdict:
    """Override the block of a finished run and publish its candidate.

    The candidate must still be judged against today's champion and must serve the probabilities
    that were evaluated; an override does not get around either.

    Args:
        run_directory: of a retrain that ended in a block.
        by: who decides.
        reason: why, in words.

    Raises:
        ConfigError: the run was not blocked, or its candidate is not sound.
    """
    show_progress()
    run = read_run(run_directory)
    if not (run_directory / "verdict.json").is_file():
        raise ConfigError(f"{run_directory}: the run never reached a verdict; retrain first")
    verdict = Verdict.model_validate(storage.read_json(run_directory / "verdict.json"))
    passed = override(verdict, by, reason, dt.datetime.now(dt.UTC))
    settings = RetrainConfig.model_validate(storage.read_json(run_directory / CONFIG)).publish
    repair_registry(run, settings)
    directory = run_directory / "arms" / "candidate"
    about = storage.read_json(directory / ARM_FILE)
    candidate = ArmHandle(
        arm="candidate",
        directory=directory,
        loss=about["loss"],
        seconds=about["seconds"],
        bundle=directory / "bundle",
    )
    outcome = publish_candidate(
        run, SplitHandle.of(run_directory), candidate, passed, settings, by=by
    )
    write_report(run)
    return outcome
