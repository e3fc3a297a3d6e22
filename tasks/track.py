"""The run directory → an MLflow run."""

from __future__ import annotations

from prefect import task

from longtail.config import PublishSettings
from tasks.handles import DatasetHandle, RunHandle
from tasks.mlflow_store import MlflowStore
from tasks.tracking import log_retrain


@task(name="log to MLflow")
def track_run(run: RunHandle, dataset: DatasetHandle, settings: PublishSettings) -> str:
    """Log configuration, metrics, curves, verdict and report; returns the MLflow run's id."""
    tags = {
        "longtail.data_fingerprint": dataset.fingerprint,
        "longtail.data_version": dataset.version,
    }
    store = MlflowStore.of(settings, run.store)
    return log_retrain(store, run.name, run.id, run.directory, tags)
