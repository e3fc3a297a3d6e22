"""A batch of the inbox that is in the data set already is not read by a second run."""

from __future__ import annotations

import pytest

import flows.retrain
from flows.config import RetrainConfig
from tasks.handles import RunHandle
from tasks.inbox_state import INBOX, mark_taken


@pytest.mark.parametrize("taken", [False, True])
def test_a_second_run_on_a_batch_goes_on_with_the_data_set(taken, tmp_path, monkeypatch):
    run = RunHandle(
        id="second", name="desk", directory=tmp_path / "run", store=tmp_path, started_at=""
    )
    batch = run.model_store / INBOX / "000001"
    batch.mkdir(parents=True)
    if taken:
        mark_taken(run.model_store, str(batch), "fingerprint")
    monkeypatch.setattr(flows.retrain, "current_dataset", lambda _: "as stored")
    monkeypatch.setattr(flows.retrain, "ingest_export", lambda _run, path, _data: path)
    monkeypatch.setattr(flows.retrain, "update_dataset", lambda _run, path, _data, **_: path)
    config = RetrainConfig.model_validate({"name": "desk", "data": {"path": str(batch)}})
    found = flows.retrain._update_dataset(run, config)
    assert found == ("as stored" if taken else str(batch))
