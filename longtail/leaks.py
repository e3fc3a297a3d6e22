"""Test texts among training texts: found in the split, and looked for again at the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail.hashing import Hashes, Strings, as_column, stable_hash
from longtail.normalisation import text_hash

Ints = NDArray[np.int64]
TRAIN, VALIDATION, TEST = 0, 1, 2


@dataclass(frozen=True)
class LeakCheck:
    """How much of the test set stood among an arm's training texts.

    Attributes:
        test_ids: test ids among the training ids.
        test_units: units of the test set that hold a training text.
        test_texts: test texts whose normalised text is that of a training text.
        concerned: ids of all test texts that one of these is about, sorted.
    """

    test_ids: int
    test_units: int
    test_texts: int
    concerned: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.test_ids or self.test_units or self.test_texts)


def training_hashes(ids: Strings, texts: Strings) -> tuple[Hashes, Hashes]:
    """What a bundle keeps of its training texts: hashes of ids and normalised texts, in order."""
    return stable_hash(ids), text_hash(as_column(texts))


def leak_check(
    train_ids: Hashes, train_texts: Hashes, table: pa.Table, units: Ints, test_ids: Sequence[str]
) -> LeakCheck:
    """Look for test texts, and for their near-duplicates, among an arm's training texts.

    Args:
        train_ids: hashes of the arm's training ids (:func:`training_hashes`).
        train_texts: hashes of their normalised texts.
        table: today's working table (columns id and text), the test texts among it, and as many
            of the arm's training texts as are still there.
        units: unit of each row of the table, shape (rows,).
        test_ids: ids of the test set.

    Raises:
        ValueError: a test id is not in the table.
    """
    ids, wanted = table["id"], pa.array(test_ids, pa.string())
    is_test = pc.is_in(ids, wanted).to_numpy()
    missing = pc.unique(wanted.filter(pc.invert(pc.is_in(wanted, ids.combine_chunks()))))
    if len(missing):
        first = pc.min(missing).as_py()
        raise ValueError(f"{len(missing)} test ids are not in the table, first {[first]}")
    in_training = np.isin(stable_hash(ids), train_ids)
    repeats = np.zeros(len(ids), dtype=bool)
    repeats[is_test] = np.isin(text_hash(table["text"].filter(pa.array(is_test))), train_texts)
    touched = is_test & np.isin(units, np.unique(units[in_training]))
    return LeakCheck(
        test_ids=int((is_test & in_training).sum()),
        test_units=len(np.unique(units[touched])),
        test_texts=int(repeats.sum()),
        concerned=tuple(sorted(ids.filter(pa.array(touched | repeats)).to_pylist())),
    )


def leaking_rows(sides: NDArray[np.int8], units: Ints) -> NDArray[np.bool_]:
    """Rows that must not be trained or tuned on.

    Training rows in a unit with a validation or test row, validation rows in a unit with a test
    row.

    Args:
        sides: 0 train, 1 validation, 2 test; shape (rows,).
        units: unit of each row.
    """
    in_test = np.isin(units, units[sides == TEST])
    in_validation = np.isin(units, units[sides == VALIDATION])
    rows: NDArray[np.bool_] = ((sides == TRAIN) & (in_test | in_validation)) | (
        (sides == VALIDATION) & in_test
    )
    return rows
