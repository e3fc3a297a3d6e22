"""The content of a few rows of an export, read once more for the quarantine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail.annotations.columns import wanted_columns
from longtail.annotations.directory import (
    export_files,
    file_numbers,
    first_position,
    within_file,
)
from longtail.annotations.exports import is_plain_parquet
from longtail.annotations.parquet_reader import parquet_raw
from longtail.annotations.readers import read_annotations
from longtail.annotations.sources import HEAD_BYTES, detect_container, open_export
from longtail.config import DataSettings


def read_contents(
    path: str | Path,
    settings: DataSettings,
    positions: NDArray[np.int64],
    *,
    labels_required: bool = True,
) -> Iterator[tuple[int, str]]:
    """What some rows of an export hold, as RAW's ``raw`` tells it.

    Args:
        path: the export, unchanged since its positions were read.
        settings: as it was read with.
        positions: of the rows, ascending.
        labels_required: as it was read with.

    Yields:
        Position and content, in the order of the positions.
    """
    files = export_files(path)
    if files is None:
        yield from _read_file(path, settings, positions, labels_required=labels_required)
        return
    numbers = file_numbers(positions)
    for number in np.unique(numbers).tolist():
        own = within_file(positions[numbers == number])
        found = _read_file(files[number - 1], settings, own, labels_required=labels_required)
        yield from ((first_position(number) + position, raw) for position, raw in found)


def _read_file(
    path: str | Path,
    settings: DataSettings,
    positions: NDArray[np.int64],
    *,
    labels_required: bool,
) -> Iterator[tuple[int, str]]:
    with open_export(path) as handle:
        head = handle.read(HEAD_BYTES)
        handle.seek(0)
        if is_plain_parquet(handle, detect_container(path, head, settings.format), settings):
            wanted = wanted_columns(settings.columns, labels_required=labels_required)
            yield from parquet_raw(handle, str(path), wanted, positions)
            return
    chosen = pa.array(positions)
    for table in read_annotations(path, settings, labels_required=labels_required):
        rows = table.filter(pc.is_in(table["position"], chosen))
        yield from zip(rows["position"].to_pylist(), rows["raw"].to_pylist(), strict=True)
