"""The annotations themselves → audit.json, audit.html, a work list and a list of corrections."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
from prefect import task

from longtail import storage
from longtail.agreement import agreement, annotator_drift, label_shifts
from longtail.annotations.schema import ANNOTATIONS
from longtail.audit import AUDIT, AUDIT_FAILED, CORRECTIONS, WORK_LIST
from longtail.audit.audit import AuditInput, run_audit
from longtail.audit.output import write_audit
from longtail.config import AuditSettings, DataSettings
from longtail.dataset import DatasetStore
from longtail.known import known_cells
from longtail.labels import LabelSpace
from longtail.ledger import SplitLedger
from longtail.report.audit_page import render_audit, summary
from tasks.artifacts import artifact_key, link, publish_markdown
from tasks.handles import DatasetHandle, RunHandle
from tasks.view import View, view_annotations

logger = logging.getLogger(__name__)


@task(name="audit")
def audit_dataset(
    run: RunHandle, dataset: DatasetHandle, data: DataSettings, settings: AuditSettings
) -> Path:
    """Audit the stored data set as this run sees it; returns the page."""
    store = DatasetStore(run.model_store / "dataset")
    view = view_annotations(store.read(dataset.version), data)
    entries = SplitLedger(run.model_store / "ledger").read()
    standing = entries.lookup(view.table["id"])
    return _audit(
        run, view, data, settings,
        voices=store.read_voices(dataset.version),
        merged=store.read_merged(dataset.version),
        sides=standing.splits if standing.known.any() else None,
    )  # fmt: skip


@task(name="audit export")
def audit_export(
    run: RunHandle, accepted: Path, data: DataSettings, settings: AuditSettings
) -> Path:
    """Audit the accepted annotations of an export that goes into no data set.

    Args:
        run: where to write.
        accepted: their Parquet file, ``voices.parquet`` beside it.
        data: how the run sees them.
        settings: what to look for.
    """
    view = view_annotations(storage.read_parquet(accepted), data)
    voices = storage.read_parquet(accepted.with_name("voices.parquet"))
    return _audit(run, view, data, settings, voices=voices)


def note_failure(run: RunHandle, reason: str) -> None:
    """Leave the reason why there is no audit where the report finds it."""
    storage.write_json(run.directory / AUDIT_FAILED, {"reason": reason})


def _audit(
    run: RunHandle,
    view: View,
    data: DataSettings,
    settings: AuditSettings,
    *,
    voices: pa.Table,
    **more: Any,
) -> Path:
    table = view.table.select(ANNOTATIONS.names)
    space = LabelSpace.of(table["labels"])
    since = view.since(space)
    known = known_cells(table["annotated_at"], since, space.encode(table["labels"]))
    parents = {} if view.taxonomy is None else view.taxonomy.ancestors
    given = AuditInput(table, known=known, parents=parents, **more)
    found = run_audit(given, settings, similarity=data.near_duplicate_similarity)
    began = dict(zip(space.names, since, strict=True))
    said = view_annotations(voices, data.model_copy(update={"corrections": None})).table
    people = {
        "agreement": agreement(said, since=began),
        "drift": annotator_drift(table, said, since=began),
        "shifts": label_shifts(table, since=began),
    }
    write_audit(run.directory, found, table, {**people, **view.about})
    page = render_audit(run.directory)
    publish_markdown(
        artifact_key(run, "audit"), _markdown(run, page), "What is wrong with the annotations"
    )
    return page


def _markdown(run: RunHandle, page: Path) -> str:
    audit = storage.read_json(run.directory / AUDIT)
    findings = "\n".join(f"- {sentence}" for sentence in summary(audit))
    files = [
        f"[{path.name}]({link(run, path)})"
        for path in (page, run.directory / WORK_LIST, run.directory / CORRECTIONS)
    ]
    return f"{findings}\n\n{', '.join(files)}"
