"""Annotators on the audit page: agreement, who drifts, labels that moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longtail.report.files import number, part
from longtail.report.table import Cell, Table, table
from longtail.report.words import NOT_COMPUTED, decimal, integer, percent, plural

_SHOWN = 100


@dataclass(frozen=True)
class Told:
    """A part of the section: a sentence, and a table where there is something to show."""

    title: str
    sentence: str
    table: Table | None = None
    more: Table | None = None


def people(audit: Mapping[str, Any]) -> list[Told]:
    """Agreement, drift and labels that moved, each with one sentence at least."""
    return [_agreement(audit), _drift(audit), _shifts(audit)]


def people_sentence(audit: Mapping[str, Any]) -> str:
    """Alpha, and who and what is flagged; empty where there was nothing to compute from."""
    alpha = number(part(audit, "agreement").get("alpha"))
    parts = []
    if alpha is not None:
        parts.append(f"annotators agree with an alpha of {decimal(alpha, 2)}")
    differing = [one for one in part(audit, "drift").get("annotators") or () if one.get("differs")]
    if differing:
        parts.append(f"{plural(len(differing), 'annotator')} differ from the others")
    moved = part(audit, "shifts").get("labels") or ()
    if moved:
        parts.append(f"{plural(len(moved), 'label')} changed at a date")
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}." if said else ""


def _agreement(audit: Mapping[str, Any]) -> Told:
    found = part(audit, "agreement")
    title = "How well annotators agree"
    if not _positive(found, "texts"):
        return Told(
            title,
            "No text was annotated by several annotators, so agreement cannot be computed.",
        )
    sentence = (
        f"Krippendorff's alpha over all labels is {decimal(number(found.get('alpha')), 2)}"
        f"{_interval(found)}, on {plural(_number(found, 'texts'), 'text')} with "
        f"{plural(_number(found, 'voices'), 'annotation')} of "
        f"{plural(_number(found, 'annotators'), 'annotator')}. 1 is perfect, 0 is chance."
    )
    entries = sorted(
        (one for one in found.get("labels") or () if number(one.get("alpha")) is not None),
        key=lambda one: (number(one.get("alpha")) or 0.0, str(one.get("label"))),
    )
    rows: list[list[str | Cell]] = [
        [
            Cell(str(one.get("label")), "name"),
            Cell(decimal(number(one.get("alpha")), 2), "", number(one.get("alpha"))),
            _interval(one, bare=True) or NOT_COMPUTED,
            Cell(integer(number(one.get("texts"))), "", number(one.get("texts"))),
            Cell(integer(number(one.get("texts_given"))), "", number(one.get("texts_given"))),
        ]
        for one in entries
    ]
    columns = ["Label", "Alpha", "95 % interval", "Texts", "Given on"]
    caption = "Alpha per label, the lowest first. Click a column's name to sort by it."
    return Told(title, sentence, table(caption, columns, rows, sortable=True) if rows else None)


def _drift(audit: Mapping[str, Any]) -> Told:
    found = part(audit, "drift")
    title = "Annotators who drift from the others"
    annotators = [one for one in found.get("annotators") or () if isinstance(one, dict)]
    if len(annotators) < 2:
        return Told(title, "Fewer than two annotators are named, so none can be compared.")
    rows: list[list[str | Cell]] = [
        [
            Cell(str(one.get("annotator") or "no name"), "name"),
            Cell("differs" if one.get("differs") else "", "warning" if one.get("differs") else ""),
            integer(number(one.get("texts"))),
            integer(number(one.get("shared_texts"))),
            percent(number(one.get("f1"))),
            _interval(one, bare=True, shares=True) or NOT_COMPUTED,
            decimal(number(one.get("q"))),
        ]
        for one in annotators[:_SHOWN]
    ]
    columns = ["Annotator", "", "Texts", "Shared texts", "F1", "95 % interval", "q"]
    caption = (
        "Each annotator against the majority of the others on the same texts; q is the false "
        "discovery rate at which he is just flagged."
    )
    flagged = [one for one in found.get("labels") or () if isinstance(one, dict)]
    sentence = (
        f"{_compared(annotators)}; {plural(len(flagged), 'label')} given more or less often than "
        "others would. One in twenty flags is expected to be a false alarm."
    )
    return Told(title, sentence, table(caption, columns, rows, names=2), _flagged(flagged))


def _compared(annotators: list[dict[str, Any]]) -> str:
    """How many differ on the same texts; nobody is cleared who could not be tested."""
    tested = sum(number(one.get("q")) is not None for one in annotators)
    if not tested:
        return (
            "No annotator could be tested on the same texts: that takes 20 texts of three "
            "annotators or more who differ unequally"
        )
    differing = sum(bool(one.get("differs")) for one in annotators)
    return (
        f"{integer(differing)} of {plural(tested, 'annotator')} tested "
        f"{'differs' if differing == 1 else 'differ'} from the others on the same texts"
    )


def _flagged(found: list[dict[str, Any]]) -> Table | None:
    rows: list[list[str | Cell]] = [
        [
            Cell(str(one.get("annotator") or "no name"), "name"),
            Cell(str(one.get("label")), "name"),
            str(one.get("period") or "undated"),
            integer(number(one.get("given"))),
            decimal(number(one.get("expected")), 1),
            integer(number(one.get("texts"))),
            decimal(number(one.get("q"))),
        ]
        for one in found[:_SHOWN]
    ]
    columns = ["Annotator", "Label", "Period", "Given", "Expected", "Texts", "q"]
    caption = "Labels that an annotator gives more or less often than the others would."
    return table(caption, columns, rows, names=3) if rows else None


def _shifts(audit: Mapping[str, Any]) -> Told:
    found = part(audit, "shifts")
    title = "Labels whose meaning may have moved"
    if not _positive(found, "tested"):
        return Told(title, "No label has enough dated texts to tell whether its meaning moved.")
    rows: list[list[str | Cell]] = [
        [
            Cell(str(one.get("label")), "name"),
            str(one.get("date"))[:10],
            Cell(", ".join(map(str, one.get("words_more") or ())), "name"),
            Cell(", ".join(map(str, one.get("words_less") or ())), "name"),
            percent(number(one.get("rate_before"))),
            percent(number(one.get("rate_after"))),
            decimal(number(one.get("q"))),
        ]
        for one in (found.get("labels") or ())[:_SHOWN]
    ]
    columns = ["Label", "Since", "Words more", "Words less", "Before", "After", "q"]
    caption = "Share of the texts with the label before and after the date."
    sentence = (
        f"{plural(len(found.get('labels') or ()), 'label')} of {integer(_number(found, 'tested'))} "
        "that were tested changed at a date. Other texts, other annotators or another meaning: the "
        "words help to tell."
    )
    return Told(title, sentence, table(caption, columns, rows, names=4) if rows else None)


def _number(section: Mapping[str, Any], key: str) -> float:
    return number(section.get(key)) or 0.0


def _positive(section: Mapping[str, Any], key: str) -> bool:
    return _number(section, key) > 0


def _interval(one: Mapping[str, Any], *, bare: bool = False, shares: bool = False) -> str:
    ends = one.get("interval")
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        return ""
    shown = [percent(number(end)) if shares else decimal(number(end), 2) for end in ends]
    said = f"{shown[0]} to {shown[1]}"
    return said if bare else f" (95 % interval {said})"
