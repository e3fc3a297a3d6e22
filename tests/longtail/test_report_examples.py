"""The page's examples: what supports a suggestion, by ids, and nothing that a browser runs."""

from __future__ import annotations

import shutil

import pytest
from report_run import SECRET, write_run
from test_report import HOSTILE, rendered

from longtail import storage
from longtail.examples import EXAMPLES
from longtail.report.examples import examples_sentence, examples_table
from longtail.report.files import load_run

SUGGESTION = {
    "label": "refund", "probability": 0.9712, "right": True,
    "words": [{"term": "money back", "contribution": 0.4137},
              {"term": "tent", "contribution": 0.2}],
    "similar": [{"id": "T7", "similarity": 0.9349}],
    "sources": [{"source": "linear", "contribution": 2.1},
                {"source": "neighbours", "contribution": 0.4}],
}  # fmt: skip


def suggestion(**changes):
    return {**SUGGESTION, **changes}


def example(*suggestions, name="T0311", label="refund"):
    shown = {"label": label, "why": "right, most confident"}
    return {"id": name, "shown_for": shown, "suggestions": list(suggestions)}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def run(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run")


def write(run, *examples, **more):
    storage.write_json(run / EXAMPLES, {"examples": list(examples), **more})


def cells(run):
    return [[cell.text for cell in row] for row in examples_table(load_run(run)).rows]


def test_a_suggestion_and_its_evidence(run):
    wrong = suggestion(label="tent", probability=0.51, right=False, words=[], similar=[])
    unknown = suggestion(label="new", probability=0.5, right=None, sources=[{"source": "oracle"}])
    write(run, example(SUGGESTION, wrong, unknown))

    assert cells(run) == [
        ["T0311", "right, most confident", "refund", "97.1\N{NARROW NO-BREAK SPACE}%", "right",
         "money back (+0.41), tent (+0.20)", "T7 (0.93)", "words, similar texts"],
        ["T0311", "", "tent", "51.0\N{NARROW NO-BREAK SPACE}%", "wrong", "–", "–",
         "words, similar texts"],
        ["T0311", "", "new", "50.0\N{NARROW NO-BREAK SPACE}%", "not known",
         "money back (+0.41), tent (+0.20)", "T7 (0.93)", "oracle"],
    ]  # fmt: skip
    page = rendered(run)
    assert "Examples" in page.text
    assert "money back (+0.41)" in page.text
    assert SECRET not in page.text


def test_the_suggestion_that_a_text_is_shown_for_comes_first_and_five_at_most(run):
    many = [suggestion(label=f"label-{at}") for at in range(7)]
    write(run, example(*many, label="label-6"))

    assert [row[2] for row in cells(run)] == [f"label-{at}" for at in (6, 0, 1, 2, 3)]


def test_hostile_words_ids_and_labels_are_escaped(run):
    hostile = suggestion(
        label=HOSTILE,
        words=[{"term": HOSTILE, "contribution": 0.4}],
        similar=[{"id": HOSTILE, "similarity": 0.5}],
        sources=[{"source": HOSTILE}],
    )
    before = rendered(run)
    write(run, example(hostile, name=HOSTILE, label=HOSTILE))
    page = rendered(run)

    assert page.scripts == before.scripts
    assert page.text.count(HOSTILE) >= 5
    assert sum(tag == "script" for tag, _ in page.tags) == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "This run recorded no examples."),
        ({"examples": []}, "The candidate suggests no label for a test text."),
        ({"failed": "the disk is full <b>"}, "could not be made: the disk is full <b>"),
    ],
)
def test_why_there_are_no_examples(run, content, sentence):
    if content is not None:
        storage.write_json(run / EXAMPLES, content)

    assert examples_table(load_run(run)) is None
    assert sentence in examples_sentence(load_run(run))
    assert sentence in rendered(run).text


def test_a_file_that_says_nothing_is_no_error(run):
    for content in ({"examples": "x"}, {"examples": [1, {"id": 3, "suggestions": [None, {}]}]}):
        storage.write_json(run / EXAMPLES, content)
        rendered(run)
