"""Table 1 and figure 1: how many texts a label has, and which labels meet."""

from __future__ import annotations

from typing import Any

from longtail.config import GROUPS
from longtail.plots import Figure, Rank, rank_panel
from longtail.report.files import RunFiles, number, scalars
from longtail.report.table import Table, table
from longtail.report.words import integer, percent

_NAMES = {
    "n_texts": "Texts",
    "n_labels": "Labels",
    "cardinality": "Labels per text, mean (cardinality)",
    "density": "Share of all labels that a text has, mean (density)",
    "mean_texts_per_label": "Texts per label, mean",
}


def distribution_figure(run: RunFiles) -> Figure | None:
    """Texts per label in rank order, and the co-occurrence of common and rare labels."""
    ranks = _ranks(run)
    if not ranks:
        return None
    panels = [rank_panel("Training texts per label", ranks, "texts, log scale")]
    return Figure("distribution", "How the labels are distributed", tuple(panels))


def _ranks(run: RunFiles) -> list[Rank]:
    found = [
        Rank(int(number(entry.get("train_support")) or 0), str(entry.get("group") or ""))
        for entry in run.labels()
    ]
    order = {str(group): place for place, group in enumerate(GROUPS)}
    return sorted(found, key=lambda rank: (-rank.support, order.get(rank.group, 9)))


def statistics_table(run: RunFiles) -> Table | None:
    """The article's table 1."""
    rows = [[_title(path), _value(path, value)] for path, value in scalars(run.statistics)]
    return table("The data set of this run.", ["Statistic", "Value"], rows) if rows else None


def _title(path: tuple[str, ...]) -> str:
    words = ", ".join(path).replace("_", " ")
    return _NAMES.get(path[-1], words[:1].upper() + words[1:])


def _value(path: tuple[str, ...], value: Any) -> str:
    found = number(value)
    if found is None:
        return str(value)
    if path[-1] == "density" or path[-1].endswith("share"):
        return percent(found, 2)
    return integer(found) if found == int(found) else f"{found:,.2f}"
