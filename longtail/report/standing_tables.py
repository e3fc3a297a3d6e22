"""The leaderboard's tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longtail.config import GROUPS
from longtail.plots import Figure, Panel, Strip, StripBlock, strip_panel
from longtail.plots.theme import tone
from longtail.report.published import Published
from longtail.report.standings import LINEAR, METRICS, DataSetLines, Line, Numbers, Standings
from longtail.report.table import Cell, Table, table
from longtail.report.words import MINUS, NOT_COMPUTED, decimal, duration

KINDS = {False: "The encoder alone", True: "Fused with the linear arm"}
MEASURES: dict[str, str] = {**METRICS, "label_coverage": "coverage"}
COLUMNS: dict[str, str] = {**MEASURES, **{group: group for group in GROUPS}}
_DIGITS = 4  # as printed: what reads the same is equally good
GAINS = ["micro-F1 gain", "interval", "lower bound", "macro-F1 gain", "coverage gain"]


def table_of(data: DataSetLines, standings: Standings, *, fused: bool) -> Table:
    """All losses of one kind, the highest micro-F1 first within a policy.

    Args:
        data: the data set.
        standings: what it belongs to.
        fused: whether the losses fused with the linear arm, or those alone.
    """
    several, lines = len(data.policies) > 1, data.of(fused=fused)
    columns = ["loss", *(["thresholds"] if several else []), "seeds"]
    columns += COLUMNS.values()
    columns += GAINS if standings.has_baseline else []
    columns += ["training", *(["weight"] if fused else [])]
    rows = []
    for line in lines:
        rivals = [one for one in lines if one.policy == line.policy]
        cells: list[str | Cell] = [
            Cell(line.loss, "strong" if line.loss == standings.baseline else ""),
            *([line.policy] if several else []),
            ", ".join(map(str, line.seeds)) or NOT_COMPUTED,
            *(_share(line, key, rivals) for key in COLUMNS),
        ]
        cells += _gains(line) if standings.has_baseline else []
        cells += [duration(line.seconds)]
        if fused:
            cells.append(NOT_COMPUTED if line.loss == LINEAR else decimal(line.fusion_weight, 2))
        rows.append(cells)
    return table(_caption(standings, fused), columns, rows, names=2 if several else 1)


def _caption(standings: Standings, fused: bool) -> str:
    parts = [f"{KINDS[fused]}, in %: mean ± standard deviation over the seeds, the best bold"]
    if standings.has_baseline:
        baseline, confidence = loss_name(standings.baseline), f"{100 * standings.confidence:g} %"
        parts.append(
            f"gains over {baseline} in points, that in micro-F1 with its {confidence} interval and "
            f"one-sided {confidence} lower bound"
        )
    parts.append("mean training time" + (" and weight of the linear arm" if fused else ""))
    return f"{'; '.join(parts)}."


def loss_name(loss: str) -> str:
    """A loss as sentences name it."""
    return "BCE" if loss == "bce" else loss


def _share(line: Line, key: str, rivals: list[Line]) -> Cell:
    mean = line.mean.get(key)
    if mean is None:
        return Cell(NOT_COMPUTED)
    best = max(round(one.mean.get(key) or 0.0, _DIGITS) for one in rivals)
    shown = spread(line, key) if key in METRICS else f"{100 * mean:.2f}"
    return Cell(shown, "best" if round(mean, _DIGITS) == best and len(rivals) > 1 else "")


def spread(line: Line, key: str) -> str:
    """Mean ± standard deviation of a share, in per cent; ± – where there is one seed."""
    mean, deviation = line.mean.get(key), line.deviation.get(key)
    shown = NOT_COMPUTED if mean is None else f"{100 * mean:.2f}"
    if line.seedless or mean is None:
        return shown
    return f"{shown} ± {NOT_COMPUTED if deviation is None else f'{100 * deviation:.2f}'}"


def signed(change: float | None) -> str:
    """A difference of shares in points with its sign and two decimals; ± where it is nothing."""
    if change is None:
        return NOT_COMPUTED
    shown = f"{abs(100 * change):.2f}"
    return f"{'±' if float(shown) == 0 else '+' if change > 0 else MINUS}{shown}"


def sides(change: Numbers) -> tuple[list[str], list[str], list[str]]:
    """Metrics above, below and level with another one's, each with its change.

    Level is what rounds to no hundredth of a point.
    """
    better: list[str] = []
    worse: list[str] = []
    level: list[str] = []
    for key, name in METRICS.items():
        shown = signed(change.get(key))
        side = {"+": better, "±": level}.get(shown[0], worse)
        side.append(f"{name} ({shown} pt)")
    return better, worse, level


def certainty(gain: Mapping[str, Any], confidence: float) -> str:
    """Whether a gain in micro-F1 is more than chance, as a sentence."""
    lower, (low, high) = gain["lower"], gain["interval"]
    if lower > 0:
        return f"Its gain in micro-F1 is more than chance: lower bound {signed(lower)} pt."
    interval = f"{100 * confidence:g} % interval {signed(low)} to {signed(high)} pt"
    if high < 0:
        return f"Its loss in micro-F1 is more than chance: {interval}."
    return f"The difference in micro-F1 may be chance: {interval}."


def _gains(line: Line) -> list[str | Cell]:
    if line.gain is None:
        return [NOT_COMPUTED] * 5
    return gain_cells(line.change, line.gain)


def gain_cells(change: Numbers, gain: Mapping[str, Any]) -> list[str | Cell]:
    """Cells of the columns :data:`GAINS`."""
    low, high = gain["interval"]
    lower = gain["lower"]
    return [
        signed(gain["gain"]),
        f"{signed(low)} … {signed(high)}",
        Cell(signed(lower), "good" if lower > 0 else ""),
        *(signed(change.get(key)) for key in ("macro_f1", "label_coverage")),
    ]


def figure_of(data: DataSetLines, standings: Standings) -> Figure:
    """Points of the seeds and their mean, for every loss, by the first threshold policy."""
    panels = tuple(_panel(data, standings, key) for key in METRICS)
    return Figure(data.name, f"{data.name}: every loss on the test set", panels)


def _panel(data: DataSetLines, standings: Standings, key: str) -> Panel:
    blocks = []
    for fused in data.kinds:
        lines = data.of(fused=fused, policy=data.policies[0])
        mark = next((line.mean[key] for line in lines if line.loss == standings.baseline), None)
        strips = tuple(
            Strip(line.loss, known, _tone(line), strong=line.loss == standings.baseline)
            for line in lines
            if (known := tuple(value for value in line.values[key] if value is not None))
        )
        blocks.append(StripBlock(KINDS[fused], strips, mark))
    return strip_panel(f"{METRICS[key][0].upper()}{METRICS[key][1:]}, %", blocks)


def _tone(line: Line) -> str:
    return tone(line.loss if line.loss in ("bce", LINEAR) else "candidate")


def published_table(data: DataSetLines, published: Published) -> Table:
    """The published figures beside ours, micro-F1 / macro-F1."""
    kinds = data.kinds
    columns = ["loss", f"published, {published.encoder}"]
    columns += [f"here, {KINDS[fused][0].lower()}{KINDS[fused][1:]}" for fused in kinds]
    rows: list[list[str | Cell]] = []
    for loss, (theirs, micro, macro) in published.figures.items():
        ours = [_found(data, loss, fused) for fused in kinds]
        if any(ours):
            shown = [
                f"{100 * micro:.2f} / {100 * macro:.2f}",
                *(one or NOT_COMPUTED for one in ours),
            ]
            rows.append([f"{loss} ({theirs})" if loss != theirs.lower() else loss, *shown])
    return table("Micro-F1 / macro-F1, %.", columns, rows)


def _found(data: DataSetLines, loss: str, fused: bool) -> str:
    lines = data.of(fused=fused, policy=data.policies[0])
    return next(
        (f"{spread(line, 'micro_f1')} / {spread(line, 'macro_f1')}"
         for line in lines if line.loss == loss), "",
    )  # fmt: skip
