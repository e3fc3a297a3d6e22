from __future__ import annotations

import numpy as np

from longtail.bridges import bridging_rows
from longtail.ledger import LedgerEntries, Standing

TRAIN, TEST, NEW = 0, 2, -1


def bridges(splits, units):
    """Which rows are bridges; splits are codes, −1 where the ledger does not know the row."""
    codes = np.array(splits, dtype=np.int8)
    standing = Standing(codes, np.zeros(len(codes), np.int32), np.zeros(len(codes), bool))
    return bridging_rows(standing, np.array(units, dtype=np.int64)).tolist()


def test_a_new_row_that_binds_train_and_test_is_a_bridge():
    found = bridges([TRAIN, TEST, TRAIN, NEW, NEW], [0, 0, 1, 0, 1])
    assert found == [False, False, False, True, False]


def test_nothing_is_a_bridge_before_the_ledger_knows_anything():
    standing = LedgerEntries().lookup(["a", "b"])
    assert bridging_rows(standing, np.array([0, 0])).tolist() == [False, False]


def test_no_rows():
    assert bridges([], []) == []
