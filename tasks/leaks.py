"""Whether test texts, or their near-duplicates, stood among any arm's training texts."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pyarrow as pa

from longtail import storage
from longtail.bundle import read_training_ids
from longtail.errors import LongtailError
from longtail.leaks import Hashes, LeakCheck, leak_check, training_hashes
from tasks.data import LEFT_OUT, SplitData
from tasks.handles import ArmHandle

logger = logging.getLogger(__name__)


def check_leaks(data: SplitData, arms: Sequence[ArmHandle]) -> dict[str, LeakCheck | None]:
    """Check every arm against today's test set.

    The linear arm was trained on this run's training split; an encoder says in its bundle what it
    was trained on. An arm that cannot be checked gets None, on which the gate blocks.
    """
    columns = ["id", "text", "unit"]
    parts = [data.table(split, columns) for split in ("train", "validation", "test")]
    left_out = storage.read_parquet(data.handle.directory / LEFT_OUT, columns)
    table = pa.concat_tables([*parts, left_out])
    units = table["unit"].to_numpy()
    test_ids = data.ids("test")
    found: dict[str, LeakCheck | None] = {}
    for arm in arms:
        try:
            hashes = _training_hashes(data, arm)
            found[arm.arm] = leak_check(*hashes, table, units, test_ids)
        except LongtailError as error:
            logger.warning("%s: leaks could not be checked: %s", arm.arm, error)
            found[arm.arm] = None
    return found


def _training_hashes(data: SplitData, arm: ArmHandle) -> tuple[Hashes, Hashes]:
    if arm.bundle is None:
        return training_hashes(data.ids("train"), data.texts("train"))
    kept = read_training_ids(arm.bundle)
    return kept.ids, kept.texts
