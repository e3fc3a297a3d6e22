"""The ground the figures are drawn on: escaped SVG elements, scales, panels and figures."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from longtail.plots import theme

WIDTH = 350.0
_GAP = 28.0
_MARGIN = 20.0
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Panel:
    """One drawing, sized in CSS pixels.

    Attributes:
        title: what the panel shows; the name that a screen reader gives it.
        description: its numbers in words, for those who do not see it.
        body: SVG markup, already escaped.
    """

    title: str
    description: str
    width: float
    height: float
    body: str


@dataclass(frozen=True)
class Figure:
    """Panels that belong together.

    Attributes:
        name: file name without suffix.
        title: one line above the panels of the stand-alone file.
        panels: in reading order.
        columns: panels side by side in the stand-alone file.
    """

    name: str
    title: str
    panels: tuple[Panel, ...]
    columns: int = 3


def inline(panel: Panel) -> str:
    """A panel as an ``<svg>`` element for a page that defines the theme's variables."""
    return (
        f'<svg class="fig" role="img" viewBox="0 0 {n(panel.width)} {n(panel.height)}">'
        f"<title>{clean(panel.title)}</title><desc>{clean(panel.description)}</desc>"
        f"{panel.body}</svg>"
    )


def standalone(figure: Figure) -> str:
    """A figure as an SVG document with its own background, style and colours."""
    rows = [
        figure.panels[at : at + figure.columns]
        for at in range(0, len(figure.panels), figure.columns)
    ]
    width = max(sum(p.width + _GAP for p in row) - _GAP for row in rows) + 2 * _MARGIN
    parts, y = [], _MARGIN + 26
    for row in rows:
        x = _MARGIN
        for panel in row:
            parts.append(f'<g transform="translate({n(x)} {n(y)})">{panel.body}</g>')
            x += panel.width + _GAP
        y += max(panel.height for panel in row) + _GAP
    height = y - _GAP + _MARGIN
    about = " ".join(f"{panel.title}: {panel.description}" for panel in figure.panels)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" class="fig" role="img" width="{n(width)}" '
        f'height="{n(height)}" viewBox="0 0 {n(width)} {n(height)}">'
        f"<title>{clean(figure.title)}</title><desc>{clean(about)}</desc>"
        f"<style>{theme.standalone_css()}</style>"
        f'<rect class="over" width="100%" height="100%"/>'
        f'<text class="t" style="font-size:15px" x="{n(_MARGIN)}" y="{n(_MARGIN + 8)}">'
        f"{clean(figure.title)}</text>{''.join(parts)}</svg>\n"
    )


def clean(text: str) -> str:
    """Text for XML: escaped, without the characters that XML forbids."""
    return escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text))


def n(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def shorten(text: str, room: float, size: float = 12.0) -> str:
    """Text cut with an ellipsis so that it stands in ``room`` pixels at a font size."""
    most = max(3, int(room / (size * 0.56)))
    return text if len(text) <= most else text[: most - 1] + "…"


def text(x: float, y: float, content: str, css: str = "", anchor: str = "start") -> str:
    """A line of text; ``anchor`` is start, middle or end."""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    style = f' class="{css}"' if css else ""
    return f'<text x="{n(x)}" y="{n(y)}"{style}{where}>{clean(content)}</text>'


def rect(x: float, y: float, width: float, height: float, css: str, *, extra: str = "") -> str:
    """A rectangle; ``extra`` is markup for further attributes."""
    return (
        f'<rect class="{css}" x="{n(x)}" y="{n(y)}" width="{n(max(width, 0))}" '
        f'height="{n(max(height, 0))}"{extra}/>'
    )


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight line."""
    return f'<path class="{css}" d="M{n(x1)} {n(y1)}L{n(x2)} {n(y2)}"/>'


def polyline(points: Sequence[tuple[float, float] | None], css: str) -> str:
    """A line through points; None breaks it."""
    commands, pen_up = [], True
    for point in points:
        if point is None:
            pen_up = True
            continue
        commands.append(f"{'M' if pen_up else 'L'}{n(point[0])} {n(point[1])}")
        pen_up = False
    return f'<path class="{css}" d="{"".join(commands)}"/>'


@dataclass(frozen=True)
class Scale:
    """A mapping from data to pixels.

    Attributes:
        low, high: data range; equal ends are widened.
        start, end: pixel range.
        log: log10(1 + value), which shows counts from 0 to millions.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value; values outside the range stand at its ends."""
        low, high = self._on(self.low), self._on(self.high)
        share = (self._on(value) - low) / ((high - low) or 1.0)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def _on(self, value: float) -> float:
        return math.log10(1.0 + max(value, 0.0)) if self.log else value

    def ticks(self, most: int = 6) -> list[float]:
        """Round values inside the range: powers of ten on a log scale."""
        if self.log:
            for steps in ((1,), (1, 2, 5)):
                values = [0.0, *(step * 10.0**k for k in range(10) for step in steps)]
                inside = [value for value in values if self.low <= value <= self.high]
                if len(inside) > 2:
                    break
            return inside[:: math.ceil(len(inside) / most)] if inside else [self.low]
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        raw = span / max(most - 1, 1)
        base = 10.0 ** math.floor(math.log10(raw))
        step = base * next(m for m in (1, 2, 2.5, 5, 10) if m * base >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]


def count(value: float) -> str:
    """A count for an axis: 1000 is 1k, 1,000,000 is 1M."""
    for size, suffix in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"
