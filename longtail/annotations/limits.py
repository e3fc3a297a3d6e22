"""How much of an export is looked at before it is refused: nobody's file may fill the memory."""

from __future__ import annotations

MAX_RECORD_BYTES = 64 << 20
"""Longest line of a JSON Lines or CSV file, row of a CSV file, and item of a JSON array."""

MAX_EXPANDED_CHARACTERS = 256 << 20
"""Most characters that the rows of one task (its text, once per annotation) may come to."""

MAX_ARCHIVE_MEMBERS = 10_000
MAX_ARCHIVE_BYTES = 64 << 30
"""Most bytes that an archive may unpack to."""

MAX_ARCHIVE_RATIO = 200
"""Most bytes unpacked per byte of the archive; texts pack about 3 to 10 times."""

FREE_ARCHIVE_BYTES = 16 << 20
"""An archive that unpacks to no more than this may be of any ratio."""

SHOWN_CHARACTERS = 10_000
"""Characters of an overlong record that the quarantine keeps."""


def too_long(what: str) -> str:
    """Why an overlong line, row or item is set aside."""
    return (
        f"the {what} is longer than {MAX_RECORD_BYTES >> 20} MiB, which no text is; was the "
        "export written without line breaks, or a quote or bracket left open?"
    )
