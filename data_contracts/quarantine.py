"""The quarantine's last rows and contents, added to a file that may be large."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from longtail.annotations.schema import QUARANTINE
from longtail.row_groups import RowGroupWriter, batches_of


def complete_quarantine(
    path: Path, file: str, conflicts: pa.Table, contents: Iterator[tuple[int, str]]
) -> None:
    """Add the conflicts of merging to a quarantine, and the content where it is not known yet.

    Args:
        path: Parquet of QUARANTINE, by position; it is replaced.
        file: the export's name.
        conflicts: position, id and reasons, by position.
        contents: position and content of every row without content, conflicts too, by position.
    """
    target = path.with_name("completed.parquet")
    waiting = _as_quarantine(conflicts, file)
    with RowGroupWriter(target, QUARANTINE) as out:
        for rows in batches_of(path):
            here = pc.less(waiting["position"], rows["position"][-1])
            both = pa.concat_tables([rows, waiting.filter(here)])
            waiting = waiting.filter(pc.invert(here))
            out.write(_with_contents(both.sort_by("position"), contents))
        out.write(_with_contents(waiting, contents))
    target.replace(path)


def _as_quarantine(conflicts: pa.Table, file: str) -> pa.Table:
    n_rows = conflicts.num_rows
    columns = {"file": pa.repeat(file, n_rows), "raw": pa.nulls(n_rows, pa.string())}
    columns.update({name: conflicts[name] for name in conflicts.column_names})
    return pa.table([columns[name] for name in QUARANTINE.names], schema=QUARANTINE)


def _with_contents(rows: pa.Table, contents: Iterator[tuple[int, str]]) -> pa.Table:
    missing = rows["raw"].is_null()
    if not pc.any(missing).as_py():
        return rows
    positions = rows["position"].filter(missing).to_pylist()
    found = dict(next(contents) for _ in positions)
    raw = pc.replace_with_mask(
        rows["raw"].combine_chunks(),
        missing.combine_chunks(),
        pa.array([found[position] for position in positions], pa.string()),
    )
    place = rows.schema.get_field_index("raw")
    return rows.set_column(place, rows.schema.field(place), raw)
