"""The label distribution: support in rank order, and how often labels meet in one text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from longtail.plots import canvas
from longtail.plots.canvas import WIDTH, Panel, Scale

_LEFT, _RIGHT, _PLOT = 40.0, 12.0, 190.0
_SHADES = {"HEAD": 0.95, "MEDIUM": 0.62, "TAIL": 0.34}


@dataclass(frozen=True)
class Rank:
    """A label in the rank order: its texts and its group (empty where there is none)."""

    support: int
    group: str


def rank_panel(title: str, ranks: Sequence[Rank], y_name: str) -> Panel:
    """Texts per label, from the most to the least frequent label, on a log scale.

    One path per group keeps a thousand labels at a few kilobytes.
    """
    highest = max((rank.support for rank in ranks), default=1)
    top, bottom = 44.0, 44.0 + _PLOT
    across = Scale(0, max(len(ranks), 1), _LEFT, WIDTH - _RIGHT)
    up = Scale(0, max(highest, 1), bottom, top, log=True)
    parts = [canvas.text(0, 14, title, "t"), canvas.text(0, 31, y_name, "m")]
    for value in up.ticks(8):
        parts.append(canvas.line(_LEFT, up(value), WIDTH - _RIGHT, up(value), "grid"))
        parts.append(canvas.text(_LEFT - 6, up(value) + 4, canvas.count(value), "m", "end"))
    parts += [_run(ranks, first, last, across, up) for first, last in _runs(ranks)]
    parts.append(canvas.line(_LEFT, bottom, WIDTH - _RIGHT, bottom, "axis"))
    for value in (v for v in across.ticks(5) if v == int(v)):
        anchor = "end" if across(value) > across.end - 8 else "middle"
        parts.append(canvas.text(across(value), bottom + 16, f"{value:g}", "m", anchor))
    middle = (across.start + across.end) / 2
    parts.append(canvas.text(middle, bottom + 32, "labels, most frequent first", "m", "middle"))
    return Panel(title, _in_words(ranks), WIDTH, bottom + 38.0, "".join(parts))


def _runs(ranks: Sequence[Rank]) -> list[tuple[int, int]]:
    cuts = [i for i in range(1, len(ranks)) if ranks[i].group != ranks[i - 1].group]
    bounds = [0, *cuts, len(ranks)]
    return [(a, b) for a, b in itertools.pairwise(bounds) if b > a]


def _run(ranks: Sequence[Rank], first: int, last: int, across: Scale, up: Scale) -> str:
    group = ranks[first].group
    steps = [f"M{canvas.n(across(first))} {canvas.n(up.start)}"]
    steps += [
        f"V{canvas.n(up(ranks[at].support))}H{canvas.n(across(at + 1))}"
        for at in range(first, last)
    ]
    steps.append(f"V{canvas.n(up.start)}Z")
    path = f'<path class="cell" fill-opacity="{_SHADES.get(group, 0.62)}" d="{"".join(steps)}"/>'
    if not group or across(last) - across(first) < 6.5 * len(group):
        return path
    middle = (across(first) + across(last)) / 2
    start = middle - 3.4 * len(group)
    highest = next(at for at in range(first, last) if across(at + 1) >= start)
    above = max(up(ranks[highest].support) - 6, up.end - 2)
    return path + canvas.text(middle, above, group, "m", "middle")


def _in_words(ranks: Sequence[Rank]) -> str:
    if not ranks:
        return "no labels."
    middle = ranks[len(ranks) // 2].support
    few = sum(rank.support < 10 for rank in ranks)
    return (
        f"{len(ranks)} labels; the most frequent has {ranks[0].support:,} texts, the middle one "
        f"{middle:,}, the rarest {ranks[-1].support:,}; {few} have fewer than 10 texts."
    )


def matrix_panel(
    title: str,
    names: Sequence[str],
    values: Sequence[Sequence[float | None]],
    cells: Sequence[Sequence[str]],
    note: str = "",
) -> Panel:
    """A square heat map; the darkest cell is the largest value off the given range.

    Args:
        title: what a cell counts.
        names: of rows and columns.
        values: share of the darkest shade, in [0, 1], per row and column.
        cells: what each cell holds, printed where there is room, else a tooltip.
        note: small print under the title.
    """
    size = len(names)
    left = min(132.0, 10.0 + 6.4 * max((len(name) for name in names), default=0))
    top = 44.0 + (18.0 if size <= 5 else 0.0)
    side = (WIDTH - left) / max(size, 1)
    height = min(side, 62.0)
    parts = [canvas.text(0, 14, title, "t"), canvas.text(0, 31, note, "m")]
    for row, name in enumerate(names):
        y = top + row * height
        size_of_text = min(11.0, height)
        if height >= 9:
            label = canvas.shorten(name, left - 6, size_of_text)
            parts.append(canvas.text(left - 6, y + height / 2 + 4, label, "m", "end"))
        if size <= 5:
            parts.append(canvas.text(left + (row + 0.5) * side, top - 6, name, "m", "middle"))
        parts += [
            _cell(
                values[row][column],
                cells[row][column],
                (left + column * side, y, side, height),
                printed=size <= 5,
            )
            for column in range(size)
        ]
    words = "; ".join(
        f"{names[r]} with {names[c]}: {cells[r][c]}"
        for r in range(min(size, 5))
        for c in range(r + 1)
    )
    return Panel(title, words + ".", WIDTH, top + size * height + 8, "".join(parts))


def _cell(
    share: float | None, words: str, where: tuple[float, float, float, float], *, printed: bool
) -> str:
    x, y, side, height = where
    strength = 0.0 if share is None else 0.05 + (0.45 if printed else 0.95) * min(share, 1.0)
    gap = 1.0 if side > 8 else 0.0
    opacity = f' fill-opacity="{strength:.2f}"'
    drawn = canvas.rect(x, y, side - gap, height - gap, "cell", extra=opacity)
    if printed:
        return drawn + canvas.text(x + side / 2, y + height / 2 + 4, words, "v", "middle")
    return drawn.replace("/>", f"><title>{canvas.clean(words)}</title></rect>") if words else drawn
