"""What supports a label: words by hand, similar texts that have it, and the sources."""

import itertools
import math
import re

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from tiny_case import SPACE, WORDS, labelled, tiny_encoder

from longtail.baselines import LinearBaseline
from longtail.bundle import Bundle, BundleInfo
from longtail.config import LinearSettings
from longtail.encoder import build_classifier
from longtail.examples import SOURCE_WORDS
from longtail.models.combination import Combination, WeightedSum
from longtail.models.ensemble import SOURCES, Ensemble
from longtail.models.evidence import Annotated, EncoderLogits, LinearDecisions
from longtail.models.explanation import (
    EXPLANATIONS,
    as_column,
    explain,
    score_and_explain,
    strongest_words,
)
from longtail.models.neighbours import Neighbours
from longtail.models.reading import EncoderReader, Reading
from longtail.scoring import score, score_bundle
from longtail.thresholds import decide

TRAIN = labelled(80, 1)
UNITS = np.arange(80) // 2  # each text has one near-duplicate
TEXTS = [*labelled(12, 5).texts, TRAIN.texts[4], "", "password printer"]
WEIGHTS = {"encoder": 0.5, "linear": 2.0, "neighbours": 0.7}


@pytest.fixture(scope="module")
def model():
    model = build_classifier(tiny_encoder(), SPACE.names, seed=0)
    torch.manual_seed(1)
    torch.nn.init.normal_(model.classifier.weight)
    return model.eval()


@pytest.fixture(scope="module")
def made(model):
    """Reader and fitted sources."""
    reader = EncoderReader({"encoder": model}, tiny_encoder().tokenizer, max_length=24,
                           frozen_layers=2)  # fmt: skip
    ids = [f"train-{row}" for row in range(80)]
    memory = Annotated(reader.read(TRAIN.texts), TRAIN.y, ids, UNITS)
    linear = LinearBaseline(LinearSettings()).fit(TRAIN.texts, TRAIN.y)
    sources = (EncoderLogits(), LinearDecisions(linear), Neighbours(7).fit(memory))
    return reader, {source.name: source for source in sources}


def info(threshold=0.5):
    return BundleInfo(
        labels=SPACE.names, thresholds=(threshold,) * 6, threshold_policy="global",
        label_groups=("HEAD",) * 6, group_cutoffs=(1, 1), train_support=(9,) * 6, max_length=24,
        frozen_layers=2, loss="db", data_fingerprint="d" * 64, encoder_fingerprint="e",
        encoder_source="tiny",
    )  # fmt: skip


def bundle_of(made, model, tmp_path, names=tuple(WEIGHTS)):
    reader, sources = made
    weighted = WeightedSum({name: WEIGHTS[name] for name in names}, -1.0)
    combination = Combination("weighted sum", names, weighted, np.full(6, 9))
    asked = {name: sources[name] for name in names}
    return Bundle(tmp_path, model, tiny_encoder().tokenizer, info(),
                  Ensemble(reader, asked, combination))  # fmt: skip


@pytest.fixture
def bundle(made, model, tmp_path):
    return bundle_of(made, model, tmp_path)


def by_hand(linear, text, label):
    """Weight × TF-IDF of every word and word pair of a text, by the formulas."""
    vocabulary, idf = linear.vectorizer.vocabulary_, linear.vectorizer.idf_
    words = re.findall(r"\w+", text.lower())
    terms = [*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))]
    values = {term: (1 + math.log(terms.count(term))) * idf[vocabulary[term]]
              for term in set(terms) if term in vocabulary}  # fmt: skip
    length = math.sqrt(sum(value**2 for value in values.values()))
    weights = linear.weights.toarray()[label]
    return {term: weights[vocabulary[term]] * value / length for term, value in values.items()}


def test_the_words_are_those_of_a_hand_computation(made):
    linear = made[1]["linear"].model
    found = strongest_words(linear, TEXTS, np.ones((len(TEXTS), 6), bool))

    several = 0
    for (row, label), words in found.items():
        expected = by_hand(linear, TEXTS[row], label)
        best = sorted((value for value in expected.values() if value > 0), reverse=True)[:5]
        assert [word.contribution for word in words] == pytest.approx(best)
        for word in words:
            assert word.contribution == pytest.approx(expected[word.term])
        several += len(words) > 1
    assert len(found) == len(TEXTS) * 6
    assert several > 20


def test_the_words_add_up_to_the_decision_value(made):
    linear = made[1]["linear"].model
    text = "password"
    [[word]] = strongest_words(linear, [text], np.eye(1, 6, 3, dtype=bool)).values()

    assert word.term == SPACE.names[3] == text
    decision = linear.decisions([text])[0, 3]
    assert word.contribution + linear.intercepts[3] == pytest.approx(decision, rel=1e-5)


def test_words_of_many_texts_are_found_block_by_block(made, monkeypatch):
    linear = made[1]["linear"].model
    given = np.random.default_rng(0).random((len(TEXTS), 6)) < 0.4
    whole = strongest_words(linear, TEXTS, given)
    monkeypatch.setattr("longtail.models.explanation._TEXTS", 4)

    assert strongest_words(linear, TEXTS, given) == whole
    assert set(whole) == set(zip(*np.nonzero(given), strict=True))


@pytest.mark.parametrize("block", [None, 1])
def test_similar_texts_have_the_label_and_are_the_nearest(made, monkeypatch, block):
    if block:
        monkeypatch.setattr("longtail.models.neighbours._BLOCK", block)
    reader, sources = made
    memory, reading = sources["neighbours"], reader.read(TEXTS)
    found = memory.similar_with_label(reading, np.ones((len(TEXTS), 6), bool), 3)

    y = TRAIN.y.toarray()
    close = reading.vectors["encoder"] @ memory.vectors.astype(np.float32).T
    for (row, label), similar in found.items():
        own = [UNITS[TRAIN.texts.index(TEXTS[row])]] if TEXTS[row] in TRAIN.texts else []
        allowed = [at for at in range(80) if y[at, label] and UNITS[at] not in own]
        best = sorted(close[row, allowed], reverse=True)[:3]
        assert similar.similarities == pytest.approx(tuple(best), abs=1e-6)
        assert set(similar.rows) <= set(allowed)
        assert similar.ids == tuple(f"train-{at}" for at in similar.rows)
    assert len(found) == len(TEXTS) * 6


def test_a_text_of_the_memory_never_supports_itself_nor_do_its_near_duplicates(bundle):
    for row in (4, 5):
        given = TRAIN.y.toarray()[[row]].astype(bool)
        [explanations] = explain(bundle, [TRAIN.texts[row]], given)
        similar = {text.id for one in explanations for text in one.similar}
        assert similar
        assert not similar & {"train-4", "train-5"}


def test_a_label_that_only_the_text_itself_has_has_no_similar_text():
    vectors = np.eye(2, dtype=np.float32)
    reading = Reading(["a", "b"], {}, {"encoder": vectors}, None)
    y = sp.csr_array(np.array([[True, False], [False, False]]))
    memory = Neighbours(2).fit(Annotated(reading, y, ["a", "b"], np.arange(2)))

    assert memory.similar_with_label(reading, np.array([[1, 1], [0, 0]], bool), 3) == {}
    found = memory.similar_with_label(reading, np.array([[0, 0], [1, 1]], bool), 3)
    assert {cell: similar.ids for cell, similar in found.items()} == {(1, 0): ("a",)}


def test_sources_are_sorted_by_what_they_add_to_the_weighted_sum(bundle):
    given = np.ones((len(TEXTS), 6), bool)
    evidence = bundle.ensemble.evidence(bundle.ensemble.reader.read(TEXTS))
    for row, explanations in enumerate(explain(bundle, TEXTS, given)):
        for label, one in enumerate(explanations):
            added = {name: weight * (evidence[name][row, label] - evidence[name][row].mean())
                     for name, weight in WEIGHTS.items()}  # fmt: skip
            assert one.label == SPACE.names[label]
            positive = sorted((-value, name) for name, value in added.items() if value > 0)
            assert [share.source for share in one.sources] == [name for _, name in positive]
            assert [-share.contribution for share in one.sources] == pytest.approx(
                [value for value, _ in positive], abs=1e-5
            )


def test_probabilities_are_those_that_are_served_and_given_labels_are_explained(bundle):
    scores, explanations = score_and_explain(bundle, TEXTS)

    np.testing.assert_array_equal(scores, score_bundle(bundle, TEXTS))
    given = decide(scores, bundle.thresholds)
    assert 0 < given.sum() < given.size
    for row, of_text in zip(given, explanations, strict=True):
        assert [one.label for one in of_text] == [SPACE.names[j] for j in np.flatnonzero(row)]
    assert explain(bundle, TEXTS, given) == explanations


def test_each_encoder_reads_each_text_once(bundle, monkeypatch):
    read, calls = EncoderReader.read, []

    def counted(self, texts, **options):
        calls.append(list(texts))
        return read(self, texts, **options)

    monkeypatch.setattr(EncoderReader, "read", counted)
    score_and_explain(bundle, TEXTS)
    assert calls == [TEXTS]


def test_an_encoder_alone_is_the_only_source(model, tmp_path):
    alone = Bundle(tmp_path, model, tiny_encoder().tokenizer, info(0.3))
    scores, explanations = score_and_explain(alone, TEXTS)

    np.testing.assert_array_equal(
        scores, score(model, tiny_encoder().tokenizer, TEXTS, max_length=24)
    )
    found = [one for of_text in explanations for one in of_text]
    assert found
    for one in found:
        assert one.words == one.similar == ()
        assert {share.source for share in one.sources} <= {"encoder"}
    best = [SPACE.names[row.argmax()] for row in scores if row.max() > 0.3]
    supported = {one.label for one in found if one.sources}
    assert set(best) <= supported
    assert explain(alone, TEXTS, decide(scores, alone.thresholds)) == explanations


def test_without_the_linear_arm_or_the_memory_the_rest_is_explained(made, model, tmp_path):
    def every(bundle):
        explanations = explain(bundle, TEXTS, np.ones((len(TEXTS), 6), bool))
        return list(itertools.chain.from_iterable(explanations))

    wordless = bundle_of(made, model, tmp_path, ("encoder", "neighbours"))
    memoryless = bundle_of(made, model, tmp_path, ("encoder", "linear"))

    for one in every(wordless):
        assert (one.words, len(one.similar)) == ((), 3)
    for one in every(memoryless):
        assert one.similar == ()
    assert any(one.words for one in every(memoryless))


def test_no_text_and_no_label(bundle):
    scores, explanations = score_and_explain(bundle, [])
    assert (scores.shape, explanations) == ((0, 6), [])
    assert explain(bundle, TEXTS, np.zeros((len(TEXTS), 6), bool)) == [[]] * len(TEXTS)


def test_a_sum_in_which_nothing_has_a_weight_names_no_source(made, model, tmp_path):
    bundle = bundle_of(made, model, tmp_path)
    nothing = WeightedSum(dict.fromkeys(WEIGHTS, 0.0), 3.0)
    weightless = Combination("weighted sum", tuple(WEIGHTS), nothing, np.full(6, 9))
    ensemble = Ensemble(bundle.ensemble.reader, bundle.ensemble.sources, weightless)
    _, explanations = score_and_explain(
        Bundle(tmp_path, model, bundle.tokenizer, info(), ensemble), [WORDS[0]]
    )

    assert len(explanations[0]) == 6
    assert all(one.sources == () for one in explanations[0])


def test_a_column_of_explanations(bundle):
    _, explanations = score_and_explain(bundle, TEXTS)
    column = as_column(explanations)

    assert column.type == EXPLANATIONS
    assert column.to_pylist() == [[one.to_json() for one in of_text] for of_text in explanations]
    similar = [text for row in column.to_pylist() for one in row for text in one["similar"]]
    assert all(text["similarity"] == round(text["similarity"], 4) <= 1.0 for text in similar)
    assert as_column([]).type == EXPLANATIONS


def test_every_source_has_a_name_for_people():
    assert set(SOURCE_WORDS) == set(SOURCES)
