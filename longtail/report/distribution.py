"""Table 1 and figure 1: how many texts a label has, and which labels meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longtail.config import GROUPS
from longtail.plots import Bar, Block, Figure, Panel, Rank, bar_panel, matrix_panel, rank_panel
from longtail.report.files import RunFiles, number, part
from longtail.report.table import Table, table
from longtail.report.words import NOT_COMPUTED, integer, listed, percent, plural

_TOP = 20
_MOST_LABELS = 8
_COUNTS = {
    "n_texts": "Texts",
    "n_labels": "Labels",
    "n_positives": "Labels given, over all texts",
    "n_label_sets": "Different sets of labels",
    "texts_without_labels": "Texts without a label",
    "min_texts_per_label": "Texts of the rarest label",
    "max_texts_per_label": "Texts of the most frequent label",
}
_DUPLICATES = {
    "exact": "Texts that repeat another one exactly",
    "normalised": "Texts that repeat another one up to case and white space",
    "in_agreement": "Sets of such texts with the same labels",
    "in_conflict": "Sets of such texts with different labels (conflicts)",
}


def distribution_figure(run: RunFiles) -> Figure | None:
    """Texts per label in rank order, and the co-occurrence of common and rare labels."""
    panels = [_rank_panel(run), _group_panel(run), _top_panel(run)]
    found = tuple(panel for panel in panels if panel is not None)
    return Figure("distribution", "How the labels are distributed", found) if found else None


def _rank_panel(run: RunFiles) -> Panel | None:
    labels = run.labels()
    if labels:
        order = {str(group): place for place, group in enumerate(GROUPS)}
        ranks = [
            Rank(int(number(label.get("train_support")) or 0), str(label.get("group") or ""))
            for label in labels
        ]
        ranks.sort(key=lambda rank: (-rank.support, order.get(rank.group, len(order))))
        return rank_panel("Training texts per label", ranks, "texts, log scale")
    support = run.statistics.get("support")
    if not isinstance(support, list) or not support:
        return None
    return rank_panel("Texts per label", [Rank(n, "") for _, n in support], "texts, log scale")


def _group_panel(run: RunFiles) -> Panel | None:
    shares = part(run.statistics, "co_occurrence", "share_with_group")
    if not shares:
        return None
    values = [[number(part(shares, row).get(column)) for column in GROUPS] for row in GROUPS]
    cells = [[percent(value) for value in row] for row in values]
    note = "of the texts with a label of the row, share with another of the column"
    return matrix_panel("Common and rare labels in one text", GROUPS, values, cells, note)


def _top_panel(run: RunFiles) -> Panel | None:
    found = part(run.statistics, "co_occurrence")
    names, texts = found.get("labels"), found.get("texts")
    if not isinstance(names, list) or not isinstance(texts, list) or len(names) < 2:
        return None
    names = [str(name) for name in names[:_TOP]]
    values: list[list[float | None]] = []
    cells = []
    for row in range(len(names)):
        pairs = [(column, texts[row][column]) for column in range(len(names))]
        values.append(
            [
                None
                if column == row
                else both / max(min(texts[row][row], texts[column][column]), 1)
                for column, both in pairs
            ]
        )
        cells.append(
            [f"{names[row]} and {names[column]}: {plural(both, 'text')}" for column, both in pairs]
        )
    note = f"the {len(names)} most frequent; darker: more of the rarer one's texts"
    return matrix_panel("Labels that meet", names, values, cells, note)


def statistics_table(run: RunFiles) -> Table | None:
    """The article's table 1."""
    found = run.statistics
    if not found:
        return None
    rows = [[name, integer(number(found.get(key)))] for key, name in _COUNTS.items()]
    unknown = number(found.get("unknown_cells"))
    rows[3:3] = [
        ["Labels per text, mean (cardinality)", _decimals(found, "cardinality")],
        ["Share of all labels that a text has, mean (density)", _share(found, "density")],
        *([["Cells that nobody knows, a label being newer", integer(unknown)]] if unknown else []),
    ]
    rows += [
        ["Texts per label, mean", _decimals(found, "mean_texts_per_label", 1)],
        ["Texts per label, median", _decimals(found, "median_texts_per_label", 1)],
        ["Most frequent label's texts over a label's own, mean (IRLbl)", _irlbl(found)],
        ["Common and rare labels in one text, 0 to 1 (SCUMBLE)", _scumble(found)],
        *([f"Text length in {unit}", _lengths(found, unit)] for unit in ("words", "characters")),
        *([name, _of(found, "duplicates", key)] for key, name in _DUPLICATES.items()),
    ]
    caption = "The data set of this run, all splits together."
    return table(caption, ["Statistic", "Value"], [row for row in rows if row[1] != NOT_COMPUTED])


def dropped_sentence(run: RunFiles) -> str:
    """What this run leaves out of the stored labels or reads otherwise, and why."""
    return " ".join(filter(None, [_rare_labels(run), *_taxonomy_sentences(run)]))


def _rare_labels(run: RunFiles) -> str:
    dropped = run.statistics.get("dropped_labels")
    if not isinstance(dropped, list) or not dropped:
        return ""
    texts = number(run.statistics.get("texts_left_out_with_them")) or 0
    names = [str(name) for name in dropped[:10]]
    if len(dropped) > len(names):
        names.append(f"{len(dropped) - len(names)} more")
    return (
        f"Left out: {plural(len(dropped), 'label')} with fewer than data.min_label_support texts, "
        f"and {plural(texts, 'text')} that had no other label: {listed(names)}."
    )


def _taxonomy_sentences(run: RunFiles) -> list[str]:
    found = part(run.statistics, "taxonomy")
    sums = {key: sum(number(n) or 0.0 for n in part(found, key).values())
            for key in ("renamed", "retired", "added")}  # fmt: skip
    words = {"renamed": "read under a new name", "retired": "dropped as retired",
             "added": "added as implied"}  # fmt: skip
    said = [f"{plural(sums[key], 'label')} {words[key]}" for key in sums if sums[key]]
    sentences = [f"By the taxonomy, over all texts: {listed(said)}."] if said else []
    if emptied := number(found.get("emptied")):
        had = "a text that had retired labels alone stays as one without labels"
        sentences.append(f"{plural(emptied, 'text')} lost every label to it: {had}.")
    never = run.statistics.get("never_known_absent")
    if isinstance(never, list) and never:
        names = [str(name) for name in never[:10]]
        names += [f"{len(never) - 10} more"] if len(never) > len(names) else []
        sentences.append(
            f"Left out: {plural(len(never), 'label')} that no training text is known to lack, "
            f"having no date or being older: {listed(names)}."
        )
    return sentences


def labels_per_text_figure(run: RunFiles) -> Figure | None:
    """How many texts have how many labels."""
    found = run.statistics.get("texts_by_number_of_labels")
    counts = [number(value) or 0.0 for value in found] if isinstance(found, list) else []
    if not counts:
        return None
    rows = list(enumerate(counts[: _MOST_LABELS + 1]))
    bars = [Bar(_labels(at), n, integer(n), "candidate") for at, n in rows]
    if len(counts) > len(rows):
        rest = sum(counts[len(rows) :])
        bars.append(Bar(f"{len(rows)} or more", rest, integer(rest), "candidate"))
    highest = max(bar.value or 0.0 for bar in bars)
    panel = bar_panel("Texts by their number of labels", [Block("", tuple(bars))], highest)
    return Figure("labels-per-text", "Texts by their number of labels", (panel,))


def _labels(count: int) -> str:
    return "no label" if count == 0 else plural(count, "label")


def _decimals(found: Mapping[str, Any], key: str, digits: int = 2) -> str:
    value = number(found.get(key))
    return NOT_COMPUTED if value is None else f"{value:,.{digits}f}"


def _share(found: Mapping[str, Any], key: str) -> str:
    return percent(number(found.get(key)))


def _of(found: Mapping[str, Any], group: str, key: str) -> str:
    return integer(number(part(found, group).get(key)))


def _irlbl(found: Mapping[str, Any]) -> str:
    return _decimals(part(found, "imbalance"), "mean_irlbl", 1)


def _scumble(found: Mapping[str, Any]) -> str:
    return _decimals(part(found, "imbalance"), "scumble")


def _lengths(found: Mapping[str, Any], unit: str) -> str:
    values = part(found, "text_length", unit)
    if not values:
        return NOT_COMPUTED
    low, middle, high, most = (
        integer(number(values.get(key))) for key in ("q05", "median", "q95", "max")
    )
    return f"median {middle}, nine in ten {low} to {high}, longest {most}"
