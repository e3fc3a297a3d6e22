"""One migrated MLflow database for the whole session: making it takes seconds, copying it none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from longtail import storage
from longtail.config import PublishSettings
from tasks.mlflow_store import MlflowStore


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory) -> Path:
    store = MlflowStore.of(PublishSettings(), tmp_path_factory.mktemp("mlflow-template"))
    store.client()
    assert store.database is not None
    return store.database


@pytest.fixture
def store_directory(tmp_path: Path, migrated_database: Path) -> Path:
    """A store whose MLflow database is migrated and empty."""
    directory = tmp_path / "store"
    directory.mkdir()
    shutil.copy(migrated_database, directory / migrated_database.name)
    return directory


@pytest.fixture
def mlflow_store(store_directory: Path) -> MlflowStore:
    return MlflowStore.of(PublishSettings(), store_directory)


@pytest.fixture
def make_bundle(tmp_path: Path):
    """Makes small committed directories that stand for bundles."""

    def make(name: str, content: str | None = None) -> Path:
        with storage.committed_directory(tmp_path / "bundles" / name) as staging:
            (staging / "model.safetensors").write_text(content or name)
            (staging / "tokenizer").mkdir()
            (staging / "tokenizer" / "vocab.txt").write_text("a b c")
        return tmp_path / "bundles" / name

    return make
