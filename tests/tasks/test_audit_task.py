"""The audit of a stored data set and of an export: files, page, artifact, and what may go wrong."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest

import tasks.audit
from longtail import storage
from longtail.annotations.schema import ANNOTATIONS
from longtail.audit import AUDIT, AUDIT_FAILED, CORRECTIONS, PAGE, WORK_LIST
from longtail.config import AuditSettings, DataSettings
from longtail.dataset import DatasetStore
from longtail.hashing import stable_hash
from longtail.ledger import SplitLedger
from tasks.audit import audit_dataset, audit_export, note_failure
from tasks.handles import DatasetHandle, RunHandle

SETTINGS = AuditSettings(min_label_texts=5, folds=2)
WHEN = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)


@pytest.fixture
def shown(monkeypatch):
    """The artifacts that the task would show."""
    found = {}
    monkeypatch.setattr(
        tasks.audit, "publish_markdown", lambda key, text, _: found.update({key: text})
    )
    return found


@pytest.fixture
def run(tmp_path, shown):
    directory = tmp_path / "run"
    directory.mkdir()
    return RunHandle(
        id="r",
        name="desk",
        directory=directory,
        store=tmp_path / "store",
        started_at=WHEN.isoformat(),
    )


def rows():
    """Forty texts of two labels, one of them twice with other labels."""
    made = [
        {"id": f"t{at:02}", "text": f"{'refund money' if at % 2 else 'parcel late'} {at} x{at * 7}",
         "labels": ["billing" if at % 2 else "delivery"], "annotator": "ann",
         "annotated_at": WHEN + dt.timedelta(days=at)}
        for at in range(40)
    ]  # fmt: skip
    made.append({**made[0], "id": "again", "labels": ["billing"]})
    return made


def table(given):
    return pa.Table.from_pylist(
        [{**dict.fromkeys(ANNOTATIONS.names), **row} for row in given], schema=ANNOTATIONS
    )


def stored(run):
    """The rows as a data set, and a repeat that it merges."""
    both = table([*rows(), {**rows()[1], "id": "repeat"}])
    version = DatasetStore(run.model_store / "dataset").upsert(both, merge_duplicates=True).version
    return DatasetHandle(
        directory=version.path, fingerprint=version.fingerprint, version=version.version,
        n_texts=version.n_texts, n_labels=version.n_labels,
    )  # fmt: skip


def test_a_stored_data_set_is_audited_with_what_it_has_merged(run, shown):
    page = audit_dataset.fn(run, stored(run), DataSettings(), SETTINGS)

    found = storage.read_json(run.directory / AUDIT)
    assert page == run.directory / PAGE
    assert found["duplicates"]["beyond_first"] == 2
    assert found["duplicates"]["conflicting_sets"] == 1
    assert found["rare_labels"]["not_in_test"] == 0
    for name in (WORK_LIST, CORRECTIONS):
        assert (run.directory / name).is_file()
        assert name in shown[f"{run.name}-audit"]
    assert "2 texts of 42 repeat another one" in shown[f"{run.name}-audit"]
    assert "2 texts of 42 repeat another one" in page.read_text(encoding="utf-8")


def test_the_ledger_says_which_labels_the_test_set_lacks(run):
    handle = stored(run)
    ids = DatasetStore(run.model_store / "dataset").read(handle.version)["id"].to_pylist()
    sides = ["test" if name == "t03" else "train" for name in ids]
    assigned = pa.table({"id": ids, "split": sides})
    ledger = SplitLedger(run.model_store / "ledger")
    ledger.extend(assigned, pa.chunked_array([ids]), dataset="d", after=ledger.read())

    audit_dataset.fn(run, handle, DataSettings(), SETTINGS)

    found = storage.read_json(run.directory / AUDIT)["rare_labels"]
    assert [one["label"] for one in found["listed"] if "test" in one["reasons"]] == ["delivery"]


def export(run, given, voices=()):
    accepted = run.directory / "accepted.parquet"
    storage.write_parquet(accepted, table(given))
    storage.write_parquet(run.directory / "voices.parquet", table(list(voices)))
    return accepted


def test_an_export_is_audited_as_it_stands(run):
    audit_export.fn(run, export(run, rows()), DataSettings(), SETTINGS)

    found = storage.read_json(run.directory / AUDIT)
    assert (found["texts"], found["duplicates"]["texts_in_conflict"]) == (41, 2)
    said = found["duplicates"]["listed"][0]["sayings"]
    assert {one["annotator"] for one in said} == {"ann"}
    assert not run.store.exists()


def test_annotators_are_compared_where_there_are_several(run):
    voices = [{**row, "annotator": who} for row in rows()[:30] for who in ("ann", "bob", "cleo")]

    audit_export.fn(run, export(run, rows(), voices), DataSettings(), SETTINGS)

    found = storage.read_json(run.directory / AUDIT)
    assert found["agreement"]["texts"] == 30
    assert found["agreement"]["alpha"] == pytest.approx(1.0)


def test_the_taxonomys_names_and_parents_are_used(run, tmp_path):
    taxonomy = tmp_path / "taxonomy.yaml"
    taxonomy.write_text(
        "labels:\n  money: {aliases: [billing], parents: [desk]}\n  delivery: {}\n  desk: {}\n",
        encoding="utf-8",
    )
    given = rows()
    given[3]["labels"] = ["billing", "desk"]

    audit_export.fn(run, export(run, given), DataSettings(taxonomy=str(taxonomy)), SETTINGS)

    (implied,) = storage.read_json(run.directory / AUDIT)["implied"]["listed"]
    assert (implied["label"], implied["implies"], implied["source"]) == (
        "money",
        "desk",
        "taxonomy",
    )
    assert implied["missing"] == 20


def test_cells_of_before_a_label_are_not_searched(run, tmp_path):
    taxonomy = tmp_path / "taxonomy.yaml"
    late = (WHEN + dt.timedelta(days=20)).date()
    taxonomy.write_text(
        f"labels:\n  billing: {{}}\n  delivery: {{}}\n  urgent: {{since: {late}, parents: []}}\n",
        encoding="utf-8",
    )
    given = rows()
    for row in given[20:40:2]:
        row["labels"] = [*row["labels"], "urgent"]

    audit_export.fn(run, export(run, given), DataSettings(taxonomy=str(taxonomy)), SETTINGS)

    found = storage.read_json(run.directory / AUDIT)
    early = {row["id"] for row in given[:20]} | {"again"}
    listed = found["label_errors"]["listed"]
    assert not [one for one in listed if one["label"] == "urgent" and one["id"] in early]
    implied = {(one["label"], one["implies"]): one for one in found["implied"]["listed"]}
    # every delivery of after the date is urgent; those of before are unknown, and break nothing
    assert implied["delivery", "urgent"]["missing"] == 0


def test_the_reason_for_no_audit_is_left_for_the_report(run):
    note_failure(run, "the disk is full")

    assert storage.read_json(run.directory / AUDIT_FAILED) == {"reason": "the disk is full"}


def test_the_list_knows_the_texts_it_is_about(run):
    audit_export.fn(run, export(run, rows()), DataSettings(), SETTINGS)

    lines = (run.directory / CORRECTIONS).read_text(encoding="utf-8")
    assert f"h{int(stable_hash([rows()[0]['text']])[0]):016x}" in lines
