"""Annotations for the tests of the audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from longtail.annotations.schema import ANNOTATIONS

WORDS = {
    "billing": "invoice charge refund payment card amount",
    "login": "password account reset token email locked",
    "delivery": "parcel courier late tracking address box",
    "printing": "paper ink tray jam printer page",
}


def annotations(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows of ANNOTATIONS; what a row does not name is null."""
    empty = dict.fromkeys(ANNOTATIONS.names)
    return pa.Table.from_pylist([{**empty, **row} for row in rows], schema=ANNOTATIONS)


def tickets(n: int = 240, seed: int = 0) -> pa.Table:
    """Texts whose words say which of four labels they have, one or two each."""
    rng = np.random.default_rng(seed)
    names = sorted(WORDS)
    rows = []
    for number in range(n):
        labels = sorted(set(rng.choice(names, size=1 + number % 2).tolist()))
        words = [word for label in labels for word in rng.choice(WORDS[label].split(), 5).tolist()]
        filler = rng.choice([f"word{at}" for at in range(200)], 6).tolist()
        text = " ".join(rng.permutation(words + filler).tolist())
        rows.append({"id": f"t{number:04d}", "text": text, "labels": labels})
    return annotations(rows)


def with_labels(table: pa.Table, row: int, labels: Sequence[str]) -> pa.Table:
    """The same table with other labels in one row."""
    rows = table.to_pylist()
    rows[row]["labels"] = sorted(labels)
    return pa.Table.from_pylist(rows, schema=ANNOTATIONS)
