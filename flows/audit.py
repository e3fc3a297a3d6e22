"""The audit flow: what is wrong with annotations, of an export or of a stored data set."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.config import AuditConfig
from flows.runtime import show_progress
from flows.store import open_store
from longtail.mirror_scopes import DATASET
from tasks.audit import audit_dataset, audit_export
from tasks.ingest import current_dataset, ingest_export
from tasks.run import open_run, share_run
from tasks.stages import NOTHING_KEPT


@flow(name="audit", validate_parameters=True)
def audit(config: AuditConfig) -> Path:
    """Audit an export, or with a name and no export the data set that is stored under it.

    An export goes into no data set: nothing but the results is written.

    Args:
        config: what to read, where to write, what to look for.

    Returns:
        The page, with audit.json, worklist.json and corrections.csv beside it.

    Raises:
        ConfigError: neither an export nor a name was given.
    """
    show_progress()
    path = config.data.path
    if path is None:
        open_store(config.store, config.model_name, scopes=[DATASET])
    run = open_run(
        config.model_name, config.store_directory, config.directory, config,
        stages=None if path is None else NOTHING_KEPT,
    )  # fmt: skip
    if path is None:
        page = audit_dataset(run, current_dataset(run), config.data, config.audit)
        share_run(run)
        return page
    accepted = ingest_export(run, path, config.data)
    page = audit_export(run, accepted, config.data, config.audit)
    for made in (accepted, accepted.with_name("voices.parquet")):
        made.unlink()  # they were an export's copy, and nobody needs a second one
    return page
