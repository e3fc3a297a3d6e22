"""The audit on command: an export without a store, and a stored data set."""

from __future__ import annotations

import pytest

from flows.cli import main
from longtail import storage
from longtail.audit import AUDIT, CORRECTIONS, LABELLING, PAGE, WORK_LIST


@pytest.mark.slow
def test_an_export_is_audited_without_a_store(prefect_harness, tickets, tmp_path, capsys):
    out = tmp_path / "audit"
    store = tmp_path / "store"

    code = main(["audit", "--data", str(tickets), "--out", str(out), "--store", str(store)])

    said = " ".join(capsys.readouterr().out.split())
    assert code == 0
    assert not store.exists()
    for name in (AUDIT, PAGE, WORK_LIST, LABELLING, CORRECTIONS, "quarantine.parquet"):
        assert (out / name).is_file()
    assert not (out / "accepted.parquet").exists()
    found = storage.read_json(out / AUDIT)
    assert found["texts"] == storage.read_json(out / "account.json")["accepted"]
    assert f"Audit: {out / PAGE}".replace(" ", "") in said.replace(" ", "")


@pytest.mark.slow
def test_a_retrain_is_audited_and_its_report_says_so(week_one):
    found = week_one.read(AUDIT)
    report = (week_one.directory / "report.html").read_text(encoding="utf-8")

    assert found["texts"] == week_one.read("account.json")["dataset"]["added"]
    assert 'href="audit.html"' in report
    assert (week_one.directory / PAGE).is_file()


@pytest.mark.slow
def test_the_stored_data_set_is_audited_by_its_name(week_one, tmp_path):
    out = tmp_path / "audit"

    code = main(["audit", "--name", "smoke", "--store", str(week_one.snapshot), "--out", str(out)])

    assert code == 0
    assert storage.read_json(out / AUDIT)["texts"] >= week_one.read(AUDIT)["texts"]
    assert storage.read_json(out / AUDIT)["rare_labels"]["not_in_test"] == 0
