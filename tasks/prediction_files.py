"""Predictions as a file that people and programs read: Parquet, CSV or JSONL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from longtail import storage
from longtail.bundle import BundleInfo
from longtail.errors import ConfigError
from longtail.labels import LabelSpace
from longtail.spreadsheet import csv_text, json_cell

_CSV_BEST = 5

Write = Callable[
    [
        Path, Sequence[str], NDArray[np.float32], NDArray[np.bool_], BundleInfo,
        pa.ChunkedArray | None,
    ],
    None,
]  # fmt: skip
"""Writes ids, probabilities, decided labels and, if they were asked for, their explanations."""


def writer(out: Path) -> Write:
    """What writes a file of that name.

    Raises:
        ConfigError: its extension is not known.
    """
    writers: dict[str, Write] = {
        ".parquet": write_parquet, ".csv": write_csv, ".jsonl": write_jsonl
    }  # fmt: skip
    if out.suffix not in writers:
        raise ConfigError(
            f"{out}: predictions are written as {', '.join(writers)}, found {out.suffix or 'none'}"
        )
    return writers[out.suffix]


def write_parquet(
    out: Path,
    ids: Sequence[str],
    scores: NDArray[np.float32],
    decided: NDArray[np.bool_],
    info: BundleInfo,
    explanations: pa.ChunkedArray | None = None,
) -> None:
    """Columns id, labels, and probabilities in the order of the schema's metadata ``labels``.

    With explanations, a column of them, of type
    :data:`longtail.models.explanation.EXPLANATIONS`.
    """
    labels = LabelSpace(info.labels).decode(decided)
    flat = pa.array(np.ascontiguousarray(scores).reshape(-1))
    table = pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "labels": pa.array(labels, pa.list_(pa.string())),
            "probabilities": pa.FixedSizeListArray.from_arrays(flat, len(info.labels)),
        }
    )
    if explanations is not None:
        table = table.append_column("explanations", explanations)
    metadata = {"labels": json.dumps(info.labels, ensure_ascii=False)}
    storage.write_parquet(out, table.replace_schema_metadata(metadata))


def write_jsonl(
    out: Path,
    ids: Sequence[str],
    scores: NDArray[np.float32],
    decided: NDArray[np.bool_],
    info: BundleInfo,
    explanations: pa.ChunkedArray | None = None,
) -> None:
    """One object per text: id, labels, probabilities and explanations by label."""
    lines = (
        json.dumps({"id": row_id, "labels": labels, "probabilities": _named(info.labels, row),
                    **why}, ensure_ascii=False)
        for row_id, labels, row, why in zip(
            ids, LabelSpace(info.labels).decode(decided), scores,
            _by_label(explanations, len(ids)), strict=True)
    )  # fmt: skip
    storage.write_text(out, "".join(f"{line}\n" for line in lines))


def write_csv(
    out: Path,
    ids: Sequence[str],
    scores: NDArray[np.float32],
    decided: NDArray[np.bool_],
    info: BundleInfo,
    explanations: pa.ChunkedArray | None = None,
) -> None:
    """id, labels as a JSON list, and the probabilities of the five likeliest labels as JSON.

    With explanations, a column of them: the JSON of :func:`write_jsonl`.
    """
    header = ["id", "labels", "probabilities"]
    header += [] if explanations is None else ["explanations"]
    rows = []
    for row_id, labels, row, why in zip(
        ids, LabelSpace(info.labels).decode(decided), scores, _by_label(explanations, len(ids)),
        strict=True,
    ):  # fmt: skip
        best = np.argsort(-row, kind="stable")[: max(_CSV_BEST, len(labels))]
        named = _named([info.labels[j] for j in best], row[best])
        rows.append((row_id, json_cell(labels), json_cell(named), *map(json_cell, why.values())))
    storage.write_text(out, csv_text(header, rows))


def _by_label(explanations: pa.ChunkedArray | None, count: int) -> Iterator[dict[str, Any]]:
    """Of each text, ``explanations`` by label; nothing where none were asked for."""
    if explanations is None:
        yield from ({} for _ in range(count))
        return
    for chunk in explanations.iterchunks():
        for of_text in chunk:
            by_label = {one.pop("label"): one for one in of_text.as_py()}
            yield {"explanations": by_label}


def _named(labels: Sequence[str], row: NDArray[np.float32]) -> dict[str, Any]:
    return {label: round(float(p), 6) for label, p in zip(labels, row, strict=True)}
