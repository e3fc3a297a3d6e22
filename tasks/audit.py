"""The annotations themselves → audit.json, audit.html, a work list and a list of corrections."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from longtail import storage
from longtail.agreement import agreement, annotator_drift, label_shifts
from longtail.annotations.schema import ANNOTATIONS
from longtail.audit import AUDIT, AUDIT_FAILED, CORRECTIONS, LABELLING, WORK_LIST
from longtail.audit.audit import AuditInput, run_audit
from longtail.audit.output import write_audit
from longtail.config import AuditSettings, DataSettings
from longtail.content import table_fingerprint
from longtail.dataset import DatasetStore
from longtail.hashing import wide_hash
from longtail.known import known_cells
from longtail.labels import LabelSpace
from longtail.ledger import SplitLedger
from longtail.report.audit_page import render_audit, summary
from tasks.artifacts import artifact_key, link, publish_markdown
from tasks.handles import DatasetHandle, RunHandle
from tasks.stages import NOTHING_KEPT, run_stage, stage_key
from tasks.view import View, view_annotations

logger = logging.getLogger(__name__)

_FILES = (AUDIT, WORK_LIST, LABELLING, CORRECTIONS)


@task(name="audit", task_run_name="audit annotations", cache_policy=NO_CACHE)
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


@task(name="audit export", task_run_name="audit annotations", cache_policy=NO_CACHE)
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
    run = run.model_copy(update={"stages": NOTHING_KEPT})
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
    merged: pa.Table | None = None,
    sides: NDArray[np.int8] | None = None,
) -> Path:
    table = view.table.select(ANNOTATIONS.names)
    said = view_annotations(voices, data.model_copy(update={"corrections": None})).table
    given = _Given(view, table, said, merged, sides)
    key = stage_key(
        "audit", ("tasks.audit",), given.fingerprint, settings.model_dump(mode="json"),
        data.near_duplicate_similarity,
    )  # fmt: skip
    make = partial(_make, given, settings, data.near_duplicate_similarity)
    run_stage(run, "audit", key, run.directory, make, files=_FILES)
    page = render_audit(run.directory)  # names the run
    publish_markdown(
        artifact_key(run, "audit"), _markdown(run, page), "What is wrong with the annotations"
    )
    return page


@dataclass(frozen=True)
class _Given:
    """What an audit looks at."""

    view: View
    table: pa.Table
    said: pa.Table
    merged: pa.Table | None
    sides: NDArray[np.int8] | None

    @property
    def space(self) -> LabelSpace:
        return LabelSpace.of(self.table["labels"])

    @property
    def fingerprint(self) -> str:
        """Of all of it."""
        sides = None if self.sides is None else hashlib.sha256(self.sides.tobytes()).hexdigest()
        merged = None
        if self.merged is not None:
            pairs = [wide_hash(self.merged[name]).tobytes() for name in ("id", "merged_into")]
            merged = hashlib.sha256(b"".join(pairs)).hexdigest()
        tables = [table_fingerprint(table) for table in (self.table, self.said)]
        taxonomy = None if self.view.taxonomy is None else self.view.taxonomy.fingerprint
        return storage.fingerprint(tables, merged, sides, taxonomy, self.view.about)


def _make(given: _Given, settings: AuditSettings, similarity: float, directory: Path) -> None:
    table, space, taxonomy = given.table, given.space, given.view.taxonomy
    since = given.view.since(space)
    known = known_cells(table["annotated_at"], since, space.encode(table["labels"]))
    parents = {} if taxonomy is None else taxonomy.ancestors
    found = run_audit(
        AuditInput(table, known=known, parents=parents, merged=given.merged, sides=given.sides),
        settings,
        similarity=similarity,
    )
    began = dict(zip(space.names, since, strict=True))
    people = {
        "agreement": agreement(given.said, since=began),
        "drift": annotator_drift(table, given.said, since=began),
        "shifts": label_shifts(table, since=began),
    }
    write_audit(directory, found, table, {**people, **given.view.about})


def _markdown(run: RunHandle, page: Path) -> str:
    audit = storage.read_json(run.directory / AUDIT)
    findings = "\n".join(f"- {sentence}" for sentence in summary(audit))
    files = [
        f"[{path.name}]({link(run, path)})"
        for path in (page, run.directory / WORK_LIST, run.directory / CORRECTIONS)
    ]
    return f"{findings}\n\n{', '.join(files)}"
