"""Reading an annotation export, whatever its format, in batches of canonical rows."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa

from longtail.annotations.columns import wanted_columns
from longtail.annotations.directory import export_files, placed
from longtail.annotations.exports import is_plain_parquet, open_rows
from longtail.annotations.fields import read_record
from longtail.annotations.parquet_reader import parquet_tables
from longtail.annotations.schema import RAW, Record
from longtail.annotations.sources import HEAD_BYTES, detect_container, open_export
from longtail.config import DataSettings
from longtail.errors import EmptyExportError

_BATCH_ROWS = 10_000
_BATCH_CHARACTERS = 16 << 20


def read_annotations(
    path: str | Path, settings: DataSettings, *, labels_required: bool = True
) -> Generator[pa.Table, None, None]:
    """Read an export in batches of some ten thousand rows and 16 MB of text (Parquet: 64 MB).

    A bad row never raises: it is delivered with its problems and with null where a value could
    not be read. Nothing is opened before the first batch is asked for. The ``raw`` of a Parquet
    file's good rows is null; see :func:`longtail.annotations.parquet_reader.parquet_raw`.

    Args:
        path: local path or fsspec URL; of a directory, all files are read as one export
            (:mod:`longtail.annotations.directory`).
        settings: format, columns and label separator.
        labels_required: False for texts that are to be labelled: a labels column may be absent
            and is not looked at.

    Yields:
        Tables of the schema :data:`longtail.annotations.schema.RAW`, one row per input row.

    Raises:
        DataError: the file cannot be read at all: absent, empty, compressed, not UTF-8 as a
            whole, damaged, without a wanted column, or without a single row.
    """
    files = export_files(path)
    if files is None:
        yield from _read_file(path, settings, labels_required=labels_required)
        return
    empty = True
    for number, file in enumerate(files, 1):
        try:
            for table in _read_file(file, settings, labels_required=labels_required):
                empty = False
                yield placed(table, number)
        except EmptyExportError:  # beside others, a quiet day's export
            continue
    if empty:
        raise EmptyExportError(f"{path}: none of its {len(files)} files holds a row of data")


def _read_file(
    path: str | Path, settings: DataSettings, *, labels_required: bool
) -> Iterator[pa.Table]:
    with open_export(path) as handle:
        empty = True
        for table in tables_of(handle, path, settings, labels_required=labels_required):
            empty = False
            yield table
        if empty:
            raise EmptyExportError(f"{path}: holds no rows of data; was the export finished?")


def tables_of(
    handle: IO[bytes], path: str | Path, settings: DataSettings, *, labels_required: bool = True
) -> Iterator[pa.Table]:
    """Read an export that is open already; see :func:`read_annotations`.

    Args:
        handle: the export's bytes, seekable, at the beginning.
        path: its name, for messages and where the content does not tell the format.
        settings: as for :func:`read_annotations`.
        labels_required: as for :func:`read_annotations`.

    Yields:
        Tables of the schema RAW; none where the export has no rows.

    Raises:
        DataError: the export cannot be read at all.
    """
    head = handle.read(HEAD_BYTES)
    handle.seek(0)
    found = detect_container(path, head, settings.format)
    if is_plain_parquet(handle, found, settings):
        wanted = wanted_columns(settings.columns, labels_required=labels_required)
        yield from parquet_tables(handle, str(path), wanted, settings.label_separator)
        return
    rows = open_rows(handle, str(path), found, settings, labels_required=labels_required)
    for batch in _batches(rows.records):
        read = [read_record(record, rows.wanted, rows.separator) for record in batch]
        yield pa.Table.from_pylist(read, schema=RAW)


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
