"""Horizontal box plots of counts on a log scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from longtail.plots import canvas
from longtail.plots.canvas import WIDTH, Panel, Scale

_LEFT, _RIGHT, _ROW = 76.0, 14.0, 44.0


@dataclass(frozen=True)
class Box:
    """The counts of one row; the box spans the quartiles, the whiskers everything."""

    label: str
    values: Sequence[float]


def box_panel(title: str, boxes: Sequence[Box], x_name: str) -> Panel:
    """Box plots under each other; a row without values says so."""
    highest = max((max(box.values) for box in boxes if len(box.values)), default=1.0)
    lowest = min((min(box.values) for box in boxes if len(box.values)), default=0.0)
    across = Scale(min(lowest, 1.0) if lowest < 1 else 0.9 * lowest, max(highest, lowest + 1),
                   _LEFT, WIDTH - _RIGHT, log=True)  # fmt: skip
    top, parts = 26.0, [canvas.text(0, 14, title, "t")]
    bottom = top + _ROW * len(boxes)
    for value in across.ticks():
        parts.append(canvas.line(across(value), top, across(value), bottom, "grid"))
        parts.append(canvas.text(across(value), bottom + 14, canvas.count(value), "m", "middle"))
    for row, box in enumerate(boxes):
        parts.append(_row(box, across, top + _ROW * row))
    parts.append(canvas.text((_LEFT + WIDTH) / 2, bottom + 30, x_name, "m", "middle"))
    words = "; ".join(f"{box.label}: {_summary(box)}" for box in boxes) + "."
    return Panel(title, words, WIDTH, bottom + 36.0, "".join(parts))


def _row(box: Box, across: Scale, y: float) -> str:
    name = canvas.text(0, y + 20, box.label, "h")
    size = canvas.text(0, y + 34, f"{len(box.values)} labels", "m")
    if not len(box.values):
        return name + size
    low, q1, median, q3, high = (across(float(v)) for v in _quartiles(box.values))
    middle = y + 22
    return "".join(
        (
            name,
            size,
            canvas.line(low, middle, q1, middle, "whisker"),
            canvas.line(q3, middle, high, middle, "whisker"),
            canvas.line(low, middle - 5, low, middle + 5, "whisker"),
            canvas.line(high, middle - 5, high, middle + 5, "whisker"),
            canvas.rect(q1, middle - 10, max(q3 - q1, 1.5), 20, "box", extra=' rx="2"'),
            canvas.line(median, middle - 10, median, middle + 10, "median"),
        )
    )


def _quartiles(values: Sequence[float]) -> list[float]:
    result: list[float] = np.quantile(np.asarray(values, float), [0, 0.25, 0.5, 0.75, 1]).tolist()
    return result


def _summary(box: Box) -> str:
    if not len(box.values):
        return "no labels"
    low, q1, median, q3, high = _quartiles(box.values)
    return (
        f"{len(box.values)} labels, median {median:g}, quartiles {q1:g} to {q3:g}, "
        f"range {low:g} to {high:g}"
    )
