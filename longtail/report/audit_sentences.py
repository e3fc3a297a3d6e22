"""Sentences of the audit page, from ``audit.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longtail.report.files import number, part
from longtail.report.words import integer, listed, plural


def count(section: Mapping[str, Any], key: str) -> float:
    """A count of a section; 0 where there is none."""
    return number(section.get(key)) or 0.0


def duplicates_sentence(section: dict[str, Any]) -> str:
    """How many texts stand again, and how many of them in conflict."""
    if not section:
        return ""
    again = count(section, "beyond_first")
    if not again:
        return "No text stands twice."
    said = (
        f"{plural(again, 'text')} of {integer(count(section, 'texts'))} "
        f"{'repeats' if again == 1 else 'repeat'} another one; of the "
        f"{plural(count(section, 'sets'), 'text')} that stand more than once, "
        f"{integer(count(section, 'conflicting_sets'))} are labelled in conflict."
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
    pairs = count(section, "pairs")
    if not pairs:
        return "No two different texts resemble each other closely."
    return (
        f"{plural(pairs, 'pair')} of texts {_are(pairs)} nearly the same; "
        f"{integer(count(section, 'conflicts'))} of them are labelled differently."
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
        f"{split} {plural(count(section, 'divided'), 'pair')} would stand on different sides, and "
        f"{plural(count(section, 'test_texts'), 'test text')} would repeat a training text, "
        "exactly or nearly. Longtail keeps what belongs together on one side, and leaves out of "
        "training what the data's own split divides."
    )


def errors_sentence(section: dict[str, Any]) -> str:
    """How many cells are suspected."""
    if not section:
        return "Likely wrong and missing labels were not searched for."
    return (
        f"{plural(count(section, 'missing'), 'label')} {_are(count(section, 'missing'))} likely "
        f"missing and {integer(count(section, 'wrong'))} likely wrong, of the "
        f"{plural(count(section, 'labels'), 'label')} that are frequent enough to be searched."
    )


def implied_sentence(section: dict[str, Any]) -> str:
    """How many implications, and how many labels are missing by them."""
    if not section:
        return ""
    found = count(section, "implications")
    if not found:
        return "No label implies another one."
    return (
        f"{plural(found, 'pair')} of labels where the one implies the other; "
        f"{plural(count(section, 'missing'), 'label')} {_are(count(section, 'missing'))} missing "
        "by that."
    )


def rare_sentence(section: dict[str, Any]) -> str:
    """How many labels cannot be judged."""
    found = count(section, "labels")
    return f"{plural(found, 'label')} {_are(found)} too rare to be judged." if found else ""


def applied_sentence(section: dict[str, Any]) -> str:
    """What became of the corrections that were accepted; empty without any."""
    if not section:
        return ""
    skipped = [
        f"{integer(count(section, key))} {why}"
        for key, why in (
            ("text_changed", "because the text has changed since"),
            ("text_gone", "because the text is gone"),
            ("already_so", "because the label is already so"),
        )
        if count(section, key)
    ]
    applied, accepted = count(section, "applied"), count(section, "accepted")
    said = (
        f"{integer(applied)} of {plural(accepted, 'accepted correction')} "
        f"{'was' if applied == 1 else 'were'} applied, in "
        f"{plural(count(section, 'texts'), 'text')}; the stored annotations stay as they are."
    )
    return f"{said} Skipped: {listed(skipped)}." if skipped else said


def searched_sentences(audit: Mapping[str, Any]) -> list[str]:
    """What was searched, and what was left out."""
    section, settings = part(audit, "label_errors"), part(audit, "settings")
    if not section:
        why = "no label is frequent enough" if settings.get("label_errors") else "switched off"
        return [f"Nothing was searched: {why}."]
    said = [
        (
            f"{plural(count(section, 'texts'), 'text')} and "
            f"{plural(count(section, 'labels'), 'label')} were searched by cross-validation in "
            f"{integer(number(settings.get('folds')))} folds: every text is judged by a linear "
            "model that has seen neither it nor a text that belongs with it. A suspicion is no "
            "proof: where the model is weak, so is the list, and what is listed first is surest."
        )
    ]
    left = section.get("excluded") or ()
    if left:
        said.append(
            f"{plural(len(left), 'label')} {'was' if len(left) == 1 else 'were'} not searched: on "
            f"fewer than {integer(number(settings.get('min_label_texts')))} texts, or missing from "
            "so few, or in fewer independent texts than folds."
        )
    return said


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
        f"{plural(count(section, key), 'label')} {said}"
        for key, said in advice.items()
        if count(section, key)
    ]


def _are(count: float) -> str:
    return "is" if count == 1 else "are"
