"""Curves over a common x, with marks that cut through them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from longtail.plots import canvas
from longtail.plots.canvas import WIDTH, Panel, Scale

_LEFT, _RIGHT, _PLOT = 40.0, 12.0, 170.0


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
        name: in the legend.
        x, y: points in data units; a y of None breaks the curve.
        css: tone and dash of the line, such as ``s-bce dash``.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    css: str


@dataclass(frozen=True)
class Mark:
    """A vertical line at x with its text above the plot."""

    x: float
    text: str


@dataclass(frozen=True)
class Axis:
    """One axis: its name with the unit, its range and how its ticks are printed."""

    name: str
    low: float
    high: float
    form: Callable[[float], str]
    most: int = 6


def percent(value: float) -> str:
    """A share as a tick label."""
    return f"{100 * value:g} %"


def line_panel(
    title: str, series: Sequence[Series], x: Axis, y: Axis, marks: Sequence[Mark] = ()
) -> Panel:
    """Curves with a legend on top, marks with staggered texts, and two named axes."""
    legend, below = _legend(series, 32.0)
    parts = [canvas.text(0, 14, title, "t"), legend]
    top = below + 14.0 + 14.0 * len(marks) + (4.0 if marks else 0.0)
    bottom = top + _PLOT
    across = Scale(x.low, x.high, _LEFT, WIDTH - _RIGHT)
    up = Scale(y.low, y.high, bottom, top)
    parts += _axes(across, up, x, y)
    for curve in series:
        points = [
            None if value is None else (across(at), up(value))
            for at, value in zip(curve.x, curve.y, strict=False)
        ]
        parts.append(canvas.polyline(points, f"ln {curve.css}"))
        alone = [point for point in points if point is not None]
        if len(alone) == 1:
            tone = curve.css.split()[0].replace("s-", "f-", 1)
            parts.append(_dot(alone[0], tone))
    for row, mark in enumerate(sorted(marks, key=lambda mark: mark.x)):
        parts.append(_mark(mark, across(mark.x), below + 22.0 + 14.0 * row, bottom))
    return Panel(title, _in_words(series, marks, x, y), WIDTH, bottom + 36.0, "".join(parts))


def _legend(series: Sequence[Series], y: float) -> tuple[str, float]:
    """The names in as many rows as they need, and the last row's y."""
    parts, x = [], 0.0
    for curve in series:
        end = x + 27.0 + 5.6 * len(curve.name)
        if x and end > WIDTH:
            x, y, end = 0.0, y + 14.0, end - x
        parts.append(canvas.line(x, y - 4, x + 22, y - 4, f"ln {curve.css}"))
        parts.append(canvas.text(x + 27, y, curve.name, "m"))
        x = end + 17.0
    return "".join(parts), y


def _axes(across: Scale, up: Scale, x: Axis, y: Axis) -> list[str]:
    parts = []
    for value in up.ticks(y.most):
        parts.append(canvas.line(across.start, up(value), across.end, up(value), "grid"))
        parts.append(canvas.text(across.start - 6, up(value) + 4, y.form(value), "m", "end"))
    parts.append(canvas.line(across.start, up.start, across.end, up.start, "axis"))
    for value in across.ticks(x.most):
        parts.append(canvas.line(across(value), up.start, across(value), up.start + 4, "axis"))
        anchor = "end" if across(value) > across.end - 8 else "middle"
        parts.append(canvas.text(across(value), up.start + 16, x.form(value), "m", anchor))
    middle = (across.start + across.end) / 2
    parts.append(canvas.text(middle, up.start + 32, x.name, "m", "middle"))
    return parts


def _mark(mark: Mark, x: float, text_y: float, bottom: float) -> str:
    right = x > WIDTH * 0.6
    label = canvas.text(
        x - 4 if right else x + 4, text_y, mark.text, "m", "end" if right else "start"
    )
    return canvas.line(x, text_y - 9, x, bottom, "mark") + label


def _dot(point: tuple[float, float], css: str) -> str:
    return f'<circle class="{css}" cx="{canvas.n(point[0])}" cy="{canvas.n(point[1])}" r="3.5"/>'


def _in_words(series: Sequence[Series], marks: Sequence[Mark], x: Axis, y: Axis) -> str:
    words = []
    for curve in series:
        known = [(v, at) for at, v in zip(curve.x, curve.y, strict=False) if v is not None]
        if known:
            value, at = max(known)
            words.append(f"{curve.name} peaks at {y.form(round(value, 3))} ({x.name} {at:.3g})")
    words += [f"{mark.text} is marked" for mark in marks]
    return "; ".join(words) + "."
