"""The page and the Markdown of a comparison: whole, escaped, and true to the numbers."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from longtail import storage
from longtail.comparison import Scored, Setting, climbed, compared, leaderboard
from longtail.errors import StoreError
from longtail.report.leaderboard import LEADERBOARD, render_leaderboard
from longtail.report.published import REUTERS, published_for

HOSTILE = "<script>alert('x')</script>\"'&{{ 7 * 7 }}|`*"
NAN = float("nan")


def scored(loss, seed, micro, macro, coverage, *, data="desk", fused=False, policy="group",
           tail=0.1):  # fmt: skip
    counts = np.tile([[round(100 * micro), round(100 * (1 - micro)), round(100 * (1 - micro))]],
                     (40, 1))  # fmt: skip
    return Scored(
        Setting(data, loss, policy, fused), seed,
        {"micro_f1": micro, "macro_f1": macro, "label_coverage": coverage},
        {"HEAD": micro, "MEDIUM": macro, "TAIL": tail}, counts, 75.0, 1.5 if fused else 0.0,
    )  # fmt: skip


def about(name="desk", **changed):
    return {
        "name": name, "export": "desk.csv", "sha256": "ab12" * 16, "train": 1200,
        "validation": 400, "test": 401, "labels": 20, "test_positives": 910, "cutoffs": [5, 17],
        "device": "cpu", "parameters": 22_700_000, "trainable_layers": 1,
        "trainable_parameters": 1_900_000, "linear_learned_from": ["train", "validation"],
    } | changed  # fmt: skip


def write(root, rows, data=None, **changed):
    storage.write_json(root / LEADERBOARD, {
        "command": "longtail compare --data desk=desk.csv", "baseline": "bce", "confidence": 0.95,
        "draws": 2000, "data": data or [about()], "candidates": {},
        "rows": [row.to_json() for row in leaderboard(rows, draws=200)],
    } | changed)  # fmt: skip
    page = render_leaderboard(root)
    assert page == root / "leaderboard.html"
    return page.read_text(), (root / "results.md").read_text()


def pair(data="desk", **changed):
    """BCE with two seeds and a loss that beats it on everything."""
    given = {"data": data} | changed
    return [
        *(scored("bce", seed, micro, 0.3, 0.4, **given) for seed, micro in ((0, 0.5), (1, 0.52))),
        *(scored("db", seed, micro, 0.45, 0.6, **given) for seed, micro in ((0, 0.6), (1, 0.64))),
    ]


def table(markdown, number=0):
    """A table of the Markdown: cells by row and column name."""
    found = re.findall(r"(?:^\|.*\|\n)+", markdown, re.MULTILINE)[number]
    head, _, *rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
                      for line in found.splitlines()]  # fmt: skip
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


# ── the tables ───────────────────────────────────────────────────────────────────────────────


def test_a_row_has_every_number_and_the_best_is_bold(tmp_path):
    _, markdown = write(tmp_path, pair())
    db, bce = (table(markdown)[loss] for loss in ("db", "bce"))

    assert db["seeds"] == "0, 1"
    assert db["micro-F1"] == "**62.00 ± 2.83**"
    assert bce["micro-F1"] == "51.00 ± 1.41"
    assert (db["macro-F1"], db["coverage"]) == ("**45.00 ± 0.00**", "**60.00 ± 0.00**")
    assert (db["HEAD"], db["MEDIUM"], db["TAIL"]) == ("**62.00**", "**45.00**", "**10.00**")
    assert (db["micro-F1 gain"], db["interval"], db["lower bound"]) == (
        "+11.00", "+10.00 … +12.00", "+10.00",
    )  # fmt: skip
    assert (db["macro-F1 gain"], db["coverage gain"]) == ("+15.00", "+20.00")
    assert db["training"] == "1 min 15 s"
    assert [bce[name] for name in ("micro-F1 gain", "interval", "coverage gain")] == ["–"] * 3
    assert "weight" not in db


def test_fused_and_alone_have_a_table_each(tmp_path):
    rows = [*pair(), *pair(fused=True), scored("linear", None, 0.7, 0.2, 0.3, tail=0.1 + 1e-9),
            scored("linear", None, 0.7, 0.2, 0.3, fused=True)]  # fmt: skip
    html, markdown = write(tmp_path, rows)

    assert "weight" not in table(markdown, 0)["db"]
    assert table(markdown, 1)["db"]["weight"] == "1.50"
    assert table(markdown, 1)["linear"]["weight"] == "–"
    assert list(table(markdown, 0)) == ["linear", "db", "bce"]
    assert table(markdown, 0)["linear"]["seeds"] == "–"
    assert table(markdown, 0)["linear"]["micro-F1"] == "**70.00**"
    assert table(markdown, 0)["linear"]["TAIL"] == table(markdown, 0)["db"]["TAIL"] == "**10.00**"
    assert html.count("<table") == 3  # and the versions


def test_one_seed_and_an_empty_group_are_dashes(tmp_path):
    rows = [scored("bce", 0, 0.5, 0.3, 0.4, tail=NAN), scored("db", 0, 0.6, 0.4, 0.5, tail=NAN)]
    _, markdown = write(tmp_path, rows)

    assert table(markdown)["db"]["micro-F1"] == "**60.00 ± –**"
    assert table(markdown)["db"]["TAIL"] == "–"
    assert "with its one seed" in markdown


def test_several_policies_stand_in_one_table(tmp_path):
    html, markdown = write(tmp_path, [*pair(), *pair(policy="global")])

    found = re.findall(r"^\| (\w+) \| (\w+) \|", markdown, re.MULTILINE)
    assert found == [("loss", "thresholds"), ("db", "group"), ("bce", "group"), ("db", "global"),
                     ("bce", "global"), ("Package", "Version")]  # fmt: skip
    assert "thresholds global: db beats BCE" in html


# ── the words ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (
            (0.6, 0.4, 0.5),
            (
                "db beats BCE on all three with its one seed: micro-F1 (+10.00 pt), "
                "macro-F1 (+10.00 pt) and label coverage (+10.00 pt). Its gain in micro-F1 is "
                "more than chance: lower bound +10.00 pt."
            ),
        ),
        (
            (0.4, 0.4, 0.4),
            (
                "db beats BCE with its one seed on macro-F1 (+10.00 pt), but loses on "
                "micro-F1 (−10.00 pt) and is level on label coverage (±0.00 pt). Its loss in "
                "micro-F1 is more than chance: 95 % interval −10.00 to −10.00 pt."
            ),
        ),
        (
            (0.4, 0.2, 0.3),
            (
                "db loses to BCE with its one seed: on micro-F1 (−10.00 pt), macro-F1 "
                "(−10.00 pt) and label coverage (−10.00 pt)."
            ),
        ),
        (
            (0.5, 0.3, 0.4),
            (
                "db is no better than BCE with its one seed: level on micro-F1 (±0.00 "
                "pt), macro-F1 (±0.00 pt) and label coverage (±0.00 pt). The difference in "
                "micro-F1 may be chance: 95 % interval ±0.00 to ±0.00 pt."
            ),
        ),
    ],
)
def test_words_follow_from_the_numbers(tmp_path, loss, said):
    html, markdown = write(tmp_path, [scored("bce", 0, 0.5, 0.3, 0.4), scored("db", 0, *loss)])

    assert said in html
    assert said in markdown
    winners = (
        "db beats BCE" if said.startswith("db beats BCE on all three") else "no loss beats BCE"
    )
    assert f"The encoder alone: {winners} on all of micro-F1, macro-F1 and label cov" in html


def test_the_answer_names_who_wins_on_every_data_set(tmp_path):
    worse = [scored("bce", 0, 0.5, 0.3, 0.4, data="shop"),
             scored("db", 0, 0.4, 0.4, 0.5, data="shop"),
             scored("asl", 0, 0.6, 0.4, 0.5, data="shop")]  # fmt: skip
    rows = [*pair(), scored("asl", 0, 0.6, 0.4, 0.5), *worse]
    html, _ = write(tmp_path, rows, [about(), about("shop")])

    assert ("asl beats BCE on all of micro-F1, macro-F1 and label coverage on every data set; "
            "on desk also db.") in html  # fmt: skip


def test_without_the_baseline_there_are_no_gains_and_the_page_says_so(tmp_path):
    html, markdown = write(
        tmp_path, [scored("db", 0, 0.6, 0.4, 0.5), scored("asl", 0, 0.6, 0.4, 0.5)]
    )

    assert "BCE was not among the losses" in html
    assert "gain" not in table(markdown)["db"]
    assert " beats " not in html


def test_the_linear_arm_is_told_apart_from_the_losses(tmp_path):
    html, _ = write(tmp_path, [*pair(), scored("linear", None, 0.55, 0.5, 0.5)])

    percent = "\N{NARROW NO-BREAK SPACE}%"
    assert (f"the linear arm by itself has micro-F1 55.00{percent} (1 of 2 losses above it), "
            f"macro-F1 50.00{percent} (0 of 2 losses above it)") in html  # fmt: skip
    assert "linear beats" not in html


def test_the_data_set_and_the_command_are_there(tmp_path):
    html, markdown = write(tmp_path, pair())

    for page in (html, markdown):
        assert "1,200 texts to train on, 400 for validation, 401 test texts" in page
        assert "20 labels with 910 positives" in page
        assert "HEAD begins at 17 texts and MEDIUM at 5" in page
        assert "22.7 million weights, 1 layer of it trained (1.9 million weights), on cpu" in page
        assert "linear arm that serves has learned from: train and validation." in page
        assert "longtail compare --data desk=desk.csv" in page


# ── the candidate ────────────────────────────────────────────────────────────────────────────


def candidate(name="desk", *, micro=0.6, against=(0.5, 0.5, 0.59, 0.4), blocked=(), **changed):
    """Two seeds of a candidate, what leads to it and what it is held against."""

    def seeds(loss, value):
        return [scored(loss, seed, value + seed / 100, value / 2, value, data=name)
                for seed in (0, 1)]  # fmt: skip

    ones = seeds("learning over all cells", micro)
    steps = [seeds("BERT + BCE, cut at 0.5", 0.4), seeds("tuned thresholds", 0.5), ones]
    others = dict(zip(("bce", "fused_bce", "matched", "linear"), against, strict=True))
    held = []
    for key, value in others.items():
        row = compared(ones, seeds(key, value), draws=200).to_json()
        held.append({"key": key, "opponent": compared(seeds(key, value), ()).to_json(),
                     "change": row["change"], "gain": row["gain"]})  # fmt: skip
    verdicts = [
        {"seed": seed, "decision": "block" if seed in blocked else "promote",
         "blocked_by": ["Micro-F1 is not shown to be above BCE."] if seed in blocked else [],
         "warnings": []}
        for seed in (0, 1)
    ]  # fmt: skip
    return {
        "loss": "db-soft", "policy": "group", "seeds": [0, 1], "methods": ["learned"] * 2,
        "notes": [], "ladder": [row.to_json() for row in climbed(steps, draws=200)],
        "against": held, "verdicts": verdicts,
    } | changed  # fmt: skip


def test_the_ladder_shows_what_every_step_adds(tmp_path):
    _, markdown = write(tmp_path, pair(), candidates={"desk": candidate()})

    ladder = table(markdown)
    assert list(ladder) == ["BERT + BCE, cut at 0.5", "tuned thresholds", "learning over all cells"]
    first, second, last = ladder.values()
    assert (first["micro-F1"], first["micro-F1 gain"]) == ("40.50 ± 0.71", "–")
    assert (second["micro-F1 gain"], second["interval"]) == ("+10.00", "+10.00 … +10.00")
    assert (last["macro-F1 gain"], last["coverage gain"]) == ("+5.00", "+10.00")


def test_the_candidate_is_held_against_the_others_and_judged_seed_by_seed(tmp_path):
    html, markdown = write(tmp_path, pair(), candidates={"desk": candidate(blocked=[1])})

    held = table(markdown, 1)
    assert list(held) == [
        "BCE by itself", "BCE added up with the linear arm",
        "the same combination with the BCE encoder", "the linear arm",
    ]  # fmt: skip
    assert held["the linear arm"]["micro-F1"] == "40.50 ± 0.71"
    assert held["the linear arm"]["lower bound"] == "+20.00"
    verdicts = table(markdown, 2)
    assert verdicts["0"]["verdict"] == "promoted"
    assert verdicts["1"]["verdict"] == "blocked"
    assert verdicts["1"]["reasons and warnings"] == "Micro-F1 is not shown to be above BCE."
    assert "<h3>The candidate</h3>" in html
    assert "### desk: the candidate" in markdown


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        (
            [{}, {}],
            [
                (
                    "On all of micro-F1, macro-F1 and label coverage it beats BCE by itself on "
                    "every data set (in micro-F1 by more than chance); it beats"
                ),
                (
                    "What the loss alone brings, the rest of the combination being equal: on desk "
                    "micro-F1 +1.00 pt (95 % interval +1.00 to +1.00), macro-F1 +0.50 pt and label "
                    "coverage +1.00 pt; on shop"
                ),
                "As a first release the gate promotes it in every seed on every data set.",
            ],
        ),
        (
            [{}, {"against": (0.5, 0.6, 0.6, 0.65), "blocked": [0]}],
            [
                (
                    "it beats BCE added up with the linear arm on desk (in micro-F1 by more than "
                    "chance), but not on shop (micro-F1 ±0.00 pt, macro-F1 ±0.00 pt and label "
                    "coverage ±0.00 pt);"
                ),
                (
                    "it beats the linear arm on desk (in micro-F1 by more than chance), but not on "
                    "shop (micro-F1 −5.00 pt, macro-F1 −2.50 pt and label coverage −5.00 pt)."
                ),
                (
                    "As a first release the gate promotes it on desk in every seed; on shop in 1 "
                    "of 2 seeds (blocked with seed 0)."
                ),
            ],
        ),
        (
            [{"against": (0.7,) * 4, "blocked": [0, 1]}] * 2,
            [
                (
                    "it does not beat BCE by itself on desk (micro-F1 −10.00 pt, macro-F1 −5.00 pt "
                    "and label coverage −10.00 pt) and on shop (micro-F1"
                ),
                "on desk in 0 of 2 seeds (blocked with seed 0 and 1); on shop in 0 of 2 seeds",
            ],
        ),
    ],
)
def test_the_answer_begins_with_the_candidate(tmp_path, candidates, expected):
    made = {name: candidate(name, **changed)
            for name, changed in zip(("desk", "shop"), candidates, strict=True)}  # fmt: skip
    html, markdown = write(
        tmp_path, [*pair(), *pair("shop")], [about(), about("shop")], candidates=made
    )

    for sentence in expected:
        assert sentence in html
    first = markdown.partition("## The answer")[2].strip().partition("\n")[0]
    assert first == (
        "- The candidate is all evidence combined around the encoder trained with db-soft."
    )


def test_one_data_set_needs_no_name(tmp_path):
    html, _ = write(tmp_path, pair(), candidates={"desk": candidate(blocked=[0])})

    assert "As a first release the gate promotes it in 1 of 2 seeds (blocked with seed 0)." in html
    assert "pt and label coverage +1.00 pt.</li>" in html


def test_a_data_set_without_a_candidate_is_named(tmp_path):
    html, _ = write(
        tmp_path, [*pair(), *pair("shop")], [about(), about("shop")],
        candidates={"desk": candidate()},
    )  # fmt: skip

    assert "trained with db-soft (there is none on shop)." in html


def test_what_is_less_than_learned_is_told(tmp_path):
    notes = ["The source names is left out: no label has a word in its name."]
    made = candidate(methods=["learned", "weighted sum"], notes=notes)
    html, _ = write(tmp_path, pair(), candidates={"desk": made})

    assert "Of 2 seeds, 1 did not learn over all cells: weighted sum." in html
    assert notes[0] in html


# ── the published table ──────────────────────────────────────────────────────────────────────


def test_reuters_stands_beside_the_published_table(tmp_path):
    rows = [*pair("reuters"), scored("linear", None, 0.5, 0.2, 0.3, data="reuters")]
    html, markdown = write(tmp_path, rows, [about("reuters", labels=90)])

    found = table(markdown, 1)
    assert found["bce"] == {"loss": "bce", "published, BERT-base": "89.14 / 47.32",
                            "here, the encoder alone": "51.00 ± 1.41 / 30.00 ± 0.00"}  # fmt: skip
    assert found["linear (SVM)"]["here, the encoder alone"] == "50.00 / 20.00"
    assert "focal (FL)" not in found  # not trained here
    assert REUTERS.source in html
    assert "the mean of 2 seeds here" in html
    assert "22.7 million weights here, 1 layer trained" in html


@pytest.mark.parametrize(("name", "labels"), [("reuters", 20), ("desk", 90)])
def test_another_data_set_does_not(tmp_path, name, labels):
    html, _ = write(tmp_path, pair(name), [about(name, labels=labels)])

    assert published_for(name, labels) is None
    assert "published" not in html.lower()


# ── the page ─────────────────────────────────────────────────────────────────────────────────


def test_names_of_data_sets_and_losses_are_escaped(tmp_path):
    rows = [*pair(HOSTILE), scored(HOSTILE, 0, 0.5, 0.3, 0.4, data=HOSTILE)]
    html, markdown = write(tmp_path, rows, [about(HOSTILE, export=HOSTILE)], command=HOSTILE)

    assert html.count("<script>") == 1  # the page's own
    assert "alert('x')</script>" not in html
    assert "{{ 7 * 7 }}" in html  # written, not computed
    assert "<script" not in re.sub(r"\\<script|`{3,}sh.*?`{3,}", "", markdown, flags=re.DOTALL)
    assert list(table(markdown))[:1] == ["db"]  # no bar of a name ended a cell


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    html, markdown = write(tmp_path, pair())

    assert "default-src 'none'" in html
    assert not re.search(r"(?:src|href)\s*=|url\(|@import|https?://(?!www\.w3\.org)", html)
    (picture,) = re.findall(r"!\[.*\]\((.*)\)", markdown)
    assert (tmp_path / picture).is_file()


def test_the_figure_has_a_point_per_seed_at_its_value(tmp_path):
    write(tmp_path, [*pair(), *pair(fused=True)])
    figure = ET.parse(tmp_path / "results" / "desk.svg").getroot()
    svg = "{http://www.w3.org/2000/svg}"

    panels = figure.findall(f"{svg}g")
    assert len(panels) == 3
    for panel in panels:
        points = [
            one for group in panel.findall(f"{svg}g") for one in group.findall(f"{svg}circle")
        ]
        assert len(points) == 2 * 2 * 2
        assert all(0 < float(one.get("cx")) < 350 for one in points)
    micro = {group.find(f"{svg}title").text: [float(one.get("cx")) for one in
             group.findall(f"{svg}circle")] for group in panels[0].findall(f"{svg}g")}  # fmt: skip
    assert micro["db: 60.00, 64.00"] == sorted(micro["db: 60.00, 64.00"])
    assert micro["bce: 50.00, 52.00"][-1] < micro["db: 60.00, 64.00"][0]


# ── what is not a leaderboard ────────────────────────────────────────────────────────────────


def test_a_comparison_that_has_not_ended_is_told_so(tmp_path):
    with pytest.raises(StoreError, match="has not ended yet"):
        render_leaderboard(tmp_path)


@pytest.mark.parametrize("content", [[], {"rows": []}, {"rows": [{"loss": "db"}]}])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    storage.write_json(tmp_path / LEADERBOARD, content)

    with pytest.raises(StoreError, match="not a leaderboard"):
        render_leaderboard(tmp_path)


def test_a_data_set_that_is_no_longer_compared_leaves_no_figure(tmp_path):
    write(tmp_path, pair())
    (tmp_path / "results" / "desk.svg").rename(tmp_path / "results" / "old.svg")
    write(tmp_path, pair())

    assert [path.name for path in (tmp_path / "results").iterdir()] == ["desk.svg"]
