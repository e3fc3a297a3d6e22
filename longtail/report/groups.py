"""The label groups: what they are, table 2 of every arm, and the figures."""

from __future__ import annotations

from longtail.config import GROUPS
from longtail.plots import Bar, Block, Box, Figure, Panel, bar_panel, box_panel
from longtail.plots.theme import tone
from longtail.report.files import RunFiles, number, part
from longtail.report.table import Cell, Table, table
from longtail.report.words import arm_name, integer, percent

OUTCOMES = (*GROUPS, "ZERO")
_MEASURES = (
    ("micro_precision", "Precision"),
    ("micro_recall", "Recall"),
    ("micro_f1", "F1"),
)
_DRAWN = (*_MEASURES, ("label_coverage", "Labels recognised"))


def groups_table(run: RunFiles) -> Table | None:
    """How the groups are cut and how much the test set knows of each."""
    rows: list[list[str | Cell]] = []
    for group in GROUPS:
        found = part(run.metrics, "groups", group)
        if found:
            span = f"{_whole(found.get('min_support'))} to {_whole(found.get('max_support'))}"
            rows.append([
                group,
                _whole(found.get("labels")),
                span,
                _whole(found.get("train_positives")),
                _whole(found.get("test_positives")),
            ])  # fmt: skip
    columns = [
        "Group", "Labels", "Training texts per label", "Labels given in train",
        "Labels given in test",
    ]  # fmt: skip
    caption = "The label groups, fixed on training support before anything was scored."
    return table(caption, columns, rows) if rows else None


def _whole(value: object) -> str:
    return integer(number(value))


def table_two(run: RunFiles, arm: str) -> Table | None:
    """The article's table 2: the labels an arm never gets right stand apart as ZERO."""
    found = part(run.metrics, "arms", arm, "table2")
    rows: list[list[str | Cell]] = []
    for group in OUTCOMES:
        row = part(found, group)
        if not row:
            continue
        mean = number(row.get("mean_test_support"))
        rows.append([
            group,
            _whole(row.get("labels")),
            "–" if mean is None else f"{mean:,.1f}",
            *(
                "" if group == "ZERO" else percent(number(row.get(key))) for key, _ in _MEASURES
            ),
        ])  # fmt: skip
    columns = ["Group", "Labels", "Test texts per label", *(name for _, name in _MEASURES)]
    return table(arm_name(arm), columns, rows) if rows else None


def support_figure(run: RunFiles) -> Figure | None:
    """Box plots of training and test support per outcome group of the candidate."""
    labels = run.labels()
    if not labels:
        return None
    arm = "candidate" if "candidate" in run.arms else next(iter(run.arms), "")
    f1 = run.per_label(arm, "f1")
    outcome = [
        "ZERO" if i < len(f1) and f1[i] == 0.0 and entry.get("test_support") else entry.get("group")
        for i, entry in enumerate(labels)
    ]
    panels = []
    for key, title, name in (
        ("train_support", "Training texts per label", "training texts per label, log scale"),
        ("test_support", "Test texts per label", "test texts per label, log scale"),
    ):
        boxes = [
            Box(group, [
                value
                for entry, found in zip(labels, outcome, strict=True)
                if found == group and (value := number(entry.get(key))) is not None
            ])
            for group in OUTCOMES
        ]  # fmt: skip
        panels.append(box_panel(title, boxes, name))
    panels.append(_zero_panel(run))
    title = f"Support per label group; ZERO: labels that {arm_name(arm)} never gets right"
    return Figure("support", title, tuple(panels))


def _zero_panel(run: RunFiles) -> Panel:
    counts = {
        arm: number(part(run.metrics, "arms", arm, "table2", "ZERO").get("labels"))
        for arm in run.arms
    }
    bars = tuple(
        Bar(arm_name(arm), value, integer(value), tone(arm), strong=arm == "candidate")
        for arm, value in counts.items()
    )
    judged = [run.overall(arm, "labels_with_positives") or 0.0 for arm in run.arms]
    highest = max(judged, default=0.0)
    note = f"ZERO, of {integer(highest)} labels with test texts; fewer is better"
    return bar_panel("Labels never right", [Block("", bars)], highest, note)


def group_figure(run: RunFiles) -> Figure | None:
    """Precision, recall and F1 per group and arm; the same labels for every arm."""
    panels = [panel for group in GROUPS if (panel := _group_panel(run, group))]
    title = "Precision, recall and F1 per label group, on the test set"
    return Figure("groups", title, tuple(panels)) if panels else None


def _group_panel(run: RunFiles, group: str) -> Panel | None:
    found = {arm: part(run.metrics, "arms", arm, "groups", group) for arm in run.arms}
    if not any(found.values()):
        return None
    blocks = []
    for key, name in _DRAWN:
        values = {arm: number(row.get(key)) for arm, row in found.items()}
        bars = tuple(
            Bar(arm_name(arm), value, percent(value), tone(arm), strong=arm == "candidate")
            for arm, value in values.items()
        )
        blocks.append(Block(name, bars))
    count = part(run.metrics, "groups", group).get("labels")
    return bar_panel(group, blocks, 1.0, f"{_whole(count)} labels, micro within the group")


def groups_in_words(run: RunFiles) -> str:
    """Where the candidate gains and loses over BCE, group by group."""
    clauses = []
    for group in GROUPS:
        ours = number(part(run.metrics, "arms", "candidate", "groups", group).get("micro_f1"))
        theirs = number(part(run.metrics, "arms", "bce", "groups", group).get("micro_f1"))
        if ours is not None and theirs is not None:
            clauses.append(f"{group} {percent(theirs)} → {percent(ours)}")
    return f"F1 per group, BCE → candidate: {'; '.join(clauses)}." if clauses else ""
