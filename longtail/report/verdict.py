"""The head of the page: the decision, its reasons and every rule with its number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from longtail.report.arms import difference
from longtail.report.files import RunFiles, number, part
from longtail.report.table import Cell, Table, table
from longtail.report.words import (
    NOT_COMPUTED,
    arm_name,
    baseline,
    integer,
    percent,
    plural,
    points,
)

_LIVE = "live_model"
_IN_POINTS = frozenset({"matched_not_worse", "live_model_outdated"})
_ORDER = {"failed": 0, "warning": 1, "passed": 2, "note": 3}
_SIGNS = {"failed": "✕ failed", "warning": "! warning", "passed": "✓ passed", "note": "· noted"}


@dataclass(frozen=True)
class Tile:
    """A headline number: what it is, the number, and what it is to be seen against."""

    name: str
    value: str
    beside: str


@dataclass(frozen=True)
class Headline:
    """What a reader takes away from the first screen.

    Attributes:
        tone: good, bad, or warn for a person's decision, against the gate or still to come.
        word: PROMOTED, BLOCKED, PROMOTED BY OVERRIDE or WAITS FOR A DECISION.
        sentence: what that means.
        live: how the arms stand to the live model; empty where there was none.
        reasons: the verdict's other reasons, in its own sentences.
        notes: first release, looks, overrides, how long a decision is waited for.
        tiles: headline numbers.
    """

    tone: str
    word: str
    sentence: str
    live: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    tiles: tuple[Tile, ...]


def headline(run: RunFiles) -> Headline:
    """The verdict in words."""
    verdict = run.verdict
    promoted = verdict["decision"] == "promote"
    first = bool(verdict.get("first_release"))
    override = part(verdict, "override")
    reasons = verdict.get("reasons")
    live = _live(verdict)
    word = "PROMOTED BY OVERRIDE" if override else "PROMOTED" if promoted else "BLOCKED"
    return Headline(
        tone="warn" if override or run.waits else "good" if promoted else "bad",
        word="WAITS FOR A DECISION" if run.waits else word,
        sentence=_question(promoted=promoted, first=first)
        if run.waits
        else _sentence(override, promoted=promoted, first=first),
        live=live,
        reasons=tuple(str(reason) for reason in reasons if reason != live)
        if isinstance(reasons, list)
        else (),
        notes=tuple(_notes(verdict, run)),
        tiles=tuple(_tiles(run)),
    )


def _live(verdict: dict[str, Any]) -> str:
    return next((str(r.get("detail") or "") for r in _rules(verdict) if r.get("name") == _LIVE), "")


def _sentence(override: dict[str, Any], *, promoted: bool, first: bool) -> str:
    if override:
        who = override.get("by") or "An unnamed person"
        return f"The gate blocked the candidate; {who} let it pass all the same."
    if promoted and first:
        return "The candidate becomes the first live model."
    if promoted:
        return "The candidate replaces the live model."
    if first:
        return "The candidate does not go live; there is no live model yet."
    return "The candidate does not go live; the live model stays."


def _question(*, promoted: bool, first: bool) -> str:
    gate = "The gate would promote the candidate" if promoted else "The gate blocks the candidate"
    meanwhile = "until then there is no live model" if first else "until then the live model stays"
    return f"{gate}; a person decides, and {meanwhile}."


def _notes(verdict: dict[str, Any], run: RunFiles) -> list[str]:
    notes = []
    if run.waits.get("until"):
        notes.append(f"Without a decision by {run.waits['until']} the live model stays.")
    override = part(verdict, "override")
    if override:
        notes.append(
            f"Override by {override.get('by') or 'an unnamed person'}"
            f"{' at ' + str(override['at']) if override.get('at') else ''}: "
            f"{override.get('reason') or 'no reason given'}."
        )
    if verdict.get("first_release") and not _says(verdict, "First release"):
        notes.append(
            "First release: there was no champion to compare with; every other rule held all "
            "the same."
        )
    looks = number(verdict.get("looks"))
    if looks is None:
        looks = number(part(run.metrics, "test").get("looks"))
    if looks == 1:
        notes.append("This is the first verdict on this test set.")
    elif looks is not None:
        notes.append(
            f"The test set has been looked at {plural(looks, 'time')}, this one included. Every "
            "look wears it out a little: the more looks, the more a small gain may be luck."
        )
    left_out = number(part(run.metrics, "test").get("left_out"))
    if left_out:
        notes.append(
            f"{plural(left_out, 'test text')} left out for every arm, because a live model has "
            "learned from the same or nearly the same text."
        )
    return notes


def _says(verdict: dict[str, Any], words: str) -> bool:
    reasons = verdict.get("reasons")
    return isinstance(reasons, list) and any(str(reason).startswith(words) for reason in reasons)


def _tiles(run: RunFiles) -> list[Tile]:
    tiles = []
    for key, name in (("micro_f1", "Micro-F1"), ("label_coverage", "Label coverage")):
        ours = run.overall("candidate", key)
        if ours is not None:
            change = difference(run, key, baseline(run))
            against = arm_name(baseline(run))
            beside = "" if change is None else f"{points(change)} against {against}"
            tiles.append(Tile(name, percent(ours), beside))
    found = run.overall("candidate", "recognised_labels")
    if found is not None:
        of = integer(run.overall("candidate", "labels_with_positives"))
        tiles.append(Tile("Labels recognised", integer(found), f"of {of} in the test set"))
    texts = number(part(run.metrics, "test").get("texts"))
    if texts is not None:
        labels = integer(number(part(run.metrics, "test").get("labels")))
        tiles.append(Tile("Judged on", integer(texts), f"test texts, {labels} labels"))
    return tiles


def rules_table(run: RunFiles) -> Table | None:
    """Every rule; the failed ones first."""
    rules = _rules(run.verdict)
    if not rules:
        return None
    rules.sort(key=lambda rule: _ORDER[status(rule)])
    rows: list[list[str | Cell]] = [
        [
            Cell(_SIGNS[status(rule)], status(rule)),
            Cell(rule_title(str(rule.get("name") or "")), "rule"),
            Cell(str(rule.get("detail") or ""), "wide"),
            rule_number(rule, "value"),
            rule_number(rule, "threshold"),
        ]
        for rule in rules
    ]
    columns = ["Result", "Rule", "What was found", "Value", "Held against"]
    caption = "All rules of the gate; the failed ones first."
    return table(caption, columns, rows, names=3, stacked=True)


def _rules(verdict: dict[str, Any]) -> list[dict[str, Any]]:
    found = verdict.get("rules")
    return [rule for rule in found if isinstance(rule, dict)] if isinstance(found, list) else []


def status(rule: dict[str, Any]) -> str:
    """A rule's outcome: failed, warning, passed or note."""
    if rule.get("severity") == "info":
        return "note"
    if rule.get("passed") is True:
        return "passed"
    return "warning" if rule.get("severity") == "warn" else "failed"


def rule_title(name: str) -> str:
    """A rule's name in words: ``champion_group_f1:TAIL`` is "Champion group F1 · TAIL"."""
    rule, _, group = name.partition(":")
    text = rule.replace("_", " ").replace("f1", "F1").replace("bce", "BCE")
    return f"{text[:1].upper()}{text[1:]}{' · ' + group if group else ''}"


def rule_number(rule: dict[str, Any], key: str) -> str:
    """A rule's number with its unit, which its name tells."""
    value = number(rule.get(key))
    if value is None:
        return NOT_COMPUTED
    name = str(rule.get("name") or "")
    if name.startswith("floor_") or name in {_LIVE, "original_cohort_micro_f1"}:
        return percent(value) if abs(value) <= 1 else f"{value:,.4g}"
    if "micro_f1" in name or "_group_f1" in name or name in _IN_POINTS:
        return points(value, 2).removeprefix("±")
    if name.endswith("won_lost") or ("coverage" in name and _is_level(rule)):
        return "p < 0.0001" if value < 0.0001 else f"p = {value:.2g}"
    if "coverage" in name:
        return plural(value, "label")
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"


def _is_level(rule: dict[str, Any]) -> bool:
    """Whether a rule is held against a level of significance and not against a number of labels."""
    threshold = number(rule.get("threshold"))
    return threshold is not None and threshold != int(threshold)
