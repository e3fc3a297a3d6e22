"""What the readers of annotation tools have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from longtail.annotations.columns import OPTIONAL_FIELDS, require_columns
from longtail.annotations.limits import MAX_EXPANDED_CHARACTERS
from longtail.annotations.objects import Parsed, repeated_keys
from longtail.annotations.schema import Record
from longtail.config import ColumnSettings
from longtail.errors import DataError

CANONICAL = ("id", "text", "labels", *OPTIONAL_FIELDS)
"""Fields of a row in the order of the canonical schema; what a tool's reader calls its cells."""

UNREAD = 0
"""The position of a tool's row until all rows of the export are numbered."""

_SHOWN_NAMES = 12
_DEFAULT = ColumnSettings()
_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)


@dataclass(frozen=True)
class Request:
    """What is asked of a tool's reader.

    Attributes:
        file: the export's name for messages.
        columns: names that the user gave; a default name means the tool's own place.
        labels_required: False where only texts are asked for: then every text is one row, whether
            it was annotated or not.
    """

    file: str
    columns: ColumnSettings
    labels_required: bool = True

    def looked_up(self, *own: str) -> dict[str, str]:
        """Key by field for what stands under a name of the user's, not in the tool's own place.

        Args:
            own: fields that the tool itself says as long as they have their default names.
        """
        names = {field: getattr(self.columns, field) for field in CANONICAL if field != "labels"}
        return {
            field: name
            for field, name in names.items()
            if name is not None and not (field in own and name == getattr(_DEFAULT, field))
        }

    def reads(self, field: str) -> bool:
        """Whether a field that the tool says in its own place is wanted."""
        return bool(getattr(self.columns, field) == getattr(_DEFAULT, field))


def require_keys(request: Request, found: Sequence[str], wanted: Mapping[str, str]) -> None:
    """Refuse an export in which no object has a key that was named.

    Raises:
        DataError: a wanted key is missing; the message lists what was found.
    """
    if found:
        require_columns(request.file, list(found), wanted)


def choose_key(request: Request, candidates: Sequence[str], what: str) -> str | None:
    """Which of several keys holds the labels.

    The one that ``data.columns.labels`` names, else the only one there is; None when there is none
    and none was named.

    Raises:
        DataError: there are several and none of them was named, or the named one is not there.
    """
    named = request.columns.labels
    if named in candidates:
        return named
    shown = ", ".join(repr(name[:40]) for name in candidates[:_SHOWN_NAMES])
    if named != _DEFAULT.labels and candidates:
        raise DataError(
            f"{request.file}: no {what} {named!r}; found were {shown}. Name one of them with "
            "data.columns.labels"
        )
    if len(candidates) > 1:
        raise DataError(
            f"{request.file}: {len(candidates)} keys may hold the labels: {shown}. Name the "
            f"{what} to read with data.columns.labels"
        )
    return candidates[0] if candidates else None


def unreadable(item: Parsed) -> Record:
    """The row of a place where no object stands."""
    return Record(UNREAD, None, item.raw, (f"row: {item.why}",))


def broken(raw: str, why: str) -> Record:
    """The row of an object that is not what the tool writes."""
    return Record(UNREAD, None, raw, (f"row: {why}",))


def skipped(values: Mapping[str, object], raw: str, reason: str) -> Record:
    """A row that the export itself marks as not to be used."""
    return Record(UNREAD, values, raw, (), reason)


def repeated_key(*objects: object) -> str | None:
    """Why an object cannot be believed that names a key twice; None when none does."""
    names = sorted(name for value in objects for name in repeated_keys(value))
    if not names:
        return None
    return f"the key {names[0][:40]!r} stands more than once in an object; keep one"


def cells(places: Iterable[Mapping[str, object]], wanted: Mapping[str, str]) -> dict[str, object]:
    """The cells that stand under the user's names, from the first place that has the name."""
    every = list(places)
    values: dict[str, object] = {}
    for field, name in wanted.items():
        for place in every:
            if name in place:
                values[field] = place[name]
                break
    return values


def too_many(raw: str, n_rows: int) -> str | None:
    """Why one object of an export is not made into so many rows; None when it may be."""
    if len(raw) * n_rows <= MAX_EXPANDED_CHARACTERS:
        return None
    return f"{n_rows} annotations of one text of {len(raw)} characters; is the export damaged?"


def as_json(value: object, otherwise: str) -> str:
    """An object as JSON for the quarantine."""
    try:
        text = _ENCODER.encode(value)
    except (RecursionError, ValueError):
        return otherwise
    # Half characters that JSON escapes are no valid Unicode once they are not escaped any more.
    return text.encode("utf-8", "backslashreplace").decode()
