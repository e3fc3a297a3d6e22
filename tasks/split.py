"""Data set + split ledger → train, validation and test Parquet, label space and statistics."""

from __future__ import annotations

import logging

import pyarrow as pa
import pyarrow.compute as pc
from prefect import task

from data_contracts.contract import check_splits
from longtail import storage
from longtail.bridges import bridging_rows
from longtail.config import DataSettings, GroupSettings, SplitSettings
from longtail.dataset import DatasetStore
from longtail.labels import LabelSpace, group_labels, support
from longtail.ledger import SPLITS, LedgerEntries, SplitLedger
from longtail.near_duplicates import Units, find_units
from longtail.partition import Partition, partition
from longtail.row_groups import write_row_groups
from longtail.statistics import describe
from longtail.trainable import check_trainable, drop_rare_labels
from tasks.artifacts import publish_table
from tasks.data import LEFT_OUT, write_label_space
from tasks.handles import DatasetHandle, RunHandle, SplitHandle
from tasks.view import teachable, view_annotations

logger = logging.getLogger(__name__)


@task(name="split")
def split_dataset(
    run: RunHandle,
    dataset: DatasetHandle,
    data: DataSettings,
    settings: SplitSettings,
    groups: GroupSettings,
) -> SplitHandle:
    """Bind near-duplicates, extend the ledger, write the splits, and describe the data."""
    store = DatasetStore(run.model_store / "dataset")
    view = view_annotations(store.read(dataset.version), data)
    table, dropped, skipped = drop_rare_labels(view.table, data.min_label_support)
    check_trainable(table)
    space = LabelSpace.of(table["labels"])
    with storage.lock(run.model_store / ".split.lock"):
        ledger = SplitLedger(run.model_store / "ledger")
        entries = ledger.read()
        table, units, bridges = _bind(table, data, entries)
        parts = partition(table, space, settings, entries, units)
        # Before the ledger, which forgets nothing.
        check_splits(parts.tables, space.names, leaks_allowed=settings.leaks == "keep").require()
        taught = teachable(parts.tables["train"], space, view.since(space))
        # A run at the same time may have added texts since: they have not left the data set.
        present = store.read(columns=["id"])["id"]
        ledger.extend(parts.assigned, present, dataset=dataset.fingerprint, after=entries)
    handle = _write(run, parts, bridges)
    _write_left_out(handle, table, units, parts)
    labels = group_labels(support(taught.space.encode(parts.tables["train"]["labels"])), groups)
    write_label_space(handle.label_space, taught.space, labels, taught.since)
    known = taught.known_texts(table)
    statistics = describe(table, taught.space, labels, known)
    statistics |= {"dropped_labels": dropped, "texts_left_out_with_them": skipped}
    statistics |= {"never_known_absent": taught.left_out, **view.about}
    storage.write_json(run.directory / "statistics.json", statistics)
    return handle.model_copy(update={"fingerprint": learned_fingerprint(handle)})


def learned_fingerprint(split: SplitHandle) -> str:
    """Fingerprint of all that arms learn from and are scored on, wherever it stands."""
    files = [split.label_space, *(split.directory / f"{name}.parquet" for name in SPLITS)]
    return storage.fingerprint({path.name: storage.sha256_file(path) for path in files})


def _bind(
    table: pa.Table, data: DataSettings, entries: LedgerEntries
) -> tuple[pa.Table, Units, list[str]]:
    """What must stay together, without new texts that would bind texts of different splits.

    Such a text could stand nowhere without a leak, and by binding them it would make a leak of old
    texts that have none.
    """
    units = _find_units(table, data)
    bridging = bridging_rows(entries.lookup(table["id"]), units.units)
    if not bridging.any():
        return table, units, []
    bridges = table["id"].filter(pa.array(bridging)).to_pylist()
    table = table.filter(pa.array(~bridging))
    return table, _find_units(table, data), bridges


def _find_units(table: pa.Table, data: DataSettings) -> Units:
    return find_units(table["id"], table["text"], table["group"], data.near_duplicate_similarity)


def _write_left_out(handle: SplitHandle, table: pa.Table, units: Units, parts: Partition) -> None:
    """Texts that this run leaves out as leaks: a champion may have been trained on them."""
    bound = table.select(["id", "text"]).append_column("unit", pa.array(units.units))
    rows = pc.is_in(bound["id"], pa.array(parts.removed, pa.string()))
    storage.write_parquet(handle.directory / LEFT_OUT, bound.filter(rows))


def _write(run: RunHandle, parts: Partition, bridges: list[str]) -> SplitHandle:
    directory = run.directory / "splits"
    for name, rows in parts.tables.items():
        write_row_groups(directory / f"{name}.parquet", [rows], rows.schema)
    quality = {**parts.quality, "bridges": bridges}
    storage.write_json(directory / "quality.json", quality)
    sizes = {name: rows.num_rows for name, rows in parts.tables.items()}
    publish_table("splits", [sizes], "Texts of each split")
    left_out = len(parts.removed) + len(bridges)
    logger.info("%s; %d texts left out, they would leak between splits", sizes, left_out)
    return SplitHandle.of(run.directory)
