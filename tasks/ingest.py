"""Export → contract → accepted and quarantined rows → the data set's next version."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_contracts.contract import present_moment
from data_contracts.ingest import QuarantineError, ingest
from longtail import storage
from longtail.annotations.export_content import content_digests
from longtail.annotations.sources import file_name
from longtail.config import DataSettings
from longtail.dataset import DatasetStore, DatasetVersion
from longtail.errors import ConfigError, StoreError
from longtail.row_groups import batches_of
from longtail.taxonomy import load_taxonomy
from tasks.artifacts import artifact_key, publish_table
from tasks.handles import DatasetHandle, RunHandle
from tasks.inbox_state import mark_taken
from tasks.stages import run_stage, stage_cache, stage_key, timed

logger = logging.getLogger(__name__)

_ACCOUNT = "account.json"
_ACCEPTED = "accepted.parquet"
_VOICES = "voices.parquet"
_DATA_DOCS = "data_docs"
_FILES = (_ACCOUNT, _ACCEPTED, _VOICES, "quarantine.parquet", "skipped.parquet", _DATA_DOCS)
_CODE = ("tasks.ingest", "data_contracts.ingest")
_FORGOTTEN = "forgotten.json"
_WITH_TEXTS = ("ingest", "split", "audit")
_LATER = {
    "path", "export", "max_deleted", "taxonomy", "add_parents", "corrections", "as_of",
    "min_label_support", "merge_duplicates", "near_duplicate_similarity",
}  # fmt: skip
_SPARED = (
    "{} stored texts are not in this full export, but none was deleted: it has rows whose id could "
    "not be read, and they may be theirs. Mend the rows that quarantine.parquet and "
    "skipped.parquet list without an id, and export again"
)
_COUNTS = ("added", "changed", "unchanged", "merged", "outdated", "deleted")


@task(name="ingest", task_run_name="ingest export", cache_policy=NO_CACHE)
def ingest_export(run: RunHandle, path: str, settings: DataSettings) -> Path:
    """Hold an export to the contract; returns the accepted annotations' Parquet file."""
    content = content_digests(path)
    quiet = _may_be_quiet(run, settings)

    def holds(directory: Path) -> bool:
        if not storage.read_json(directory / _ACCOUNT)["accepted"]:
            return False  # a quiet week for a delta, and a fault in a full export
        # The export may have been replaced while it was read.
        return _timeless(directory, settings) and content_digests(path) == content

    run_stage(
        run, "ingest", _key(path, content, settings), run.directory,
        partial(_ingest, path, settings, quiet), files=_FILES, holds=holds,
    )  # fmt: skip
    account = storage.read_json(run.directory / _ACCOUNT)
    if account["file"] != path:  # the same content was read from elsewhere
        account = {**account, "file": path}
        storage.write_json(run.directory / _ACCOUNT, account)
    _tell(run, path, account)
    return run.directory / _ACCEPTED


def _may_be_quiet(run: RunHandle, settings: DataSettings) -> bool:
    """A delta may bring nothing; a first or a full export without rows is a fault."""
    stored = DatasetStore(run.model_store / "dataset").current()
    return settings.export == "delta" and stored is not None


def _ingest(path: str, settings: DataSettings, quiet: bool, directory: Path) -> None:
    pages = directory / _DATA_DOCS
    try:
        ingested = ingest(path, settings, directory, data_docs=pages, may_be_empty=quiet)
    except QuarantineError as error:
        storage.write_json(
            directory / _ACCOUNT, {"file": path, **dataclasses.asdict(error.account)}
        )
        raise
    account = dataclasses.asdict(ingested.account)
    storage.write_json(
        directory / _ACCOUNT, {"file": path, **account, "warnings": ingested.warnings}
    )


def _tell(run: RunHandle, path: str, account: dict[str, Any]) -> None:
    """Where every row went, on the run's page and in its log."""
    left_out = ("file", "skipped_reasons", "warnings")
    counts = {name: count for name, count in account.items() if name not in left_out}
    publish_table(artifact_key(run, "data-account"), [counts], "Where every row of the export went")
    logger.info(
        "%s: %d rows read = %d accepted + %d quarantined + %d merged + %d skipped",
        path,
        *(account[key] for key in ("rows_read", "accepted", "quarantined", "merged", "skipped")),
    )
    for reason, count in account["skipped_reasons"].items():
        logger.info("%s: %d rows skipped: %s", path, count, reason)


def _key(path: str, content: Mapping[str, str], settings: DataSettings) -> str:
    taxonomy = None
    if settings.taxonomy is not None and settings.unknown_labels == "quarantine":
        taxonomy = load_taxonomy(settings.taxonomy).fingerprint
    matters = settings.model_dump(mode="json", exclude=_LATER)
    return stage_key("ingest", _CODE, content, file_name(path), matters, taxonomy)


def _timeless(directory: Path, settings: DataSettings) -> bool:
    """Whether another day would make the same of the export.

    A date that is still to come is warned of, and one day it has come.
    """
    now = present_moment(settings)
    for rows in batches_of(directory / _ACCEPTED, ["annotated_at"]):
        latest = pc.max(rows["annotated_at"]).as_py()
        if latest is not None and latest > now:
            return False
    return True


@task(name="update data set", task_run_name="update data set", cache_policy=NO_CACHE)
def update_dataset(
    run: RunHandle, accepted: Path, settings: DataSettings, *, merge_duplicates: bool
) -> DatasetHandle:
    """Upsert accepted annotations by id into the data set."""
    with timed(run, "update-data-set") as noted:
        before = DatasetStore(run.model_store / "dataset").current()
        after = _update(run, accepted, settings, merge_duplicates=merge_duplicates)
        noted["new_version"] = before is None or before.version != after.version
        return after


def _update(
    run: RunHandle, accepted: Path, settings: DataSettings, *, merge_duplicates: bool
) -> DatasetHandle:
    voices = accepted.with_name(_VOICES)
    store = DatasetStore(run.model_store / "dataset")
    _forget_deleted(run, store)  # of a run that was killed before it did so
    upserted = store.upsert(
        accepted,
        merge_duplicates=merge_duplicates,
        voices=voices,
        policy=settings.several_annotators,
        at_least=settings.at_least,
        export=settings.export,
        withheld=_set_aside(run) if settings.export == "full" else (),
        max_deleted=settings.max_deleted,
    )
    counts = {name: getattr(upserted, name) for name in _COUNTS}
    account = storage.read_json(run.directory / _ACCOUNT) | {"dataset": counts}
    if upserted.spared:
        sentence = _SPARED.format(upserted.spared)
        logger.warning("%s: %s", account["file"], sentence)
        account["warnings"] = [*account["warnings"], sentence]
    storage.write_json(run.directory / _ACCOUNT, account)
    mark_taken(run.model_store, account["file"], upserted.version.fingerprint)
    _forget_deleted(run, store)
    for path in (accepted, voices):
        path.unlink()  # its rows are in the data set now
    logger.info("Data set %s version %d: %s", run.name, upserted.version.version, counts)
    return _handle(upserted.version)


@task(name="read data set", task_run_name="read data set", cache_policy=NO_CACHE)
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


def _forget_deleted(run: RunHandle, store: DatasetStore) -> None:
    """Purge what this machine has cached of the texts that were deleted since it last did so.

    Another run may hold a cache for long: then the next run tries again.
    """
    current = store.current()
    note = run.store / "cache" / f"{run.name}-{_FORGOTTEN}"
    done = storage.read_json(note)["version"] if note.is_file() else None
    if current is None or done == current.version:
        return
    texts: list[str] = []
    if done is not None:
        texts = [text for number in range(done + 1, current.version + 1)
                 for text in _deleted_texts(store, current, number)]  # fmt: skip
    if texts and not _purge(run, texts):
        return
    storage.write_json(note, {"version": current.version})


def _deleted_texts(store: DatasetStore, current: DatasetVersion, number: int) -> list[str]:
    """Texts that a version deleted; none where the one before it is pruned, and long unused."""
    deleted = store.read_deleted(current)
    gone = deleted["id"].filter(pc.equal(deleted["version"], number))
    if not len(gone) or not store.has(number - 1):
        return []
    before = store.read(number - 1, ["id", "text"])
    return list(before["text"].filter(pc.is_in(before["id"], gone.combine_chunks())).to_pylist())


def _purge(run: RunHandle, texts: list[str]) -> bool:
    from longtail.activations import ActivationCache

    try:
        for stage in _WITH_TEXTS:
            stage_cache(run).clear(stage)
        removed = ActivationCache(run.cache).purge(texts)
    except StoreError as error:
        logger.warning("Copies of %d deleted texts are still cached: %s", len(texts), error)
        return False
    logger.info("%d activations of %d deleted texts purged", removed, len(texts))
    return True


def _set_aside(run: RunHandle) -> Iterator[str | None]:
    """Ids of rows that could not be taken over, None for an id that could not be read."""
    for name in ("quarantine.parquet", "skipped.parquet"):
        for rows in batches_of(run.directory / name, ["id"]):
            yield from rows["id"].to_pylist()


def _handle(version: DatasetVersion) -> DatasetHandle:
    return DatasetHandle(
        directory=version.path,
        fingerprint=version.fingerprint,
        version=version.version,
        n_texts=version.n_texts,
        n_labels=version.n_labels,
    )
