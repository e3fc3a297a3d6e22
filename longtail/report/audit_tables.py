"""Tables and sentences of the audit page, from ``audit.json``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from longtail.report.files import number, part
from longtail.report.table import Cell, Table, table
from longtail.report.words import decimal, integer, listed, percent, plural

_SHOWN = 100
_SHOWN_LABELS = 60
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


def _count(section: Mapping[str, Any], key: str) -> float:
    return number(section.get(key)) or 0.0


def duplicates_sentence(section: dict[str, Any]) -> str:
    """How many texts stand again, and how many of them in conflict."""
    if not section:
        return ""
    again = _count(section, "beyond_first")
    if not again:
        return "No text stands twice."
    said = (
        f"{plural(again, 'text')} of {integer(_count(section, 'texts'))} "
        f"{'repeats' if again == 1 else 'repeat'} another one; of the "
        f"{plural(_count(section, 'sets'), 'text')} that stand more than once, "
        f"{integer(_count(section, 'conflicting_sets'))} are labelled in conflict."
    )
    in_train = number(section.get("test_in_train"))
    if in_train is not None:
        verb = "stands" if in_train == 1 else "stand"
        said += f" {plural(in_train, 'test text')} also {verb} in train."
    return said


def near_sentence(section: dict[str, Any]) -> str:
    """How many pairs, and what they disagree on."""
    if not section:
        return ""
    pairs = _count(section, "pairs")
    if not pairs:
        return "No two different texts resemble each other closely."
    return (
        f"{plural(pairs, 'pair')} of texts are nearly the same; "
        f"{integer(_count(section, 'conflicts'))} of them are labelled differently."
    )


def sides_sentence(section: dict[str, Any]) -> str:
    """Where repeats and near-repeats would leak."""
    if not section:
        return ""
    split = (
        "In the data's own split"
        if section.get("sides") == "data"
        else "In a split that divides the texts one by one, as is usual,"
    )
    return (
        f"{split} {plural(_count(section, 'divided'), 'pair')} would stand on different sides, and "
        f"{plural(_count(section, 'test_texts'), 'test text')} would repeat a training text, "
        "exactly or nearly. Longtail keeps what belongs together on one side, and leaves out of "
        "training what the data's own split divides."
    )


def errors_sentence(section: dict[str, Any]) -> str:
    """How many cells are suspected."""
    if not section:
        return "Likely wrong and missing labels were not searched for."
    return (
        f"{plural(_count(section, 'missing'), 'label')} are likely missing and "
        f"{integer(_count(section, 'wrong'))} likely wrong, of the "
        f"{plural(_count(section, 'labels'), 'label')} that are frequent enough to be searched."
    )


def implied_sentence(section: dict[str, Any]) -> str:
    """How many implications, and how many texts break them."""
    if not section:
        return ""
    found = _count(section, "implications")
    if not found:
        return "No label implies another one."
    return (
        f"{plural(found, 'pair')} of labels where the one implies the other; "
        f"{plural(_count(section, 'missing'), 'text')} {_verb(_count(section, 'missing'))} that."
    )


def rare_sentence(section: dict[str, Any]) -> str:
    """How many labels cannot be judged."""
    found = _count(section, "labels")
    return f"{plural(found, 'label')} are too rare to be judged." if found else ""


def applied_sentence(section: dict[str, Any]) -> str:
    """What became of the corrections that were accepted; empty without any."""
    if not section:
        return ""
    skipped = [
        f"{integer(_count(section, key))} {why}"
        for key, why in (
            ("text_changed", "because the text has changed since"),
            ("text_gone", "because the text is gone"),
            ("already_so", "because the label is already so"),
        )
        if _count(section, key)
    ]
    applied, accepted = _count(section, "applied"), _count(section, "accepted")
    said = (
        f"{integer(applied)} of {plural(accepted, 'accepted correction')} "
        f"{'was' if applied == 1 else 'were'} applied, in "
        f"{plural(_count(section, 'texts'), 'text')}; the stored annotations stay as they are."
    )
    return f"{said} Skipped: {listed(skipped)}." if skipped else said


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
            Cell(_names(one.get("disputed")), "name"),
            Cell(" · ".join(map(_saying, one.get("sayings") or ())), "wide"),
        ]
        for one in found
    ]
    total = _count(section, "conflicting_sets")
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
        f"{plural(_count(section, 'pairs'), 'pair')}; those with different labels first. "
        "Similarity is the share of three-word runs in common."
    )
    columns = ["Text", "First", "Its labels", "Second", "Its labels", "Similarity"]
    return table(caption, columns, rows, names=5, stacked=True) if rows else None


def searched_sentences(audit: Mapping[str, Any]) -> list[str]:
    """What was searched, and what was left out."""
    section, settings = part(audit, "label_errors"), part(audit, "settings")
    if not section:
        why = "no label is frequent enough" if settings.get("label_errors") else "switched off"
        return [f"Nothing was searched: {why}."]
    said = [
        (
            f"{plural(_count(section, 'texts'), 'text')} and "
            f"{plural(_count(section, 'labels'), 'label')} were searched by cross-validation in "
            f"{integer(number(settings.get('folds')))} folds: every text is judged by a linear "
            "model that has seen neither it nor a text that belongs with it. A suspicion is no "
            "proof: where the model is weak, so is the list, and what is listed first is surest."
        )
    ]
    left = section.get("excluded") or ()
    if left:
        said.append(
            f"{plural(len(left), 'label')} were not searched, with fewer than "
            f"{integer(number(settings.get('min_label_texts')))} texts they are too rare to judge; "
            "they are listed below."
        )
    return said


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
    total = _count(errors, what)
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
            f"{integer(number(one.get('both')))} of {integer(number(one.get('texts')))}",
            percent(number(one.get("share"))),
            percent(number(one.get("lower"))),
            integer(number(one.get("missing"))),
            Cell(_names((one.get("missing_ids") or ())[:5]), "name"),
        ]
        for one in found
    ]
    caption = (
        "Where a text has the first label it has the second; at least: the share's one-sided 95 % "
        "lower bound (Wilson)."
    )
    columns = ["Label", "Implies", "Texts", "Share", "At least", "Missing", "Such as"]
    return table(caption, columns, rows, names=2) if rows else None


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


def rare_advice(section: dict[str, Any]) -> list[str]:
    """What to do about each reason that occurs."""
    advice = {
        "too_few_units": "stand in fewer than three texts that are independent of each other, so "
        "they cannot stand in train, validation and test: annotate more texts with them, merge "
        "them with a broader label, or leave them out with data.min_label_support.",
        "too_few_texts": "have too few texts to be searched for errors: look through their texts "
        "by hand, or lower audit.min_label_texts and trust the list less.",
        "not_in_test": "have no test text, so no report says how well they are recognised: they "
        "reach the test set as new texts with them arrive.",
    }
    return [
        f"{plural(_count(section, key), 'label')} {said}"
        for key, said in advice.items()
        if _count(section, key)
    ]


def settings_table(audit: Mapping[str, Any]) -> Table:
    """The settings of the search."""
    found = {
        **{f"audit.{name}": value for name, value in part(audit, "settings").items()},
        "data.near_duplicate_similarity": audit.get("near_duplicate_similarity"),
    }
    rows: list[list[str | Cell]] = [[name, Cell(str(value))] for name, value in found.items()]
    return table("Settings of this audit.", ["Setting", "Value"], rows)


def _verb(count: float) -> str:
    return "breaks" if count == 1 else "break"


def _names(names: Iterable[Any] | None) -> str:
    found = [str(name) for name in names or ()]
    more = f" and {integer(len(found) - _SHOWN_LABELS)} more" if len(found) > _SHOWN_LABELS else ""
    return (", ".join(found[:_SHOWN_LABELS]) or "none") + more


def _saying(one: Mapping[str, Any]) -> str:
    about = [
        str(one[key])[:10] if key == "annotated_at" else str(one[key])
        for key in ("annotator", "annotated_at", "source", "split")
        if one.get(key)
    ]
    shown = f" ({', '.join(about)})" if about else ""
    return f"{one.get('id')}{shown}: {_names(one.get('labels'))}"


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
