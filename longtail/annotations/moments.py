"""Dates of annotation as numbers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

UNDATED = int(np.iinfo(np.int64).min)
"""Stands for no date: earlier than every date there is."""


def moments_of(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Microseconds since 1970 in UTC, UNDATED where there is no date; shape (n,)."""
    numbers = pc.cast(column, pa.timestamp("us", tz="UTC")).cast(pa.int64())
    moments: NDArray[np.int64] = pc.fill_null(numbers, UNDATED).to_numpy().astype(np.int64)
    return moments
