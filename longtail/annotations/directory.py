"""A directory of exports, read as one export.

A position then tells the file too: the number of the file, from 1 in the order of the names, stands
above the position within it. Positions ascend, and those of a single file are what they were.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import fsspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from longtail.errors import DataError
from longtail.storage import MANIFEST

_FILE_SHIFT = 40
MAX_POSITION = (1 << _FILE_SHIFT) - 1
"""Highest position within one file."""

_NO_DIRECTORIES = frozenset({"http", "https", "data"})

Positions = NDArray[np.int64]


def export_files(path: str | Path) -> tuple[str, ...] | None:
    """The exports in a directory, in the order of their names; None for what is no directory.

    Hidden files and ``manifest.json`` are not among them, nor is what lies in directories below.

    Args:
        path: local path or fsspec URL.

    Raises:
        DataError: a directory that cannot be listed, or in which there is no file.
    """
    url = str(path)
    if url.partition("://")[0] in _NO_DIRECTORIES:
        return None
    try:
        found = _listed(url)
    except PermissionError as error:
        raise DataError(f"{url}: may not be read by this user; change its permissions") from error
    except (OSError, ValueError, ImportError):
        return None  # opening it says what is wrong
    if found is not None and not found:
        raise DataError(
            f"{url}: is a directory without a file to read; hidden ones and {MANIFEST} do not count"
        )
    return found


def _listed(url: str) -> tuple[str, ...] | None:
    if "://" not in url:
        root = Path(url)
        if not root.is_dir():
            return None
        return tuple(
            str(file) for file in sorted(root.iterdir()) if is_export(file.name) and file.is_file()
        )
    filesystem, inside = fsspec.core.url_to_fs(url)
    if not filesystem.isdir(inside):
        return None
    entries = filesystem.ls(inside, detail=True)
    names = sorted(entry["name"] for entry in entries if entry["type"] == "file")
    return tuple(
        filesystem.unstrip_protocol(name) for name in names if is_export(PurePosixPath(name).name)
    )


def is_export(name: str) -> bool:
    """Whether a file of this name is read: it is not hidden, and not a manifest."""
    return not name.startswith(".") and name != MANIFEST


def first_position(number: int) -> int:
    """What is added to the positions of the file of this number, from 1."""
    return number << _FILE_SHIFT


def file_numbers(positions: Positions) -> Positions:
    """The number of the file of each position; 0 where there is only one file."""
    return positions >> _FILE_SHIFT


def within_file(positions: Positions) -> Positions:
    """The position of each row within its own file."""
    return positions & MAX_POSITION


def row_name(position: int) -> str:
    """A position as messages name it."""
    number = position >> _FILE_SHIFT
    return f"{position & MAX_POSITION} of file {number}" if number else str(position)


def placed(table: pa.Table, number: int) -> pa.Table:
    """The rows of the file of this number, with positions that tell it."""
    at = table.schema.get_field_index("position")
    moved = pa.array(table["position"].to_numpy() + first_position(number))
    return table.set_column(at, table.schema.field(at), moved)


def named(table: pa.Table, files: Sequence[str]) -> pa.Table:
    """Rows with ``file`` and ``position``: the name of their file, and the position within it.

    Args:
        table: positions as :func:`placed` makes them.
        files: names by the number of the file, from 1.
    """
    positions = table["position"].to_numpy()
    names = pa.array(files, pa.string()).take(pa.array(file_numbers(positions) - 1))
    columns = {"file": names, "position": pa.array(within_file(positions))}
    return functools.reduce(
        lambda rows, name: rows.set_column(
            rows.schema.get_field_index(name), rows.schema.field(name), columns[name]
        ),
        columns,
        table,
    )
