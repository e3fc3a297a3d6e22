"""A failing audit is a sentence, and the retrain goes on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import flows.retrain
from flows.config import RetrainConfig
from longtail import storage
from longtail.audit import AUDIT_FAILED
from tasks.handles import DatasetHandle, RunHandle


@pytest.mark.parametrize("failed", [True, False])
def test_what_went_wrong_is_noted_for_the_report(failed, monkeypatch, tmp_path):
    state = SimpleNamespace(is_failed=lambda: failed, message="the taxonomy is gone")
    asked = {}

    def audited(*_, **options):
        asked.update(options)
        return state

    monkeypatch.setattr(flows.retrain, "audit_dataset", audited)
    run = RunHandle(
        id="r", name="desk", directory=tmp_path, store=tmp_path / "store", started_at="now"
    )
    dataset = DatasetHandle(directory=tmp_path, fingerprint="f", version=1, n_texts=1, n_labels=1)

    flows.retrain._audit(run, dataset, RetrainConfig(name="desk"))

    assert asked == {"return_state": True}
    noted = tmp_path / AUDIT_FAILED
    assert noted.exists() == failed
    if failed:
        assert storage.read_json(noted)["reason"] == "the taxonomy is gone"
