"""Rows of one id in a file of many rows: found by hashes, merged some at a time.

An id that stands once needs nothing but to pass by. The others are brought together: they go to
buckets of bounded size, all rows of an id to one bucket, and the buckets are merged one by one.
Ids are found by hashes of 64 bits and merged by themselves, so that two ids with one hash are no
more than two ids in one bucket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail.annotations.merge import Merged
from longtail.annotations.schema import ANNOTATIONS
from longtail.row_groups import RowGroupWriter, batches_of

Ints = NDArray[np.int64]
Merge = Callable[[pa.Table], Merged]

_BUCKET_ROWS = 100_000
_PLACED = pa.schema([*ANNOTATIONS, pa.field("position", pa.int64()), pa.field("row", pa.int64())])
CONFLICTS = pa.schema(
    [("position", pa.int64()), ("id", pa.string()), ("reasons", pa.list_(pa.string()))]
)


@dataclass(frozen=True)
class Repeated:
    """Which rows of a file share their id with another, and the bucket that each goes to.

    Attributes:
        single: shape (rows,); rows that share it with none.
        bucket: of every other row, in order.
        starts: the row at which each bucket's first id first stands, ascending.
    """

    single: NDArray[np.bool_]
    bucket: Ints
    starts: Ints


@dataclass(frozen=True)
class Outcome:
    """What became of the rows that shared ids.

    Attributes:
        accepted: rows of the new file.
        merged: rows that were folded into another.
        conflicts: schema CONFLICTS, by position.
    """

    accepted: int
    merged: int
    conflicts: pa.Table


def find_repeated(hashes: NDArray[np.uint64], bucket_rows: int = _BUCKET_ROWS) -> Repeated:
    """Find rows whose id's hash stands more than once.

    Args:
        hashes: of the id of every row.
        bucket_rows: about how many rows a bucket may have; one id's rows are never divided.
    """
    ascending = np.sort(hashes)
    several = ascending[1:][ascending[1:] == ascending[:-1]]
    single = np.ones(len(hashes), dtype=bool)
    if len(several):
        places = np.minimum(np.searchsorted(several, hashes), len(several) - 1)
        single = several[places] != hashes
    rows = np.flatnonzero(~single)
    order = np.argsort(hashes[rows], kind="stable")
    fresh = np.diff(hashes[rows][order], prepend=np.uint64(0)) != 0
    fresh[:1] = True
    first = rows[order[fresh]]
    sizes = np.diff(np.flatnonzero(fresh), append=len(rows))
    # Buckets follow the order of first appearance, so that the merged rows can keep it.
    by_first = np.argsort(first, kind="stable")
    before = np.cumsum(sizes[by_first]) - sizes[by_first]
    of_id = np.empty(len(first), dtype=np.int64)
    of_id[by_first] = before // bucket_rows
    bucket = np.empty(len(rows), dtype=np.int64)
    bucket[order] = np.repeat(of_id, sizes)
    used, opening = np.unique(of_id[by_first], return_index=True)
    starts = first[by_first][opening]
    return Repeated(single, np.searchsorted(used, bucket), starts)


def merge_repeated(
    source: Path,
    target: Path,
    voices: Path,
    positions: Ints,
    repeated: Repeated,
    merge: Merge,
) -> Outcome:
    """Write a file's rows anew, one per id, in the order in which the ids first stand.

    Args:
        source: Parquet of ANNOTATIONS; buckets are kept beside it for a while.
        target: to be written, Parquet of ANNOTATIONS.
        voices: to be written: what several annotators said of one text, row by row.
        positions: of every row of the source, as reasons name them.
        repeated: from :func:`find_repeated` of the source's ids.
        merge: what makes one row of several.
    """
    buckets = _distribute(source, positions, repeated)
    conflicts: list[pa.Table] = []
    n_merged = 0
    with (
        RowGroupWriter(voices, ANNOTATIONS, passing=True) as heard,
        RowGroupWriter(target, ANNOTATIONS, passing=True) as out,
    ):
        waiting, opened = _PLACED.empty_table(), 0
        for first, rows in _numbered(source):
            last = first + rows.num_rows
            while opened < len(buckets) and repeated.starts[opened] < last:
                placed, merged, contradicting = _merge_bucket(buckets[opened], merge)
                heard.write(merged.voices)
                conflicts.append(contradicting)
                n_merged += merged.n_merged
                waiting, opened = pa.concat_tables([waiting, placed]), opened + 1
            here = pc.less(waiting["row"], last)
            out.write(_interleaved(rows, first, repeated.single[first:last], waiting.filter(here)))
            waiting = waiting.filter(pc.invert(here)).combine_chunks()
        n_accepted = out.rows
    found = pa.concat_tables([CONFLICTS.empty_table(), *conflicts])
    return Outcome(n_accepted, n_merged, found.sort_by("position"))


def _numbered(source: Path) -> Iterator[tuple[int, pa.Table]]:
    first = 0
    for rows in batches_of(source):
        yield first, rows
        first += rows.num_rows


def _distribute(source: Path, positions: Ints, repeated: Repeated) -> list[Path]:
    """Write the rows that share ids into files, one per bucket."""
    paths = [source.with_name(f"bucket-{at}.arrow") for at in range(len(repeated.starts))]
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    taken = 0
    with ExitStack() as stack:
        writers = [
            stack.enter_context(pa.ipc.new_stream(str(path), _PLACED, options=options))
            for path in paths
        ]
        for first, rows in _numbered(source):
            places = np.flatnonzero(~repeated.single[first : first + rows.num_rows])
            bucket = repeated.bucket[taken : taken + len(places)]
            taken += len(places)
            for at in np.unique(bucket).tolist():
                chosen = places[bucket == at]
                part = _placed(rows.take(pa.array(chosen)), first + chosen)
                writers[at].write_table(
                    part.append_column("position", pa.array(positions[first + chosen]))
                    .select(_PLACED.names)
                    .cast(_PLACED)
                )
    return paths


def _placed(table: pa.Table, rows: Ints) -> pa.Table:
    return table.append_column("row", pa.array(rows, pa.int64()))


def _merge_bucket(path: Path, merge: Merge) -> tuple[pa.Table, Merged, pa.Table]:
    """One bucket's merged rows with the rows to stand in; the merge; its conflicts."""
    with pa.ipc.open_stream(str(path)) as stream:
        rows = stream.read_all()
    path.unlink()
    merged = merge(rows.drop_columns("row"))
    ids = rows["id"].combine_chunks().dictionary_encode()
    codes = ids.indices.to_numpy(zero_copy_only=False)
    first = np.flatnonzero(codes > np.maximum.accumulate(np.concatenate([[-1], codes[:-1]])))
    of_id = rows["row"].to_numpy()[first]
    place = pc.index_in(merged.table["id"], ids.dictionary).to_numpy()
    position = pa.nulls(merged.table.num_rows, pa.int64())
    table = _placed(merged.table.append_column("position", position), of_id[place])
    return table, merged, _conflicts(rows, merged)


def _conflicts(rows: pa.Table, merged: Merged) -> pa.Table:
    index = pa.array([row for row, _ in merged.quarantined], pa.int64())
    chosen = rows.select(["position", "id"]).take(index)
    reasons = pa.array([why for _, why in merged.quarantined], pa.list_(pa.string()))
    return chosen.append_column("reasons", reasons).cast(CONFLICTS)


def _interleaved(
    rows: pa.Table, first: int, single: NDArray[np.bool_], merged: pa.Table
) -> pa.Table:
    """The rows that stand alone and the merged ones, by the row where each first stood."""
    alone = rows if single.all() else rows.filter(pa.array(single))
    if merged.num_rows == 0:
        return alone
    both = pa.concat_tables([alone.cast(ANNOTATIONS), merged.select(ANNOTATIONS.names)])
    places = np.concatenate([first + np.flatnonzero(single), merged["row"].to_numpy()])
    return both.take(pa.array(np.argsort(places, kind="stable")))
