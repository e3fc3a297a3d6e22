"""The texts of several annotators as the figures on annotators need them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from longtail.annotations.merge import current_voices
from longtail.annotations.moments import UNDATED
from longtail.annotations.row_codes import Codes
from longtail.known import to_microseconds

_MOST_PERIODS = 18


def shared_voices(voices: pa.Table) -> pa.Table:
    """The current voices with labels, of the texts that have at least two of them.

    Args:
        voices: rows of ANNOTATIONS, per id and annotator.
    """
    rows = current_voices(voices)
    rows = rows.filter(pc.is_valid(rows["labels"]))
    counts = rows["id"].value_counts()
    several = pc.greater(pc.struct_field(counts, "counts"), 1)
    return rows.filter(pc.is_in(rows["id"], pc.struct_field(counts, "values").filter(several)))


def since_of(names: pa.Array, since: Mapping[str, datetime | None] | None) -> Codes:
    """When each label was introduced, in microseconds since 1970; UNDATED: it always was there.

    Args:
        names: the labels, length L.
        since: moments with a time zone by label; None or no entry: always.
    """
    given = since or {}
    began = (to_microseconds(given.get(name), UNDATED) for name in names.to_pylist())
    return np.fromiter(began, dtype=np.int64, count=len(names))


def periods_of(dates: Codes) -> tuple[Codes, list[str | None]]:
    """The months of dates, or quarters or years where there are too many months.

    Args:
        dates: microseconds since 1970 or UNDATED, shape (n,).

    Returns:
        Number of each date's period, shape (n,), and the names in order; None is undated.
    """
    months = dates.view("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    months[dates == UNDATED] = UNDATED
    for length in (1, 3, 12):
        begins = np.where(months == UNDATED, UNDATED, months // length)
        found, number = np.unique(begins, return_inverse=True)
        if len(found) <= _MOST_PERIODS or length == 12:
            break
    return number.reshape(-1), [_period(int(one), length) for one in found]


def _period(number: int, length: int) -> str | None:
    if number == UNDATED:
        return None
    year, part = divmod(number * length, 12)
    year += 1970
    return {1: f"{year}-{part + 1:02d}", 3: f"{year}-Q{part // 3 + 1}", 12: f"{year}"}[length]
