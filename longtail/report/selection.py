"""With ``loss: auto``: what the shortlist was, and why one of it became the candidate."""

from __future__ import annotations

from typing import Any

from longtail.report.files import RunFiles, number, part
from longtail.report.table import Cell, Table, table
from longtail.report.words import duration, integer, loss_name, percent


def selection_sentence(run: RunFiles) -> str:
    """How the candidate's loss was chosen; empty where there was nothing to choose."""
    rows = _rows(run)
    chosen = next((row for row in rows if row.get("chosen")), None)
    if chosen is None:
        return ""
    needed = number(part(run.metrics, "selection").get("baseline_recognised_labels"))
    enough = [row for row in rows if _labels(row) >= (needed or 0.0)]
    among = (
        f"of those that recognise at least the {integer(needed)} labels of BCE there"
        if enough
        else f"though none recognises the {integer(needed)} labels of BCE there"
    )
    name = loss_name(str(chosen.get("loss")))
    return (
        f"{name[0].upper()}{name[1:]} was chosen from {len(rows)} losses, by validation "
        f"alone: it has the highest micro-F1 {among}. The others are scored for comparison and "
        "have no part in the verdict."
    )


def selection_table(run: RunFiles) -> Table | None:
    """The shortlist on validation and on the test set."""
    rows = _rows(run)
    if not rows:
        return None
    cells: list[list[str | Cell]] = [
        [
            Cell(str(row.get("loss")), "best" if row.get("chosen") else ""),
            percent(number(row.get("micro_f1")), 2),
            percent(number(row.get("macro_f1")), 2),
            integer(number(row.get("recognised_labels"))),
            duration(number(row.get("seconds"))),
            *(
                percent(run.overall(str(row.get("arm")), key), 2)
                for key in ("micro_f1", "macro_f1", "label_coverage")
            ),
        ]
        for row in rows
    ]
    columns = [
        "Loss", "F1, micro, on validation", "F1, macro, on validation", "Labels recognised there",
        "Training time", "F1, micro, on test", "F1, macro, on test",
        "Label coverage on test",
    ]  # fmt: skip
    caption = "The shortlist; the chosen loss is bold, and validation alone has chosen it."
    return table(caption, columns, cells)


def _rows(run: RunFiles) -> list[dict[str, Any]]:
    rows = part(run.metrics, "selection").get("shortlist")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _labels(row: dict[str, Any]) -> float:
    return number(row.get("recognised_labels")) or 0.0
