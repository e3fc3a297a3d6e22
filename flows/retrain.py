"""The retrain flow: from an export to a promoted model, or a page that says why not."""

from __future__ import annotations

import logging
from typing import Any

from prefect import State, flow
from prefect.states import Completed

from data_contracts.ingest import QuarantineError
from flows.approval import close_lapsed, resumed, wait_for_decision
from flows.config import RetrainConfig
from flows.outcome import conclude, quarantined, who
from flows.runtime import show_progress
from flows.store import located, open_store, read_by
from longtail.config import CONTENDER, LossSettings
from tasks.audit import audit_dataset, note_failure
from tasks.champion import repair_registry, score_champion
from tasks.combine import combine_evidence
from tasks.decisions import asks, waiting_alike
from tasks.examples import explain_examples, note_no_examples
from tasks.gate import judge
from tasks.handles import ArmHandle, DatasetHandle, RunHandle, SplitHandle
from tasks.housekeeping import keep_house
from tasks.inbox_state import was_taken
from tasks.ingest import current_dataset, ingest_export, update_dataset
from tasks.publish import check_candidate, publish_candidate
from tasks.run import open_run
from tasks.select import select_loss
from tasks.split import split_dataset
from tasks.train import train_encoder, train_linear
from tasks.tune import tune_thresholds
from tasks.unchanged import judged_by, standing_verdict

logger = logging.getLogger(__name__)


@flow(name="retrain", flow_run_name="retrain-{config.model_name}", validate_parameters=True)
def retrain(config: RetrainConfig) -> State[Any]:
    """Train on an annotation export; promote the candidate only if the gate lets it.

    Args:
        config: everything there is to set; docs/reference/configuration.md.

    Returns:
        A state whose data is the run's directory: ``Promoted`` or ``Blocked`` by its verdict,
        ``Waiting`` for a person where the run cannot be suspended, ``Quarantined`` by its data.
        ``Unchanged`` where nothing is new: then the directory is that of the run judged last.
    """
    show_progress()
    store = open_store(config.store, config.model_name, config.publish, scopes=read_by(config))
    config = located(config)
    if (ended := resumed(config)) is not None:
        return ended
    close_lapsed(config)
    run = open_run(config.model_name, store, config.out, config, stages=config.stages)
    repair_registry(run, config.publish)
    try:
        dataset = _update_dataset(run, config)
    except QuarantineError as error:
        return quarantined(run, error)
    split = split_dataset(run, dataset, config.data, config.split, config.groups)
    key = judged_by(run, dataset, split, config.encoder, _matters(config))
    standing = standing_verdict(run, key, config.publish, config.out) or waiting_alike(run, key)
    if standing is not None:
        _keep_house(run, config)
        return Completed(name="Unchanged", message=standing.sentence, data=str(standing.directory))
    _audit(run, dataset, config)
    arms = _trained_arms(run, split, dataset, config)
    champion = score_champion(run, split, config.publish)
    verdict = judge(run, split, arms, champion, config.gate, config.thresholds)
    _explain(run, split, arms[-1])
    if asks(verdict, config.approval):
        verdict = check_candidate(run, split, arms[-1], verdict, config.publish)
    if asks(verdict, config.approval):
        return wait_for_decision(run, verdict, dataset, config)
    verdict = publish_candidate(run, split, arms[-1], verdict, config.publish, by=who())
    state = conclude(run, verdict, dataset, config.publish)
    _keep_house(run, config)
    return state


def _keep_house(run: RunHandle, config: RetrainConfig) -> None:
    """What could not be cleared away is told in the log; the run is over, whatever comes of it."""
    keep_house(run, config.retention, config.publish, return_state=True)


def _matters(config: RetrainConfig) -> dict[str, Any]:
    """What changes a verdict; of the data, what does so beyond the annotations as viewed."""
    elsewhere = {"name", "data", "store", "out", "approval_days", "stages", "retention"}
    data = {"min_label_support", "near_duplicate_similarity"}
    return {
        **config.model_dump(mode="json", exclude=elsewhere),
        "data": config.data.model_dump(mode="json", include=data),
    }


def _update_dataset(run: RunHandle, config: RetrainConfig) -> DatasetHandle:
    path = config.data.path
    if path is not None and was_taken(run.model_store, path):
        logger.info("%s is in the data set already, and is not read again", path)
        path = None
    if path is None:
        return current_dataset(run)
    accepted = ingest_export(run, path, config.data)
    return update_dataset(
        run, accepted, config.data, merge_duplicates=config.data.merges_duplicates
    )


def _audit(run: RunHandle, dataset: DatasetHandle, config: RetrainConfig) -> None:
    """Audit the annotations; what went wrong with it is told in the report, and stops nothing."""
    state = audit_dataset(run, dataset, config.data, config.audit, return_state=True)
    if state.is_failed():
        note_failure(run, f"{state.message}")


def _explain(run: RunHandle, split: SplitHandle, candidate: ArmHandle) -> None:
    """Explain a few suggestions for the report, which says what went wrong with it."""
    state = explain_examples(run, split, candidate, return_state=True)
    if state.is_failed():
        note_no_examples(run, f"{state.message}")


def _trained_arms(
    run: RunHandle, split: SplitHandle, dataset: DatasetHandle, config: RetrainConfig
) -> tuple[ArmHandle, ...]:
    """Linear, BCE, the candidate's encoder or encoders, matched, and last the candidate; tuned."""
    linear = train_linear(run, split, config.linear)
    shared = (run, split, dataset, config.encoder, config.training)
    trained = [
        linear,
        train_encoder(*shared, arm="bce", loss=LossSettings(name="bce")),
        *(
            train_encoder(*shared, arm=CONTENDER + loss.name, loss=loss)
            for loss in config.loss.candidates
        ),
    ]
    linear, bce, *encoders = (_tune(run, split, arm, config) for arm in trained)
    encoder = select_loss(run, split, tuple(encoders), bce)
    made = combine_evidence(
        run, split, encoder, bce, linear, config.combination, config.data.taxonomy
    )  # fmt: skip
    combined = (_tune(run, split, arm, config) for arm in made[::-1] if arm is not None)
    return (linear, bce, *encoders, *combined)


def _tune(run: RunHandle, split: SplitHandle, arm: ArmHandle, config: RetrainConfig) -> ArmHandle:
    """An arm with its thresholds."""
    return tune_thresholds(run, split, arm, config.thresholds)
