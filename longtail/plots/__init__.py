"""Figures of a run as small, hand-set SVG: legible at phone width, in light and in dark.

A figure is a row of panels. The page embeds the panels one by one, so that they wrap on a narrow
screen; on disk the same panels form one stand-alone file with its own background and colours.
"""

from longtail.plots.bars import Bar, Block, bar_panel
from longtail.plots.boxes import Box, box_panel
from longtail.plots.canvas import Figure, Panel, inline, standalone
from longtail.plots.distribution import Rank, matrix_panel, rank_panel
from longtail.plots.lines import Axis, Mark, Series, line_panel
from longtail.plots.points import Point, scatter_panel
from longtail.plots.strips import Strip, StripBlock, strip_panel

__all__ = [
    "Axis",
    "Bar",
    "Block",
    "Box",
    "Figure",
    "Mark",
    "Panel",
    "Point",
    "Rank",
    "Series",
    "Strip",
    "StripBlock",
    "bar_panel",
    "box_panel",
    "inline",
    "line_panel",
    "matrix_panel",
    "rank_panel",
    "scatter_panel",
    "standalone",
    "strip_panel",
]
