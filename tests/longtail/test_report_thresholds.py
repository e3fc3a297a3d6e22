"""What the report says of the policy ``label``, where a group's cut is not every label's cut."""

import datetime as dt
from pathlib import Path
from typing import Any

from longtail.report.files import RunFiles
from longtail.report.thresholds import (
    fallbacks,
    policy_sentence,
    threshold_figure,
    threshold_table,
)

WHY = "3 of 9 labels with no validation positive: they have the group's cut"


def run_with(policy: str) -> RunFiles:
    """A run with one arm whose groups have the cuts 0.61, 0.42 and 0.23."""
    curve: dict[str, list[float]] = {"threshold": [0.25, 0.5, 0.75]}
    for metric in ("micro_precision", "micro_recall", "micro_f1"):
        curve[metric] = [0.4, 0.5, 0.45]
    thresholds: dict[str, Any] = {
        "policy": policy,
        "by_group": {"HEAD": 0.61, "MEDIUM": 0.42, "TAIL": 0.23},
        "fallbacks": {"TAIL": WHY},
    }
    arm = {"thresholds": thresholds, "curve": curve}
    metrics = {"threshold_policy": policy, "arms": {"candidate": arm}}
    return RunFiles(Path("run"), dt.datetime(2026, 1, 2, tzinfo=dt.UTC), {}, metrics=metrics)


def drawn(policy: str) -> str:
    figure = threshold_figure(run_with(policy))
    assert figure is not None
    return "".join(panel.body for panel in figure.panels)


def test_the_policy_is_told_and_who_has_no_cut_of_its_own():
    run = run_with("label")
    assert "is label: one cut per label by cross-validation" in policy_sentence(run)
    assert fallbacks(run) == [f"Candidate, TAIL: {WHY}"]
    assert "0.61" in str(threshold_table(run))


def test_a_groups_cut_is_drawn_only_where_it_is_its_labels_cut():
    assert "HEAD 0.61" in drawn("group")
    assert "HEAD" not in drawn("label")
