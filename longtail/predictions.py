"""Probabilities of texts × labels on disk, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from longtail import storage
from longtail.errors import StoreError


@dataclass(frozen=True)
class Predictions:
    """Scored texts.

    Attributes:
        ids: text ids, row order.
        labels: label names, column order.
        probabilities: float32 array of shape (texts, labels), in [0, 1].
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]

    def __post_init__(self) -> None:
        expected = (len(self.ids), len(self.labels))
        if self.probabilities.shape != expected:
            raise ValueError(f"probabilities have shape {self.probabilities.shape}, not {expected}")

    def aligned(self, ids: Sequence[str], labels: Sequence[str]) -> NDArray[np.float32]:
        """The probabilities in another order of rows and columns.

        A label that was never scored gets probability 0: it counts as never given.

        Raises:
            StoreError: an id was not scored.
        """
        rows = {name: row for row, name in enumerate(self.ids)}
        missing = [name for name in ids if name not in rows]
        if missing:
            raise StoreError(f"{len(missing)} texts were not scored, the first is {missing[0]!r}")
        columns = {name: column for column, name in enumerate(self.labels)}
        known = [j for j, name in enumerate(labels) if name in columns]
        result = np.zeros((len(ids), len(labels)), dtype=np.float32)
        source = self.probabilities[[rows[name] for name in ids]]
        result[:, known] = source[:, [columns[labels[j]] for j in known]]
        return result


def write_predictions(path: str | Path, predictions: Predictions) -> None:
    """Write predictions as Parquet: ``id`` and a fixed-size list of float32 per text."""
    flat = np.ascontiguousarray(predictions.probabilities, dtype=np.float32).reshape(-1)
    values = pa.FixedSizeListArray.from_arrays(pa.array(flat), len(predictions.labels))
    table = pa.table({"id": pa.array(predictions.ids, pa.string()), "probabilities": values})
    metadata = {"labels": json.dumps(predictions.labels, ensure_ascii=False)}
    storage.write_parquet(path, table.replace_schema_metadata(metadata))


def read_predictions(path: str | Path) -> Predictions:
    """Read what :func:`write_predictions` wrote."""
    table = storage.read_parquet(path)
    labels = tuple(json.loads(table.schema.metadata[b"labels"]))
    flat = table["probabilities"].combine_chunks().flatten().to_numpy()
    values = flat.reshape(table.num_rows, len(labels)).astype(np.float32, copy=False)
    return Predictions(tuple(table["id"].to_pylist()), labels, values)
