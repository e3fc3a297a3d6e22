"""The rules of each hand-over as data, from which Great Expectations suites are built.

Every rule bounds one numeric helper column, one value per row: Great Expectations' own
expectations on list columns flag every row, and lengths and counts keep private texts out of the
Data Docs. A helper value of null means "not for this rule to judge".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from longtail.annotations.schema import MAX_ID_CHARACTERS, MAX_LABEL_CHARACTERS


@dataclass(frozen=True)
class Rule:
    """One expectation: the helper column lies within the bounds in every row.

    Attributes:
        name: unique within its suite.
        column: helper column.
        minimum, maximum: inclusive; None leaves that side open.
        severity: critical quarantines the row or blocks the hand-over, warning reports it.
        description: for people, in Data Docs and in reports.
    """

    name: str
    column: str
    minimum: float | None
    maximum: float | None
    severity: Literal["critical", "warning"]
    description: str


@dataclass(frozen=True)
class Suite:
    """The rules of one hand-over."""

    name: str
    rules: tuple[Rule, ...]


def annotations_suite(max_text_characters: int) -> Suite:
    """Export → data set: what an accepted annotation row looks like."""
    return Suite(
        "annotations",
        (
            _none("readable", "n_problems", "The reader could read every cell of the row."),
            _present("id_present", "id_visible", "The row has an id."),
            _at_most("id_length", "id_length", MAX_ID_CHARACTERS, "The id is short."),
            _none("id_control", "id_control", "The id has no control characters."),
            _present("text_present", "text_visible", "The text is not blank."),
            _at_most(
                "text_length", "text_length", max_text_characters, "The text is not too long."
            ),
            _none("labels_present", "labels_missing", "The labels cell is a list, if empty."),
            _none("labels_named", "n_blank_labels", "No label is blank."),
            _at_most("label_length", "label_length", MAX_LABEL_CHARACTERS, "Labels are names."),
            _none("label_control", "n_control_labels", "No label has control characters."),
            _none("labels_in_taxonomy", "n_labels_outside", "The taxonomy names every label."),
            _warn("labels_once", "n_duplicate_labels", 0, 0, "No label stands twice in a row."),
            _warn("labelled", "n_labels", 1, None, "The text has a label."),
            _warn("not_future", "days_ahead", None, 1, "The annotation is not from the future."),
        ),
    )


def splits_suite(*, leaks_allowed: bool) -> Suite:
    """Partition → training: what train, validation and test together look like."""
    leak = _warn if leaks_allowed else _bounds
    return Suite(
        "splits",
        (
            _bounds("id_once", "id_count", 1, 1, "An id stands in one split, once."),
            _present("text_present", "text_visible", "The text is not blank."),
            leak("no_leak", "unit_leaks", 0, 0, "No unit is both in train and held out."),
            _warn("held_out_apart", "unit_held_out", 0, 1, "No unit is in validation and test."),
            _none("labels_known", "n_unknown_labels", "Labels are in the label space."),
            _none("labels_once", "n_duplicate_labels", "No label stands twice in a row."),
            _warn("labels_trained", "n_untrained_labels", 0, 0, "Labels have positives in train."),
            _bounds("cohort", "cohort", 0, None, "The cohort is known."),
        ),
    )


def predictions_suite() -> Suite:
    """Scoring → thresholds, metrics and users: what probabilities look like."""
    return Suite(
        "predictions",
        (
            _bounds("id_once", "id_count", 1, 1, "An id is scored once."),
            _none("id_expected", "id_unexpected", "The id is one that was to be scored."),
            _none("finite", "n_not_finite", "Every probability is a finite number."),
            _bounds("low", "lowest", 0, 1, "No probability is below 0."),
            _bounds("high", "highest", 0, 1, "No probability is above 1."),
        ),
    )


def _bounds(
    name: str, column: str, minimum: float | None, maximum: float | None, description: str
) -> Rule:
    return Rule(name, column, minimum, maximum, "critical", description)


def _warn(
    name: str, column: str, minimum: float | None, maximum: float | None, description: str
) -> Rule:
    return Rule(name, column, minimum, maximum, "warning", description)


def _none(name: str, column: str, description: str) -> Rule:
    return _bounds(name, column, 0, 0, description)


def _present(name: str, column: str, description: str) -> Rule:
    return _bounds(name, column, 1, 1, description)


def _at_most(name: str, column: str, maximum: float, description: str) -> Rule:
    return _bounds(name, column, None, maximum, description)
