"""Whether test texts, or their near-duplicates, stood among any arm's training texts."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from longtail import storage
from longtail.bundle import read_training_ids
from longtail.errors import LongtailError, StoreError
from longtail.evaluation import TestSet
from longtail.hashing import Hashes
from longtail.leaks import LeakCheck, leak_check
from tasks.arms import ARM_FILE
from tasks.data import LEFT_OUT, SplitData
from tasks.handles import ArmHandle

logger = logging.getLogger(__name__)


def untainted_test(data: SplitData, releases: Sequence[ArmHandle], minimum: int) -> TestSet:
    """Today's test set without texts that a release was trained on, or on their near-duplicates.

    The ledger keeps a text from moving, but a group, a text, the similarity or the data's own
    split may change, and bind a test text to what a release has learned long ago. No later run
    could mend that, so the texts concerned stay out, for every arm, as long as the release does.

    Args:
        data: the run's split.
        releases: the champion and the best one, as re-scored.
        minimum: units that must be left; with fewer the test set stays whole, and the gate blocks.
    """
    found = check_leaks(data, data.test, releases)
    concerned = {name for check in found.values() if check for name in check.concerned}
    test = data.test.without(concerned)
    if not concerned or len(np.unique(test.units)) < minimum:
        return data.test
    logger.warning(
        "%d of %d test texts are left out: a released model was trained on their like, such as %s",
        len(concerned),
        len(data.test.ids),
        min(concerned),
    )
    return test


def check_leaks(
    data: SplitData, test: TestSet, arms: Sequence[ArmHandle]
) -> dict[str, LeakCheck | None]:
    """Check every arm against the test set it is judged on.

    The linear arm says which of this run's splits it has learned from, an encoder's bundle which
    texts. An arm that cannot be checked gets None, on which the gate blocks.
    """
    columns = ["id", "text", "unit"]
    parts = [data.table(split, columns) for split in ("train", "validation", "test")]
    left_out = storage.read_parquet(data.handle.directory / LEFT_OUT, columns)
    table = pa.concat_tables([*parts, left_out])
    units = table["unit"].to_numpy()
    found: dict[str, LeakCheck | None] = {}
    for arm in arms:
        try:
            hashes = _training_hashes(data, arm)
            found[arm.arm] = leak_check(*hashes, table, units, test.ids)
        except LongtailError as error:
            logger.warning("%s: leaks could not be checked: %s", arm.arm, error)
            found[arm.arm] = None
    return found


def _training_hashes(data: SplitData, arm: ArmHandle) -> tuple[Hashes, Hashes]:
    if arm.bundle is None:
        parts = storage.read_json(arm.directory / ARM_FILE).get("learned_from")
        if not parts:
            raise StoreError(f"{arm.directory / ARM_FILE}: does not say what the arm learned from")
        return data.training_hashes(parts)
    kept = read_training_ids(arm.bundle)
    return kept.ids, kept.texts
