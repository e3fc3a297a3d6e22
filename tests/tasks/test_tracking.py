"""A run directory in a real MLflow store."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from longtail import storage
from longtail.errors import StoreError
from tasks.mlflow_store import MlflowStore
from tasks.tracking import flatten, log_retrain, measurements, tracked_run

METRICS = {
    "name": "tickets",
    "candidate_loss": "db",
    "threshold_policy": "group",
    "test": {"texts": 80, "labels": 20, "positives": 190, "fingerprint": "abc", "looks": 3},
    "arms": {
        "linear": {
            "seconds": 0.5,
            "overall": {"micro_f1": 0.55, "macro_f1": None, "recognised_labels": 11},
            "groups": {"HEAD": {"micro_f1": 0.7}, "TAIL": None},
            "history": [],
        },
        "candidate": {
            "seconds": 12.0,
            "overall": {"micro_f1": 0.625, "macro_f1": 0.5},
            "groups": {"HEAD": {"micro_f1": 0.75}, "TAIL": {"micro_f1": 0.25, "labels": 7}},
            "history": [
                {"epoch": 1, "loss": 0.5, "validation_micro_f1": 0.25, "threshold": None},
                {"epoch": 2, "loss": 0.25, "validation_micro_f1": 0.5, "threshold": 0.5},
            ],
        },
    },
}
VERDICT = {"decision": "block", "reasons": ["Micro-F1 is not better.", "Coverage is lower."]}


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "run"
    config = {"name": "tickets", "loss": {"name": "db", "options": {}}, "gate": {"draws": 10000}}
    storage.write_json(directory / "config.json", config)
    storage.write_json(directory / "metrics.json", METRICS)
    storage.write_json(directory / "verdict.json", VERDICT)
    storage.write_text(directory / "report.html", "<html></html>")
    storage.write_text(directory / "figures" / "support.svg", "<svg/>")
    return directory


def test_a_retrain_is_one_run_with_params_metrics_curves_and_files(mlflow_store, run_directory):
    run_id = log_retrain(
        mlflow_store, "tickets", "r1", run_directory, {"longtail.data": "f00", "x": None}
    )
    client = mlflow_store.client()
    run = client.get_run(run_id)
    assert run.info.run_name == "r1"
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "name": "tickets",
        "loss.name": "db",
        "loss.options": "{}",
        "gate.draws": "10000",
    }
    assert run.data.metrics["candidate/micro_f1"] == 0.625
    assert run.data.metrics["candidate/TAIL/micro_f1"] == 0.25
    assert run.data.metrics["linear/recognised_labels"] == 11
    assert run.data.metrics["test/looks"] == 3
    assert "linear/macro_f1" not in run.data.metrics
    curve = client.get_metric_history(run_id, "candidate/epoch/validation_micro_f1")
    assert [(point.step, point.value) for point in curve] == [(1, 0.25), (2, 0.5)]
    assert run.data.tags["longtail.decision"] == "block"
    assert run.data.tags["longtail.candidate_loss"] == "db"
    assert run.data.tags["longtail.data"] == "f00"
    assert run.data.tags["longtail.test_fingerprint"] == "abc"
    assert "Coverage is lower." in run.data.tags["mlflow.note.content"]
    files = {item.path for item in client.list_artifacts(run_id)}
    assert files == {"verdict.json", "metrics.json", "config.json", "report.html", "figures"}
    assert Path(run.info.artifact_uri, "figures", "support.svg").is_file()


def test_logging_a_run_again_makes_no_second_one(mlflow_store, run_directory):
    first = log_retrain(mlflow_store, "tickets", "r1", run_directory, {})
    assert log_retrain(mlflow_store, "tickets", "r1", run_directory, {}) == first
    assert log_retrain(mlflow_store, "tickets", "r2", run_directory, {}) != first
    experiment = mlflow_store.client().get_experiment_by_name("tickets").experiment_id
    assert len(mlflow_store.client().search_runs([experiment])) == 2


def test_a_version_can_belong_to_the_run_before_it_is_logged(mlflow_store, run_directory):
    early = tracked_run(mlflow_store, "tickets", "r1")
    assert mlflow_store.client().get_run(early).info.status == "RUNNING"
    assert tracked_run(mlflow_store, "tickets", "r1") == early
    assert log_retrain(mlflow_store, "tickets", "r1", run_directory, {}) == early
    assert mlflow_store.client().get_run(early).info.status == "FINISHED"


def test_a_run_that_ended_early_is_logged_as_failed(mlflow_store, run_directory):
    (run_directory / "verdict.json").unlink()
    (run_directory / "metrics.json").unlink()
    run = mlflow_store.client().get_run(
        log_retrain(mlflow_store, "tickets", "r1", run_directory, {})
    )
    assert run.info.status == "FAILED"
    assert run.data.tags["longtail.decision"] == "none"
    assert run.data.metrics == {}


def test_many_labels_and_long_values_fit(mlflow_store, run_directory):
    overall = {f"metric_{number}": number / 3000 for number in range(2500)}
    storage.write_json(
        run_directory / "metrics.json",
        {"arms": {"candidate": {"overall": overall}}},
    )
    storage.write_json(
        run_directory / "config.json", {f"key{number}": "x" * 9000 for number in range(250)}
    )
    run = mlflow_store.client().get_run(
        log_retrain(mlflow_store, "tickets", "r1", run_directory, {})
    )
    assert len(run.data.metrics) == 2500
    assert len(run.data.params) == 250


def test_what_is_not_a_finite_number_is_not_logged():
    values = {"a": math.nan, "b": math.inf, "c": None, "d": True, "e": "0.5", "f": 0.5, "g": 1}
    found = list(measurements({"arms": {"bce": {"overall": values}}}))
    assert [(one.key, one.value) for one in found] == [("bce/f", 0.5), ("bce/g", 1.0)]
    assert list(measurements({})) == []


def test_flatten_keeps_every_leaf():
    nested = {"a": {"b": {"c": 1}, "d": None}, "e": [1, 2], "f": {}}
    assert flatten(nested) == {"a.b.c": "1", "a.d": "None", "e": "[1, 2]", "f": "{}"}


def test_a_server_that_is_down_is_a_store_error(monkeypatch, run_directory):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:9: cannot be asked for the experiment"):
        log_retrain(MlflowStore("http://127.0.0.1:9", None), "tickets", "r1", run_directory, {})
