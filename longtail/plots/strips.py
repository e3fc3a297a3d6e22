"""One row per model: a point for every seed, a tick at their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from longtail.plots import canvas
from longtail.plots.canvas import WIDTH, Panel, Scale

_LABEL, _VALUE = 104.0, 48.0
_ROW = 21.0
_NARROWEST = 0.02


@dataclass(frozen=True)
class Strip:
    """One row.

    Attributes:
        label: its name.
        values: in [0, 1], one per seed; at least one.
        tone: colour name of longtail.plots.theme.
        strong: printed in bold.
    """

    label: str
    values: tuple[float, ...]
    tone: str
    strong: bool = False

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return sum(self.values) / len(self.values)


@dataclass(frozen=True)
class StripBlock:
    """Rows under a common heading, with a dashed line at what they are compared with."""

    heading: str
    strips: tuple[Strip, ...]
    mark: float | None = None


def strip_panel(title: str, blocks: Sequence[StripBlock]) -> Panel:
    """Blocks of rows on one common scale that need not begin at zero.

    Args:
        title: what is measured, a share; it is printed in per cent.
        blocks: from top to bottom; at least one row in all.
    """
    scale = _scale([value for block in blocks for one in block.strips for value in one.values])
    parts, y = [], 22.0
    for block in blocks:
        parts.append(canvas.text(0, y + 14, block.heading, "h"))
        top = y + 20.0
        y = top + _ROW * len(block.strips)
        if block.mark is not None:
            parts.append(canvas.line(scale(block.mark), top, scale(block.mark), y, "mark"))
        for number, one in enumerate(block.strips):
            parts.append(_strip(one, top + _ROW * (number + 0.5), scale))
        y += 5.0
    ticks = scale.ticks(5)
    grid = [canvas.line(scale(tick), 26.0, scale(tick), y, "grid") for tick in ticks]
    names = [canvas.text(scale(tick), y + 14, f"{100 * tick:g}", "m", "middle") for tick in ticks]
    drawn = [canvas.text(0, 14, title, "t"), *grid, *parts, *names]
    return Panel(title, _in_words(blocks), WIDTH, y + 20.0, "".join(drawn))


def _scale(values: Sequence[float]) -> Scale:
    """All values with a little room; equal ones in the middle of a narrow range."""
    low, high = min(values), max(values)
    room = max(0.06 * (high - low), (_NARROWEST - (high - low)) / 2)
    return Scale(max(0.0, low - room), min(1.0, high + room), _LABEL, WIDTH - _VALUE - 8)


def _strip(one: Strip, y: float, scale: Scale) -> str:
    points = "".join(
        f'<circle class="f-{one.tone}" fill-opacity=".55" r="3.6" cx="{canvas.n(scale(value))}" '
        f'cy="{canvas.n(y)}"/>'
        for value in one.values
    )
    mean = canvas.rect(scale(one.mean) - 1.2, y - 7, 2.4, 14, f"f-{one.tone}")
    words = canvas.clean(f"{one.label}: {_listed(one)}")
    return "".join(
        (
            canvas.text(0, y + 4, canvas.shorten(one.label, _LABEL - 8), "v" if one.strong else ""),
            f"<g><title>{words}</title>{points}{mean}</g>",
            canvas.text(WIDTH, y + 4, f"{100 * one.mean:.2f}", "v", "end"),
        )
    )


def _listed(one: Strip) -> str:
    return ", ".join(f"{100 * value:.2f}" for value in one.values)


def _in_words(blocks: Sequence[StripBlock]) -> str:
    words = []
    for block in blocks:
        rows = "; ".join(
            f"{one.label} {100 * one.mean:.2f} %"
            + (f" (seeds: {_listed(one)})" if len(one.values) > 1 else "")
            for one in block.strips
        )
        words.append(f"{block.heading}: {rows}")
    return ". ".join(words) + "."
