"""Why rows of one id were set aside: the sentences that the quarantine shows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from longtail.annotations.directory import row_name

_SHOWN_ROWS = 4
_SHOWN_LABELS = 6
_COMPARED = ("text", "labels", "group", "split")

_Row = dict[str, Any]


def reasons_of(
    rows: pa.Table, indices: NDArray[np.int64], disputes: NDArray[np.int64], why: Sequence[str]
) -> list[tuple[int, list[str]]]:
    """One reason for every row that contradicts another one.

    Args:
        rows: the contradicting rows, with their ``position``.
        indices: index of each in the input, shape (n,).
        disputes: rows with the same number contradict each other, shape (n,).
        why: what keeps each row's dispute undecided, as words.

    Returns:
        (index, [reason]) in ascending order of the index.
    """
    order = np.argsort(disputes, kind="stable")
    members = zip(
        rows.take(pa.array(order)).to_pylist(), disputes[order].tolist(), order.tolist(),
        strict=True,
    )  # fmt: skip
    found = []
    for _, dispute in groupby(members, key=lambda member: member[1]):
        party = list(dispute)
        reason = _reason([row for row, _, _ in party], why[party[0][2]])
        found += [(int(indices[place]), [reason]) for _, _, place in party]
    return sorted(found)


def _reason(rows: Sequence[_Row], undecided: str) -> str:
    said = [frozenset(row["labels"] or ()) for row in rows]
    differing = [name for name in _COMPARED if _differ(rows, name)]
    places = [row_name(row["position"]) for row in rows[:_SHOWN_ROWS]]
    places += [f"{len(rows) - _SHOWN_ROWS} more"] * (len(rows) > _SHOWN_ROWS)
    labels = " / ".join(repr(_shown(one)) for one in said[:_SHOWN_ROWS])
    given = f" ({labels})" if "labels" in differing else ""
    advice = "keep one row, or give the date of annotation in a column that data.columns names"
    annotators = {row["annotator"] for row in rows}
    whose = "" if annotators == {None} else f" by {_whose(len(annotators))}"
    if len(annotators) > 1:
        advice += ", or choose data.several_annotators: union or majority"
    return (
        f"id: {rows[0]['id'][:60]!r} stands{whose} in rows {', '.join(places)} with different "
        f"{' and '.join(differing)}{given}, and {undecided}; {advice}"
    )


def _differ(rows: Sequence[_Row], name: str) -> bool:
    values = [row[name] for row in rows]
    if name == "labels":
        return len({None if one is None else frozenset(one) for one in values}) > 1
    return len(set(values)) > 1


def _whose(n_annotators: int) -> str:
    return "the same annotator" if n_annotators == 1 else f"{n_annotators} annotators"


def _shown(labels: frozenset[str]) -> str:
    names = sorted(labels)
    return ", ".join(names[:_SHOWN_LABELS]) + ("…" if len(names) > _SHOWN_LABELS else "") or "none"
