"""What a broken rule means for a person: what was found, and what to do about it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from longtail.annotations.directory import row_name
from longtail.annotations.fields import shorten
from longtail.annotations.schema import MAX_ID_CHARACTERS, MAX_LABEL_CHARACTERS
from longtail.config import DataSettings

OUTSIDE = "labels_outside"
"""What a row of RAW is given beside its columns: its labels that the taxonomy does not name."""

_SHOWN_LABELS = 6
_VARIABLE = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\d[\d.,]*")


def reason(rule: str, row: Mapping[str, Any], settings: DataSettings) -> list[str]:
    """Why a row was set aside by a rule of the annotations suite.

    Args:
        rule: name of a critical rule.
        row: the row of RAW, with OUTSIDE where that rule was broken.
        settings: whose limits were broken.
    """
    if rule == "readable":
        return list(row["problems"])
    return [_REASONS[rule](row, settings)]


def warning(rule: str, count: int, positions: Sequence[float]) -> str:
    """A warning rule of the annotations suite as a sentence with its count and first rows."""
    rows = ", ".join(row_name(int(position)) for position in positions)
    noun = "row" if count == 1 else "rows"
    more = ", …" if count > len(positions) else ""
    return f"{_WARNINGS[rule]}: {count} {noun} ({rows}{more})"


def reason_kind(sentence: str) -> str:
    """A reason with the values of its row replaced by …, so that reasons can be counted."""
    return _VARIABLE.sub("…", sentence)


def _id_missing(row: Mapping[str, Any], _settings: DataSettings) -> str:
    found = "is missing" if row["id"] is None else "is blank"
    return f"id: {found}; give every text an id of its own that stays the same in every export"


def _id_length(row: Mapping[str, Any], _settings: DataSettings) -> str:
    return (
        f"id: {len(row['id'])} characters ({shorten(row['id'])}), at most {MAX_ID_CHARACTERS} are "
        "allowed; is another column mapped to data.columns.id?"
    )


def _id_control(row: Mapping[str, Any], _settings: DataSettings) -> str:
    return f"id: {shorten(row['id'])} has a control character; remove it"


def _text_missing(row: Mapping[str, Any], _settings: DataSettings) -> str:
    found = "is missing" if row["text"] is None else "has nothing but white space"
    return f"text: {found}; fill it in, or leave the row out of the export"


def _text_length(row: Mapping[str, Any], settings: DataSettings) -> str:
    return (
        f"text: {len(row['text']):,} characters, at most {settings.max_text_characters:,} are "
        "allowed; divide the text, or raise data.max_text_characters"
    )


def _labels_missing(_row: Mapping[str, Any], _settings: DataSettings) -> str:
    return (
        "labels: missing or null; label the text, leave the row out, or write [] for a text that "
        "has no labels"
    )


def _labels_blank(row: Mapping[str, Any], _settings: DataSettings) -> str:
    places = [str(n) for n, label in enumerate(row["labels"], 1) if not _is_visible(label)]
    return f"labels: label {', '.join(places)} is blank; remove it or give it a name"


def _label_length(row: Mapping[str, Any], _settings: DataSettings) -> str:
    longest = max(row["labels"], key=len)
    return (
        f"labels: a label of {len(longest)} characters ({shorten(longest)}), at most "
        f"{MAX_LABEL_CHARACTERS} are allowed; is the separator of the labels another one?"
    )


def _label_control(row: Mapping[str, Any], _settings: DataSettings) -> str:
    label = next(label for label in row["labels"] if any(map(_is_control, label)))
    return f"labels: {shorten(label)} has a control character; remove it"


def _outside_taxonomy(row: Mapping[str, Any], _settings: DataSettings) -> str:
    names = list(dict.fromkeys(row[OUTSIDE]))
    shown = ", ".join(shorten(name) for name in names[:_SHOWN_LABELS])
    more = f" and {len(names) - _SHOWN_LABELS} more" if len(names) > _SHOWN_LABELS else ""
    which = "is no label or alias" if len(names) == 1 else "are no labels or aliases"
    return (
        f"labels: {shown}{more} {which} of the taxonomy; add what is meant to it, as a label or as "
        "an alias of one, or set data.unknown_labels: add"
    )


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Zl", "Zp")


def _is_visible(label: str) -> bool:
    return any(unicodedata.category(character)[0] not in "CZ" for character in label)


_REASONS: Mapping[str, Callable[[Mapping[str, Any], DataSettings], str]] = {
    "id_present": _id_missing,
    "id_length": _id_length,
    "id_control": _id_control,
    "text_present": _text_missing,
    "text_length": _text_length,
    "labels_present": _labels_missing,
    "labels_named": _labels_blank,
    "label_length": _label_length,
    "label_control": _label_control,
    "labels_in_taxonomy": _outside_taxonomy,
}
_WARNINGS: Mapping[str, str] = {
    "labels_once": "A label stands twice in one row and was counted once",
    "labelled": "A text has no labels",
    "not_future": "The date of annotation lies in the future",
}
