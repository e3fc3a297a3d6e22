"""Why a label is suggested for a text: words, similar annotated texts, and sources of evidence.

Everything here can be checked by a person: words of the text itself, ids of annotated texts that
have the label, and the share of each source in the weighted sum. See
``docs/reference/predict.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
import scipy.special
from numpy.typing import NDArray

from longtail.baselines import LinearBaseline
from longtail.bundle import Bundle
from longtail.models.ensemble import Ensemble
from longtail.models.evidence import EncoderLogits, LinearDecisions, Scores
from longtail.models.neighbours import Neighbours
from longtail.models.reading import Reading
from longtail.scoring import score_bundle
from longtail.thresholds import decide

MOST_WORDS = 5
MOST_SIMILAR = 3
_DIGITS = 4
_TEXTS = 4096
_NEARLY_ONE = 1e-7
_NUMBER = pa.float64()
EXPLANATIONS = pa.list_(
    pa.struct(
        {
            "label": pa.string(),
            "words": pa.list_(pa.struct({"term": pa.string(), "contribution": _NUMBER})),
            "similar": pa.list_(pa.struct({"id": pa.string(), "similarity": _NUMBER})),
            "sources": pa.list_(pa.struct({"source": pa.string(), "contribution": _NUMBER})),
        }
    )
)
"""Type of a column of explanations: of each text, one for each label that is given."""


@dataclass(frozen=True)
class Word:
    """A word or word pair of the text.

    Attributes:
        term: lower case, as the linear arm counts it.
        contribution: its weight for the label times its TF-IDF value in the text, above 0: what
            it adds to the linear arm's decision value.
    """

    term: str
    contribution: float


@dataclass(frozen=True)
class SimilarText:
    """An annotated text that has the label.

    Attributes:
        id: of the text.
        similarity: cosine of the two texts' vectors, at most 1.
    """

    id: str
    similarity: float


@dataclass(frozen=True)
class Share:
    """A source that supports the label.

    Attributes:
        source: name of the source, a key of
            :data:`longtail.examples.SOURCE_WORDS`.
        contribution: what it adds to the log-odds of the weighted sum, beside what it adds to the
            text's mean label; above 0.
    """

    source: str
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """Why one label is given for one text; each part has the strongest first.

    Attributes:
        label: its name.
        words: up to five; empty without a linear arm.
        similar: up to three annotated texts that have the label, never the text itself nor its
            near-duplicates; empty without a memory of annotated texts.
        sources: all that support the label.
    """

    label: str
    words: tuple[Word, ...] = ()
    similar: tuple[SimilarText, ...] = ()
    sources: tuple[Share, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain data, numbers rounded to four decimals; a row of :data:`EXPLANATIONS`."""
        return {
            "label": self.label,
            "words": [
                {"term": word.term, "contribution": _rounded(word.contribution)}
                for word in self.words
            ],
            "similar": [
                {"id": text.id, "similarity": _rounded(text.similarity)} for text in self.similar
            ],
            "sources": [
                {"source": share.source, "contribution": _rounded(share.contribution)}
                for share in self.sources
            ],
        }


Explanations = list[list[Explanation]]


def explain(bundle: Bundle, texts: Sequence[str], given: NDArray[np.bool_]) -> Explanations:
    """Explain labels that are given already.

    Args:
        bundle: what gave them; one of an encoder alone has its logits as the only evidence.
        texts: n texts.
        given: bool (n, L), columns in the order of the bundle's labels.

    Returns:
        Of each text, an explanation for each of its labels, in the order of the columns.
    """
    if bundle.ensemble is None:
        return _by_encoder_alone(bundle, score_bundle(bundle, texts), given)
    reading = bundle.ensemble.reader.read(texts)
    evidence = bundle.ensemble.evidence(reading)
    return _by_ensemble(bundle, bundle.ensemble, reading, evidence, given)


def score_and_explain(bundle: Bundle, texts: Sequence[str]) -> tuple[Scores, Explanations]:
    """Probabilities, and explanations of the labels that the bundle's thresholds give.

    Each encoder reads each text once.

    Returns:
        What :func:`longtail.scoring.score_bundle` gives, and what :func:`explain` gives.
    """
    if bundle.ensemble is None:
        scores = score_bundle(bundle, texts)
        return scores, _by_encoder_alone(bundle, scores, decide(scores, bundle.thresholds))
    reading = bundle.ensemble.reader.read(texts)
    evidence = bundle.ensemble.evidence(reading)
    scores = bundle.ensemble.combination.probabilities(evidence)
    given = decide(scores, bundle.thresholds)
    return scores, _by_ensemble(bundle, bundle.ensemble, reading, evidence, given)


def as_column(explanations: Explanations) -> pa.Array:
    """Explanations of n texts as an Arrow column of type :data:`EXPLANATIONS`."""
    rows = [[one.to_json() for one in of_text] for of_text in explanations]
    return pa.array(rows, EXPLANATIONS)


def strongest_words(
    linear: LinearBaseline, texts: Sequence[str], given: NDArray[np.bool_], k: int = MOST_WORDS
) -> dict[tuple[int, int], tuple[Word, ...]]:
    """The words of each text that count most for each of its labels, by (text, label).

    Args:
        linear: fitted.
        texts: n texts.
        given: bool (n, L), which cells are asked for.
        k: words of a cell.

    Raises:
        RuntimeError: not fitted.
    """
    if linear.vectorizer is None:
        raise RuntimeError("fit() comes first")
    terms = linear.vectorizer.get_feature_names_out()
    weights = sp.csr_array(linear.weights)
    found = {}
    for start in range(0, len(texts), _TEXTS):
        block = slice(start, start + _TEXTS)
        features = sp.csr_array(linear.vectorizer.transform(texts[block]))
        features.sort_indices()
        of_label = np.zeros(weights.shape[1])
        for label, rows in _columns(given[block]):
            own = slice(weights.indptr[label], weights.indptr[label + 1])
            of_label[weights.indices[own]] = weights.data[own]
            for row in rows.tolist():
                at = slice(features.indptr[row], features.indptr[row + 1])
                columns = features.indices[at]
                values = features.data[at] * of_label[columns]
                best = _best(values, k)
                words = zip(terms[columns[best]], values[best].tolist(), strict=True)
                found[start + row, label] = tuple(Word(str(term), value) for term, value in words)
            of_label[weights.indices[own]] = 0.0
    return found


def _by_ensemble(
    bundle: Bundle,
    ensemble: Ensemble,
    reading: Reading,
    evidence: Mapping[str, Scores],
    given: NDArray[np.bool_],
) -> Explanations:
    linear = ensemble.sources.get(LinearDecisions.name)
    words = (
        strongest_words(linear.model, reading.texts, given)
        if isinstance(linear, LinearDecisions)
        else {}
    )
    memory = ensemble.sources.get(Neighbours.name)
    similar = (
        memory.similar_with_label(reading, given, MOST_SIMILAR)
        if isinstance(memory, Neighbours)
        else {}
    )
    shares = _shares(ensemble.combination.contributions(evidence), given)
    found: Explanations = [[] for _ in reading.texts]
    for (row, label), sources in shares.items():
        near = similar.get((row, label))
        texts = () if near is None else zip(near.ids, near.similarities, strict=True)
        found[row].append(
            Explanation(
                bundle.info.labels[label],
                words.get((row, label), ()),
                tuple(SimilarText(name, min(close, 1.0)) for name, close in texts),
                sources,
            )
        )
    return found


def _by_encoder_alone(bundle: Bundle, scores: Scores, given: NDArray[np.bool_]) -> Explanations:
    sure = np.clip(scores.astype(np.float64), _NEARLY_ONE, 1 - _NEARLY_ONE)
    logits = scipy.special.logit(sure).astype(np.float32)
    beside = logits - logits.mean(axis=1, keepdims=True)
    found: Explanations = [[] for _ in scores]
    for (row, label), sources in _shares({EncoderLogits.name: beside}, given).items():
        found[row].append(Explanation(bundle.info.labels[label], sources=sources))
    return found


def _shares(
    contributions: Mapping[str, Scores], given: NDArray[np.bool_]
) -> dict[tuple[int, int], tuple[Share, ...]]:
    """Sources with a positive contribution of each given cell, by (text, label) in that order."""
    names = list(contributions)
    rows, columns = np.nonzero(given)
    values = np.zeros((len(rows), len(names)), dtype=np.float32)
    for at, name in enumerate(names):
        values[:, at] = contributions[name][rows, columns]
    found = {}
    for row, column, of_cell in zip(rows.tolist(), columns.tolist(), values, strict=True):
        best = _best(of_cell, len(names))
        found[row, column] = tuple(Share(names[at], float(of_cell[at])) for at in best)
    return found


def _columns(given: NDArray[np.bool_]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The labels that are given to any text, and the texts of each."""
    cells = sp.csc_array(given)
    for label in np.flatnonzero(np.diff(cells.indptr)).tolist():
        yield label, cells.indices[cells.indptr[label] : cells.indptr[label + 1]]


def _best(values: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Where the k highest values above 0 are, the highest first."""
    order = np.argsort(-values, kind="stable")[:k]
    return order[values[order] > 0.0]


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS)
