"""From a run directory to ``report.html`` and ``figures/*.svg``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from longtail import storage
from longtail.plots import Figure, standalone
from longtail.report import (
    account,
    arms,
    audit_words,
    calibration,
    distribution,
    examples,
    groups,
    labels,
    ladder,
    reproduce,
    selection,
    split,
    thresholds,
    verdict,
    words,
)
from longtail.report.files import RunFiles, load_run, part
from longtail.report.page import page

REPORT = "report.html"


def render_report(run_dir: Path) -> Path:
    """Write the page of a run, and its figures as stand-alone files.

    The page needs no network, no other file and no font: it can be forwarded as it is. Whatever
    file but the verdict is missing, its section says so. No text of the data set is in it.

    Args:
        run_dir: directory of a run that reached its verdict.

    Returns:
        ``run_dir/report.html``.

    Raises:
        StoreError: there is no verdict, or one of the run's files is damaged.
    """
    run = load_run(Path(run_dir))
    figures = _figures(run)
    for figure in figures.values():
        storage.write_text(run.directory / "figures" / f"{figure.name}.svg", standalone(figure))
    target = run.directory / REPORT
    storage.write_text(target, _page(run, figures))
    return target


def _figures(run: RunFiles) -> dict[str, Figure]:
    made: Iterable[Figure | None] = (
        arms.arms_figure(run) if run.arms else None,
        thresholds.threshold_figure(run),
        calibration.calibration_figure(run),
        groups.support_figure(run),
        groups.group_figure(run),
        distribution.distribution_figure(run),
        distribution.labels_per_text_figure(run),
        labels.change_figure(labels.label_rows(run)),
        thresholds.history_figure(run),
    )
    return {figure.name: figure for figure in made if figure is not None}


def _page(run: RunFiles, figures: dict[str, Figure]) -> str:
    return page("report.html.j2", run=run, figures=figures, **_sections(run))


def _sections(run: RunFiles) -> dict[str, Any]:
    rows = labels.label_rows(run)
    return {
        "head": verdict.headline(run),
        "rules": verdict.rules_table(run),
        "ladder": ladder.ladder_table(run),
        "ladder_sentences": ladder.ladder_sentences(run),
        "comparison": arms.comparison(run),
        "arms": [(words.arm_name(arm), words.about_arm(run, arm), arm) for arm in run.arms],
        "arms_table": arms.arms_table(run) if run.arms else None,
        "evidence": arms.evidence_table(run),
        "evidence_notes": arms.evidence_notes(run),
        "selection": selection.selection_table(run),
        "selection_sentence": selection.selection_sentence(run),
        "thresholds": thresholds.threshold_table(run) if run.arms else None,
        "fallbacks": thresholds.fallbacks(run),
        "policy": thresholds.policy_sentence(run),
        "groups": groups.groups_table(run),
        "groups_words": groups.groups_in_words(run),
        "table_two": [made for arm in run.arms if (made := groups.table_two(run, arm))],
        "baseline": words.arm_name(words.baseline(run)),
        "won": labels.most_frequent_first(rows, run.verdict.get("labels_won")),
        "lost": labels.most_frequent_first(rows, run.verdict.get("labels_lost")),
        "worst": labels.worst_table(rows),
        "best": labels.best_table(rows),
        "all_labels": labels.all_table(rows),
        "examples": examples.examples_table(run),
        "examples_sentence": examples.examples_sentence(run),
        "balance": account.balance(run),
        "quarantine": account.quarantine_table(run),
        "quarantine_sentence": account.quarantine_sentence(run),
        "skipped": account.skipped_table(run),
        "skipped_sentence": account.skipped_sentence(run),
        "account_sentences": account.account_sentences(run),
        "audit": audit_words.audit_sentences(run),
        "audit_link": audit_words.audit_link(run),
        "statistics": distribution.statistics_table(run),
        "dropped": distribution.dropped_sentence(run),
        "split": split.split_table(run),
        "split_sentences": split.split_sentences(run),
        "infeasible": split.infeasible_table(run),
        "deviations": split.deviation_table(run),
        "history": thresholds.history_table(run),
        "calibration": calibration.calibration_table(run),
        "configuration": reproduce.configuration(run),
        "fingerprints": reproduce.fingerprints(run),
        "versions": reproduce.versions(),
        "test": part(run.metrics, "test"),
    }
