"""Label lists under other names: renamed, completed by what they imply, without the retired ones.

Works on codes of the distinct names, a chunk at a time, so that a million rows take a second and
no Python object is made per row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Viewed:
    """Annotations under today's names, and what was changed for that.

    Attributes:
        table: the annotations; labels sorted, each once, wherever anything was changed.
        renamed: texts that had each alias.
        retired: texts from which each retired label was dropped.
        added: texts that were given each parent.
        emptied: texts that had no label but retired ones.
    """

    table: pa.Table
    renamed: Mapping[str, int]
    retired: Mapping[str, int]
    added: Mapping[str, int]
    emptied: int

    def to_json(self) -> dict[str, Any]:
        """The counts."""
        return {
            "renamed": dict(self.renamed),
            "retired": dict(self.retired),
            "added": dict(self.added),
            "emptied": self.emptied,
        }


@dataclass(frozen=True)
class _Plan:
    """What becomes of each name.

    Attributes:
        names: names that occur.
        targets: names that can come out, sorted.
        own: target of each name, shape (names,).
        starts: shape (names + 1,); where the targets of each name begin in ``given``.
        given: targets that a name gives a text: its own, and what that implies.
        drops: shape (targets,); retired ones.
    """

    names: Sequence[str]
    targets: Sequence[str]
    own: Ints
    starts: Ints
    given: Ints
    drops: NDArray[np.bool_]

    @property
    def changes_nothing(self) -> bool:
        return list(self.names) == [self.targets[at] for at in self.given] and not self.drops.any()


def view_labels(
    labels: pa.ChunkedArray,
    *,
    canonical: Mapping[str, str],
    ancestors: Mapping[str, Sequence[str]],
    retired: Collection[str],
) -> tuple[pa.ChunkedArray, dict[str, Any]]:
    """Rename, complete and thin out label lists.

    Args:
        labels: list<string>; a null row stays null.
        canonical: name of today of each name; a name that is not in it stays.
        ancestors: what a label gives a text besides itself, by its name of today.
        retired: labels that drop out, after they have given what they imply.

    Returns:
        The lists, and the counts of :class:`Viewed`. Where no row is concerned the lists are those
        that were given, else each is sorted and holds each label once.
    """
    plan = _plan(_distinct(labels), canonical, ancestors, retired)
    if plan.changes_nothing:
        return labels, {"renamed": {}, "retired": {}, "added": {}, "emptied": 0}
    counts = np.zeros((3, max(len(plan.names), len(plan.targets))), dtype=np.int64)
    emptied, chunks = 0, []
    for chunk in labels.chunks:
        array, emptied_here = _view_chunk(chunk, plan, counts)
        chunks.append(array)
        emptied += emptied_here
    aliases = {n: int(c) for n, c in zip(plan.names, counts[0].tolist(), strict=False)
               if canonical.get(n, n) != n}  # fmt: skip
    return pa.chunked_array(chunks, labels.type), {
        "renamed": aliases,
        "retired": _counted(plan.targets, counts[1]),
        "added": _counted(plan.targets, counts[2]),
        "emptied": emptied,
    }


def rows_of_items(lists: pa.ListArray) -> Ints:
    """The row of every item that ``list_flatten`` gives."""
    sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(lists), dtype=np.int64), sizes)


def _counted(names: Sequence[str], counts: Ints) -> dict[str, int]:
    return {name: count for name, count in zip(names, counts.tolist(), strict=False) if count}


def _distinct(labels: pa.ChunkedArray) -> list[str]:
    return sorted(pc.unique(pc.list_flatten(labels)).to_pylist())


def _plan(
    names: Sequence[str],
    canonical: Mapping[str, str],
    ancestors: Mapping[str, Sequence[str]],
    retired: Collection[str],
) -> _Plan:
    own = [canonical.get(name, name) for name in names]
    # A retired label is no parent any more, but what lies above it is.
    lists = [
        [name, *(one for one in ancestors.get(name, ()) if one not in retired)] for name in own
    ]
    targets = sorted({one for given in lists for one in given})
    place = {name: at for at, name in enumerate(targets)}
    widths = np.array([len(given) for given in lists], dtype=np.int64)
    return _Plan(
        names=names,
        targets=targets,
        own=np.array([place[name] for name in own], dtype=np.int64),
        starts=np.concatenate([[0], np.cumsum(widths)]).astype(np.int64),
        given=np.array([place[one] for given in lists for one in given], dtype=np.int64),
        drops=np.array([name in retired for name in targets], dtype=bool),
    )


def _view_chunk(chunk: pa.ListArray, plan: _Plan, counts: Ints) -> tuple[pa.ListArray, int]:
    """A chunk's lists; adds to the counts of renamed, retired and added, and gives emptied."""
    n, width = len(chunk), len(plan.targets)
    codes = pc.index_in(pc.list_flatten(chunk), pa.array(plan.names, pa.string()))
    name = codes.to_numpy().astype(np.int64)
    row = rows_of_items(chunk)
    own = _each_once(row * width + plan.own[name])
    cells = _each_once(_spread(row, name, plan, width)) if len(plan.given) > len(plan.own) else own
    rows, targets = np.divmod(cells, width)
    stays = ~plan.drops[targets]
    before = np.bincount(own % width, minlength=width)
    after = np.bincount(targets, minlength=width)
    counts[0, : len(plan.names)] += np.bincount(name, minlength=len(plan.names))
    counts[1, :width] += np.where(plan.drops, before, 0)
    counts[2, :width] += after - before
    sizes = np.bincount(rows[stays], minlength=n)
    emptied = int(((np.bincount(row, minlength=n) > 0) & (sizes == 0)).sum())
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
    values = pa.array(plan.targets, pa.string()).take(pa.array(targets[stays]))
    mask = pc.is_null(chunk) if chunk.null_count else None
    return pa.ListArray.from_arrays(offsets, values, mask=mask), emptied


def _spread(row: Ints, name: Ints, plan: _Plan, width: int) -> Ints:
    """The cell, row · width + target, of everything that each row's names give it."""
    sizes = np.diff(plan.starts)[name]
    ends = np.cumsum(sizes)
    within = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - sizes, sizes)
    cells: Ints = np.repeat(row, sizes) * width
    cells += plan.given[np.repeat(plan.starts[:-1][name], sizes) + within]
    return cells


def _each_once(cells: Ints) -> Ints:
    """Sorted, each once. ``np.unique`` goes by a hash table, which takes sixty times as long."""
    cells.sort()
    return cells[np.concatenate([[True], cells[1:] != cells[:-1]])] if len(cells) else cells
