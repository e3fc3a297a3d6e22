"""Helper columns: lists and texts as one number per row and question."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail.config import SplitName
from longtail.predictions import Predictions

_VISIBLE = r"[^\s\p{C}\p{Z}]"
_CONTROL = r"[\p{Cc}\p{Zl}\p{Zp}]"


def annotation_helpers(
    table: pa.Table,
    labels_required: bool,
    now: dt.datetime,
    outside: Mapping[int, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """One row per row of RAW; null where the reader has already found the field unreadable.

    Args:
        table: rows of RAW.
        labels_required: False for texts that are to be labelled.
        now: the present moment.
        outside: by row, the labels that the taxonomy does not name; None: not to be judged.
    """
    n_outside = np.full(table.num_rows, np.nan if outside is None else 0.0)
    n_outside[list(outside or ())] = [len(names) for names in (outside or {}).values()]
    flagged = _flagged_fields(table["problems"])
    frame = pd.DataFrame(
        {
            "position": _numbers(table["position"]),
            "n_problems": _numbers(pc.list_value_length(table["problems"])),
            "id_visible": _matches(table["id"], _VISIBLE),
            "id_length": _numbers(pc.utf8_length(table["id"])),
            "id_control": _matches(table["id"], _CONTROL),
            "text_visible": _matches(table["text"], _VISIBLE),
            "text_length": _numbers(pc.utf8_length(table["text"])),
            "labels_missing": _numbers(pc.is_null(table["labels"])) * labels_required,
            "days_ahead": _days_ahead(table["annotated_at"], now),
            "n_labels_outside": n_outside,
            **_label_counts(table["labels"]),
        }
    )
    for field, columns in _JUDGED_BY.items():
        frame.loc[flagged[field], list(columns)] = np.nan
    return frame


def split_helpers(splits: Mapping[SplitName, pa.Table], labels: Sequence[str]) -> pd.DataFrame:
    """One row per text of all splits, in the order of the mapping."""
    columns = ["id", "text", "labels", "unit", "cohort"]
    table = pa.concat_tables([part.select(columns) for part in splits.values()])
    names = np.repeat(list(splits), [part.num_rows for part in splits.values()])
    units = pd.Series(_numbers(table["unit"]))
    seen = {name: set(units[names == name]) for name in ("train", "validation", "test")}
    held_out = seen["validation"] | seen["test"]
    ids = table["id"].to_pandas().astype(object)
    trained = pc.unique(_flat(splits["train"]["labels"])) if "train" in splits else pa.array([])
    counts = _label_counts(table["labels"])
    return pd.DataFrame(
        {
            "id_count": ids.map(ids.value_counts()).fillna(0).to_numpy(),
            "text_visible": _matches(table["text"], _VISIBLE),
            "unit_leaks": units.isin(seen["train"] & held_out).astype(float).to_numpy(),
            "unit_held_out": units.isin(seen["validation"]).astype(float).to_numpy()
            + units.isin(seen["test"]).to_numpy(),
            "n_unknown_labels": _count_outside(table["labels"], pa.array(labels, pa.string())),
            "n_untrained_labels": _count_outside(table["labels"], trained.cast(pa.string())),
            "n_duplicate_labels": counts["n_duplicate_labels"],
            "cohort": pd.Series(_numbers(table["cohort"])).fillna(-1).to_numpy(),
        }
    )


def prediction_helpers(predictions: Predictions, ids: Sequence[str] | None) -> pd.DataFrame:
    """One row per scored text."""
    values = predictions.probabilities
    named = pd.Series(predictions.ids, dtype=object)
    finite = np.isfinite(values)
    safe = np.where(finite, values, 0.5)
    return pd.DataFrame(
        {
            "id_count": named.map(named.value_counts()).to_numpy(),
            "id_unexpected": np.zeros(len(named)) if ids is None else (~named.isin(set(ids))) * 1.0,
            "n_not_finite": (~finite).sum(axis=1),
            "lowest": safe.min(axis=1, initial=1.0),
            "highest": safe.max(axis=1, initial=0.0),
        }
    )


_JUDGED_BY: Mapping[str, tuple[str, ...]] = {
    "id": ("id_visible", "id_length", "id_control"),
    "text": ("text_visible", "text_length"),
    "labels": (
        "labels_missing", "n_labels", "n_blank_labels", "label_length", "n_control_labels",
        "n_duplicate_labels", "n_labels_outside",
    ),
    "annotated_at": ("days_ahead",),
}  # fmt: skip


def _flagged_fields(problems: pa.ChunkedArray) -> dict[str, NDArray[np.bool_]]:
    """By field: rows in which the reader has a problem with it, or with the row as a whole."""
    flagged = {field: np.zeros(len(problems), dtype=bool) for field in _JUDGED_BY}
    some = np.flatnonzero(_numbers(pc.list_value_length(problems)) > 0)
    for row, listed in zip(some, problems.take(pa.array(some)).to_pylist(), strict=True):
        concerned = {problem.split(":", 1)[0] for problem in listed}
        for field, rows in flagged.items():
            rows[row] = field in concerned or "row" in concerned
    return flagged


def _label_counts(labels: pa.ChunkedArray) -> dict[str, NDArray[np.float64]]:
    """What there is to know of each row's labels, asked once of every distinct name."""
    n_rows, parents = len(labels), _parents(labels)
    coded = _flat(labels).dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    names = coded.dictionary
    missing = _numbers(pc.is_null(labels)) > 0
    n_labels = np.bincount(parents, minlength=n_rows).astype(np.float64)
    cells = np.sort(parents * max(len(names), 1) + codes)
    repeated = cells[1:][cells[1:] == cells[:-1]] // max(len(names), 1)
    return {
        "n_labels": np.where(missing, np.nan, n_labels),
        "n_blank_labels": _sum_by(parents, 1.0 - _matches(names, _VISIBLE)[codes], n_rows),
        "n_control_labels": _sum_by(parents, _matches(names, _CONTROL)[codes], n_rows),
        "n_duplicate_labels": np.bincount(repeated, minlength=n_rows).astype(np.float64),
        "label_length": _largest_by(parents, _numbers(pc.utf8_length(names))[codes], n_rows),
    }


def _count_outside(labels: pa.ChunkedArray, known: pa.Array) -> NDArray[np.float64]:
    outside = pc.invert(pc.is_in(_flat(labels), known))
    return _sum_by(_parents(labels), _numbers(outside), len(labels))


def _flat(labels: pa.ChunkedArray) -> pa.Array:
    return labels.combine_chunks().flatten() if labels.num_chunks else pa.array([], pa.string())


def _parents(labels: pa.ChunkedArray) -> NDArray[np.int64]:
    lengths = _numbers(pc.list_value_length(labels))
    return np.repeat(np.arange(len(labels)), np.nan_to_num(lengths).astype(np.int64))


def _sum_by(
    parents: NDArray[np.int64], values: NDArray[np.float64] | NDArray[np.bool_], n_rows: int
) -> NDArray[np.float64]:
    sums = np.bincount(parents, weights=values.astype(np.float64), minlength=n_rows)
    return sums.astype(np.float64)


def _largest_by(
    parents: NDArray[np.int64], values: NDArray[np.float64], n_rows: int
) -> NDArray[np.float64]:
    """The largest value of each row's own, which stand together; 0 where a row has none."""
    largest = np.zeros(n_rows)
    starts = np.flatnonzero(np.diff(parents, prepend=-1))
    if len(starts):
        largest[parents[starts]] = np.maximum.reduceat(values, starts)
    return largest


def _matches(column: pa.ChunkedArray | pa.Array, pattern: str) -> NDArray[np.float64]:
    """1 where the pattern is found, 0 where it is not or where there is nothing."""
    return np.nan_to_num(_numbers(pc.match_substring_regex(column, pattern)))


def _days_ahead(dates: pa.ChunkedArray, now: dt.datetime) -> NDArray[np.float64]:
    microseconds = _numbers(dates.cast(pa.int64()))
    return np.asarray((microseconds / 1e6 - now.timestamp()) / 86_400, dtype=np.float64)


def _numbers(column: pa.ChunkedArray | pa.Array) -> NDArray[np.float64]:
    """Numbers or truth values as float64, null as NaN."""
    # Not "safe": a far date in microseconds may be rounded, which its day does not feel.
    values = column.cast(pa.float64(), safe=False).to_numpy(**_no_copy_check(column))
    return np.array(values, dtype=np.float64)


def _no_copy_check(column: pa.ChunkedArray | pa.Array) -> dict[str, bool]:
    return {"zero_copy_only": False} if isinstance(column, pa.Array) else {}
