from __future__ import annotations

import numpy as np

from longtail.bridges import bridging_rows
from longtail.ledger import Entry, LedgerEntries


def _entries(**splits):
    return LedgerEntries({name: Entry(split, 0, "data") for name, split in splits.items()}, 1)


def test_a_new_row_that_binds_train_and_test_is_a_bridge():
    entries = _entries(a="train", b="test", c="train")
    rows = bridging_rows(["a", "b", "c", "new", "other"], np.array([0, 0, 1, 0, 1]), entries)
    assert rows.tolist() == [False, False, False, True, False]


def test_nothing_is_a_bridge_before_the_ledger_knows_anything():
    rows = bridging_rows(["a", "b"], np.array([0, 0]), LedgerEntries())
    assert rows.tolist() == [False, False]


def test_no_rows():
    assert bridging_rows([], np.array([], dtype=np.int64), LedgerEntries()).tolist() == []
