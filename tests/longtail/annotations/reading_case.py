"""What must hold of every input, however broken: for the tests and for the fuzzer."""

from __future__ import annotations

import io

from longtail.annotations.readers import tables_of
from longtail.annotations.schema import RAW
from longtail.config import ColumnSettings, DataSettings
from longtail.errors import DataError


def count_rows(data, name="export", labels_required=True, columns=None, **options):
    """How many rows of an input are usable, have problems, are skipped; None: it is refused.

    Raises AssertionError when a row is of two kinds or positions do not ascend, and lets
    everything through that is no DataError.
    """
    settings = DataSettings(columns=ColumnSettings(**(columns or {})), **options)
    counts = {"usable": 0, "problems": 0, "skipped": 0}
    last = 0
    try:
        for table in tables_of(io.BytesIO(data), name, settings, labels_required=labels_required):
            assert table.schema == RAW
            table.validate(full=True)
            for row in table.to_pylist():
                assert row["position"] > last
                last = row["position"]
                counts[_kind(row)] += 1
    except DataError as error:
        str(error).encode()  # half a character in a message could not be shown
        return None
    return counts


def _kind(row):
    if row["skipped"] is not None:
        assert row["skipped"]
        assert not row["problems"]
        return "skipped"
    for problem in row["problems"]:
        assert ": " in problem
    return "problems" if row["problems"] else "usable"
