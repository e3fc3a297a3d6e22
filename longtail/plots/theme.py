"""Colours and type of the figures and of the page: one palette for light, one for dark.

The arms' hues follow Okabe and Ito's order (blue, vermilion, yellow, grey, green, purple), darkened
or lightened until each has a contrast of at least 3:1 with its paper; text colours have 4.5:1.
Colour never stands alone: every bar, line and point is also named or shaped.
"""

from __future__ import annotations

import re

FONT = '-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif'

LIGHT = {
    "paper": "#ffffff",
    "ground": "#f4f5f7",
    "ink": "#1b2430",
    "muted": "#566170",
    "rule": "#d9dee5",
    "faint": "#eceff3",
    "good": "#0b6b48",
    "good-ground": "#e4f4ec",
    "bad": "#a8231f",
    "bad-ground": "#fcebe9",
    "warn": "#835200",
    "warn-ground": "#fdf3dc",
    "candidate": "#1f5fbf",
    "bce": "#c2570c",
    "matched": "#8a6d00",
    "linear": "#737d8c",
    "champion": "#0d7f6c",
    "best_champion": "#8747a6",
}

DARK = {
    "paper": "#161b22",
    "ground": "#0e1217",
    "ink": "#e7ebf0",
    "muted": "#a3adba",
    "rule": "#343c47",
    "faint": "#232a33",
    "good": "#5fd39b",
    "good-ground": "#12301f",
    "bad": "#ff938a",
    "bad-ground": "#3b1917",
    "warn": "#f0be62",
    "warn-ground": "#33270d",
    "candidate": "#7db0ff",
    "bce": "#f2975a",
    "matched": "#d9b84a",
    "linear": "#939dab",
    "champion": "#4cc9b0",
    "best_champion": "#cd9be6",
}

FIGURE_CSS = f"""\
.fig text{{font-family:{FONT};font-size:12px;fill:var(--ink)}}
.fig .t{{font-size:13px;font-weight:600}}
.fig .m{{fill:var(--muted);font-size:11px}}
.fig .v{{font-weight:600;font-variant-numeric:tabular-nums}}
.fig .h{{font-weight:600}}
.fig .track{{fill:var(--faint)}}
.fig .grid{{stroke:var(--rule);stroke-width:1;fill:none}}
.fig .axis{{stroke:var(--muted);stroke-width:1;fill:none}}
.fig .mark{{stroke:var(--ink);stroke-width:1.2;stroke-dasharray:2 3;fill:none}}
.fig .ln{{fill:none;stroke-width:2;stroke-linejoin:round}}
.fig .dash{{stroke-dasharray:7 4}}
.fig .dot{{stroke-dasharray:1.5 3.5;stroke-linecap:round;stroke-width:2.4}}
.fig .box{{fill:var(--candidate);fill-opacity:.28;stroke:var(--candidate);stroke-width:1.4}}
.fig .whisker{{stroke:var(--candidate);stroke-width:1.4}}
.fig .median{{stroke:var(--ink);stroke-width:2.4}}
.fig .cell{{fill:var(--candidate)}}
.fig .over{{fill:var(--paper)}}
"""
_ARMS = (
    "candidate", "bce", "matched", "linear", "champion", "best_champion", "ink", "muted", "good",
    "bad",
)  # fmt: skip
FIGURE_CSS += "".join(
    f".fig .f-{name}{{fill:var(--{name})}}.fig .s-{name}{{stroke:var(--{name})}}\n"
    for name in _ARMS
)


def tone(name: str) -> str:
    """The colour name of an arm; an arm that the palette does not know is muted."""
    return name if name in _ARMS else "muted"


def variables(palette: dict[str, str]) -> str:
    """A palette as CSS custom properties."""
    return "".join(f"--{name}:{value};" for name, value in palette.items())


def standalone_css() -> str:
    """The figures' style with colours written out.

    Custom properties would leave a figure black in viewers that know SVG but not all of CSS.
    """
    dark = resolved(FIGURE_CSS, DARK)
    return f"{resolved(FIGURE_CSS, LIGHT)}@media (prefers-color-scheme:dark){{\n{dark}}}\n"


def resolved(css: str, palette: dict[str, str]) -> str:
    """CSS with every ``var(--name)`` replaced by the palette's colour."""
    return re.sub(r"var\(--([\w-]+)\)", lambda match: palette[match[1]], css)
