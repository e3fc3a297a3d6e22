"""Whether the arms' probabilities can be read as frequencies: curves and a table."""

from __future__ import annotations

from itertools import pairwise

from longtail.calibration import ALL
from longtail.config import GROUPS
from longtail.plots import Axis, Figure, Panel, Series, line_panel
from longtail.plots.lines import percent as percent_tick
from longtail.report.files import RunFiles, number, part
from longtail.report.table import Cell, Table, table
from longtail.report.words import arm_name, percent

_SHOWN = ("candidate", "bce")
_TONES = {ALL: "s-ink", "HEAD": "s-candidate", "MEDIUM": "s-bce dash", "TAIL": "s-linear dot"}


def calibration_figure(run: RunFiles) -> Figure | None:
    """Reliability curves of the candidate and of BCE, per label group; None without any."""
    panels = [panel for arm in _SHOWN if (panel := _panel(run, arm))]
    title = "Reliability on the test set: how often a label with that probability is right"
    return Figure("calibration", title, tuple(panels)) if panels else None


def calibration_table(run: RunFiles) -> Table | None:
    """Expected calibration error of every arm, per label group; None without any."""
    arms = [arm for arm in run.arms if part(run.metrics, "arms", arm, "calibration")]
    if not arms:
        return None
    names = (ALL, *GROUPS)
    rows: list[list[str | Cell]] = [
        [
            arm_name(arm),
            *(percent(number(part(run.metrics, "arms", arm, "calibration", name).get("error")))
              for name in names),
        ]
        for arm in arms
    ]  # fmt: skip
    caption = (
        "Expected calibration error: how far probabilities are from frequencies in the mean; "
        "probabilities below 1 % are left out. Less is better."
    )
    return table(caption, ["Arm", "All labels", *GROUPS], rows)


def _panel(run: RunFiles, arm: str) -> Panel | None:
    series = []
    for name, css in _TONES.items():
        curve = part(run.metrics, "arms", arm, "calibration", name)
        at, share = (
            [value for value in map(number, curve.get(key) or ()) if value is not None]
            for key in ("probability", "share")
        )
        if at and len(at) == len(share) and all(a <= b for a, b in pairwise(at)):
            series.append(Series("All labels" if name == ALL else name, at, share, css))
    if not series:
        return None
    right = Series("as it should be", [0.0, 1.0], [0.0, 1.0], "s-ink dot")
    x = Axis("probability", 0.0, 1.0, percent_tick)
    y = Axis("share of true labels", 0.0, 1.0, percent_tick)
    return line_panel(arm_name(arm), [right, *series], x, y)
