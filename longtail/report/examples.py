"""Examples: a few test texts by id, what the candidate suggests for them, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longtail.examples import SOURCE_WORDS
from longtail.report.files import RunFiles, number, part
from longtail.report.table import Cell, Table, table
from longtail.report.words import NOT_COMPUTED, decimal, percent

_COLUMNS = (
    "Text", "Shown for", "Suggestion", "Probability", "Right?", "Words that support it",
    "Similar texts that have it", "Sources that support it",
)  # fmt: skip
_CAPTION = (
    "Words with what they add to the linear model's value, annotated texts by id with their "
    "similarity, and the sources of evidence, each with the strongest first."
)
_SUGGESTIONS = 5


def examples_table(run: RunFiles) -> Table | None:
    """Every suggestion for the examples' texts, at most five of each; None without examples."""
    rows = [
        _row(example, suggestion, first=at == 0)
        for example in _mappings(run.examples.get("examples"))
        for at, suggestion in enumerate(_shown(example))
    ]
    if not rows:
        return None
    return table(_CAPTION, _COLUMNS, rows, names=3, stacked=True)


def examples_sentence(run: RunFiles) -> str:
    """Why there are no examples; empty where there are some."""
    if failed := run.examples.get("failed"):
        return f"The examples could not be made: {failed}"
    if "examples" not in run.examples:
        return "This run recorded no examples."
    return "" if run.examples["examples"] else "The candidate suggests no label for a test text."


def _shown(example: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The suggestion that the text is shown for, then the most probable ones."""
    label = part(example, "shown_for").get("label")
    found = _mappings(example.get("suggestions"))
    return sorted(found, key=lambda one: one.get("label") != label)[:_SUGGESTIONS]


def _row(
    example: Mapping[str, Any], suggestion: Mapping[str, Any], *, first: bool
) -> list[str | Cell]:
    right = suggestion.get("right")
    judged = {True: Cell("right", "passed"), False: Cell("wrong", "failed")}
    return [
        Cell(str(example.get("id")), "brief"),
        Cell(str(part(example, "shown_for").get("why") or NOT_COMPUTED), "brief") if first else "",
        Cell(str(suggestion.get("label")), "brief"),
        percent(number(suggestion.get("probability"))),
        judged[right] if isinstance(right, bool) else Cell("not known", "note"),
        Cell(_words(suggestion), "l brief"),
        Cell(_similar(suggestion), "l brief"),
        Cell(_sources(suggestion), "l brief"),
    ]


def _words(suggestion: Mapping[str, Any]) -> str:
    return _listed(
        f"{word.get('term')} (+{decimal(number(word.get('contribution')), 2)})"
        for word in _mappings(suggestion.get("words"))
    )


def _similar(suggestion: Mapping[str, Any]) -> str:
    return _listed(
        f"{text.get('id')} ({decimal(number(text.get('similarity')), 2)})"
        for text in _mappings(suggestion.get("similar"))
    )


def _sources(suggestion: Mapping[str, Any]) -> str:
    names = (str(share.get("source")) for share in _mappings(suggestion.get("sources")))
    return _listed(SOURCE_WORDS.get(name, name) for name in names)


def _listed(items: Any) -> str:
    return ", ".join(items) or NOT_COMPUTED


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list; whatever else stands there is left out."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
