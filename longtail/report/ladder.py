"""Where the gain comes from: the verdict's ladder as a table and in sentences."""

from __future__ import annotations

from typing import Any

from longtail.report.files import RunFiles, number, part
from longtail.report.table import Cell, Table, table
from longtail.report.words import MINUS, NOT_COMPUTED, listed, percent, points

_MEASURES = {"micro_f1": "micro-F1", "macro_f1": "macro-F1", "label_coverage": "label coverage"}


def ladder_table(run: RunFiles) -> Table | None:
    """One row per step, with what it adds to the step before."""
    steps = _steps(run)
    if not steps:
        return None
    level = _level(run)
    columns = [
        "Step", f"F1, micro ({level} interval)", f"F1, macro ({level} interval)",
        f"Label coverage ({level} interval)", f"Gain in F1, micro ({level} interval)",
    ]  # fmt: skip
    rows: list[list[str | Cell]] = [
        [str(step.get("name")), *(_share(part(step, key)) for key in _MEASURES), _gain(step)]
        for step in steps
    ]
    caption = (
        "From the plainest arm to the candidate, on the test set; the gain of a row is over the "
        "row above it, on the same draws."
    )
    return table(caption, columns, rows)


def ladder_sentences(run: RunFiles) -> list[str]:
    """What is gained from the first step to the last, and by what."""
    steps = _steps(run)
    if len(steps) < 2:
        return []
    first, last = str(steps[0].get("name")), str(steps[-1].get("name"))
    changes = [f"{name} by {points(_difference(steps, key), 2)}" for key, name in _MEASURES.items()]
    parts = [f"{step.get('name')} {points(_value(step), 2)}" for step in steps[1:]]
    sentences = [
        f"From {first} to {last} the test set's figures change: {listed(changes)}.",
        f"In micro-F1, step by step: {'; '.join(parts)}.",
    ]
    unsure = [str(step.get("name")) for step in steps[1:] if not _tone(step)]
    if unsure:
        sentences.append(f"Not shown to be more than chance: {'; '.join(unsure)}.")
    return sentences


def _steps(run: RunFiles) -> list[dict[str, Any]]:
    steps = run.verdict.get("ladder")
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def _level(run: RunFiles) -> str:
    confidence = number(part(run.verdict, "policy").get("confidence"))
    return f"{100 * (0.95 if confidence is None else confidence):g}\N{NARROW NO-BREAK SPACE}%"


def _share(estimate: dict[str, Any]) -> str:
    value, low, high = (number(estimate.get(key)) for key in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return NOT_COMPUTED
    return f"{percent(value)} ({100 * low:.1f} to {100 * high:.1f})"


def _gain(step: dict[str, Any]) -> Cell:
    gain = part(step, "gain_micro_f1")
    value, low, high = (number(gain.get(key)) for key in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return Cell(NOT_COMPUTED)
    interval = f"{100 * low:+.2f} to {100 * high:+.2f}".replace("-", MINUS)
    return Cell(f"{points(value, 2)} ({interval})", _tone(step))


def _tone(step: dict[str, Any]) -> str:
    """Good or bad where the interval lies on one side of 0, else empty."""
    gain = part(step, "gain_micro_f1")
    low, high = number(gain.get("low")), number(gain.get("high"))
    if low is None or high is None:
        return ""
    return "good" if low > 0 else "bad" if high < 0 else ""


def _value(step: dict[str, Any]) -> float | None:
    return number(part(step, "gain_micro_f1").get("value"))


def _difference(steps: list[dict[str, Any]], key: str) -> float | None:
    first, last = (number(part(step, key).get("value")) for step in (steps[0], steps[-1]))
    return None if first is None or last is None else last - first
