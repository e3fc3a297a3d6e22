"""The end of a run: what of the past goes, so that a store does not grow without bound."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from longtail import storage
from longtail.config import PublishSettings, RetentionSettings
from longtail.dataset import DatasetStore
from longtail.errors import LongtailError
from longtail.mirror import fetch, find_mirror, share
from tasks.gate import VERDICT
from tasks.handles import RunHandle
from tasks.inbox_state import lock_of, old_batches
from tasks.leftovers import (
    LEFTOVER_AGE,
    last_change,
    old_checkpoints,
    old_encoders,
    remove_all,
    unfinished,
)
from tasks.mlflow_store import MlflowStore
from tasks.promotion import INTENT, LOCK, Promotions
from tasks.pruned_runs import PRUNED, is_being_made, old_runs, prune_run
from tasks.publishing import open_promotions
from tasks.registry import BUNDLE, Registry
from tasks.stages import timed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class House:
    """What a housekeeping looks at.

    Attributes:
        run: the run that does it.
        retention: what is kept.
        promotions: of the run's model.
        now: what counts as now.
    """

    run: RunHandle
    retention: RetentionSettings
    promotions: Promotions
    now: dt.datetime

    @property
    def registry(self) -> Registry:
        """The versions of the run's model."""
        registry = self.promotions.registry
        assert isinstance(registry, Registry)
        return registry


@task(name="housekeeping", cache_policy=NO_CACHE)
def keep_house(
    run: RunHandle,
    retention: RetentionSettings,
    publish: PublishSettings,
    now: dt.datetime | None = None,
) -> dict[str, int]:
    """Remove what retention does not keep; what cannot be removed is warned of and stays.

    Args:
        run: at its end.
        retention: how much of the past is kept.
        publish: where the registry is.
        now: with a time zone; the clock by default.

    Returns:
        How many things of each kind were removed.
    """
    promotions = open_promotions(publish, run.store, run.name)
    house = House(run, retention, promotions, now or dt.datetime.now(dt.UTC))
    removed: dict[str, int] = {}
    with timed(run, "housekeeping"):
        for what, step in _STEPS.items():
            try:
                removed[what] = step(house)
            except (LongtailError, OSError) as error:
                logger.warning("Housekeeping could not look after old %s: %s", what, error)
    told = ", ".join(f"{count} {what}" for what, count in removed.items() if count)
    if told:
        logger.info("Housekeeping removed what retention does not keep: %s", told)
    return removed


def _prune_runs(house: House) -> int:
    run = house.run
    old = old_runs(run.model_store, house.retention.runs, current=run.directory, now=house.now)
    return sum(1 for directory in old if prune_run(directory, house.now))


def _prune_datasets(house: House) -> int:
    """Another run may be between its update of the data set and its split: then not this time."""
    others = (house.run.model_store / "runs").glob("[!.]*")
    if any(is_being_made(path, house.now) for path in others if path != house.run.directory):
        return 0
    store = DatasetStore(house.run.model_store / "dataset")
    return len(store.prune(house.retention.datasets))


def _prune_versions(house: House) -> int:
    """Bundles in the registry; under the lock of promotions, so that none is about to go live."""
    count = 0
    with storage.lock(house.promotions.directory / LOCK):
        if (house.promotions.directory / INTENT).is_file():
            return 0  # the next run repairs it first
        versions = house.registry.versions()
        keep = house.retention.versions
        spared = house.promotions.spared(keep, house.now)
        spared |= {version.number for version in versions[-keep:]}
        sources = {version.source for version in versions if version.number in spared}
        for version in versions:
            if version.number in spared:
                continue
            at = house.now.isoformat(timespec="seconds")
            house.registry.prune(version, at, shared=version.source in sources)
            count += version.pruned is None
    return count


def _prune_copies(house: House) -> int:
    """Fetched bundles of versions that nobody is compared with and nobody predicts with."""
    folder = house.run.model_store / "bundles"
    best = house.promotions.best(house.now)
    registry = house.promotions.registry
    needed = (registry.aliased("champion"), registry.aliased("previous"), best)
    kept = {f"version-{version.number}" for version in needed if version is not None}
    old = [path for path in folder.glob("version-*") if path.name not in kept]
    remove_all(old)
    return len(old)


def _prune_orphans(house: House) -> int:
    """Uploaded bundles of runs that were killed before they made a version of them."""
    store: MlflowStore = house.registry.store
    if store.artifact_root is None or not store.created:
        return 0
    known = {version.run_id for version in house.registry.versions_of_all()}
    old = [
        path
        for path in store.artifact_root.glob(f"*/artifacts/{BUNDLE}")
        if path.parent.parent.name not in known and house.now - last_change(path) > LEFTOVER_AGE
    ]
    remove_all(old)
    return len(old)


def _prune_inbox(house: House) -> int:
    """Batches of the inbox that are in the data set; a run under way may have been told of one."""
    store = house.run.model_store
    with storage.lock(lock_of(store)):
        old = list(old_batches(store, house.retention.runs))
        remove_all(old)
    return len(old)


def _prune_leftovers(house: House) -> int:
    store: Path = house.run.store
    old = [
        *old_checkpoints(store, house.now),
        *old_encoders(store),
        *unfinished(store, house.now),
    ]
    remove_all(old)
    return len(old)


def _prune_shared(house: House) -> int:
    """In a store that workers share: runs of all machines, and objects that nothing names."""
    shared, name = find_mirror(house.run.store), house.run.name
    if shared is None or not shared.is_due(name):
        return 0
    judged = {run: files for run, files in shared.runs(name).items() if VERDICT in files}
    old = list(judged)[: -house.retention.runs]
    whole = [run for run in old if PRUNED not in judged[run]]
    for directory in whole:
        fetch(directory)
        prune_run(directory, house.now)
        share(directory)
    return len(whole) + shared.collect()


_STEPS: dict[str, Callable[[House], int]] = {
    "runs": _prune_runs,
    "versions of the data set": _prune_datasets,
    "versions of the model": _prune_versions,
    "copies of bundles": _prune_copies,
    "uploads without a version": _prune_orphans,
    "batches of the inbox": _prune_inbox,
    "leftovers": _prune_leftovers,
    "parts of the shared store": _prune_shared,
}
