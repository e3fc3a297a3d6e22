"""Labelling a file with the champion, and going back to the one before."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.special

import flows.predict
from flows.cli import main
from flows.config import PredictConfig
from flows.predict import default_output, only_model, predict
from longtail import storage
from longtail.bundle import load_bundle
from longtail.config import PublishSettings
from longtail.errors import ConfigError, StoreError
from tasks.publishing import open_promotions

pytestmark = pytest.mark.slow

NAME = "smoke"
LONG = "My parcel is late and the courier does not answer. " * 60
TEXTS = {
    "a": "I want my money back for the tent that I returned last month.",
    "b": "Where is my parcel? The tracking has not moved since Tuesday.",
    "c": LONG,
    "d": "Your app crashes after the start screen; please call me on Thursday.",
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Texts to label, without a labels column, and two rows that cannot be."""
    path = tmp_path_factory.mktemp("texts") / "new.jsonl"
    lines = [json.dumps({"id": name, "text": text}) for name, text in TEXTS.items()]
    lines.insert(2, '{"id": "bad", "text": null}')
    lines.append('{"id": "torn", "text": "and th')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def predicted(week_one, texts):
    """Parquet predictions by the first champion, through the command line."""
    out = texts.with_name("labelled.parquet")
    command = ["predict", "--data", str(texts), "--out", str(out)]
    limit = ["--set", "data.max_quarantined=0.5"]
    assert main([*command, "--store", str(week_one.snapshot), *limit]) == 0
    return out


def labels_of(table):
    return json.loads(table.schema.metadata[b"labels"])


def test_every_good_text_gets_labels_and_probabilities(predicted, week_one):
    table = pq.read_table(predicted)
    info = storage.read_json(week_one.directory / "arms" / "candidate" / "bundle" / "longtail.json")
    probabilities = np.array(table["probabilities"].to_pylist())
    cuts = np.array(info["thresholds"])

    assert table["id"].to_pylist() == list(TEXTS)
    assert labels_of(table) == info["labels"]
    assert probabilities.shape == (len(TEXTS), 20)
    for row, labels in zip(probabilities, table["labels"].to_pylist(), strict=True):
        assert labels == [name for name, given in zip(labels_of(table), row > cuts, strict=True)
                          if given]  # fmt: skip


def test_rows_that_cannot_be_labelled_are_set_aside(predicted):
    quarantine = pq.read_table(predicted.with_name("labelled.quarantine.parquet")).to_pylist()

    assert [row["position"] for row in quarantine] == [3, 6]
    assert all(row["reasons"] for row in quarantine)


@pytest.mark.parametrize(
    ("texts_of", "options"), [("abd", {}), ("abcd", {"truncation": True})], ids=["short", "all"]
)
def test_plain_transformers_gives_the_encoder_of_a_combined_bundle(
    predicted, week_one, texts_of, options
):
    """Text c is longer than the model reads; the pipeline cuts texts only when it is told to."""
    from transformers import pipeline

    bundle = load_bundle(week_one.directory / "arms" / "candidate" / "bundle")
    classify = pipeline("text-classification", model=str(bundle.path), top_k=None, **options)
    table = pq.read_table(predicted)
    ours = dict(zip(table["id"].to_pylist(), table["probabilities"].to_pylist(), strict=True))
    texts = [TEXTS[name] for name in texts_of]
    served = [{entry["label"]: entry["score"] for entry in row} for row in classify(texts)]
    alone = np.array([[row[label] for label in labels_of(table)] for row in served])
    logits = bundle.ensemble.reader.read(texts).logits["encoder"]

    assert alone == pytest.approx(scipy.special.expit(logits), abs=1e-5)
    assert np.abs(alone - [ours[name] for name in texts_of]).max() > 1e-3


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_the_other_formats_say_the_same(predicted, texts, week_one, kind, tmp_path):
    out = tmp_path / f"labelled.{kind}"
    handle = predict(
        PredictConfig(
            name=NAME,
            store=str(week_one.snapshot),
            data={"path": str(texts), "max_quarantined": 0.5},
            out=str(out),
        )
    )
    if kind == "jsonl":
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    else:
        with out.open(newline="", encoding="utf-8") as file:
            rows = [
                {name: value if name == "id" else json.loads(value) for name, value in row.items()}
                for row in csv.DictReader(file)
            ]
    table = pq.read_table(predicted)

    assert (handle.texts, handle.quarantined, handle.version) == (4, 2, 1)
    assert [row["id"] for row in rows] == table["id"].to_pylist()
    assert [row["labels"] for row in rows] == table["labels"].to_pylist()
    for row, ours in zip(rows, table["probabilities"].to_pylist(), strict=True):
        expected = dict(zip(labels_of(table), ours, strict=True))
        assert len(row["probabilities"]) == (20 if kind == "jsonl" else 5)
        for label, probability in row["probabilities"].items():
            assert probability == pytest.approx(expected[label], abs=1e-5)


# ── explanations ─────────────────────────────────────────────────────────────────────────────


def explaining(week, texts, out, **more):
    given = {
        "store": str(week.snapshot), "data": {"path": str(texts), "max_quarantined": 0.5},
        "out": str(out), "part_texts": 2, "explain": True, **more,
    }  # fmt: skip
    return PredictConfig.model_validate(given)


@pytest.fixture(scope="module")
def explained(week_one, texts):
    """The same with explanations, in parts, through the command line."""
    out = texts.with_name("explained.parquet")
    command = ["predict", "--data", str(texts), "--out", str(out), "--explain"]
    more = ["--set", "data.max_quarantined=0.5", "--set", "part_texts=2"]
    assert main([*command, "--store", str(week_one.snapshot), *more]) == 0
    return pq.read_table(out)


def test_every_label_that_is_given_is_explained(explained, predicted, week_one):
    memory = {
        name
        for part in ("train", "validation")
        for name in pq.read_table(week_one.directory / "splits" / f"{part}.parquet")[
            "id"
        ].to_pylist()
    }
    assert explained.drop_columns("explanations").equals(pq.read_table(predicted))
    rows = explained.to_pylist()
    words = {word["term"] for row in rows for one in row["explanations"] for word in one["words"]}

    assert any(row["labels"] for row in rows)
    assert words
    for row in rows:
        text = " ".join(re.findall(r"\w+", TEXTS[row["id"]].lower()))
        assert [one["label"] for one in row["explanations"]] == row["labels"]
        for one in row["explanations"]:
            assert all(word["term"] in text for word in one["words"])
            assert {near["id"] for near in one["similar"]} <= memory
            assert one["sources"]


def test_without_being_asked_nothing_is_explained(predicted):
    assert pq.read_table(predicted).column_names == ["id", "labels", "probabilities"]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_the_other_formats_explain_the_same(explained, texts, week_one, kind, tmp_path):
    out = tmp_path / f"explained.{kind}"
    predict(explaining(week_one, texts, out))
    content = out.read_text(encoding="utf-8")
    if kind == "jsonl":
        found = [json.loads(line)["explanations"] for line in content.splitlines()]
    else:
        found = [json.loads(row["explanations"]) for row in csv.DictReader(content.splitlines())]

    expected = [
        {one.pop("label"): one for one in of_text}
        for of_text in explained["explanations"].to_pylist()
    ]
    assert found == expected


@pytest.fixture
def dying(monkeypatch):
    """The parts that are labelled; it is killed before part ``until``."""
    work, dying = flows.predict.score_part, SimpleNamespace(fn=None, until=1, done=[])

    def score_part(parts, part):
        if part == dying.until:
            raise KeyboardInterrupt
        work(parts, part)
        dying.done.append((part, parts.explain))

    score_part.fn = work.fn
    monkeypatch.setattr(flows.predict, "score_part", score_part)
    return dying


@pytest.mark.parametrize("explain", [True, False])
def test_a_run_that_was_killed_goes_on_where_it_was(
    dying, explained, texts, week_one, explain, tmp_path
):
    out = tmp_path / "labelled.parquet"
    config = explaining(week_one, texts, out, explain=explain)
    with contextlib.suppress(KeyboardInterrupt):
        predict(config, return_state=True)
    assert (dying.done, out.exists()) == ([(0, explain)], False)

    dying.until = -1
    predict(config)
    assert dying.done == [(0, explain), (1, explain)]
    expected = explained if explain else explained.drop_columns("explanations")
    assert pq.read_table(out).equals(expected)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_parts_without_explanations_or_with_damaged_ones_are_labelled_anew(
    dying, explained, texts, week_one, tmp_path
):
    out = tmp_path / "labelled.parquet"
    for explain in (False, True):
        with contextlib.suppress(KeyboardInterrupt):
            predict(explaining(week_one, texts, out, explain=explain), return_state=True)
    assert dying.done == [(0, False), (0, True)]
    (part,) = tmp_path.glob(".labelled.parquet.parts-*/*.explanations.parquet")
    part.write_bytes(part.read_bytes()[:100])

    dying.until = -1
    predict(explaining(week_one, texts, out))
    assert dying.done[2:] == [(0, True), (1, True)]
    assert pq.read_table(out).equals(explained)


# ── where it reads and writes ────────────────────────────────────────────────────────────────


def test_predictions_go_beside_the_data():
    assert str(default_output("exports/new.tickets.csv")) == "exports/new.predictions.parquet"


def test_the_one_model_of_a_store_needs_no_name(week_one, tmp_path):
    assert only_model(week_one.snapshot) == NAME

    with pytest.raises(ConfigError, match="no model has been promoted here yet"):
        only_model(tmp_path)
    for name in ("desk", "shop"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "promotions.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="desk, shop; choose one with --name"):
        only_model(tmp_path)


def test_a_model_that_was_never_promoted_labels_nothing(week_one, texts, capsys, tmp_path):
    command = ["predict", "--data", str(texts), "--name", "unknown", "--store", str(tmp_path)]

    assert main(command) == 1
    assert "no champion of the name 'unknown'" in capsys.readouterr().err


def test_an_output_of_an_unknown_kind_is_bad_usage(week_one, texts, capsys):
    command = ["predict", "--data", str(texts), "--out", "labelled.xlsx"]

    assert main([*command, "--store", str(week_one.snapshot)]) == 2
    assert "found .xlsx" in capsys.readouterr().err


# ── rollback ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def store(week_two, tmp_path):
    """A store of one's own with two champions, to change."""
    return shutil.copytree(week_two.snapshot, tmp_path / "store")


def champion(store):
    return open_promotions(PublishSettings(), store, NAME).champion().number


def test_a_rollback_puts_the_champion_before_back_and_says_who_and_why(store, capsys):
    command = ["rollback", "--store", str(store), "--reason", "Too many refunds", "--by", "amara"]

    assert main(command) == 0
    assert champion(store) == 1
    assert "Version 1 is live again" in capsys.readouterr().out
    last = open_promotions(PublishSettings(), store, NAME).log()[-1]
    assert (last.kind, last.from_version, last.to_version) == ("rollback", 2, 1)
    assert (last.by, last.reasons) == ("amara", ("Too many refunds",))


def test_a_rollback_to_what_never_was_champion_changes_nothing(store, capsys):
    command = ["rollback", "--store", str(store), "--reason", "x", "--by", "amara", "--to", "7"]

    assert main(command) == 1
    assert champion(store) == 2
    assert "no version 7; promoted so far: 1, 2" in capsys.readouterr().err


def test_a_first_champion_has_nothing_to_go_back_to(week_one, tmp_path):
    from tasks.publishing import rollback

    store = shutil.copytree(week_one.snapshot, tmp_path / "store")
    with pytest.raises(StoreError, match="no previous champion"):
        rollback(open_promotions(PublishSettings(), store, NAME), "amara", "why not")
    assert champion(store) == 1
