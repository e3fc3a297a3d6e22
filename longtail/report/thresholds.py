"""Precision, recall and F1 against the threshold, the chosen cuts, and the training history."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from typing import Any

from longtail.config import GROUPS
from longtail.plots import Axis, Figure, Mark, Panel, Series, line_panel
from longtail.plots.lines import percent as percent_tick
from longtail.plots.theme import tone
from longtail.report.files import RunFiles, number, part
from longtail.report.table import Cell, Table, table
from longtail.report.words import arm_name, decimal, duration, percent

_CURVES = (
    ("F1", "micro_f1", "s-ink"),
    ("Precision", "micro_precision", "s-candidate dash"),
    ("Recall", "micro_recall", "s-bce dot"),
)
POLICIES = {
    "global": "one cut for all labels, at the optimum of micro-F1",
    "grid": "one cut for all labels, the best of a fixed grid",
    "group": "one cut per label group, each at the optimum of its group's F1",
    "group_joint": "one cut per label group, together at the optimum of micro-F1",
    "label": "one cut per label by cross-validation; the table has each group's cut, towards which "
    "a label stays the nearer, the fewer validation positives it has",
}


def threshold_figure(run: RunFiles) -> Figure | None:
    """One panel per arm that has a validation curve."""
    panels = [panel for arm in _candidate_first(run) if (panel := _curve_panel(run, arm))]
    title = "Micro precision, recall and F1 against the threshold, on validation"
    return Figure("thresholds", title, tuple(panels)) if panels else None


def _candidate_first(run: RunFiles) -> list[str]:
    first = [arm for arm in ("candidate", "bce") if arm in run.arms]
    return [*first, *(arm for arm in run.arms if arm not in first)]


def _curve_panel(run: RunFiles, arm: str) -> Panel | None:
    curve = part(run.metrics, "arms", arm, "curve")
    at = numbers(curve.get("threshold"))
    if not at or any(value is None for value in at):
        return None
    xs = [value for value in at if value is not None]
    series = [Series(name, xs, _given(curve, key), css) for name, key, css in _CURVES]
    x = Axis("threshold: a label is given above it", 0.0, 1.0, lambda v: f"{v:g}")
    y = Axis("share", 0.0, 1.0, percent_tick)
    return line_panel(arm_name(arm), series, x, y, _marks(run, arm))


def _given(curve: dict[str, Any], key: str) -> list[float | None]:
    """The curve, broken off where no label is given any more: 0/0 would draw a cliff."""
    hits = numbers(curve.get("micro_f1"))
    return [
        None if f1 == 0.0 and key == "micro_precision" else value
        for value, f1 in zip(numbers(curve.get(key)), hits, strict=False)
    ]


def _marks(run: RunFiles, arm: str) -> list[Mark]:
    """The chosen cuts; none under ``label``, where a group's cut need not be any label's."""
    if part(run.metrics, "arms", arm, "thresholds").get("policy") == "label":
        return []
    cuts = {
        group: cut
        for group in GROUPS
        if (cut := number(_by_group(run, arm).get(group))) is not None
    }
    if cuts and len({round(cut, 6) for cut in cuts.values()}) == 1:
        cut = next(iter(cuts.values()))
        return [Mark(cut, f"all labels {decimal(cut)}")]
    return [Mark(cut, f"{group} {decimal(cut)}") for group, cut in cuts.items()]


def _by_group(run: RunFiles, arm: str) -> dict[str, Any]:
    return part(run.metrics, "arms", arm, "thresholds", "by_group")


def policy_sentence(run: RunFiles) -> str:
    """What the threshold policy of this run is."""
    policy = run.metrics.get("threshold_policy")
    about = POLICIES.get(str(policy), "")
    return f"This run's policy, for every arm, is {policy}: {about}." if about else ""


def threshold_table(run: RunFiles) -> Table:
    """The chosen cuts of every arm."""
    rows: list[list[str | Cell]] = [
        [
            arm_name(arm),
            str(part(run.metrics, "arms", arm, "thresholds").get("policy") or "–"),
            *(decimal(number(_by_group(run, arm).get(group))) for group in GROUPS),
        ]
        for arm in run.arms
    ]
    caption = "The chosen cuts, as probabilities; fitted on validation, never on test."
    return table(caption, ["Arm", "Policy", *GROUPS], rows, names=2)


def fallbacks(run: RunFiles) -> list[str]:
    """Groups that could not have a cut of their own, and why."""
    return [
        f"{arm_name(arm)}, {group}: {why}"
        for arm in run.arms
        for group, why in part(run.metrics, "arms", arm, "thresholds", "fallbacks").items()
    ]


def history_figure(run: RunFiles) -> Figure | None:
    """Training loss and validation micro-F1 by epoch, for the arms that were trained here."""
    histories = {arm: _history(run, arm) for arm in run.arms}
    trained = {arm: steps for arm, steps in histories.items() if steps}
    if not trained:
        return None
    last = max(len(steps) for steps in trained.values())
    x = Axis("epoch", 1.0, float(last), lambda v: f"{v:g}", min(last, 6))
    css = _styles(trained)
    f1, loss = (
        [_series(steps, arm, key, css[arm]) for arm, steps in trained.items()]
        for key in ("validation_micro_f1", "loss")
    )
    highest = max((v for s in f1 for v in s.y if v is not None), default=1.0)
    panels = [
        line_panel("Micro-F1 on validation", f1, x,
                   Axis("micro-F1", 0.0, min(1.0, 1.1 * highest or 1.0), percent_tick, 5)),
        *(_loss_panel(series, x) for series in loss),
    ]  # fmt: skip
    return Figure("training", "Training history", tuple(panels))


def _loss_panel(series: Series, x: Axis) -> Panel:
    highest = max((value for value in series.y if value is not None), default=1.0)
    y = Axis("loss", 0.0, 1.05 * highest or 1.0, lambda v: f"{v:.3g}", 5)
    return line_panel(f"Training loss, {series.name}", [series], x, y)


def _styles(arms: Iterable[str]) -> dict[str, str]:
    """Colour and dashes of each arm's line; arms without a colour differ in their dashes."""
    dashes = cycle((" dot", " dash", ""))
    return {
        arm: f"s-{tone(arm)}"
        + (next(dashes) if tone(arm) == "muted" else "" if arm == "candidate" else " dash")
        for arm in arms
    }


def _series(steps: list[dict[str, Any]], arm: str, key: str, css: str) -> Series:
    xs = [number(step.get("epoch")) or float(i + 1) for i, step in enumerate(steps)]
    return Series(arm_name(arm), xs, [number(s.get(key)) for s in steps], css)


def _history(run: RunFiles, arm: str) -> list[dict[str, Any]]:
    found = part(run.metrics, "arms", arm).get("history")
    return [step for step in found if isinstance(step, dict)] if isinstance(found, list) else []


def history_table(run: RunFiles) -> Table | None:
    """The same as numbers."""
    rows: list[list[str | Cell]] = [
        [
            arm_name(arm),
            f"{number(step.get('epoch')) or 0:g}",
            decimal(number(step.get("loss")), 4),
            percent(number(step.get("validation_micro_f1"))),
            decimal(number(step.get("threshold"))),
            duration(number(step.get("seconds"))),
        ]
        for arm in run.arms
        for step in _history(run, arm)
    ]
    columns = ["Arm", "Epoch", "Training loss", "Micro-F1, validation", "Threshold", "Time"]
    return table("Training history, epoch by epoch.", columns, rows) if rows else None


def numbers(values: Any) -> list[float | None]:
    """A JSON list as numbers; None for what is not one."""
    return [number(value) for value in values] if isinstance(values, list) else []
