"""Tables of the audit page, from ``audit.json``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from longtail.report.audit_sentences import count
from longtail.report.files import number, part
from longtail.report.table import Cell, Table, table
from longtail.report.words import decimal, integer, listed, percent, plural

_SHOWN = 100
_SHOWN_LABELS = 60
_SHOWN_SPEAKERS = 6
_KINDS = {
    "conflict": "Duplicates in conflict",
    "label error": "Likely wrong or missing",
    "implied": "Implied by another label",
    "taxonomy": "Implied by the taxonomy",
}
_REASONS = {
    "units": "fewer than three independent texts",
    "texts": "not searched for errors",
    "test": "no test text",
}


def candidates_table(section: dict[str, Any]) -> Table | None:
    """The work list by what found its entries."""
    kinds = part(section, "by_kind")
    rows = [
        [
            _KINDS.get(kind, kind),
            integer(number(part(kinds, kind).get("add"))),
            integer(number(part(kinds, kind).get("remove"))),
        ]
        for kind in sorted(kinds)
    ]
    columns = ["Found as", "Labels to add", "Labels to remove"]
    return table("What the work list holds.", columns, rows) if rows else None


def conflicts_table(section: dict[str, Any]) -> Table | None:
    """Who said what of one text, and when."""
    found = [one for one in section.get("listed") or () if isinstance(one, dict)][:_SHOWN]
    rows: list[list[str | Cell]] = [
        [
            Cell(str(one.get("excerpt")), "wide"),
            Cell(_names(one.get("disputed")), "brief"),
            Cell(_sayings(one.get("sayings") or ()), "wide"),
        ]
        for one in found
    ]
    total = count(section, "conflicting_sets")
    caption = (
        f"Texts that stand more than once with different labels, {integer(len(rows))} of "
        f"{integer(total)}."
    )
    columns = ["Text", "In dispute", "Who said what"]
    return table(caption, columns, rows, names=3, stacked=True) if rows else None


def near_table(section: dict[str, Any]) -> Table | None:
    """Pairs of similar texts, those labelled differently first."""
    found = [one for one in section.get("listed") or () if isinstance(one, dict)][:_SHOWN]
    rows: list[list[str | Cell]] = [
        [
            Cell(str(one.get("excerpt")), "wide"),
            Cell(f"{one.get('first')} ({one.get('side_first') or 'no split'})", "name"),
            Cell(_names(one.get("labels_first")), "name"),
            Cell(f"{one.get('second')} ({one.get('side_second') or 'no split'})", "name"),
            Cell(_names(one.get("labels_second")), "name"),
            decimal(number(one.get("similarity")), 2),
        ]
        for one in found
    ]
    caption = (
        f"Nearly the same text, {integer(len(rows))} of "
        f"{plural(count(section, 'pairs'), 'pair')}; those with different labels first. "
        "Similarity is the share of three-word runs in common."
    )
    columns = ["Text", "First", "Its labels", "Second", "Its labels", "Similarity"]
    return table(caption, columns, rows, names=5, stacked=True) if rows else None


def suspects_table(audit: Mapping[str, Any], action: str) -> Table | None:
    """The likeliest missing (``add``) or wrong (``remove``) labels."""
    errors, excerpts = part(audit, "label_errors"), part(audit, "excerpts")
    found = [one for one in errors.get("listed") or () if one.get("action") == action][:_SHOWN]
    rows: list[list[str | Cell]] = [
        [
            Cell(str(one.get("label")), "name"),
            Cell(str(one.get("id")), "name"),
            Cell(str(excerpts.get(str(one.get("id")), "")), "wide"),
            _probability(one, action),
        ]
        for one in found
    ]
    what = "missing" if action == "add" else "wrong"
    total = count(errors, what)
    caption = (
        f"Labels that are likely {what}, the surest first, {integer(len(rows))} of "
        f"{integer(total)}; the others are in audit.json and the work list."
    )
    columns = ["Label", "Text id", "Text", "Probability of the label"]
    return table(caption, columns, rows, names=3, stacked=True) if rows else None


def per_label_table(section: dict[str, Any]) -> Table | None:
    """Suspects of each label."""
    rows: list[list[str | Cell]] = [
        [
            Cell(str(one.get("label")), "name"),
            *(
                Cell(integer(number(one.get(key))), "", number(one.get(key)))
                for key in ("texts", "missing", "wrong")
            ),
        ]
        for one in section.get("per_label") or ()
    ]
    columns = ["Label", "Texts with it", "Likely missing", "Likely wrong"]
    caption = "Suspected labels. Click a column's name to sort by it."
    return table(caption, columns, rows, sortable=True) if rows else None


def worst_texts_table(audit: Mapping[str, Any]) -> Table | None:
    """The texts whose labels fit worst as a whole."""
    excerpts = part(audit, "excerpts")
    found = (part(audit, "label_errors").get("worst_texts") or ())[:_SHOWN]
    rows: list[list[str | Cell]] = [
        [
            Cell(str(one.get("id")), "name"),
            Cell(str(excerpts.get(str(one.get("id")), "")), "wide"),
            decimal(number(one.get("score"))),
        ]
        for one in found
    ]
    caption = "Texts whose labels fit worst as a whole; 1 is a perfect fit."
    columns = ["Text id", "Text", "Label quality"]
    return table(caption, columns, rows, names=2, stacked=True) if rows else None


def implied_table(section: dict[str, Any]) -> Table | None:
    """Labels that imply others, with the bound of the share and what breaks them."""
    found = [one for one in section.get("listed") or () if isinstance(one, dict)][:_SHOWN]
    rows: list[list[str | Cell]] = [
        [
            Cell(str(one.get("label")), "name"),
            Cell(f"{one.get('implies')}{_implied_note(one)}", "name"),
            Cell(_names((one.get("missing_ids") or ())[:5]), "name"),
            f"{integer(number(one.get('both')))} of {integer(number(one.get('texts')))}",
            percent(number(one.get("share"))),
            percent(number(one.get("lower"))),
            integer(number(one.get("missing"))),
        ]
        for one in found
    ]
    caption = (
        "Where a text has the first label it has the second; at least: the share's one-sided 95 % "
        "lower bound (Wilson)."
    )
    columns = ["Label", "Implies", "Broken by", "Texts", "Share", "At least", "Missing"]
    return table(caption, columns, rows, names=3) if rows else None


def rare_table(section: dict[str, Any]) -> Table | None:
    """The labels that cannot be judged, the rarest first."""
    rows: list[list[str | Cell]] = [
        [
            Cell(str(one.get("label")), "name"),
            Cell(listed([_REASONS.get(why, why) for why in one.get("reasons") or ()]), "rule"),
            *(
                Cell(integer(number(one.get(key))), "", number(one.get(key)))
                for key in ("texts", "units", "test_texts")
            ),
        ]
        for one in section.get("listed") or ()
    ]
    columns = ["Label", "Why", "Texts", "Independent texts", "Test texts"]
    caption = "Labels that are too rare to judge. Click a column's name to sort by it."
    return table(caption, columns, rows, names=2, sortable=True) if rows else None


def settings_table(audit: Mapping[str, Any]) -> Table:
    """The settings of the search."""
    found = {
        **{f"audit.{name}": value for name, value in part(audit, "settings").items()},
        "data.near_duplicate_similarity": audit.get("near_duplicate_similarity"),
    }
    rows: list[list[str | Cell]] = [[name, Cell(str(value))] for name, value in found.items()]
    return table("Settings of this audit.", ["Setting", "Value"], rows)


def _names(names: Iterable[Any] | None) -> str:
    found = [str(name) for name in names or ()]
    more = f" and {integer(len(found) - _SHOWN_LABELS)} more" if len(found) > _SHOWN_LABELS else ""
    return (", ".join(found[:_SHOWN_LABELS]) or "none") + more


def _sayings(sayings: Iterable[Mapping[str, Any]]) -> str:
    """Rows that say the same together, those said most often first."""
    by_labels: dict[str, list[str]] = {}
    for one in sayings:
        by_labels.setdefault(_names(one.get("labels")), []).append(_speaker(one))
    ordered = sorted(by_labels.items(), key=lambda said: (-len(said[1]), said[0]))
    return " · ".join(f"{_few(speakers)}: {labels}" for labels, speakers in ordered)


def _few(speakers: list[str]) -> str:
    rest = len(speakers) - _SHOWN_SPEAKERS
    return ", ".join(speakers[:_SHOWN_SPEAKERS]) + (
        f" and {integer(rest)} more" if rest > 0 else ""
    )


def _speaker(one: Mapping[str, Any]) -> str:
    about = [
        str(one[key])[:10] if key == "annotated_at" else str(one[key])
        for key in ("annotator", "annotated_at", "source", "split")
        if one.get(key)
    ]
    shown = f" ({', '.join(about)})" if about else ""
    return f"{one.get('id')}{shown}"


def _probability(one: Mapping[str, Any], action: str) -> str:
    score = number(one.get("score")) or 0.0
    return percent(score if action == "add" else 1 - score)


def _implied_note(one: Mapping[str, Any]) -> str:
    notes = []
    if one.get("source") == "taxonomy":
        notes.append("a parent by the taxonomy")
    if one.get("mutual"):
        notes.append("and the other way round: perhaps one label under two names")
    return f" ({'; '.join(notes)})" if notes else ""
