"""What each annotator said, beside what the others said of the same texts or in the same time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail.annotations.row_codes import Codes, RowCodes, row_codes
from longtail.annotations.schema import ANNOTATIONS
from longtail.voices import periods_of, shared_voices, since_of


@dataclass(frozen=True)
class Evidence:
    """All annotations in question: those of shared texts, and one per other text.

    Attributes:
        codes: of all rows.
        shared: which rows are of a text that several annotated.
        annotator: number of each row's annotator.
        names: the annotators, sorted, None (nobody named) first.
        period: number of each row's period.
        periods: their names.
        since: when each label was introduced.
    """

    codes: RowCodes
    shared: NDArray[np.bool_]
    annotator: Codes
    names: list[str | None]
    period: Codes
    periods: list[str | None]
    since: Codes


@dataclass(frozen=True)
class Cells:
    """The labels of shared texts, each against every annotator who could know it.

    Attributes:
        row: row of the annotator.
        label: a label that someone gave the row's text.
        m: how many of the text's annotators could know it, at least two.
        k: how many of those gave it.
        given: whether this one did.
    """

    row: Codes
    label: Codes
    m: Codes
    k: Codes
    given: NDArray[np.bool_]


def evidence_of(
    table: pa.Table, voices: pa.Table, since: Mapping[str, datetime | None] | None
) -> Evidence | None:
    """Gather every annotation with labels, those of a shared text instead of what was made of them.

    Args:
        table: one row per id (ANNOTATIONS).
        voices: per id and annotator, of the texts that several annotated (ANNOTATIONS).
        since: when each label was introduced.

    Returns:
        None where nothing has labels.
    """
    several = shared_voices(voices)
    alone = table.select(ANNOTATIONS.names).cast(ANNOTATIONS)
    is_alone = pc.invert(pc.is_in(alone["id"], pc.unique(several["id"])))
    alone = alone.filter(pc.and_(is_alone, pc.is_valid(alone["labels"])))
    rows = pa.concat_tables([several, alone])
    if rows.num_rows == 0:
        return None
    codes = row_codes(rows)
    names = sorted(
        pc.unique(rows["annotator"]).to_pylist(), key=lambda name: (name is not None, name or "")
    )
    number = {name: i for i, name in enumerate(names)}
    encoded = rows["annotator"].combine_chunks().dictionary_encode(null_encoding="encode")
    order = np.array([number[name] for name in encoded.dictionary.to_pylist()], dtype=np.int64)
    period, periods = periods_of(codes.date)
    return Evidence(
        codes, np.arange(rows.num_rows) < several.num_rows, order[encoded.indices.to_numpy()],
        names, period, periods, since_of(codes.names, since),
    )  # fmt: skip


def cells_of(evidence: Evidence) -> Cells:
    """Write out the shared texts: each of their labels against each of their annotators."""
    codes, n_labels = evidence.codes, max(len(evidence.codes.names), 1)
    rows = np.flatnonzero(evidence.shared)
    rows = rows[np.argsort(codes.id[rows], kind="stable")]
    n_rows = np.bincount(codes.id[rows], minlength=codes.n_ids)
    start = np.concatenate([[0], np.cumsum(n_rows)])[:-1]
    pairs = evidence.shared[codes.pair_row]
    keys = codes.pair_row[pairs] * n_labels + codes.pair_label[pairs]
    texts = np.unique(codes.id[codes.pair_row[pairs]] * n_labels + codes.pair_label[pairs])
    unit, label = texts // n_labels, texts % n_labels
    cell = np.repeat(np.arange(len(texts)), n_rows[unit])
    within = np.arange(len(cell)) - np.repeat(np.cumsum(n_rows[unit]) - n_rows[unit], n_rows[unit])
    row = rows[start[unit[cell]] + within]
    knows = codes.date[row] >= evidence.since[label[cell]]
    given = np.isin(row * n_labels + label[cell], keys) & knows
    m = np.bincount(cell[knows], minlength=len(texts))
    k = np.bincount(cell[given], minlength=len(texts))
    kept = knows & (m[cell] > 1)
    return Cells(row[kept], label[cell[kept]], m[cell[kept]], k[cell[kept]], given[kept])
