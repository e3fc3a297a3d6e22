"""Horizontal bars, each named on its left and with its number on its right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from longtail.plots import canvas
from longtail.plots.canvas import WIDTH, Panel

_LABEL, _VALUE = 112.0, 62.0
_ROW, _BAR = 21.0, 13.0


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        label: its name.
        value: its length in the panel's units; None where it cannot be computed.
        text: the number as it is printed.
        tone: colour name of longtail.plots.theme.
        strong: printed in bold: the bar that the panel is about.
    """

    label: str
    value: float | None
    text: str
    tone: str
    strong: bool = False


@dataclass(frozen=True)
class Block:
    """Bars under a common heading; an empty heading takes no room."""

    heading: str
    bars: tuple[Bar, ...]


def bar_panel(title: str, blocks: Sequence[Block], maximum: float, note: str = "") -> Panel:
    """Blocks of horizontal bars on one common scale.

    Args:
        title: what is measured, with its unit.
        blocks: from top to bottom.
        maximum: value of a bar over the full width; 1 for shares.
        note: small print under the title.
    """
    parts, y = [canvas.text(0, 14, title, "t")], 22.0
    if note:
        parts.append(canvas.text(0, 30, note, "m"))
        y = 38.0
    for block in blocks:
        if block.heading:
            parts.append(canvas.text(0, y + 14, block.heading, "h"))
            y += 20.0
        for bar in block.bars:
            parts.append(_bar(bar, y, maximum))
            y += _ROW
        y += 5.0
    return Panel(title, _in_words(blocks), WIDTH, y, "".join(parts))


def _bar(bar: Bar, y: float, maximum: float) -> str:
    room = WIDTH - _LABEL - _VALUE
    middle = y + _BAR / 2 + 6.5
    share = 0.0 if bar.value is None or maximum <= 0 else min(max(bar.value / maximum, 0.0), 1.0)
    label = canvas.shorten(bar.label, _LABEL - 6)
    top = y + 2
    drawn = canvas.rect(_LABEL, top, share * room, _BAR, f"f-{bar.tone}", extra=' rx="2"')
    return "".join(
        (
            canvas.text(0, middle, label, "v" if bar.strong else ""),
            canvas.rect(_LABEL, top, room, _BAR, "track", extra=' rx="2"'),
            drawn if share > 0 else "",
            canvas.text(WIDTH, middle, bar.text, "v", "end"),
        )
    )


def _in_words(blocks: Sequence[Block]) -> str:
    words = []
    for block in blocks:
        listed = ", ".join(f"{bar.label} {bar.text}" for bar in block.bars)
        words.append(f"{block.heading}: {listed}" if block.heading else listed)
    return "; ".join(words) + "."
