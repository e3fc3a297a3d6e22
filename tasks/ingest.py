"""Export → contract → accepted and quarantined rows → the data set's next version."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from prefect import task

from data_contracts.ingest import QuarantineError, ingest
from longtail import storage
from longtail.config import DataSettings
from longtail.dataset import DatasetStore, DatasetVersion
from longtail.errors import ConfigError
from tasks.artifacts import publish_table
from tasks.handles import DatasetHandle, RunHandle

logger = logging.getLogger(__name__)


@task(name="ingest")
def ingest_export(run: RunHandle, path: str, settings: DataSettings) -> Path:
    """Hold an export to the contract; returns the accepted annotations' Parquet file."""
    try:
        ingested = ingest(path, settings, data_docs=run.directory / "data_docs")
    except QuarantineError as error:
        storage.write_parquet(run.directory / "quarantine.parquet", error.quarantine)
        storage.write_json(run.directory / "account.json", dataclasses.asdict(error.account))
        raise
    account = dataclasses.asdict(ingested.account)
    accepted = run.directory / "accepted.parquet"
    storage.write_parquet(accepted, ingested.accepted)
    storage.write_parquet(run.directory / "quarantine.parquet", ingested.quarantine)
    storage.write_json(
        run.directory / "account.json", {"file": path, **account, "warnings": ingested.warnings}
    )
    publish_table("data-account", [account], "Where every row of the export went")
    logger.info(
        "%s: %d rows read = %d accepted + %d quarantined + %d merged + %d skipped",
        path,
        *(account[key] for key in ("rows_read", "accepted", "quarantined", "merged", "skipped")),
    )
    return accepted


@task(name="update data set")
def update_dataset(run: RunHandle, accepted: Path, *, merge_duplicates: bool) -> DatasetHandle:
    """Upsert accepted annotations by id into the data set."""
    upserted = DatasetStore(run.model_store / "dataset").upsert(
        storage.read_parquet(accepted), merge_duplicates=merge_duplicates
    )
    counts = {
        field: getattr(upserted, field)
        for field in ("added", "changed", "unchanged", "merged", "outdated")
    }
    account = storage.read_json(run.directory / "account.json")
    storage.write_json(run.directory / "account.json", {**account, "dataset": counts})
    accepted.unlink()  # its rows are in the data set now
    logger.info("Data set %s version %d: %s", run.name, upserted.version.version, counts)
    return _handle(upserted.version)


@task(name="read data set")
def current_dataset(run: RunHandle) -> DatasetHandle:
    """The data set as it is stored.

    Raises:
        ConfigError: there is none of this name.
    """
    version = DatasetStore(run.model_store / "dataset").current()
    if version is None:
        raise ConfigError(
            f"{run.model_store}: no data set of the name {run.name!r}; bring one with --data FILE"
        )
    return _handle(version)


def _handle(version: DatasetVersion) -> DatasetHandle:
    return DatasetHandle(
        directory=version.path,
        fingerprint=version.fingerprint,
        version=version.version,
        n_texts=version.n_texts,
        n_labels=version.n_labels,
    )
