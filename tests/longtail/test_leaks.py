from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from longtail.leaks import leak_check, leaking_rows, training_hashes

TABLE = pa.table(
    {
        "id": ["a", "b", "c", "d", "e"],
        "text": ["Printer on fire", "printer on  FIRE", "Door is open", "No power", "A window"],
    }
)
UNITS = np.array([0, 0, 1, 2, 3])


def check(train_ids, train_texts, test_ids=("b", "c")):
    return leak_check(*training_hashes(train_ids, train_texts), TABLE, UNITS, test_ids)


def test_a_clean_training_set():
    found = check(["d", "e"], ["No power", "A window"])
    assert found.clean
    assert (found.test_ids, found.test_units, found.test_texts, found.concerned) == (0, 0, 0, ())


def test_a_test_id_among_the_training_ids_also_taints_its_unit():
    found = check(["c"], ["an older wording of it"])
    assert (found.test_ids, found.test_units, found.test_texts) == (1, 1, 0)
    assert found.concerned == ("c",)


def test_a_unit_that_holds_a_training_text_and_the_same_normalised_text():
    found = check(["a"], ["PRINTER on fire"])
    assert (found.test_ids, found.test_units, found.test_texts) == (0, 1, 1)
    assert found.concerned == ("b",)
    assert not found.clean


def test_a_training_text_that_has_left_the_data_set_is_found_by_its_words():
    found = check(["gone"], ["door is OPEN"])
    assert (found.test_ids, found.test_units, found.test_texts) == (0, 0, 1)


def test_a_test_text_that_is_not_in_the_table_cannot_be_checked():
    with pytest.raises(ValueError, match="1 test ids are not in the table"):
        check(["a"], ["x"], test_ids=("b", "nowhere"))


def test_every_text_concerned_is_named():
    n = 30
    table = pa.table({"id": [f"{at:02d}" for at in range(n)], "text": ["same"] * n})
    ids = table["id"].to_pylist()
    found = leak_check(*training_hashes(ids, ["same"]), table, np.arange(n), ids)
    assert (found.test_ids, found.test_units, found.test_texts) == (n, n, n)
    assert found.concerned == tuple(ids)


def test_leaking_rows_leave_the_side_that_learns():
    units = np.array([0, 0, 1, 1, 2, 2, 3, 4, 4, 4])
    sides = np.array([0, 1, 0, 2, 1, 2, 0, 0, 1, 2], dtype=np.int8)
    assert leaking_rows(sides, units).tolist() == [
        True, False, True, False, True, False, False, True, True, False,
    ]  # fmt: skip
