"""The arms side by side: sentences, figures and the table."""

from __future__ import annotations

from dataclasses import dataclass

from longtail.plots import Bar, Block, Figure, Panel, bar_panel
from longtail.plots.theme import tone
from longtail.report.files import RunFiles, number, part
from longtail.report.table import Cell, Table, table
from longtail.report.words import (
    NOT_COMPUTED,
    arm_name,
    baseline,
    combined,
    decimal,
    duration,
    integer,
    listed,
    percent,
    plural,
    points,
    source_name,
)


@dataclass(frozen=True)
class Metric:
    """A share in [0, 1]: its key in metrics.json, its name, and how it is printed."""

    key: str
    name: str
    decimals: int = 1
    less_is_better: bool = False


METRICS = (
    Metric("micro_precision", "Precision, micro"),
    Metric("micro_recall", "Recall, micro"),
    Metric("micro_f1", "F1, micro"),
    Metric("macro_f1", "F1, macro"),
    Metric("weighted_f1", "F1, weighted by support"),
    Metric("samples_f1", "F1, mean of the texts"),
    Metric("label_coverage", "Label coverage"),
    Metric("label_coverage_two", "Label coverage at two hits"),
    Metric("hamming_loss", "Hamming loss (less is better)", 3, less_is_better=True),
    Metric("micro_average_precision", "Average precision, micro"),
    Metric("macro_average_precision", "Average precision, macro"),
    Metric("precision_at_1", "Precision at 1"),
    Metric("precision_at_3", "Precision at 3"),
    Metric("precision_at_5", "Precision at 5"),
    Metric("recall_at_5", "Recall at 5"),
    Metric("ndcg_at_5", "nDCG at 5"),
)
_BY_KEY = {metric.key: metric for metric in METRICS}
_HEADLINE = (
    ("micro_f1", "micro-F1"),
    ("macro_f1", "macro-F1"),
    ("label_coverage", "label coverage"),
)
_WAYS = (("weighted sum", "All of them, added up"), ("learned", "All of them, learned"))
_BASELINES = {"bce": "the BCE baseline", "matched": "the same combination with the BCE encoder"}


def arms_figure(run: RunFiles) -> Figure:
    """Quality, coverage, errors and training time of every arm as bars."""
    worst = max((run.overall(arm, "hamming_loss") or 0.0 for arm in run.arms), default=0.0)
    panels = (
        *(_panel(run, key, 1.0) for key in ("micro_f1", "micro_precision", "micro_recall")),
        *(_panel(run, key, 1.0) for key in ("macro_f1", "label_coverage")),
        _recognised(run),
        _panel(run, "hamming_loss", worst),
        _panel(run, "micro_average_precision", 1.0),
        _seconds(run),
    )
    return Figure("arms", "The arms side by side, on the test set", panels)


def _panel(run: RunFiles, key: str, maximum: float) -> Panel:
    metric = _BY_KEY[key]
    bars = []
    for arm in run.arms:
        value = run.overall(arm, key)
        bars.append(_bar(arm, value, percent(value, metric.decimals)))
    return bar_panel(metric.name, [Block("", tuple(bars))], maximum)


def _recognised(run: RunFiles) -> Panel:
    most = max((run.overall(arm, "labels_with_positives") or 0.0 for arm in run.arms), default=0.0)
    bars = []
    for arm in run.arms:
        found = run.overall(arm, "recognised_labels")
        bars.append(_bar(arm, found, integer(found)))
    return bar_panel(f"Labels recognised, of {integer(most)}", [Block("", tuple(bars))], most)


def _seconds(run: RunFiles) -> Panel:
    spent = {arm: training_seconds(run, arm) for arm in run.arms}
    longest = max((value or 0.0 for value in spent.values()), default=0.0)
    bars = tuple(_bar(arm, value, duration(value)) for arm, value in spent.items())
    return bar_panel("Training time", [Block("", bars)], longest)


def training_seconds(run: RunFiles, arm: str) -> float | None:
    """Seconds an arm was trained in this run; None for a champion, which was only scored."""
    return number(part(run.metrics, "arms", arm).get("seconds")) if "champion" not in arm else None


def _bar(arm: str, value: float | None, text: str) -> Bar:
    return Bar(arm_name(arm), value, text, tone(arm), strong=arm == "candidate")


def arms_table(run: RunFiles) -> Table:
    """All overall metrics, one row per metric; the best arm of a row is marked."""
    rows = [_metric_row(run, metric) for metric in METRICS]
    rows.append([
        "Labels recognised",
        *(
            f"{integer(run.overall(arm, 'recognised_labels'))} of "
            f"{integer(run.overall(arm, 'labels_with_positives'))}"
            for arm in run.arms
        ),
    ])  # fmt: skip
    if any(made := [combined(run, arm) for arm in run.arms]):
        rows.append(["Combined", *(one or NOT_COMPUTED for one in made)])
    rows.append(["Training time", *(duration(training_seconds(run, arm)) for arm in run.arms)])
    if any(part(run.metrics, "arms", arm, "original_cohort") for arm in run.arms):
        cohort = [part(run.metrics, "arms", arm, "original_cohort") for arm in run.arms]
        size = number(part(run.metrics, "test").get("original_cohort_texts"))
        rows.append([
            f"F1, micro, on the {integer(size)} texts of the original test set",
            *(percent(number(found.get("micro_f1"))) for found in cohort),
        ])  # fmt: skip
    names = ["Metric on the test set", *(arm_name(arm) for arm in run.arms)]
    return table("Every overall metric; the best of a row is bold.", names, rows)


def evidence_table(run: RunFiles) -> Table | None:
    """What the candidate's sources are worth on validation; None where nothing was combined."""
    about = part(run.metrics, "arms", "candidate", "combination")
    reached, weights = (part(about, key) for key in ("validation_micro_f1", "weights"))
    if not reached:
        return None
    ways = [(key, name) for key, name in _WAYS if key in reached]
    sources = [key for key in reached if key not in dict(_WAYS)]
    rows: list[list[str | Cell]] = [
        [
            _as_title(source_name(run, source)),
            decimal(number(weights.get(source)), 2),
            percent(number(reached[source]), 2),
        ]
        for source in sources
    ]
    rows += [[name, NOT_COMPUTED, percent(number(reached[key]), 2)] for key, name in ways]
    caption = (
        "The candidate's evidence. Each source's values have a unit of their own, so that a weight "
        "says whether a source is in the sum, not how much it matters."
    )
    columns = ["Source", "Weight in the sum", "F1, micro, by itself on validation"]
    return table(caption, columns, rows)


def evidence_notes(run: RunFiles) -> list[str]:
    """Why the candidate's combination is no more than it is; empty where all was used."""
    notes = part(run.metrics, "arms", "candidate", "combination").get("notes")
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []


def _as_title(name: str) -> str:
    return name[:1].upper() + name[1:]


def _metric_row(run: RunFiles, metric: Metric) -> list[str | Cell]:
    values = [run.overall(arm, metric.key) for arm in run.arms]
    known = [value for value in values if value is not None]
    best = (min if metric.less_is_better else max)(known) if known else None
    cells = [
        Cell(
            percent(value, metric.decimals),
            "best" if value is not None and value == best and len(known) > 1 else "",
        )
        for value in values
    ]
    return [metric.name, *cells]


def comparison(run: RunFiles) -> list[str]:
    """What the numbers say, in sentences that do not spare the candidate."""
    sentences = []
    if "candidate" in run.arms and baseline(run) in run.arms:
        sentences.append(_against_baseline(run))
    if {"candidate", "matched"} <= set(run.arms) and baseline(run) != "matched":
        sentences.append(_against(run, "matched", _BASELINES["matched"]))
    if "candidate" in run.arms and "linear" in run.arms:
        sentences.append(_against(run, "linear", "the linear model"))
    if "candidate" in run.arms and "champion" in run.arms:
        sentences.append(_against(run, "champion", "the champion so far"))
    best = max(run.arms, key=lambda arm: run.overall(arm, "micro_f1") or -1.0, default="")
    if best and best != "candidate" and run.overall(best, "micro_f1") is not None:
        sentences.append(
            f"The best micro-F1 of all arms is not the candidate's: {arm_name(best)} has "
            f"{percent(run.overall(best, 'micro_f1'))}."
        )
    return [sentence for sentence in sentences if sentence]


def _against_baseline(run: RunFiles) -> str:
    # What the candidate gains is not its loss's alone, so the loss is not named here.
    arm = baseline(run)
    opponent = _BASELINES.get(arm, arm)
    better: list[str] = []
    worse: list[str] = []
    same: list[str] = []
    for key, name in _HEADLINE:
        change = difference(run, key, arm)
        if change is None:
            continue
        clause = f"{name} ({percent(run.overall('candidate', key))} against "
        clause += f"{percent(run.overall(arm, key))}, {points(change)})"
        kind = same if points(change).startswith("±") else better if change > 0 else worse
        kind.append(clause)
    if better and not worse and not same:
        return f"The candidate beats {opponent} on {listed(better)}."
    if worse and not better:
        tie = f"; {listed(same)} is level" if same else ""
        return f"The candidate loses to {opponent} on {listed(worse)}{tie}."
    clauses = [
        f"{verb} {listed(found)}"
        for verb, found in (("wins on", better), ("loses on", worse), ("is level on", same))
        if found
    ]
    return f"Against {opponent}, the candidate {listed(clauses)}." if clauses else ""


def _against(run: RunFiles, arm: str, name: str) -> str:
    change = difference(run, "micro_f1", arm)
    if change is None:
        return ""
    gap = points(change)
    if gap.startswith("±"):
        return (
            f"The candidate's micro-F1 is level with {name} "
            f"({percent(run.overall(arm, 'micro_f1'))})."
        )
    side = "above" if change > 0 else "below"
    distance = gap[1:]
    recognised = run.overall(arm, "recognised_labels")
    labels = f", which recognises {plural(recognised, 'label')}" if recognised is not None else ""
    return (
        f"The candidate's micro-F1 is {distance} {side} {name} "
        f"({percent(run.overall(arm, 'micro_f1'))}){labels}."
    )


def difference(run: RunFiles, metric: str, arm: str) -> float | None:
    """The candidate's metric minus another arm's, in [-1, 1]."""
    ours, theirs = run.overall("candidate", metric), run.overall(arm, metric)
    return None if ours is None or theirs is None else ours - theirs
