"""Label by label: won and lost, worst and best, and the whole list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from longtail.plots import Figure, Point, scatter_panel
from longtail.report.files import RunFiles, number
from longtail.report.table import Cell, Table, table
from longtail.report.words import arm_name, decimal, integer, percent, points

_LISTED = 12


@dataclass(frozen=True)
class LabelRow:
    """A label with the candidate's test results; None where there is no number."""

    name: str
    group: str
    train: int
    test: int
    threshold: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    baseline_f1: float | None

    @property
    def change(self) -> float | None:
        """The candidate's F1 minus BCE's."""
        if self.f1 is None or self.baseline_f1 is None:
            return None
        return self.f1 - self.baseline_f1


def label_rows(run: RunFiles) -> list[LabelRow]:
    """All labels in label order."""
    columns = {
        key: run.per_label("candidate", key) for key in ("threshold", "precision", "recall", "f1")
    }
    baseline = run.per_label("bce", "f1")

    def at(values: list[float | None], row: int) -> float | None:
        return values[row] if row < len(values) else None

    return [
        LabelRow(
            name=str(entry.get("name")),
            group=str(entry.get("group") or ""),
            train=int(number(entry.get("train_support")) or 0),
            test=int(number(entry.get("test_support")) or 0),
            threshold=at(columns["threshold"], i),
            precision=at(columns["precision"], i),
            recall=at(columns["recall"], i),
            f1=at(columns["f1"], i),
            baseline_f1=at(baseline, i),
        )
        for i, entry in enumerate(run.labels())
    ]


def most_frequent_first(rows: list[LabelRow], names: Any) -> list[str]:
    """Label names of the verdict, those with the most training texts first."""
    support = {row.name: row.train for row in rows}
    found = [str(name) for name in names] if isinstance(names, list) else []
    return sorted(found, key=lambda name: (-support.get(name, 0), name))


def worst_table(rows: list[LabelRow]) -> Table | None:
    """The labels with the lowest F1; of equals, those that fail on most texts first."""
    found = sorted(_judged(rows), key=lambda r: (r.f1 or 0.0, -r.test, r.name))[:_LISTED]
    return _table("The candidate's worst labels; of equals the most frequent.", found)


def best_table(rows: list[LabelRow]) -> Table | None:
    """The labels with the highest F1."""
    found = sorted(_judged(rows), key=lambda r: (-(r.f1 or 0.0), -r.test, r.name))[:_LISTED]
    return _table("The candidate's best labels.", found)


def all_table(rows: list[LabelRow]) -> Table | None:
    """Every label, most frequent first."""
    found = sorted(rows, key=lambda r: (-r.train, r.name))
    return _table("Every label. Click a column's name to sort by it.", found, sortable=True)


def _judged(rows: list[LabelRow]) -> list[LabelRow]:
    return [row for row in rows if row.test > 0 and row.f1 is not None]


def _table(caption: str, rows: list[LabelRow], *, sortable: bool = False) -> Table | None:
    if not rows:
        return None
    columns = [
        "Label", "Group", "Train texts", "Test texts", "Threshold", "Precision", "Recall", "F1",
        "F1, BCE", "Change",
    ]  # fmt: skip
    return table(caption, columns, [_cells(row) for row in rows], names=2, sortable=sortable)


def _cells(row: LabelRow) -> list[str | Cell]:
    def share(value: float | None, css: str = "") -> Cell:
        return Cell(percent(value), css, -1.0 if value is None else value)

    shown = points(row.change)
    css = "good" if shown.startswith("+") else "bad" if shown[0] not in "±–" else ""
    return [
        Cell(row.name, "name"),
        row.group,
        Cell(integer(row.train), "", row.train),
        Cell(integer(row.test), "", row.test),
        Cell(decimal(row.threshold), "", -1.0 if row.threshold is None else row.threshold),
        share(row.precision),
        share(row.recall),
        share(row.f1, "strong"),
        share(row.baseline_f1),
        Cell(shown, css, -2.0 if row.change is None else row.change),
    ]


def change_figure(rows: list[LabelRow]) -> Figure | None:
    """The F1 change of every label against its training support."""
    found = [
        Point(row.name, row.train, row.change) for row in _judged(rows) if row.change is not None
    ]
    if not found:
        return None
    panel = scatter_panel(
        f"{arm_name('candidate')} against BCE, label by label",
        found,
        "training texts of the label, log scale",
        "change of F1 on test, in points",
    )
    return Figure("label-changes", "Where the candidate gains and loses", (panel,))
