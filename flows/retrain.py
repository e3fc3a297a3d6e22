"""The retrain flow: from an export to a promoted model, or a page that says why not."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Completed, Failed, State

from flows.config import RetrainConfig
from flows.runtime import show_progress
from longtail.config import CONTENDER, LossSettings
from tasks.audit import audit_dataset, note_failure
from tasks.champion import repair_registry, score_champion
from tasks.gate import judge
from tasks.handles import ArmHandle, DatasetHandle, RunHandle, SplitHandle
from tasks.ingest import current_dataset, ingest_export, update_dataset
from tasks.publish import publish_candidate
from tasks.report import write_report
from tasks.run import open_run
from tasks.select import select_candidate
from tasks.split import split_dataset
from tasks.track import track_run
from tasks.train import train_encoder, train_linear
from tasks.tune import tune_thresholds


@flow(name="retrain", flow_run_name="retrain-{config.model_name}", validate_parameters=True)
def retrain(config: RetrainConfig) -> State[Any]:
    """Train on an annotation export; promote the candidate only if the gate lets it.

    Args:
        config: everything there is to set; docs/reference/configuration.md.

    Returns:
        A state named ``Promoted`` or ``Blocked`` whose data is the run's directory.
    """
    show_progress()
    run = open_run(
        config.model_name, config.store_directory, config.out, config, stages=config.stages
    )
    repair_registry(run, config.publish)
    dataset = _update_dataset(run, config)
    split = split_dataset(run, dataset, config.data, config.split, config.groups)
    _audit(run, dataset, config)
    arms = _trained_arms(run, split, dataset, config)
    champion = score_champion(run, split, config.publish)
    verdict = judge(run, split, arms, champion, config.gate)
    verdict = publish_candidate(run, split, arms[-1], verdict, config.publish, by=_who())
    untold = _tell(run, dataset, config)
    promoted = verdict.decision == "promote"
    said = verdict.reasons if promoted else [rule.detail for rule in verdict.failed]
    message = f"{' '.join([*said, *untold])} Report: {run.directory / 'report.html'}"
    outcome = Completed if promoted else Failed
    name = "Promoted" if promoted else "Blocked"
    return outcome(name=name, message=message, data=str(run.directory))


def _update_dataset(run: RunHandle, config: RetrainConfig) -> DatasetHandle:
    if config.data.path is None:
        return current_dataset(run)
    accepted = ingest_export(run, config.data.path, config.data)
    return update_dataset(
        run, accepted, config.data, merge_duplicates=config.data.merges_duplicates
    )


def _audit(run: RunHandle, dataset: DatasetHandle, config: RetrainConfig) -> None:
    """Audit the annotations; what went wrong with it is told in the report, and stops nothing."""
    state = audit_dataset(run, dataset, config.data, config.audit, return_state=True)
    if state.is_failed():
        note_failure(run, f"{state.message}")


def _trained_arms(
    run: RunHandle, split: SplitHandle, dataset: DatasetHandle, config: RetrainConfig
) -> tuple[ArmHandle, ...]:
    """Linear, BCE, with ``auto`` what was not chosen, and last the candidate; all of them tuned."""
    linear = train_linear(run, split, config.linear)
    shared = (run, split, dataset, config.encoder, config.training)
    fused: dict[str, Any] = {"linear": linear, "fusion": config.fusion}
    losses = config.loss.candidates
    names = ["candidate"] if len(losses) == 1 else [CONTENDER + loss.name for loss in losses]
    arms = [
        linear,
        train_encoder(*shared, arm="bce", loss=LossSettings(name="bce"), **fused),
        *(
            train_encoder(*shared, arm=name, loss=loss, **fused)
            for name, loss in zip(names, losses, strict=True)
        ),
    ]
    linear, bce, *candidates = (tune_thresholds(run, split, arm, config.thresholds) for arm in arms)
    if len(candidates) > 1:
        candidates = [*select_candidate(run, split, tuple(candidates), bce)]
    return (linear, bce, *candidates)


def _tell(run: RunHandle, dataset: DatasetHandle, config: RetrainConfig) -> list[str]:
    """Write the report and log to MLflow; what went wrong with it, as sentences.

    The verdict has been carried out by now: a page that fails must not make it look undone.
    """
    states = (
        write_report(run, return_state=True),
        track_run(run, dataset, config.publish, return_state=True),
    )
    return [f"{state.message}" for state in states if state.is_failed()]


def _who() -> str:
    return f"flow run {flow_run.get_name() or flow_run.get_id() or 'without a name'}"
