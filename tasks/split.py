"""Data set + split ledger → train, validation and test Parquet, label space and statistics."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_contracts.contract import check_splits
from longtail import storage
from longtail.bridges import bridging_rows
from longtail.config import DataSettings, GroupSettings, SplitSettings
from longtail.content import table_fingerprint
from longtail.dataset import DatasetStore
from longtail.labels import LabelSpace, group_labels, support
from longtail.ledger import ASSIGNED, SPLITS, LedgerEntries, SplitLedger
from longtail.near_duplicates import Units, find_units
from longtail.partition import Partition, partition
from longtail.row_groups import row_count, write_row_groups
from longtail.statistics import describe
from longtail.trainable import check_trainable, drop_rare_labels
from tasks.artifacts import artifact_key, publish_table
from tasks.data import LEFT_OUT, write_label_space
from tasks.handles import DatasetHandle, RunHandle, SplitHandle
from tasks.stages import note_time, stage_cache, stage_key
from tasks.view import Taught, View, teachable, view_annotations

logger = logging.getLogger(__name__)

STAGE = "split"
_QUALITY = "quality.json"
_STATISTICS = "statistics.json"
_PATIENCE = 6 * 60 * 60.0  # another run's search for near-duplicates takes minutes, or an hour
_FILES = ("splits", "label_space.json", _STATISTICS)


@dataclass(frozen=True)
class _Divided:
    """A split that was made and not taken from the cache."""

    table: pa.Table
    units: Units
    bridges: list[str]
    parts: Partition
    taught: Taught
    dropped: tuple[str, ...]
    skipped: int


@task(name="split", task_run_name="split data set", cache_policy=NO_CACHE)
def split_dataset(
    run: RunHandle,
    dataset: DatasetHandle,
    data: DataSettings,
    settings: SplitSettings,
    groups: GroupSettings,
) -> SplitHandle:
    """Bind near-duplicates, extend the ledger, write the splits, and describe the data.

    What was found in the cache was made with the very ledger that stands now, so that it only has
    to learn which texts have left the data set or come back (docs/reference/cache.md).
    """
    started = time.monotonic()
    store = DatasetStore(run.model_store / "dataset")
    view = view_annotations(store.read(dataset.version), data)
    key = partial(_key, _content(view), data, settings, groups)
    cache = stage_cache(run)
    with storage.lock(run.model_store / ".split.lock", timeout=_PATIENCE):
        ledger = SplitLedger(run.model_store / "ledger")
        entries = ledger.read()
        entry = None
        if not run.stages.force:
            entry = cache.take(STAGE, key(entries.head), run.directory)
        made = None if entry else _divide(view, data, settings, entries)
        assigned = ASSIGNED.empty_table() if made is None else made.parts.assigned
        # A run at the same time may have added texts since: they have not left the data set.
        present = store.read(columns=["id"])["id"]
        after = ledger.extend(assigned, present, dataset=dataset.fingerprint, after=entries)
    if made is not None:
        _write(run, made, view, groups)
    if made is not None or after.head != entries.head:
        # The next run finds the ledger as it is now.
        cache.keep(STAGE, key(after.head), run.directory, run=run.id, files=_FILES)
    if entry is not None:
        logger.info("split: nothing has changed since run %s made it; taken over", entry.run)
        _all_known(run, entries.generations)
    _tell(run)
    note_time(run, STAGE, time.monotonic() - started, cached=made is None)
    handle = SplitHandle.of(run.directory)
    return handle.model_copy(update={"fingerprint": learned_fingerprint(handle)})


def _content(view: View) -> str:
    """Fingerprint of the annotations as this run sees them, and of what is told of the view."""
    since = view.since(LabelSpace.of(view.table["labels"]))
    return storage.fingerprint(table_fingerprint(view.table), since, view.about)


def _key(
    content: str, data: DataSettings, settings: SplitSettings, groups: GroupSettings, head: str
) -> str:
    matters = (data.min_label_support, data.near_duplicate_similarity)
    dumped = (settings.model_dump(mode="json"), groups.model_dump(mode="json"))
    return stage_key(STAGE, ("tasks.split",), content, matters, dumped, head)


def _divide(
    view: View, data: DataSettings, settings: SplitSettings, entries: LedgerEntries
) -> _Divided:
    """Everything that may refuse the split comes here, before the ledger, which forgets nothing."""
    table, dropped, skipped = drop_rare_labels(view.table, data.min_label_support)
    check_trainable(table)
    space = LabelSpace.of(table["labels"])
    table, units, bridges = _bind(table, data, entries)
    parts = partition(table, space, settings, entries, units)
    check_splits(parts.tables, space.names, leaks_allowed=settings.leaks == "keep").require()
    taught = teachable(parts.tables["train"], space, view.since(space))
    return _Divided(table, units, bridges, parts, taught, dropped, skipped)


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


def _write(run: RunHandle, made: _Divided, view: View, groups: GroupSettings) -> None:
    handle, parts, taught = SplitHandle.of(run.directory), made.parts, made.taught
    for name, rows in parts.tables.items():
        write_row_groups(handle.directory / f"{name}.parquet", [rows], rows.schema)
    quality = {**parts.quality, "bridges": made.bridges}
    storage.write_json(handle.directory / _QUALITY, quality)
    _write_left_out(handle, made.table, made.units, parts)
    labels = group_labels(support(taught.space.encode(parts.tables["train"]["labels"])), groups)
    write_label_space(handle.label_space, taught.space, labels, taught.since)
    statistics = describe(made.table, taught.space, labels, taught.known_texts(made.table))
    statistics |= {"dropped_labels": made.dropped, "texts_left_out_with_them": made.skipped}
    statistics |= {"never_known_absent": taught.left_out, **view.about}
    storage.write_json(run.directory / _STATISTICS, statistics)


def _write_left_out(handle: SplitHandle, table: pa.Table, units: Units, parts: Partition) -> None:
    """Texts that this run leaves out as leaks: a champion may have been trained on them."""
    bound = table.select(["id", "text"]).append_column("unit", pa.array(units.units))
    rows = pc.is_in(bound["id"], pa.array(parts.removed, pa.string()))
    storage.write_parquet(handle.directory / LEFT_OUT, bound.filter(rows))


def _all_known(run: RunHandle, generations: int) -> None:
    """Tell of a split that was taken over what making it again would: no text is new to it."""
    path = SplitHandle.of(run.directory).directory / _QUALITY
    quality = storage.read_json(path)
    found = quality["ledger"]
    quality["ledger"] = {
        **found,
        "generation": generations,
        "known": found["known"] + found["new"],
        "new": 0,
        "followers": 0,
        "carved_for_validation": 0,
    }
    storage.write_json(path, quality)


def _tell(run: RunHandle) -> None:
    """How many texts are where, on the run's page and in its log."""
    directory = SplitHandle.of(run.directory).directory
    sizes: dict[str, int] = {name: row_count(directory / f"{name}.parquet") for name in SPLITS}
    publish_table(artifact_key(run, "splits"), [sizes], "Texts of each split")
    left_out = row_count(directory / LEFT_OUT) + len(
        storage.read_json(directory / _QUALITY)["bridges"]
    )
    logger.info("%s; %d texts left out, they would leak between splits", sizes, left_out)
