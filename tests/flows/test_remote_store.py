"""Two machines that share a store in S3: what one trains, the other predicts with and goes on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from flows import console
from flows.cli import EXIT_BLOCKED, EXIT_PROMOTED, main
from flows.config import RetrainConfig
from flows.predict import output_of
from flows.store import located, open_store, run_directory
from longtail import storage
from longtail.bucket import Bucket
from longtail.config import PublishSettings
from longtail.dataset import DatasetStore
from longtail.errors import ConfigError
from longtail.ledger import SplitLedger
from longtail.mirror import Mirror, open_mirror
from longtail.mirror_paths import VARIABLE, directory_of
from longtail.mirror_scopes import SCOPES
from tasks.run import open_run, share_run

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "deployments" / "profiles" / "smoke.yaml"
NAME = "smoke"


@pytest.fixture
def mlflow_server(tmp_path) -> str:
    """A tracking server that serves the artifacts, too."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path / "mlflow"
    home.mkdir()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}",
        "--artifacts-destination", str(home / "artifacts"),
    ]  # fmt: skip
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=home, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{url}/health", server)
        yield url
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def _wait_for(url, process):
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"{url} does not answer")


@pytest.fixture
def on(s3_url, mlflow_server, tmp_path, monkeypatch):
    """Runs a command as on a machine of this name."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)

    def command(machine, *arguments):
        monkeypatch.setenv(VARIABLE, str(tmp_path / machine))
        return main([*arguments, "--store", s3_url] if arguments[0] != "promote" else [*arguments])

    return command


def store_of(machine, s3_url, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / machine))
    return directory_of(s3_url)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_machines_share_data_splits_champion_and_runs(
    prefect_harness, on, s3_url, tickets, tickets_week2, tmp_path, monkeypatch, capsys
):
    retrain = ["retrain", "--config", str(PROFILE), "--name", NAME]
    assert on("one", *retrain, "--data", str(tickets), "--set", "training.epochs=4") == (
        EXIT_PROMOTED
    )
    check_store(s3_url)

    out = tmp_path / "predictions.jsonl"
    assert on("two", "predict", "--data", str(tickets_week2), "--out", str(out)) == 0
    assert "labelled by version 1" in capsys.readouterr().out
    assert out.read_text().count("\n") > 0
    two = store_of("two", s3_url, tmp_path, monkeypatch)
    assert not (two / NAME / "dataset").exists()  # predicting needs none

    second = [
        *retrain, "--data", str(tickets_week2), "--set", "training.epochs=1",
        "--set", "gate.floors.micro_f1=0.999",
    ]  # fmt: skip
    assert on("two", *second) == EXIT_BLOCKED
    check_store(s3_url)
    run = newest_run(two)
    assert storage.read_json(run / "metrics.json")["arms"]["champion"]["version"] == 1
    assert storage.read_json(run / "account.json")["dataset"]["added"] > 0
    assert DatasetStore(two / NAME / "dataset").current().version == 2
    assert SplitLedger(two / NAME / "ledger").read().generations == 2

    # The blocked candidate is let pass by somebody at the first machine.
    url = f"{s3_url}/{NAME}/runs/{run.name}"
    assert on("one", "promote", url, "--by", "Ada", "--reason", "we need it") == EXIT_PROMOTED
    check_store(s3_url)
    assert on("two", "predict", "--data", str(tickets_week2), "--out", str(out)) == 0
    assert "labelled by version 2" in capsys.readouterr().out

    # Nothing has changed since: the first machine finds the verdict that the second one wrote.
    capsys.readouterr()
    assert on("one", *second) == EXIT_PROMOTED
    assert f"nothing has changed since run {run.name}" in " ".join(capsys.readouterr().out.split())


def newest_run(store: Path) -> Path:
    return max((store / NAME / "runs").iterdir())


def check_store(url):
    """Everything that a manifest names is there and is what it says; nothing is left held."""
    bucket = Bucket(url)
    objects = {one.key.removeprefix("objects/") for one in bucket.list("objects/")}
    manifests = [one.key for one in bucket.list(f"{NAME}/") if one.key.endswith("/manifest.json")]
    assert f"{NAME}/dataset/manifest.json" in manifests
    store = open_mirror(url)
    for key in manifests:
        part = Mirror(store.root, url)._part(key.removesuffix("/manifest.json"), store.root, list)
        named = {entry["object"] for entry in part.head().files.values()}
        assert named <= objects, key
    for scope in SCOPES:
        held = bucket.read(f"{NAME}/{scope.name}/lease.json")
        assert held is None or b'"holder": null' in held.data, scope


def test_a_store_that_is_shared_asks_for_an_mlflow_that_is(s3_url):
    with pytest.raises(ConfigError, match=r"needs an MLflow tracking server.*http://HOST:PORT"):
        open_store(s3_url, NAME, PublishSettings())
    assert not (directory_of(s3_url) / NAME).exists()


def test_data_in_the_shared_store_is_read_from_the_mirror(s3_url):
    """An event names a batch so that it is found on every machine."""
    data = {"path": f"{s3_url}/{NAME}/inbox/000001"}
    config = RetrainConfig.model_validate({"store": s3_url, "data": data})
    here = open_mirror(s3_url).root / NAME / "inbox" / "000001"

    assert located(config).data.path == str(here)
    elsewhere = RetrainConfig.model_validate({"store": s3_url, "data": {"path": "s3://other/x"}})
    assert located(elsewhere) == elsewhere


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/tickets/1", "s3://b/t/dataset/1"])
def test_a_url_that_is_no_run_is_refused(url):
    with pytest.raises(ConfigError, match="not a run; expected STORE/NAME/runs/ID"):
        run_directory(url)


def test_results_go_to_this_machine(tmp_path):
    with pytest.raises(ConfigError, match="leave --out away"):
        open_run(NAME, tmp_path, "s3://bucket/out", RetrainConfig())
    for out, data in ((None, "s3://bucket/texts.csv"), ("s3://bucket/out.csv", "texts.csv")):
        with pytest.raises(ConfigError, match="name one with --out FILE"):
            output_of(out, data)


def test_data_in_the_shared_store_is_left_to_the_flow(s3_url, tmp_path):
    """Under its URL there is no file: only the mirror has it, once the flow has fetched it."""
    data = {"path": f"{s3_url}/{NAME}/inbox/000001"}
    config = RetrainConfig.model_validate({"name": NAME, "store": s3_url, "data": data})
    assert console._here(config).path is None
    other = config.model_copy(update={"store": str(tmp_path)})
    assert console._here(other).path == data["path"]


def test_a_store_of_this_machine_is_not_said_to_be_shared(tmp_path, caplog):
    run = open_run(NAME, tmp_path, None, RetrainConfig(name=NAME))
    with caplog.at_level("INFO"):
        share_run.fn(run)
    assert caplog.text == ""
