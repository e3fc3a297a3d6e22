"""A retrain in MLflow: one run, every arm's numbers under its own prefix.

One run per retrain and not one per arm, because the question MLflow is opened for is how the
weeks compare: ``candidate/micro_f1`` over all runs of the experiment is one chart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtail import storage
from tasks.mlflow_store import MlflowStore

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUN_TAG = "longtail.run"
_PARAMS_PER_BATCH, _METRICS_PER_BATCH = 100, 1000
_LONGEST_VALUE = 500
_FILES = ("verdict.json", "metrics.json", "config.json", "account.json", "report.html")
_TEST = ("texts", "labels", "positives", "looks")


@dataclass(frozen=True)
class Measured:
    """One value of one metric; ``step`` is the epoch where it is a curve."""

    key: str
    value: float
    step: int = 0


def tracked_run(store: MlflowStore, name: str, run_id: str) -> str:
    """The id of the MLflow run of a retrain, which is made when there is none yet.

    A version that is published before the report is written belongs to this run.

    Args:
        store: the MLflow back end.
        name: of the model, and so of the experiment.
        run_id: of the retrain; the MLflow run is named so.

    Raises:
        StoreError: MLflow cannot be written to.
    """
    client = store.client()
    experiment = store.experiment(client, name)
    with store.reading(f"given the run {run_id} of {name}"):
        found = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{run_id}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        made = client.create_run(experiment, run_name=run_id, tags={RUN_TAG: run_id})
        return str(made.info.run_id)


def log_retrain(
    store: MlflowStore, name: str, run_id: str, directory: Path, tags: Mapping[str, Any]
) -> str:
    """Log a run directory: configuration, metrics, curves, verdict, report and figures.

    What a run that ended early has not written is left out. Logging the same run again adds to
    the MLflow run there is.

    Args:
        store: the MLflow back end.
        name: of the model, and so of the experiment.
        run_id: of the retrain, as in its directory's name; the MLflow run is named so.
        directory: the run directory.
        tags: such as the data set's fingerprint; None values are left out.

    Returns:
        The id of the MLflow run.

    Raises:
        StoreError: MLflow cannot be written to, or a file of the run is damaged.
    """
    config, metrics, verdict = (
        _read(directory / f"{what}.json") for what in ("config", "metrics", "verdict")
    )
    client = store.client()
    mlflow_run = tracked_run(store, name, run_id)
    every = {**_tags(metrics, verdict), **tags}
    with store.reading(f"given the run {run_id} of {name}"):
        _log_batches(client, mlflow_run, flatten(config), list(measurements(metrics)), every)
        for file in _FILES:
            if (directory / file).is_file():
                client.log_artifact(mlflow_run, str(directory / file))
        if (directory / "figures").is_dir():
            client.log_artifacts(mlflow_run, str(directory / "figures"), "figures")
        client.set_terminated(mlflow_run, "FINISHED" if verdict else "FAILED")
    return mlflow_run


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys, values as short texts: MLflow's parameters."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)[:_LONGEST_VALUE]
    return flat


def measurements(metrics: Mapping[str, Any]) -> Iterator[Measured]:
    """Every finite number of ``metrics.json`` that MLflow can chart.

    ``<arm>/<metric>`` over all labels, ``<arm>/<GROUP>/<metric>`` per label group,
    ``<arm>/epoch/<quantity>`` with the epoch as step, ``<arm>/seconds`` and ``test/<count>``.
    """
    yield from _finite("test", {key: metrics.get("test", {}).get(key) for key in _TEST})
    for arm, values in metrics.get("arms", {}).items():
        yield from _finite(arm, {"seconds": values.get("seconds")})
        yield from _finite(arm, values.get("overall") or {})
        for group, inside in (values.get("groups") or {}).items():
            yield from _finite(f"{arm}/{group}", inside or {})
        for at, epoch in enumerate(values.get("history") or [], start=1):
            step = int(epoch.get("epoch", at))
            numbers = {key: value for key, value in epoch.items() if key != "epoch"}
            yield from _finite(f"{arm}/epoch", numbers, step)


def _finite(prefix: str, values: Mapping[str, Any], step: int = 0) -> Iterator[Measured]:
    for key, value in values.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield Measured(f"{prefix}/{key}", float(value), step)


def _tags(metrics: Mapping[str, Any], verdict: Mapping[str, Any]) -> dict[str, Any]:
    reasons = " ".join(verdict.get("reasons", ()))[:_LONGEST_VALUE]
    return {
        "longtail.decision": verdict.get("decision", "none"),
        "longtail.reasons": reasons or None,
        "longtail.candidate_loss": metrics.get("candidate_loss"),
        "longtail.threshold_policy": metrics.get("threshold_policy"),
        "longtail.test_fingerprint": metrics.get("test", {}).get("fingerprint"),
        # Shown above the run in MLflow's page.
        "mlflow.note.content": "\n\n".join(verdict.get("reasons", ())) or None,
    }


def _log_batches(
    client: MlflowClient,
    run: str,
    params: Mapping[str, str],
    measured: list[Measured],
    tags: Mapping[str, Any],
) -> None:
    """In batches as large as MLflow takes: a call each would take seconds."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    texts = [RunTag(key, str(value)) for key, value in tags.items() if value is not None]
    client.log_batch(run, tags=texts)
    pairs = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(pairs), _PARAMS_PER_BATCH):
        client.log_batch(run, params=pairs[start : start + _PARAMS_PER_BATCH])
    points = [Metric(one.key, one.value, now, one.step) for one in measured]
    for start in range(0, len(points), _METRICS_PER_BATCH):
        client.log_batch(run, metrics=points[start : start + _METRICS_PER_BATCH])


def _read(path: Path) -> dict[str, Any]:
    return dict(storage.read_json(path)) if path.is_file() else {}
