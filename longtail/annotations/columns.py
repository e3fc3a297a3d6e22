"""Which column of an export plays which part, and what to say when one is missing."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence

from longtail.config import ColumnSettings
from longtail.errors import DataError

logger = logging.getLogger(__name__)

OPTIONAL_FIELDS = ("group", "annotator", "annotated_at", "source", "split")
_USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "_id", "uid", "uuid", "doc_id", "document_id", "text_id", "key"),
    "text": ("text", "body", "content", "document", "sentence", "message", "description", "title"),
    "labels": ("labels", "label", "tags", "tag", "categories", "category", "topics", "classes"),
}
_SHOWN_COLUMNS = 30
_SHOWN_CHARACTERS = 40


def wanted_columns(columns: ColumnSettings, *, labels_required: bool) -> dict[str, str]:
    """Column name by canonical field, for every field that is to be read."""
    wanted = {"id": columns.id, "text": columns.text}
    if labels_required:
        wanted["labels"] = columns.labels
    for field in OPTIONAL_FIELDS:
        name = getattr(columns, field)
        if name is not None:
            wanted[field] = name
    return wanted


def required_columns(wanted: Mapping[str, str]) -> dict[str, str]:
    """The wanted columns that an export must have: all that differ from an optional default."""
    default = ColumnSettings()
    return {
        field: name
        for field, name in wanted.items()
        if field not in OPTIONAL_FIELDS or name != getattr(default, field)
    }


def require_columns(file: str, found: Sequence[str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Check that an export has every required column, and none of the wanted ones twice.

    Returns:
        The wanted columns that are there.

    Raises:
        DataError: a column is missing or stands twice; the message lists what was found.
    """
    for name in wanted.values():
        if (times := list(found).count(name)) > 1:
            raise DataError(
                f"{file}: the column {name!r} stands {times} times in the header; rename all but "
                "one of them"
            )
    missing = {field: name for field, name in required_columns(wanted).items() if name not in found}
    if missing:
        raise DataError(_missing_columns(file, found, missing))
    for field in OPTIONAL_FIELDS:
        if field not in wanted and field in found:
            logger.info(
                "%s: the column %r is not read; set data.columns.%s to use it", file, field, field
            )
    return {field: name for field, name in wanted.items() if name in found}


def _missing_columns(file: str, found: Sequence[str], missing: Mapping[str, str]) -> str:
    names = ", ".join(repr(name) for name in missing.values())
    shown = [repr(name[:_SHOWN_CHARACTERS]) for name in found[:_SHOWN_COLUMNS]]
    if len(found) > _SHOWN_COLUMNS:
        shown.append(f"and {len(found) - _SHOWN_COLUMNS} more")
    advice = "; ".join(_advice(field, name, found) for field, name in missing.items())
    plural = "s" if len(missing) > 1 else ""
    return (
        f"{file}: no column{plural} {names}; the columns found are {', '.join(shown) or 'none'}. "
        f"Say in the configuration which column to read: {advice}"
    )


def _advice(field: str, name: str, found: Sequence[str]) -> str:
    guess = _guess(field, name, found)
    if guess is None:
        return f"data.columns.{field}: NAME"
    # Half a character in a key of JSON could not be printed.
    guess = guess.encode("utf-8", "backslashreplace").decode()
    return f"data.columns.{field}: {guess} (did you mean {guess!r}?)"


def _guess(field: str, name: str, found: Sequence[str]) -> str | None:
    by_folded = {column.strip().casefold(): column for column in found}
    candidates = (name.casefold(), *_USUAL_NAMES.get(field, (field,)))
    for candidate in candidates:
        if candidate in by_folded:
            return by_folded[candidate]
    close = difflib.get_close_matches(name.casefold(), list(by_folded), n=1, cutoff=0.7)
    return by_folded[close[0]] if close else None
