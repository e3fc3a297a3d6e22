"""How the page tells which loss was chosen from a shortlist, and by what."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

from longtail.plots.canvas import WIDTH
from longtail.plots.theme import FIGURE_CSS
from longtail.report.arms import arms_table
from longtail.report.files import RunFiles
from longtail.report.selection import selection_sentence, selection_table
from longtail.report.thresholds import history_figure
from longtail.report.words import about_arm

NOBODY = RunFiles(Path("run"), dt.datetime(2026, 11, 22, tzinfo=dt.UTC), {})


def entry(loss, arm, micro_f1, labels, *, chosen=False):
    return {
        "loss": loss, "arm": arm, "chosen": chosen, "seconds": 90.0, "micro_f1": micro_f1,
        "macro_f1": 0.4, "recognised_labels": labels,
    }  # fmt: skip


def run(needed, *rows):
    arms = {row["arm"]: {"overall": {"micro_f1": row["micro_f1"] - 0.01}} for row in rows}
    metrics = {
        "arms": arms,
        "selection": {"baseline_recognised_labels": needed, "shortlist": list(rows)},
    }
    return RunFiles(Path("run"), NOBODY.date, {}, metrics=metrics)


DB = entry("db", "candidate-db", 0.52, 100)
ASL = entry("asl", "candidate-asl", 0.55, 90, chosen=True)


def test_a_run_with_one_loss_has_no_selection():
    assert selection_sentence(NOBODY) == ""
    assert selection_table(NOBODY) is None


def test_the_sentence_says_by_what_the_loss_was_chosen():
    said = selection_sentence(run(80, DB, ASL))
    assert said.startswith("Asymmetric loss (asl) was chosen from 2 losses, by validation alone")
    assert "at least the 80 labels of BCE" in said
    assert "none recognises the 101 labels of BCE" in selection_sentence(run(101, DB, ASL))


def test_the_table_has_every_loss_on_validation_and_on_test():
    table = selection_table(run(80, DB, ASL))
    assert [[cell.text for cell in row][:2] for row in table.rows] == [
        ["db", "52.00\N{NARROW NO-BREAK SPACE}%"], ["asl", "55.00\N{NARROW NO-BREAK SPACE}%"]
    ]  # fmt: skip
    assert [row[0].css for row in table.rows] == ["", "best"]
    assert table.rows[0][5].text == "51.00\N{NARROW NO-BREAK SPACE}%"


def test_the_encoders_of_the_shortlist_are_named_by_their_loss_among_the_arms():
    found = run(80, DB, ASL)
    found.metrics["arms"]["candidate"] = {"loss": "asl", "overall": {"micro_f1": 0.6}}
    columns = arms_table(found).columns
    assert {"Candidate", "db alone", "asl alone"} <= set(columns)
    assert about_arm(found, "candidate-asl").endswith("; the candidate is made with it")
    assert about_arm(found, "candidate-db").endswith("; not chosen")


def test_every_training_is_a_line_of_its_own_in_a_legend_that_fits():
    history = [{"epoch": n, "loss": 0.1, "validation_micro_f1": 0.5} for n in (1, 2)]
    names = ("bce", "candidate", "candidate-ntr-focal", "candidate-asl")
    metrics = {"arms": {name: {"history": history} for name in names}}
    panel = history_figure(RunFiles(Path("run"), NOBODY.date, {}, metrics=metrics)).panels[0]

    drawn = re.findall(r'class="ln ([^"]+)"', panel.body)
    assert len(drawn) == 2 * len(set(drawn)) == 2 * len(names)  # in the legend and in the plot
    assert all(f".{css.split()[0]}{{stroke" in FIGURE_CSS for css in drawn)
    named = re.findall(r'<text[^>]* x="([\d.]+)"[^>]*>([^<]*alone)</text>', panel.body)
    assert len(named) == 2
    assert all(float(x) + 5.6 * len(name) <= WIDTH for x, name in named)
