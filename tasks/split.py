"""Data set + split ledger → train, validation and test Parquet, label space and statistics."""

from __future__ import annotations

import logging

from prefect import task

from longtail.config import DataSettings, GroupSettings, SplitSettings
from longtail.dataset import DatasetStore, check_trainable, drop_rare_labels
from tasks.handles import DatasetHandle, RunHandle, SplitHandle

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
    table, dropped, skipped = drop_rare_labels(
        DatasetStore(run.model_store / "dataset").read(dataset.version), data.min_label_support
    )
    check_trainable(table)
    raise SystemExit
