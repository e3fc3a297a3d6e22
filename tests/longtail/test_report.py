"""The page: it says what the verdict says, leaks nothing, and survives whatever is missing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_run import ARMS, SECRET, write_run

from longtail import storage
from longtail.errors import StoreError
from longtail.report import render_report
from longtail.report.files import load_run, without_values
from longtail.report.verdict import rule_number
from longtail.report.words import duration, percent, points

HOSTILE = "<script>alert('x')</script>\"'&{{ 7 * 7 }}"
VOID = {"meta", "br", "input", "link", "img", "hr"}


class Page(HTMLParser):
    """Tags of a page, checked for balance, and its visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " " if tag in {"td", "th", "text", "title", "desc"} else ""
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self.stack:
            self.scripts.append(data)
        elif "style" not in self.stack:
            self.text += data


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    return {
        "promote": write_run(root / "promote"),
        "block": write_run(root / "block", decision="block"),
        "first": write_run(root / "first", arms=("linear", "bce", "candidate")),
    }


@pytest.fixture
def run(runs: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the promoted run that a test may damage."""
    return shutil.copytree(runs["promote"], tmp_path / "run")


def rendered(run: Path) -> Page:
    return Page(render_report(run).read_text(encoding="utf-8"))


def change(run: Path, name: str, edit: Callable[[Any], None]) -> None:
    value = storage.read_json(run / name)
    edit(value)
    storage.write_json(run / name, value)


def plain(text: str) -> str:
    return " ".join(text.replace("\u202f", " ").split())


@pytest.mark.parametrize(("name", "word"), [("promote", "PROMOTED"), ("block", "BLOCKED")])
def test_the_verdict_comes_first_with_every_reason_and_rule(
    runs: dict[str, Path], name: str, word: str
) -> None:
    page = rendered(runs[name])
    verdict = storage.read_json(runs[name] / "verdict.json")
    text = plain(page.text)
    other = {"PROMOTED": "BLOCKED", "BLOCKED": "PROMOTED"}[word]
    assert word in text
    assert other not in text
    assert text.index(word) < text.index("The rules") < text.index("Arms side by side")
    for reason in verdict["reasons"]:
        assert plain(reason) in text
    for rule in verdict["rules"]:
        assert plain(rule["detail"]) in text
    failed = sum(r["severity"] == "block" and not r["passed"] for r in verdict["rules"])
    assert text.count("✕ failed") == failed
    assert text.count("✓ passed") == sum(
        r["severity"] != "info" and r["passed"] for r in verdict["rules"]
    )
    assert "looked at 7 times" in text


def test_the_page_stands_alone(runs: dict[str, Path]) -> None:
    path = render_report(runs["promote"])
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert path == runs["promote"] / "report.html"
    assert len(html) < 400_000
    outside = {"src", "href", "srcset", "action", "data", "poster", "background"}
    assert not [(tag, attrs) for tag, attrs in page.tags if outside & attrs.keys()]
    assert "url(" not in html
    assert "@import" not in html
    assert not re.search(r"https?://", re.sub(r"<pre.*?</pre>", "", html, flags=re.DOTALL))
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    digest = hashlib.sha256("".join(page.scripts).encode()).digest()
    assert policy.startswith("default-src 'none'")
    assert f"'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_the_figures_are_files_too(runs: dict[str, Path]) -> None:
    rendered(runs["promote"])
    names = {path.name for path in (runs["promote"] / "figures").iterdir()}
    assert names == {
        "arms.svg", "thresholds.svg", "groups.svg", "support.svg", "distribution.svg",
        "labels-per-text.svg", "label-changes.svg", "training.svg",
    }  # fmt: skip


def test_no_text_of_the_data_set_is_in_it(runs: dict[str, Path]) -> None:
    html = render_report(runs["promote"]).read_text(encoding="utf-8")
    assert SECRET not in html
    assert "secret" not in html
    assert "exports/tickets.csv, rows 3, 10 and 17" in html
    assert "labels: … is not a list" in html


def test_a_reason_is_counted_without_its_values() -> None:
    assert without_values("labels: 'it is secret' is not a list") == "labels: … is not a list"
    assert without_values('labels: "it\'s" is not a list') == "labels: … is not a list"
    assert without_values(r"text: 'a \'secret\' and' is") == "text: … is"
    assert without_values("text: 'secret that was c… is long") == "text: … is long"
    assert without_values("text: bytes (b'secret') was found") == "text: bytes (…) was found"
    assert without_values("a list (['secret', {'a': 'secr…) was") == "a list ([…, {…: …) was"
    assert without_values("label 3 isn't a name, don't") == "label … isn't a name, don't"


def test_hostile_names_are_text(run: Path) -> None:
    def poison(value: Any) -> None:
        value["labels"][0]["name"] = HOSTILE
        value["name"] = HOSTILE

    change(run, "metrics.json", poison)
    change(
        run,
        "verdict.json",
        lambda v: v.update(reasons=[HOSTILE], labels_won=[HOSTILE], labels_lost=[HOSTILE]),
    )
    change(run, "config.json", lambda v: v.update(name=HOSTILE))
    page = rendered(run)
    assert len(page.scripts) == 1
    assert "alert" not in page.scripts[0]
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert page.text.count(HOSTILE) >= 5


@pytest.mark.parametrize(
    "name",
    ["metrics.json", "config.json", "account.json", "statistics.json", "splits/quality.json",
     "quarantine.parquet"],
)  # fmt: skip
def test_a_missing_file_is_a_sentence(run: Path, name: str) -> None:
    whole = rendered(run).text
    (run / name).unlink()
    page = rendered(run)
    assert "PROMOTED" in page.text
    sentence = re.compile(r"This run (has|recorded) no |has no quarantine file")
    assert len(sentence.findall(page.text)) > len(sentence.findall(whole))


def test_the_verdict_alone_makes_a_page(run: Path) -> None:
    for path in run.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "verdict.json":
            path.unlink()
    text = rendered(run).text
    assert "PROMOTED" in text
    assert "This run has no metrics" in text


def test_without_a_verdict_there_is_no_page(run: Path) -> None:
    (run / "verdict.json").unlink()
    (run / "report.html").unlink(missing_ok=True)
    with pytest.raises(StoreError, match=r"verdict\.json: not found"):
        render_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"decision": "maybe"}'])
def test_a_damaged_verdict_is_no_verdict(run: Path, content: str) -> None:
    (run / "verdict.json").write_text(content)
    with pytest.raises(StoreError, match=r"verdict\.json"):
        render_report(run)


@pytest.mark.parametrize("arms", [("candidate",), ("linear", "bce"), ARMS])
def test_any_set_of_arms_has_a_page(run: Path, arms: tuple[str, ...]) -> None:
    def keep(value: Any) -> None:
        value["arms"] = {arm: value["arms"][arm] for arm in arms}

    change(run, "metrics.json", keep)
    assert "Arms side by side" in rendered(run).text


def test_an_unknown_arm_is_shown_after_the_known(run: Path) -> None:
    change(run, "metrics.json", lambda v: v["arms"].update(fused=v["arms"]["candidate"]))
    rendered(run)
    assert load_run(run).arms == (*ARMS, "fused")


@pytest.mark.parametrize("n_labels", [20, 1000])
def test_few_and_many_labels_fit(tmp_path: Path, n_labels: int) -> None:
    run = write_run(tmp_path / "run", n_labels=n_labels, n_texts=900, decision="block")
    html = render_report(run).read_text(encoding="utf-8")
    assert len(html.encode()) < 1_500_000
    assert f"All {n_labels:,} labels" in plain(html)
    figures = re.findall(r'<svg class="fig".*?</svg>', html, re.DOTALL)
    assert figures
    assert all(len(re.findall(r"<text", figure)) < 90 for figure in figures)


def test_numbers_are_the_runs_numbers(runs: dict[str, Path]) -> None:
    metrics = storage.read_json(runs["promote"] / "metrics.json")
    text = plain(rendered(runs["promote"]).text)
    for entry in metrics["arms"].values():
        assert f"{100 * entry['overall']['micro_f1']:.1f} %" in text
    gain = metrics["arms"]["candidate"]["overall"]["micro_f1"]
    gain -= metrics["arms"]["bce"]["overall"]["micro_f1"]
    assert f"{100 * gain:+.1f} pt against BCE" in text


def test_a_candidate_that_loses_is_said_to_lose(runs: dict[str, Path]) -> None:
    assert "loses to the BCE baseline on micro-F1" in rendered(runs["block"]).text
    winner = rendered(runs["promote"]).text
    assert "beats the BCE baseline on micro-F1" in winner
    assert "is not the candidate's" not in winner


def test_what_is_live_comes_before_everything_that_was_decided(runs: dict[str, Path]) -> None:
    for name in ("promote", "block"):
        text = plain(rendered(runs[name]).text)
        assert "Live when judged: version 3, micro-F1" in text
        assert text.index("Live when judged") < text.index("the BCE baseline") < text.index("Why")
        verdict = storage.read_json(runs[name] / "verdict.json")
        assert text.count(plain(verdict["reasons"][0])) == 2  # in the head and among the rules
    assert "Live when judged" not in rendered(runs["first"]).text


def test_the_ladder_is_shown_with_its_intervals(run: Path) -> None:
    verdict = storage.read_json(run / "verdict.json")
    text = plain(rendered(run).text)
    assert text.index("The rules") < text.index("Where the gain comes from")
    assert text.index("Where the gain comes from") < text.index("Arms side by side")
    for step in verdict["ladder"]:
        micro, gain = step["micro_f1"], step["gain_micro_f1"]
        shown = f"{100 * micro['value']:.1f} % ({100 * micro['low']:.1f} to"
        assert shown in text[text.index(step["name"]) :]
        if gain:
            assert f"{step['name']} {plain(points(gain['value'], 2))}" in text
    gained = verdict["ladder"][-1]["micro_f1"]["value"] - verdict["ladder"][0]["micro_f1"]["value"]
    assert f"micro-F1 by {plain(points(gained, 2))}, macro-F1 by" in text
    change(run, "verdict.json", lambda v: v.pop("ladder"))
    assert "Where the gain comes from" not in rendered(run).text


@pytest.mark.parametrize("ladder", ["x", [1], [{}], [{}, {"gain_micro_f1": {"value": None}}]])
def test_a_ladder_of_another_form_does_not_stop_the_page(run: Path, ladder: Any) -> None:
    change(run, "verdict.json", lambda v: v.update(ladder=ladder))
    assert "PROMOTED" in rendered(run).text


def test_the_page_names_the_baseline_of_the_policy(run: Path) -> None:
    text = plain(rendered(run).text)
    assert "binary cross-entropy, by itself; the baseline to beat" in text
    assert "the same combination with the BCE encoder (" in text
    change(run, "verdict.json", lambda v: v["policy"].update(baseline="matched"))
    text = plain(rendered(run).text)
    assert "what it is without its loss; the baseline to beat" in text
    assert "Against the same combination with the BCE encoder, the candidate wins on" in text
    assert "pt against Combined with BCE" in text
    assert "Recognised by the candidate, not by Combined with BCE" in text


@pytest.mark.parametrize(
    ("name", "value", "threshold", "shown"),
    [
        ("champion_label_coverage", 0.031, 0.05, ("p = 0.031", "p = 0.05")),
        ("champion_label_coverage", 60, 58, ("60 labels", "58 labels")),  # a verdict of before
        ("bce_label_coverage", 60, 58, ("60 labels", "58 labels")),
        ("live_model", 0.85, 0.8, ("85.0 %", "80.0 %")),
        ("live_model_outdated", 0.0123, 0.0, ("+1.23 pt", "0.00 pt")),
        ("matched_not_worse", -0.0123, 0.0, ("−1.23 pt", "0.00 pt")),
        ("matched_micro_f1", 0.0123, 0.0, ("+1.23 pt", "0.00 pt")),
    ],
)
def test_a_rules_numbers_have_their_unit(
    name: str, value: float, threshold: float, shown: tuple[str, str]
) -> None:
    rule = {"name": name, "value": value, "threshold": threshold}
    assert tuple(plain(rule_number(rule, key)) for key in ("value", "threshold")) == shown


def test_another_arm_that_is_best_is_named(run: Path) -> None:
    def lift(value: Any) -> None:
        value["arms"]["linear"]["overall"]["micro_f1"] = 0.991

    change(run, "metrics.json", lift)
    text = plain(rendered(run).text)
    assert "not the candidate's: Linear has 99.1 %" in text
    assert "below the linear model (99.1 %)" in text


def test_a_metric_that_cannot_be_computed_is_a_dash(run: Path) -> None:
    def blank(value: Any) -> None:
        for entry in value["arms"].values():
            entry["overall"] = dict.fromkeys(entry["overall"])
            entry["per_label"] = {key: [None] * 60 for key in entry["per_label"]}
            entry["groups"]["TAIL"] = dict.fromkeys(entry["groups"]["TAIL"])

    change(run, "metrics.json", blank)
    page = rendered(run)
    assert not re.search(r"\bnan\b|\binf\b", page.text, re.IGNORECASE)
    assert not re.search(r"\bNone\b(?!\.)", page.text)
    assert "–" in page.text


def combine(run: Path, arm: str, **about: Any) -> None:
    def edit(metrics: Any) -> None:
        metrics["arms"][arm]["combination"] = about

    change(run, "metrics.json", edit)


NOTE = "The source names is left out: no label has a word in its name."
COMBINED: dict[str, Any] = {
    "method": "learned", "sources": ["encoder", "linear", "neighbours"], "notes": [NOTE],
    "weights": {"encoder": 0.8125, "linear": 1.5, "neighbours": 0.0},
    "validation_micro_f1": {"weighted sum": 0.61, "learned": 0.62, "encoder": 0.55, "linear": 0.5,
                            "neighbours": 0.4123},
}  # fmt: skip


def test_what_is_combined_is_shown_source_by_source(run: Path) -> None:
    assert "What the candidate combines" not in rendered(run).text
    combine(run, "candidate", **COMBINED)
    combine(run, "matched", **{**COMBINED, "method": "weighted sum", "sources": ["bce", "linear"]})
    combine(run, "champion", sources=["encoder", "bce"])
    text = plain(rendered(run).text)

    assert "What the candidate combines" in text
    assert NOTE in text
    assert (
        "The encoder trained with db 0.81 55.00 % The linear model over words 1.50 50.00 %" in text
    )
    assert "Similar annotated texts 0.00 41.23 % All of them, added up – 61.00 %" in text
    assert "All of them, learned – 62.00 %" in text
    assert "learned from 3 sources of evidence: the encoder trained with db, the linear" in text
    row = "Combined – – the weighted sum of 2 sources learned from 3 sources 2 sources –"
    assert row in text


def test_one_source_alone_is_said_to_be_so(run: Path) -> None:
    why = "No combination is better on validation than linear alone, which decides."
    alone = {"method": "one source", "sources": ["linear"], "notes": [why]}
    combine(run, "candidate", **{**COMBINED, **alone, "weights": {"linear": 2.0}})
    text = plain(rendered(run).text)

    assert why in text
    assert "The encoder trained with db – 55.00 % The linear model over words 2.00 50.00 %" in text
    assert "the linear model over words alone; no combination was better on validation" in text


def test_too_few_texts_for_a_combination_are_said_to_be_so(run: Path) -> None:
    combine(run, "candidate", method="one source", sources=["encoder"], notes=["Too few."],
            weights={"encoder": 1.0}, validation_micro_f1={})  # fmt: skip
    text = plain(rendered(run).text)

    assert "What the candidate combines Too few." in text
    assert "Combined – – – no: the encoder trained with db alone – –" in text


def test_an_override_is_never_hidden(run: Path) -> None:
    change(
        run,
        "verdict.json",
        lambda v: v.update(
            override={"by": "Ada", "reason": "a legal deadline", "at": "2026-01-02"}
        ),
    )
    text = plain(rendered(run).text)
    assert "PROMOTED BY OVERRIDE" in text
    assert "Override by Ada at 2026-01-02: a legal deadline." in text


def test_a_first_release_is_said(runs: dict[str, Path]) -> None:
    text = plain(rendered(runs["first"]).text)
    assert "becomes the first live model" in text
    assert text.count("First release: the registry was read and holds no champion yet.") == 2
    assert "First release" not in rendered(runs["promote"]).text


def test_credentials_in_the_configuration_are_left_out(runs: dict[str, Path]) -> None:
    text = rendered(runs["promote"]).text
    assert "hunter2" not in text
    assert "tracking.example.org" in text


def test_an_account_that_does_not_balance_is_said(run: Path) -> None:
    assert "does not balance" not in rendered(run).text
    change(run, "account.json", lambda v: v.update(merged=0))
    assert "does not balance" in rendered(run).text


def test_the_statistics_are_the_runs(runs: dict[str, Path]) -> None:
    found = storage.read_json(runs["promote"] / "statistics.json")
    text = plain(rendered(runs["promote"]).text)
    assert f"(cardinality) {found['cardinality']:.2f}" in text
    assert f"different labels (conflicts) {found['duplicates']['in_conflict']}" in text
    share = found["co_occurrence"]["share_with_group"]["TAIL"]["HEAD"]
    assert f"{100 * share:.1f} %" in text
    names = found["co_occurrence"]["labels"]
    assert f"{names[1]} and {names[0]}: {found['co_occurrence']['texts'][1][0]} texts" in text
    assert "1 label with fewer than data.min_label_support texts" in text
    assert f"no label {found['texts_by_number_of_labels'][0]}" in text


def test_without_metrics_the_distribution_is_that_of_the_statistics(run: Path) -> None:
    (run / "metrics.json").unlink()
    text = plain(rendered(run).text)
    assert "Texts per label" in text
    assert "Training texts per label" not in text


def test_skipped_rows_are_shown_with_what_the_export_says(run: Path) -> None:
    text = rendered(run).text
    assert "cancelled: the annotator skipped the task" in text
    assert "2 rows skipped" in text
    assert "skipped.parquet" in text
    change(run, "account.json", lambda v: v.update(skipped_reasons={}))
    assert "skipped.parquet" not in rendered(run).text


def test_the_split_is_accounted_for(run: Path) -> None:
    quality = storage.read_json(run / "splits" / "quality.json")
    text = plain(rendered(run).text)
    for name, sizes in quality["sizes"].items():
        assert f"{name} {sizes['asked']} {sizes['assigned']} {sizes['used']}" in text
    assert "No training text repeats a text that is held out from it: no leak." in text
    assert "300 texts kept the side of an earlier run; 600 are new" in text
    assert "2 new texts left out" in text


@pytest.mark.parametrize(
    ("policy", "said"),
    [("remove_from_train", "4 texts left out"), ("keep", "They were kept, so the gate blocks")],
)
def test_leaks_are_said(run: Path, policy: str, said: str) -> None:
    leaks = {"policy": policy, "train_rows": 3, "validation_rows": 1, "left_out": 4}
    change(run, "splits/quality.json", lambda v: v["leaks"].update(leaks))
    text = plain(rendered(run).text)
    assert "3 training texts and 1 validation text repeat" in text
    assert said in text
    assert "no leak" not in text


def test_labels_without_a_text_in_some_split_are_listed(run: Path) -> None:
    entry = {"label": HOSTILE, "texts": 2, "units": 2, "missing_from": ["validation", "test"]}
    change(run, "splits/quality.json", lambda v: v.update(infeasible=[entry]))
    page = rendered(run)
    assert "validation, test" in page.text
    assert HOSTILE in page.text


def test_the_label_table_sorts_by_numbers_not_by_their_print(runs: dict[str, Path]) -> None:
    page = rendered(runs["promote"])
    keys = [float(a["data-s"]) for t, a in page.tags if t == "td" and "data-s" in a]
    labels = storage.read_json(runs["promote"] / "metrics.json")["labels"]
    assert len(keys) == 8 * len(labels)
    assert sorted(keys[::8], reverse=True) == keys[::8]
    assert max(keys[::8]) == max(entry["train_support"] for entry in labels)


def test_rendering_twice_gives_the_same_page(run: Path) -> None:
    assert render_report(run).read_bytes() == render_report(run).read_bytes()


def test_the_json_of_the_page_is_that_of_the_run(runs: dict[str, Path]) -> None:
    text = rendered(runs["promote"]).text
    start = text.index('{\n  "name": "tickets"')
    shown, _ = json.JSONDecoder().raw_decode(text[start:])
    assert shown["data"] == {"path": "exports/tickets.csv", "label_separator": "|"}


def test_numbers_in_words() -> None:
    assert plain(percent(0.5512)) == "55.1 %"
    assert percent(None) == "–"
    assert plain(points(-0.0312)) == "−3.1 pt"
    assert plain(points(0.0004)) == "±0.0 pt"
    assert plain(duration(231.4)) == "3 min 51 s"
    assert plain(duration(59.96)) == "60.0 s"
    assert plain(duration(7260)) == "2 h 1 min"


def test_test_texts_that_a_release_has_learned_from_are_said_to_be_left_out(tmp_path):
    run = write_run(tmp_path / "run")
    metrics = storage.read_json(run / "metrics.json")
    metrics["test"]["left_out"] = 7
    storage.write_json(run / "metrics.json", metrics)
    assert "7 test texts left out for every arm" in render_report(run).read_text()


def test_a_verdict_that_waits_does_not_look_promoted(run):
    waits = {"verdict": storage.read_json(run / "verdict.json"), "until": "2026-12-01T00:00:00Z"}
    assert waits["verdict"]["decision"] == "promote"
    (run / "verdict.json").rename(run / "kept.json")
    storage.write_json(run / "pending.json", waits)

    page = rendered(run)
    assert "WAITS FOR A DECISION" in page.text
    assert "PROMOTED" not in page.text
    assert "Without a decision by 2026-12-01" in page.text

    (run / "kept.json").rename(run / "verdict.json")
    assert "WAITS" not in rendered(run).text
