"""The run directory → an MLflow run."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from longtail.config import PublishSettings
from tasks.handles import DatasetHandle, RunHandle
from tasks.mlflow_store import MlflowStore
from tasks.stages import timed
from tasks.tracking import log_retrain


@task(name="log to MLflow", task_run_name="log to MLflow", cache_policy=NO_CACHE)
def track_run(run: RunHandle, dataset: DatasetHandle | None, settings: PublishSettings) -> str:
    """Log configuration, metrics, curves, verdict and report.

    Args:
        run: the run; one that was logged before gets what has changed since.
        dataset: what it was trained on; None where it was logged with the data set before.
        settings: which MLflow.

    Returns:
        Where the MLflow run is: the address of its page, else the database and the run's id.
    """
    tags = {} if dataset is None else {
        "longtail.data_fingerprint": dataset.fingerprint,
        "longtail.data_version": dataset.version,
    }  # fmt: skip
    store = MlflowStore.of(settings, run.store)
    with timed(run, "track"):
        number = log_retrain(store, run.name, run.id, run.directory, tags)
    return store.address(number)
