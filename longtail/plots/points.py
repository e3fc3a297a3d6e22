"""One point per label: a change against its support."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from longtail.plots import canvas
from longtail.plots.canvas import WIDTH, Panel, Scale

_LEFT, _RIGHT, _PLOT = 44.0, 12.0, 200.0


@dataclass(frozen=True)
class Point:
    """A label with its support and its change in [-1, 1]."""

    name: str
    support: int
    change: float


def scatter_panel(title: str, points: Sequence[Point], x_name: str, y_name: str) -> Panel:
    """Changes above and below a zero line: gains are filled discs, losses are rings.

    Args:
        title: what has changed.
        points: one per label.
        x_name: name of the support axis, drawn on a log scale.
        y_name: name of the change, in points.
    """
    reach = max((abs(point.change) for point in points), default=0.0)
    reach = max(0.1, -(-reach * 10 // 1) / 10)
    top, bottom = 44.0, 44.0 + _PLOT
    highest = max((point.support for point in points), default=1)
    across = Scale(0, max(highest, 1), _LEFT + 8, WIDTH - _RIGHT, log=True)
    up = Scale(-1.04 * reach, 1.04 * reach, bottom, top)
    parts = [canvas.text(0, 14, title, "t"), canvas.text(0, 31, y_name, "m")]
    for value in up.ticks(5):
        css = "axis" if abs(value) < 1e-9 else "grid"
        parts.append(canvas.line(_LEFT, up(value), WIDTH - _RIGHT, up(value), css))
        tick = "0" if abs(value) < 1e-9 else f"{100 * value:+.0f}"
        parts.append(canvas.text(_LEFT - 6, up(value) + 4, tick, "m", "end"))
    parts += [
        canvas.text(across(value), bottom + 16, canvas.count(value), "m", "middle")
        for value in across.ticks()
    ]
    parts += [_point(point, across(point.support), up(point.change)) for point in points]
    parts.append(canvas.text((_LEFT + WIDTH) / 2, bottom + 32, x_name, "m", "middle"))
    words = (
        f"{sum(p.change > 0 for p in points)} labels better, "
        f"{sum(p.change < 0 for p in points)} worse, "
        f"{sum(p.change == 0 for p in points)} the same."
    )
    return Panel(title, words, WIDTH, bottom + 38.0, "".join(parts))


def _point(point: Point, x: float, y: float) -> str:
    if point.change > 0:
        look = 'class="f-candidate" fill-opacity=".6" r="3"'
    elif point.change < 0:
        look = 'class="s-bce" fill="none" stroke-width="1.4" r="3"'
    else:
        look = 'class="f-muted" fill-opacity=".5" r="1.8"'
    words = canvas.clean(f"{point.name}: {100 * point.change:+.1f} pt, {point.support:,} texts")
    return f'<circle {look} cx="{canvas.n(x)}" cy="{canvas.n(y)}"><title>{words}</title></circle>'
