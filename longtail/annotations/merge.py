"""How several rows of one id become one annotation, and which of them contradict each other."""

from __future__ import annotations

import datetime as dt
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from longtail.annotations.schema import ANNOTATIONS
from longtail.config import AnnotatorPolicy

Policy = AnnotatorPolicy
_SHOWN_ROWS = 4
_SHOWN_LABELS = 6


@dataclass(frozen=True)
class Merged:
    """The outcome of a merge; every row of the input is in exactly one of the three.

    Attributes:
        table: one row per id (schema ANNOTATIONS), in the order of first appearance.
        quarantined: (row index in the input, its reasons) of rows that contradict each other.
        n_merged: rows that were folded into another row.
    """

    table: pa.Table
    quarantined: list[tuple[int, list[str]]]
    n_merged: int


@dataclass(frozen=True)
class _Row:
    index: int
    position: int
    id: str
    text: str
    labels: frozenset[str] | None
    group: str | None
    annotator: str | None
    annotated_at: dt.datetime | None
    source: str | None
    split: str | None

    @property
    def content(self) -> tuple[object, ...]:
        return (self.text, self.labels, self.group, self.split)

    @property
    def about(self) -> tuple[object, ...]:
        """What all annotators of one text must agree on."""
        return (self.text, self.group, self.split)


class _Conflict(Exception):  # noqa: N818 - not an error: it ends in the quarantine
    def __init__(self, rows: Sequence[_Row], reason: str) -> None:
        super().__init__(reason)
        self.rows = rows
        self.reason = reason


def normalise_text(text: str) -> str:
    """Text as duplicates are looked for: NFKC, case folded, white space collapsed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def label_set(labels: Iterable[str] | None) -> list[str] | None:
    """Labels as they are stored: each once, sorted."""
    return None if labels is None else sorted(set(labels))


def merge_annotations(table: pa.Table, policy: Policy) -> Merged:
    """Make one row of all rows that share an id.

    Rows of one annotator (or of none named): the latest by date wins; identical rows are one;
    otherwise they contradict each other and all of them are quarantined. What different
    annotators say of one text is decided by the policy: ``latest`` by date, ``union`` of the
    labels, or ``majority`` (labels that more than half of the annotators gave). Where text, group
    or split differ, dates decide which is current, and rows about an older one are outdated.

    Args:
        table: the columns of ANNOTATIONS, id and text never null; where there is a column
            ``position``, reasons name it, else the row index from 1.
        policy: see above.
    """
    repeated = _repeated_rows(table)
    replaced: dict[int, _Row] = {}
    dropped: set[int] = set()
    quarantined: list[tuple[int, list[str]]] = []
    n_merged = 0
    for rows in repeated:
        kept, conflicts = _merge_id(rows, policy)
        for conflict in conflicts:
            quarantined += [(row.index, [conflict.reason]) for row in conflict.rows]
        in_conflict = {row.index for conflict in conflicts for row in conflict.rows}
        first = next((row.index for row in rows if row.index not in in_conflict), None)
        dropped |= {row.index for row in rows} - {first if kept else None}
        if kept and first is not None:
            replaced[first] = kept
        n_merged += len(rows) - len(in_conflict) - (kept is not None)
    merged = _rebuilt(table, replaced, dropped)
    return Merged(merged, sorted(quarantined), n_merged)


def _repeated_rows(table: pa.Table) -> list[list[_Row]]:
    """The rows of every id that stands more than once."""
    counts = table["id"].value_counts()
    several = pc.struct_field(counts, "values").filter(
        pc.greater(pc.struct_field(counts, "counts"), 1)
    )
    # Arrow's own indices_nonzero crashes the process on a column of no chunks.
    indices = np.flatnonzero(pc.is_in(table["id"], several).to_numpy())
    columns = [name for name in (*ANNOTATIONS.names, "position") if name in table.column_names]
    by_id: dict[str, list[_Row]] = defaultdict(list)
    rows = table.select(columns).take(pa.array(indices)).to_pylist()
    for index, row in zip(indices.tolist(), rows, strict=True):
        position = row.pop("position", index + 1)
        labels = None if row["labels"] is None else frozenset(row.pop("labels"))
        by_id[row["id"]].append(_Row(index, position, **{**row, "labels": labels}))
    return list(by_id.values())


def _merge_id(rows: list[_Row], policy: Policy) -> tuple[_Row | None, list[_Conflict]]:
    by_annotator: dict[str | None, list[_Row]] = defaultdict(list)
    for row in rows:
        by_annotator[row.annotator].append(row)
    voices: list[_Row] = []
    conflicts: list[_Conflict] = []
    for own in by_annotator.values():
        try:
            voices.append(_latest(own))
        except _Conflict as conflict:
            conflicts.append(conflict)
    if not voices:
        return None, conflicts
    try:
        return _decide(voices, policy), conflicts
    except _Conflict as conflict:
        merged_away = [row for row in rows if row.annotator in {v.annotator for v in voices}]
        return None, [*conflicts, _Conflict(merged_away, conflict.reason)]


def _latest(rows: Sequence[_Row]) -> _Row:
    """The row that the dates make the current one; equal content needs no date."""
    dated = [row for row in rows if row.annotated_at is not None]
    last = max(dated, key=_date, default=rows[-1])
    if all(row.content == last.content for row in rows):
        return last
    if len(dated) < len(rows):
        raise _conflict(rows, "not all of them are dated")
    if any(row.content != last.content for row in rows if row.annotated_at == last.annotated_at):
        raise _conflict(rows, "the last of them are of the same moment")
    return last


def _decide(voices: list[_Row], policy: Policy) -> _Row:
    if len(voices) == 1:
        return voices[0]
    if policy == "latest":
        return _latest(voices)
    current = voices
    if len({row.about for row in voices}) > 1:
        last = _latest(voices)
        current = [row for row in voices if row.about == last.about]
    last = max(current, key=lambda row: (row.annotated_at is not None, _date(row)))
    if len(current) == 1:
        return last
    labels = _vote([row.labels for row in current], policy)
    return replace(last, labels=labels, annotator=None)


def _vote(said: Sequence[frozenset[str] | None], policy: Policy) -> frozenset[str] | None:
    ballots = [labels for labels in said if labels is not None]
    if not ballots:
        return None
    union = frozenset[str]().union(*ballots)
    if policy == "union":
        return union
    return frozenset(
        label for label in union if 2 * sum(label in ballot for ballot in ballots) > len(ballots)
    )


def _date(row: _Row) -> dt.datetime:
    return row.annotated_at or dt.datetime.min.replace(tzinfo=dt.UTC)


def _conflict(rows: Sequence[_Row], undecided: str) -> _Conflict:
    differing = [
        name
        for name in ("text", "labels", "group", "split")
        if len({getattr(row, name) for row in rows}) > 1
    ]
    places = [str(row.position) for row in rows[:_SHOWN_ROWS]]
    places += [f"{len(rows) - _SHOWN_ROWS} more"] * (len(rows) > _SHOWN_ROWS)
    labels = " / ".join(repr(_shown(row.labels)) for row in rows[:_SHOWN_ROWS])
    said = f" ({labels})" if "labels" in differing else ""
    advice = "keep one row, or give the date of annotation in a column that data.columns names"
    annotators = {row.annotator for row in rows}
    whose = "" if annotators == {None} else f" by {_whose(len(annotators))}"
    if len(annotators) > 1:
        advice += ", or choose data.several_annotators: union or majority"
    return _Conflict(
        rows,
        f"id: {rows[0].id[:60]!r} stands{whose} in rows {', '.join(places)} with different "
        f"{' and '.join(differing)}{said}, and {undecided}; {advice}",
    )


def _whose(n_annotators: int) -> str:
    return "the same annotator" if n_annotators == 1 else f"{n_annotators} annotators"


def _shown(labels: frozenset[str] | None) -> str:
    names = sorted(labels or ())
    return ", ".join(names[:_SHOWN_LABELS]) + ("…" if len(names) > _SHOWN_LABELS else "") or "none"


def _rebuilt(table: pa.Table, replaced: dict[int, _Row], dropped: set[int]) -> pa.Table:
    """The input without the dropped rows, the merged ones in the place of their first row."""
    plain = table.select(ANNOTATIONS.names).cast(ANNOTATIONS)
    if not (replaced or dropped):
        return plain
    kept = [index for index in range(table.num_rows) if index not in dropped]
    result = plain.take(pa.array(kept, pa.int64()))
    places = [place for place, index in enumerate(kept) if index in replaced]
    rows = [_as_dict(replaced[kept[place]]) for place in places]
    order = list(range(len(kept)))
    for offset, place in enumerate(places):
        order[place] = len(kept) + offset
    both = pa.concat_tables([result, pa.Table.from_pylist(rows, schema=ANNOTATIONS)])
    return both.take(pa.array(order, pa.int64()))


def _as_dict(row: _Row) -> dict[str, object]:
    return {**{name: getattr(row, name) for name in ANNOTATIONS.names},
            "labels": label_set(row.labels)}  # fmt: skip
