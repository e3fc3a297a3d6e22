"""Reading an annotation export, whatever its format, in batches of canonical rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import pyarrow as pa

from longtail.annotations.columns import wanted_columns
from longtail.annotations.csv_reader import csv_records
from longtail.annotations.fields import read_record
from longtail.annotations.jsonl_reader import jsonl_records
from longtail.annotations.parquet_reader import parquet_tables
from longtail.annotations.schema import RAW, Record
from longtail.annotations.sources import HEAD_BYTES, Format, detect_format, open_export
from longtail.config import DataSettings
from longtail.errors import DataError

_BATCH_ROWS = 10_000
_BATCH_CHARACTERS = 64 << 20
_READERS: Mapping[Format, Callable[[IO[bytes], str, Mapping[str, str]], Iterator[Record]]] = {
    "csv": csv_records,
    "jsonl": jsonl_records,
}


def read_annotations(
    path: str | Path, settings: DataSettings, *, labels_required: bool = True
) -> Iterator[pa.Table]:
    """Read an export in batches of some ten thousand rows and about 64 MB of text.

    A bad row never raises: it is delivered with its problems and with null where a value could
    not be read. Nothing is opened before the first batch is asked for. The ``raw`` of a Parquet
    file's good rows is null; see :func:`longtail.annotations.parquet_reader.parquet_raw`.

    Args:
        path: local path or fsspec URL.
        settings: format, columns and label separator.
        labels_required: False for texts that are to be labelled: a labels column may be absent
            and is not looked at.

    Yields:
        Tables of the schema :data:`longtail.annotations.schema.RAW`, one row per input row.

    Raises:
        DataError: the file cannot be read at all: absent, empty, compressed, not UTF-8 as a
            whole, damaged, without a wanted column, or without a single row.
    """
    wanted = wanted_columns(settings.columns, labels_required=labels_required)
    with open_export(path) as handle:
        head = handle.read(HEAD_BYTES)
        handle.seek(0)
        found = detect_format(path, head, settings.format)
        separator, empty = settings.label_separator, True
        for table in _tables(found, handle, str(path), wanted, separator):
            empty = False
            yield table
        if empty:
            raise DataError(f"{path}: holds no rows of data; was the export finished?")


def _tables(
    found: Format, handle: IO[bytes], file: str, wanted: Mapping[str, str], separator: str | None
) -> Iterator[pa.Table]:
    if found == "parquet":
        yield from parquet_tables(handle, file, wanted, separator)
        return
    for batch in _batches(_READERS[found](handle, file, wanted)):
        rows = [read_record(record, wanted, separator) for record in batch]
        yield pa.Table.from_pylist(rows, schema=RAW)


def _batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    characters = 0
    for record in records:
        batch.append(record)
        characters += len(record.raw)
        if len(batch) >= _BATCH_ROWS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
