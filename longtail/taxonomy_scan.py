"""What an export says of its labels, counted a batch at a time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail.annotations.moments import UNDATED, moments_of
from longtail.known import to_microseconds
from longtail.label_view import rows_of_items
from longtail.taxonomy import Taxonomy

FIRST_ROWS = 3
ROWS = pa.schema([("id", pa.string()), ("labels", pa.list_(pa.string()))])
_NEVER = np.iinfo(np.int64).max
Ints = NDArray[np.int64]


@dataclass
class Scan:
    """The labels of an export.

    Attributes:
        rows: rows read.
        unusable: rows that the export skips, or in which id or labels cannot be read.
        texts: rows that have each name, as annotators gave it.
        first: positions of the first rows of each new name.
        early: rows dated before their label's ``since``, by label.
        late: rows dated from their label's ``until`` on, or not dated at all, by label.
        lacking: rows that have a label and lack one that it implies, by (label, implied).
        with_new: id and labels of the rows that have a new name.
    """

    rows: int = 0
    unusable: int = 0
    texts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    early: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    lacking: Counter[tuple[str, str]] = field(default_factory=Counter)
    with_new: pa.Table = field(default_factory=ROWS.empty_table)


def scan(
    batches: Iterable[pa.Table], taxonomy: Taxonomy | None, known: Collection[str] | None
) -> Scan:
    """Count what an export's labels are, reading it once.

    Args:
        batches: tables of the schema :data:`longtail.annotations.schema.RAW`.
        taxonomy: whose dates and parents are looked at; None: none.
        known: names that are not new; None: none is, there is nothing to compare with.
    """
    found, kept = Scan(), [ROWS.empty_table()]
    old_names = None if known is None else pa.array(sorted(known), pa.string())
    for batch in batches:
        usable = batch.filter(_usable(batch)).combine_chunks()
        found.rows += batch.num_rows
        found.unusable += batch.num_rows - usable.num_rows
        if not usable.num_rows:
            continue
        labels = usable["labels"].chunk(0)
        flat, row = pc.list_flatten(labels), rows_of_items(labels)
        for value in pc.value_counts(flat).to_pylist():
            found.texts[value["values"]] += value["counts"]
        if old_names is not None:
            new = pc.invert(pc.is_in(flat, old_names)).to_numpy(zero_copy_only=False)
            kept.append(_note_new(found, usable, flat, row, new))
        if taxonomy is not None:
            _note_taxonomy(found, taxonomy, flat, row, moments_of(usable["annotated_at"]))
    found.with_new = pa.concat_tables(kept)
    return found


def _usable(batch: pa.Table) -> pa.ChunkedArray:
    bad = pc.greater(pc.fill_null(pc.list_value_length(batch["problems"]), 0), 0)
    there = pc.and_(pc.is_valid(batch["id"]), pc.is_valid(batch["labels"]))
    return pc.and_(pc.and_(there, pc.is_null(batch["skipped"])), pc.invert(bad))


def _note_new(
    found: Scan, usable: pa.Table, flat: pa.Array, row: Ints, new: NDArray[np.bool_]
) -> pa.Table:
    """Keep the first positions of new names; gives the rows that have one."""
    positions = usable["position"].to_numpy()[row[new]]
    for name, position in zip(flat.filter(pa.array(new)).to_pylist(), positions, strict=True):
        if len(found.first[name]) < FIRST_ROWS:
            found.first[name].append(int(position))
    concerned = np.zeros(usable.num_rows, dtype=bool)
    concerned[row[new]] = True
    return usable.select(ROWS.names).filter(pa.array(concerned)).cast(ROWS)


def _note_taxonomy(
    found: Scan, taxonomy: Taxonomy, flat: pa.Array, row: Ints, moments: Ints
) -> None:
    coded = flat.dictionary_encode()
    given = [taxonomy.canonical.get(name, name) for name in coded.dictionary.to_pylist()]
    names = sorted(set(given).union(*(taxonomy.ancestors.get(name, ()) for name in given)))
    place = {name: at for at, name in enumerate(names)}
    own = np.array([place[name] for name in given], dtype=np.int64)
    label = own[coded.indices.to_numpy()] if len(own) else np.zeros(0, dtype=np.int64)
    _note_dates(found, taxonomy, names, label, moments[row])
    _note_lacking(found, taxonomy, names, label, row)


def _note_dates(
    found: Scan, taxonomy: Taxonomy, names: list[str], label: Ints, moments: Ints
) -> None:
    entries = [taxonomy.labels.get(name) for name in names]
    since, until = (
        np.array([to_microseconds(getattr(entry, side, None), without) for entry in entries])
        for side, without in (("since", UNDATED), ("until", _NEVER))
    )
    undated = moments == UNDATED
    early = ~undated & (moments < since[label])
    late = (until[label] != _NEVER) & (undated | (moments >= until[label]))
    for counter, which in ((found.early, early), (found.late, late)):
        counts = np.bincount(label[which], minlength=len(names))
        counter.update({names[at]: int(counts[at]) for at in np.flatnonzero(counts).tolist()})


def _note_lacking(
    found: Scan, taxonomy: Taxonomy, names: list[str], label: Ints, row: Ints
) -> None:
    place = {name: at for at, name in enumerate(names)}
    cells = np.sort(row * len(names) + label)
    for name in names:
        rows = row[label == place[name]] if name in taxonomy.ancestors else row[:0]
        for above in taxonomy.ancestors.get(name, ()) if len(rows) else ():
            needed = rows * len(names) + place[above]
            at = np.minimum(np.searchsorted(cells, needed), len(cells) - 1)
            if lacking := int((cells[at] != needed).sum()):
                found.lacking[name, above] += lacking
