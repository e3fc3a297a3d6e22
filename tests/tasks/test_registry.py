"""The registry on a real MLflow SQLite store."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from longtail import storage
from longtail.config import PublishSettings
from longtail.errors import ConfigError, StoreError
from tasks.mlflow_store import MlflowStore
from tasks.promotion import INTENT, Promotion, Promotions, timestamp
from tasks.registry import MICRO_F1_TAG, Registry, check_bundle

CRASHES = ["registered", "intended", "committed", "previous moved", "logged"]
CHILD = Path(__file__).with_name("crashing_promotion.py")


@pytest.fixture
def registry(mlflow_store) -> Registry:
    return Registry(mlflow_store, "tickets")


def entry(number: int, against: int | None) -> Promotion:
    return Promotion(
        kind="promote", at=timestamp(), by="test", from_version=against, to_version=number
    )


def test_an_empty_store_has_no_champion_and_stays_empty(tmp_path):
    registry = Registry(MlflowStore.of(PublishSettings(), tmp_path / "new"), "tickets")
    assert registry.champion() is None
    assert registry.find(1) is None
    assert not (tmp_path / "new").exists()


def test_register_alias_and_download(registry, make_bundle, tmp_path):
    bundle = make_bundle("one")
    assert registry.champion() is None
    version = registry.register(
        bundle, None, {MICRO_F1_TAG: 0.625, "verdict": "promote", "x": None}
    )
    assert (version.number, version.micro_f1) == (1, 0.625)
    assert version.tags["verdict"] == "promote"
    assert "x" not in version.tags
    assert registry.champion() is None  # registered is not promoted
    registry.move_alias("champion", 1)
    assert registry.champion() == version
    assert registry.aliased("previous") is None
    copy = registry.download(version, tmp_path / "copy")
    assert (copy / "tokenizer" / "vocab.txt").read_text() == "a b c"
    assert storage.verify_directory(copy) == storage.verify_directory(bundle)
    registry.verify(version)


def test_artifacts_lie_in_the_store(registry, make_bundle, mlflow_store, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    version = registry.register(make_bundle("one"), None, {})
    assert version.source.startswith(str(mlflow_store.artifact_root))
    assert list(elsewhere.iterdir()) == []


def test_the_same_bundle_of_the_same_run_is_registered_once(registry, make_bundle, mlflow_store):
    client = mlflow_store.client()
    run = client.create_run(mlflow_store.experiment(client, "tickets")).info.run_id
    first = registry.register(make_bundle("one"), run, {})
    again = registry.register(make_bundle("one"), run, {})
    assert again == first
    assert first.run_id == run
    other = registry.register(make_bundle("one", "changed"), None, {})
    assert other.number == 2


def test_a_bundle_without_a_manifest_is_refused(registry, make_bundle):
    bundle = make_bundle("one")
    (bundle / storage.MANIFEST).unlink()
    with pytest.raises(StoreError, match=r"no manifest\.json"):
        registry.register(bundle, None, {})


def test_an_altered_artifact_is_found(registry, make_bundle, tmp_path):
    version = registry.register(make_bundle("one"), None, {})
    artifact = Path(version.source)
    (artifact / "model.safetensors").write_text("poisoned")
    with pytest.raises(StoreError, match="content differs"):
        registry.verify(version)
    # A manifest made to match is not the manifest that was registered.
    storage.write_manifest(artifact)
    with pytest.raises(StoreError, match="not the bundle that was registered"):
        registry.download(version, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    shutil.rmtree(artifact)
    with pytest.raises(StoreError, match="version 1 is missing"):
        registry.verify(version)


def test_a_download_is_kept_while_it_is_intact(registry, make_bundle, tmp_path):
    version = registry.register(make_bundle("one"), None, {})
    copy = registry.download(version, tmp_path / "copy")
    inode = (copy / "model.safetensors").stat().st_ino
    assert registry.download(version, copy) == copy
    assert (copy / "model.safetensors").stat().st_ino == inode
    (copy / "model.safetensors").write_text("torn")
    registry.download(version, copy)
    assert (copy / "model.safetensors").read_text() == "one"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".copy.lock", "bundles", "copy", "store"]


def test_runs_that_fetch_one_version_at_once_do_not_collide(
    registry, make_bundle, tmp_path, monkeypatch
):
    """The second one waits, and then has nothing to do."""
    version = registry.register(make_bundle("one"), None, {})
    fetched, fetch = [], Registry._fetch

    def slow(self, version, staging):
        fetched.append(staging)
        time.sleep(0.2)
        return fetch(self, version, staging)

    monkeypatch.setattr(Registry, "_fetch", slow)
    with ThreadPoolExecutor(4) as pool:
        copies = [*pool.map(lambda _: registry.download(version, tmp_path / "copy"), range(4))]

    assert copies == [tmp_path / "copy"] * 4
    assert len(fetched) == 1
    check_bundle(tmp_path / "copy", version)


def test_a_moved_store_still_serves_and_records(registry, make_bundle, store_directory, tmp_path):
    version = registry.register(make_bundle("one"), None, {})
    registry.move_alias("champion", 1)
    moved = tmp_path / "moved"
    store_directory.rename(moved)
    registry = Registry(MlflowStore.of(PublishSettings(), moved), "tickets")
    assert registry.champion() == version
    registry.download(version, tmp_path / "copy")
    second = registry.register(make_bundle("two"), None, {})
    assert second.source.startswith(str(moved))
    assert not store_directory.exists()


def test_a_damaged_registry_is_an_error_not_a_first_release(registry, mlflow_store):
    mlflow_store.database.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match=r"mlflow\.db: cannot be opened \(.*not a database"):
        Registry(mlflow_store, "tickets").champion()


def test_a_server_that_is_down_is_an_error_not_a_first_release(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store = MlflowStore("http://127.0.0.1:9", None)
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:9: cannot be asked for the alias champion"):
        Registry(store, "tickets").champion()


def test_a_version_that_is_not_there_is_named(registry, make_bundle):
    with pytest.raises(StoreError, match="tickets: there is no version 7 in sqlite"):
        registry.version(7)
    registry.register(make_bundle("one"), None, {})
    assert registry.find(2) is None


def test_where_mlflow_keeps_things(tmp_path, monkeypatch):
    default = MlflowStore.of(PublishSettings(), tmp_path)
    assert default.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert default.artifact_root == tmp_path / "mlartifacts"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert MlflowStore.of(PublishSettings(), tmp_path) == MlflowStore("http://tracking:5000", None)
    named = MlflowStore.of(PublishSettings(tracking_uri="postgresql://db/mlflow"), tmp_path)
    assert named == MlflowStore("postgresql://db/mlflow", tmp_path / "mlartifacts")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(ConfigError, match="cannot be kept under a path with"):
        MlflowStore.of(PublishSettings(), tmp_path / "50%")


@pytest.fixture(scope="module")
def crashed(tmp_path_factory, migrated_database) -> dict[str, Path]:
    """A store per crash point: version 1 live, then killed while version 2 was promoted."""
    root = tmp_path_factory.mktemp("crashes")
    for crash in [".", *CRASHES]:
        (root / crash).mkdir(exist_ok=True)
        shutil.copy(migrated_database, root / crash / migrated_database.name)
    done = subprocess.run(
        [sys.executable, str(CHILD), str(root), *CRASHES],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout.split("\n")[:-1] == [f"{crash}: killed" for crash in CRASHES], done.stderr
    return {crash: root / crash for crash in CRASHES}


@pytest.mark.parametrize("crash", CRASHES)
def test_a_killed_promotion_leaves_one_verified_champion(crashed, crash):
    store = crashed[crash]
    promotions = Promotions(
        Registry(MlflowStore.of(PublishSettings(), store), "tickets"), store / "tickets"
    )
    committed = crash in {"committed", "previous moved", "logged"}
    champion = promotions.champion()
    assert champion is not None
    assert champion.number == (2 if committed else 1)
    promotions.registry.verify(champion)
    assert (promotions.directory / INTENT).exists() == (crash != "registered")

    promotions.repair()

    assert not (promotions.directory / INTENT).exists()
    assert promotions.champion() == champion
    assert [line.to_version for line in promotions.log()] == ([1, 2] if committed else [1])
    previous = promotions.registry.aliased("previous")
    assert (previous.number if previous else None) == (1 if committed else None)
    # The next run promotes as if nothing had happened.
    candidate = promotions.registry.version(2)
    promotions.promote(candidate, entry(2, 1))
    assert promotions.champion() == candidate
    assert [line.to_version for line in promotions.log()] == [1, 2]
