"""The SQLite file appears when it is whole: MLflow cannot repair one that was left half made."""

from __future__ import annotations

import pytest

import tasks.mlflow_store
from longtail.config import PublishSettings
from longtail.errors import StoreError
from tasks.mlflow_store import DATABASE, MlflowStore


def test_a_database_that_was_left_half_made_is_made_anew(tmp_path, monkeypatch):
    store = MlflowStore.of(PublishSettings(), tmp_path / "store")
    tmp_path.joinpath("store").mkdir()
    torn = tmp_path / "store" / f".{DATABASE}.1234.new"
    torn.write_bytes(b"torn")
    with monkeypatch.context() as patched:
        patched.setattr(tasks.mlflow_store.os, "replace", fail)
        with pytest.raises(StoreError, match="cannot be opened"):
            store.client()
    assert not store.created

    client = store.client()

    assert store.created
    assert client.search_registered_models() == []
    assert store.experiment(client, "tickets")
    assert [path.name for path in sorted((tmp_path / "store").iterdir())] == [
        f".{DATABASE}.lock", DATABASE
    ]  # fmt: skip


def fail(*_):
    raise OSError(28, "No space left on device")
