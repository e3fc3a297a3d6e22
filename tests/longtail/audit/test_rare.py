"""A label is too rare to judge for reasons that are named."""

import numpy as np
import scipy.sparse as sp

from longtail.audit.rare import as_json, find_rare, label_units
from longtail.labels import LabelSpace

SPACE = LabelSpace(("bound", "common", "few"))


def matrix() -> tuple[sp.csr_array, np.ndarray]:
    y = np.zeros((40, 3), dtype=bool)
    y[:30, 1] = True
    y[:5, 0] = True  # five texts of two units
    y[10:14, 2] = True
    units = np.arange(40)
    units[:4] = 0
    return sp.csr_array(y), units


def test_units_count_and_not_texts():
    y, units = matrix()

    assert label_units(y, units).tolist() == [2, 27, 4]


def test_each_reason_is_named():
    y, units = matrix()
    sides = np.zeros(40, dtype=np.int8)
    sides[10] = 2

    found = {one.label: one for one in find_rare(y, SPACE, units, min_texts=20, sides=sides)}

    assert set(found) == {"bound", "few"}
    assert found["bound"].reasons == ("units", "texts", "test")
    assert found["few"].reasons == ("texts",)
    assert (found["few"].texts, found["few"].units, found["few"].test_texts) == (4, 4, 1)
    section = as_json(tuple(found.values()))
    assert (section["too_few_units"], section["too_few_texts"], section["not_in_test"]) == (1, 2, 1)


def test_without_a_test_text_nobody_misses_the_test_set():
    y, units = matrix()
    train_only = np.zeros(40, dtype=np.int8)

    for sides in (None, train_only):
        found = find_rare(y, SPACE, units, min_texts=2, sides=sides)
        assert [(one.label, one.reasons) for one in found] == [("bound", ("units",))]


def test_a_label_of_no_text_is_the_rarest():
    y, units = matrix()
    space = LabelSpace(("bound", "common", "few", "none"))
    wider = sp.csr_array(np.hstack([y.toarray(), np.zeros((40, 1), dtype=bool)]))

    assert find_rare(wider, space, units, min_texts=2)[0].label == "none"
