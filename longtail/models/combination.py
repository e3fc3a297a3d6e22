"""One model over all (text, label) cells that weighs the sources of evidence (stacking).

It never sees which label a cell belongs to, only what the sources say of it and how common the
label is; so what common labels teach about the sources serves the rare ones (Wolpert 1992,
"Stacked generalization"; one model over all labels as in Kull and colleagues' and Annif's
ensembles). Fitted on validation texts, out of fold for whatever is judged or cut on them.
See ``docs/reference/combination.md``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import scipy.optimize
import scipy.sparse as sp
import scipy.special
from numpy.typing import NDArray

from longtail import storage
from longtail.config import CombinationSettings
from longtail.cuts import Known
from longtail.errors import DataError, StoreError
from longtail.models.evidence import EncoderLogits, Scores
from longtail.models.trees import Trees
from longtail.thresholds import best_global_threshold

logger = logging.getLogger(__name__)

Evidence = Mapping[str, Scores]
Method = Literal["learned", "weighted sum", "one source"]
Fitting = Literal["auto", "weighted sum", "learned"]

_ABOUT = "combination.json"
_TREES = "trees.parquet"
_PAIRS = "cooccurrence.parquet"
_FORMAT = 1
_PER_SOURCE = 12
"""Labels of a text, by each source, that the weighted sum is fitted on."""
_LEAST_SPREAD = 1e-6
"""Values of a source that differ by less are taken for equal."""
_PLAIN = EncoderLogits.name
"""Where it decides alone it is taken as it is: plain transformers must serve the same."""
_LEAST_POSITIVES = 30
"""Fewer positives teach nothing about several sources."""
_TOO_FEW = (
    "Validation has {:,} texts with {:,} labels, too few to learn how far to trust each source: "
    "{} decides alone."
)
_NOT_LEARNED = (
    "Validation has {:,} texts, fewer than the {:,} from which on a model is learned over all "
    "cells: the sources are added up."
)
_SUM_IS_BETTER = (
    "What was learned over all cells is no better on validation than the sum of the sources: they "
    "are added up."
)
_ONE_IS_BETTER = "No combination is better on validation than {} alone, which decides."


@dataclass(frozen=True)
class WeightedSum:
    """Log-odds b + Σ w_s x_s of the sources' values x_s, no w_s below 0.

    Attributes:
        weights: w of each source.
        intercept: b.
    """

    weights: Mapping[str, float]
    intercept: float

    @classmethod
    def fit(
        cls, evidence: Evidence, y: NDArray[np.bool_], known: Known, sources: Sequence[str]
    ) -> WeightedSum:
        """Logistic regression over the cells that any source ranks high, weights not negative."""
        cells = _ranked_high(evidence, sources)
        if known is not None:
            cells &= known
        targets = y[cells].astype(np.float64)
        if not 0 < targets.sum() < len(targets):
            share = (targets.sum() + 0.5) / (len(targets) + 1.0)
            return cls(dict.fromkeys(sources, 0.0), float(scipy.special.logit(share)))
        values = np.stack([evidence[name][cells] for name in sources], axis=1).astype(np.float64)
        centre, spread = values.mean(axis=0), values.std(axis=0)
        # What is the same everywhere says nothing, and must not weigh 1 / spread.
        inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > _LEAST_SPREAD)
        scaled = (values - centre) * inverse

        def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            weights, intercept = parameters[:-1], parameters[-1]
            log_odds = scaled @ weights + intercept
            error = (scipy.special.expit(log_odds) - targets) / len(targets)
            value = np.mean(np.logaddexp(0.0, log_odds) - targets * log_odds)
            # A trace of a penalty, so that sources that say the same have one best weight.
            value += 1e-6 * (weights @ weights)
            return float(value), np.append(scaled.T @ error + 2e-6 * weights, error.sum())

        start = np.append(np.ones(len(sources)), -2.0)
        bounds = [(0.0, None)] * len(sources) + [(None, None)]
        found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
        weights = found[:-1] * inverse
        names = dict(zip(sources, weights.tolist(), strict=True))
        return cls(names, float(found[-1] - weights @ centre))

    def log_odds(self, evidence: Evidence) -> Scores:
        """The sum, float32 (n, L)."""
        shape = next(iter(evidence.values())).shape
        result: Scores = np.full(shape, self.intercept, dtype=np.float32)
        for name, weight in self.weights.items():
            if weight > 0.0:
                result += np.float32(weight) * evidence[name]
        return result


@dataclass(frozen=True, eq=False)
class Combination:
    """What turns evidence into probabilities.

    Attributes:
        method: how: the learned trees, the weighted sum, or one source alone.
        sources: the sources that it asks for.
        weighted: the weighted sum; the trees build upon it.
        support: training texts of each label, (L,).
        candidates: labels of a text that the trees look at, the best by the weighted sum.
        pairs: P(label | other label) in the training texts, (L, L) by other label; None: not used.
        trees: what was learned over all cells; None without.
        notes: why it is no more than it is, as sentences; empty where all was used.
    """

    method: Method
    sources: tuple[str, ...]
    weighted: WeightedSum
    support: NDArray[np.int64]
    candidates: int = 40
    pairs: sp.csr_array | None = None
    trees: Trees | None = None
    notes: tuple[str, ...] = field(default=())

    def probabilities(self, evidence: Evidence) -> Scores:
        """Probability of each label, float32 (n, L).

        Beyond a text's candidates it is that of the weighted sum, at most the least candidate's.

        Args:
            evidence: float32 (n, L) of each source.

        Raises:
            DataError: a source gave a number that is not finite.
        """
        _check_finite(evidence)
        sums = self.weighted.log_odds(evidence)
        if self.trees is None or not len(sums):
            return _sigmoid(sums)
        cells = _Cells.of(evidence, sums, self)
        found = scipy.special.expit(self.trees.log_odds(cells.features)).astype(np.float32)
        chosen = found.reshape(cells.columns.shape)
        result: Scores = np.minimum(_sigmoid(sums), chosen.min(axis=1, keepdims=True))
        np.put_along_axis(result, cells.columns, chosen, axis=1)
        return result

    def contributions(self, evidence: Evidence) -> dict[str, Scores]:
        """What each source adds to the weighted sum's log-odds beside its mean over the text.

        Returns:
            float32 (n, L) by source, of the sources with a weight.
        """
        found = {}
        for name, weight in self.weighted.weights.items():
            if weight > 0.0:
                values = evidence[name]
                found[name] = np.float32(weight) * (values - values.mean(axis=1, keepdims=True))
        return found

    def save(self, directory: Path) -> None:
        """Write ``combination.json``, and trees and pairs as Parquet where there are any."""
        if self.trees is not None:
            self.trees.save(directory / _TREES)
        if self.pairs is not None:
            pairs = sp.coo_array(self.pairs)
            table = {"given": pairs.coords[0].astype(np.int32),
                     "label": pairs.coords[1].astype(np.int32), "share": pairs.data}  # fmt: skip
            storage.write_parquet(directory / _PAIRS, pa.table(table))
        about = {
            "format": _FORMAT, "method": self.method, "sources": self.sources,
            "weights": dict(self.weighted.weights), "intercept": self.weighted.intercept,
            "support": self.support.tolist(), "candidates": self.candidates,
            "trees": self.trees is not None, "pairs": self.pairs is not None, "notes": self.notes,
        }  # fmt: skip
        storage.write_json(directory / _ABOUT, about)

    @classmethod
    def load(cls, directory: Path) -> Combination:
        """Read what :meth:`save` wrote.

        Raises:
            StoreError: it is damaged, contradicts itself, or is of another format.
        """
        path = directory / _ABOUT
        if not path.is_file():
            raise StoreError(f"{path}: missing, so there is nothing to combine the evidence with")
        about = storage.read_json(path)
        if not isinstance(about, dict) or about.get("format") != _FORMAT:
            raise StoreError(f"{path}: not a combination of format {_FORMAT}")
        try:
            weights = {str(name): float(weight) for name, weight in about["weights"].items()}
            found = cls(
                method=about["method"],
                sources=tuple(about["sources"]),
                weighted=WeightedSum(weights, float(about["intercept"])),
                support=np.array(about["support"], dtype=np.int64),
                candidates=int(about["candidates"]),
                pairs=_read_pairs(directory / _PAIRS, len(about["support"]))
                if about["pairs"]
                else None,
                trees=Trees.load(directory / _TREES, len(_feature_names(about["sources"])))
                if about["trees"]
                else None,
                notes=tuple(about["notes"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"{path}: not a whole combination ({error})") from error
        numbers = [*weights.values(), found.weighted.intercept]
        if not weights or set(weights) != set(found.sources) or found.candidates < 1:
            raise StoreError(f"{path}: weights and sources contradict each other")
        if not np.isfinite(numbers).all() or min(weights.values()) < 0.0:
            raise StoreError(f"{path}: a weight is not a number of at least 0")
        return found


@dataclass(frozen=True)
class CrossFitted:
    """A combination, and what it says of the texts that it learned from without having seen them.

    Attributes:
        combination: fitted on all texts.
        out_of_fold: probabilities, float32 (n, L); each text by a combination that did not learn
            from it nor from its near-duplicates.
        micro_f1: of the out-of-fold probabilities at their best global threshold, for each method
            that was tried, and of every source alone.
        log_loss: of the out-of-fold probabilities, per text.
    """

    combination: Combination
    out_of_fold: Scores
    micro_f1: Mapping[str, float]
    log_loss: Mapping[str, float]


def cross_fit(
    evidence: Evidence,
    y: sp.csr_array,
    known: Known,
    units: NDArray[np.int64],
    support: NDArray[np.int64],
    pairs: sp.csr_array | None,
    settings: CombinationSettings,
    *,
    method: Fitting = "auto",
) -> CrossFitted:
    """Fit a combination on annotated texts, out of fold and on all of them.

    The learned model is taken where its out-of-fold log loss is below that of the weighted sum;
    neither is taken where one source alone has a higher micro-F1. With too few texts to divide,
    the first source alone is taken as it is.

    Args:
        evidence: float32 (n, L) of each source, for texts that no source has learned from.
        y: labels, bool (n, L).
        known: bool (n, L), False where it is not known whether the label holds; None: all known.
        units: texts of one unit stay together in a fold, int64 (n,).
        support: training texts of each label, int64 (L,).
        pairs: what :func:`cooccurrence` gave; None leaves it out.
        settings: folds, and from how many texts on to learn.
        method: ``weighted sum`` tries no learned model, ``learned`` nothing else, to compare them.

    Returns:
        The combination with out-of-fold probabilities for the texts.

    Raises:
        DataError: a source gave a number that is not finite.
        ValueError: the shapes do not fit.
    """
    sources = tuple(evidence)
    _check_finite(evidence)
    _check_shapes(evidence, y, known, units, support)
    truth = y.toarray().astype(bool)
    positives = int((truth if known is None else truth & known).sum())
    enough = len(np.unique(units)) >= 2 * settings.folds and positives >= _LEAST_POSITIVES
    if not enough or len(sources) == 1:
        first = _PLAIN if _PLAIN in sources else sources[0]
        notes = () if enough else (_TOO_FEW.format(len(truth), positives, first),)
        alone = _as_it_is(first, support, notes)
        return CrossFitted(alone, alone.probabilities(evidence), {}, {})
    fitter = _Fitter(evidence, truth, known, support, pairs, settings)
    folds = _folds(units, settings.folds, settings.seed)
    notes = ()
    tried: dict[str, Scores] = {}
    if method != "learned":
        tried["weighted sum"] = fitter.cross(folds, sources, learned=False)
    if method == "learned" or (method == "auto" and len(truth) >= settings.min_texts):
        tried["learned"] = fitter.cross(folds, sources, learned=True)
    elif method == "auto":
        notes = (_NOT_LEARNED.format(len(truth), settings.min_texts),)
    losses = {name: _log_loss(truth, scores, known) for name, scores in tried.items()}
    reached = {name: best_global_threshold(y, scores, known)[1] for name, scores in tried.items()}
    alone_f1 = {
        name: best_global_threshold(y, _sigmoid(evidence[name]), known)[1] for name in sources
    }
    chosen = min(losses, key=lambda name: losses[name])
    best = max(alone_f1, key=lambda name: alone_f1[name])
    if method != "learned" and alone_f1[best] > reached[chosen]:
        notes = (*notes, _ONE_IS_BETTER.format(best))
        if best == _PLAIN:
            alone = _as_it_is(best, support, notes)
            return CrossFitted(
                alone, alone.probabilities(evidence), {**reached, **alone_f1}, losses
            )
        sources, chosen = (best,), "one source"
        tried[chosen] = fitter.cross(folds, sources, learned=False)
    elif chosen == "weighted sum" and "learned" in tried:
        notes = (*notes, _SUM_IS_BETTER)
    combination = fitter.fit(slice(None), sources, learned=chosen == "learned", notes=notes)
    return CrossFitted(combination, tried[chosen], {**reached, **alone_f1}, losses)


def cooccurrence(y: sp.csr_array, known: Known = None) -> sp.csr_array:
    """P(label | other label) among annotated texts, sparse float32 (L, L), a row per other label.

    Args:
        y: labels of the training texts, bool (n, L).
        known: bool (n, L); cells that are not known are in no count of both.
    """
    counts = sp.csr_array(y if known is None else y.multiply(known), dtype=np.float32)
    both = sp.csr_array(counts.T @ counts)
    texts = both.diagonal()
    both.setdiag(0.0)
    both.eliminate_zeros()
    if known is None:
        return sp.csr_array(sp.diags_array(1.0 / np.maximum(texts, 1.0)) @ both, dtype=np.float32)
    # Of a label's texts, only those count of which it is known whether they have the other one.
    asked = sp.coo_array(both)
    given, label = asked.coords
    denominators = np.asarray((counts.T @ known.astype(np.float32))[given, label])
    shares = (asked.data / np.maximum(denominators, 1.0)).astype(np.float32)
    return sp.csr_array((shares, (given, label)), shape=both.shape)


@dataclass(frozen=True)
class _Fitter:
    """Evidence and truth of the texts that a combination is fitted on."""

    evidence: Evidence
    truth: NDArray[np.bool_]
    known: Known
    support: NDArray[np.int64]
    pairs: sp.csr_array | None
    settings: CombinationSettings

    def cross(self, folds: NDArray[np.int64], sources: tuple[str, ...], *, learned: bool) -> Scores:
        """Out-of-fold probabilities, (n, L)."""
        result = np.zeros(self.truth.shape, dtype=np.float32)
        for fold in np.unique(folds):
            inside = folds == fold
            fitted = self.fit(~inside, sources, learned=learned)
            result[inside] = fitted.probabilities(_rows(self.evidence, inside))
        return result

    def fit(
        self,
        rows: NDArray[np.bool_] | slice,
        sources: tuple[str, ...],
        *,
        learned: bool,
        notes: tuple[str, ...] = (),
    ) -> Combination:
        """A combination of some of the sources, fitted on some of the texts."""
        evidence = {name: self.evidence[name][rows] for name in sources}
        truth = self.truth[rows]
        known = None if self.known is None else self.known[rows]
        weighted = WeightedSum.fit(evidence, truth, known, sources)
        method: Method = "weighted sum" if len(sources) > 1 else "one source"
        summed = Combination(method, sources, weighted, self.support, notes=notes)
        if not learned:
            return summed
        found = Combination(
            "learned", sources, weighted, self.support, self.settings.candidates, self.pairs,
            notes=notes,
        )  # fmt: skip
        cells = _Cells.of(evidence, weighted.log_odds(evidence), found)
        targets = np.take_along_axis(truth, cells.columns, axis=1).reshape(-1)
        features = cells.features
        if known is not None:
            seen = np.take_along_axis(known, cells.columns, axis=1).reshape(-1)
            targets, features = targets[seen], features[seen]
        if targets.all() or not targets.any():
            return summed
        trees = Trees.fit(features, targets, _monotone(sources), seed=self.settings.seed)
        return Combination(
            "learned", sources, weighted, self.support, self.settings.candidates, self.pairs,
            trees, notes,
        )  # fmt: skip


@dataclass(frozen=True)
class _Cells:
    """The cells that the trees look at.

    Attributes:
        columns: labels of each text, the best by the weighted sum first, (n, k).
        features: float32 (n · k, F).
    """

    columns: NDArray[np.int64]
    features: NDArray[np.float32]

    @classmethod
    def of(cls, evidence: Evidence, sums: Scores, combination: Combination) -> _Cells:
        k = min(combination.candidates, sums.shape[1])
        columns = np.argpartition(-sums, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(sums, columns, axis=1), axis=1, kind="stable")
        columns = np.take_along_axis(columns, order, axis=1)
        parts: list[NDArray[Any]] = []
        for name in combination.sources:
            values = evidence[name]
            own = np.take_along_axis(values, columns, axis=1)
            parts += [own, own - values.max(axis=1, keepdims=True)]
        best = np.take_along_axis(sums, columns, axis=1)
        expected = scipy.special.expit(best)
        parts += [best, best - best[:, :1]]
        parts.append(np.broadcast_to(np.arange(k, dtype=np.float32), best.shape))
        parts.append(np.log1p(combination.support).astype(np.float32)[columns])
        parts.append(expected.sum(axis=1, keepdims=True) - expected)
        parts.append(_implied(expected, columns, combination))
        features = np.stack(parts, axis=-1).astype(np.float32, copy=False)
        return cls(columns, features.reshape(-1, features.shape[-1]))


_SHARED = (
    ("sum", 1), ("sum behind the best", 1), ("rank", -1), ("support", 0), ("others expected", 0),
    ("implied by others", 1),
)  # fmt: skip


def _feature_names(sources: Sequence[str]) -> list[str]:
    own = [name for source in sources for name in (source, f"{source} behind the best")]
    return own + [name for name, _ in _SHARED]


def _monotone(sources: Sequence[str]) -> list[int]:
    return [1] * (2 * len(sources)) + [sign for _, sign in _SHARED]


def _implied(
    expected: NDArray[Any], columns: NDArray[np.int64], combination: Combination
) -> NDArray[np.float32]:
    """Σ over a text's other likely labels of their probability times P(label | other label)."""
    if combination.pairs is None:
        return np.zeros(columns.shape, dtype=np.float32)
    starts = np.arange(0, columns.size + 1, columns.shape[1])
    shape = (len(columns), len(combination.support))
    likely = sp.csr_array((expected.ravel(), columns.ravel(), starts), shape=shape)
    implied = np.asarray((likely @ combination.pairs).toarray(), dtype=np.float32)
    return np.take_along_axis(implied, columns, axis=1)


def _ranked_high(evidence: Evidence, sources: Sequence[str]) -> NDArray[np.bool_]:
    """Cells that at least one source ranks among a text's best."""
    shape = evidence[sources[0]].shape
    if shape[1] <= _PER_SOURCE:
        return np.ones(shape, dtype=bool)
    cells = np.zeros(shape, dtype=bool)
    for name in sources:
        best = np.argpartition(-evidence[name], _PER_SOURCE - 1, axis=1)[:, :_PER_SOURCE]
        np.put_along_axis(cells, best, values=True, axis=1)
    return cells


def _folds(units: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each text; units are dealt out whole, in random order."""
    found, unit = np.unique(units, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(found))
    return order[unit] % folds


def _as_it_is(source: str, support: NDArray[np.int64], notes: tuple[str, ...]) -> Combination:
    """One source whose values are log-odds already."""
    return Combination(
        "one source", (source,), WeightedSum({source: 1.0}, 0.0), support, notes=notes
    )  # fmt: skip


def _check_finite(evidence: Evidence) -> None:
    for name, values in evidence.items():
        if not np.isfinite(values).all():
            raise DataError(f"the source {name} gave a number that is not finite (NaN or infinite)")


def _check_shapes(
    evidence: Evidence,
    y: sp.csr_array,
    known: Known,
    units: NDArray[np.int64],
    support: NDArray[np.int64],
) -> None:
    found = {name: values.shape for name, values in evidence.items()}
    found |= {} if known is None else {"known": known.shape}
    if set(found.values()) != {y.shape} or (len(units), len(support)) != y.shape:
        raise ValueError(f"{len(units)} units, {len(support)} labels, y {y.shape}, {found}")


def _rows(evidence: Evidence, rows: NDArray[np.bool_]) -> dict[str, Scores]:
    return {name: values[rows] for name, values in evidence.items()}


def _sigmoid(values: Scores) -> Scores:
    return np.asarray(scipy.special.expit(values), dtype=np.float32)


def _log_loss(truth: NDArray[np.bool_], probabilities: Scores, known: Known) -> float:
    """Mean over the texts of the log loss summed over their known labels."""
    right = np.where(truth, probabilities, 1.0 - probabilities)
    loss = -np.log(np.maximum(right, 1e-7))
    return float((loss if known is None else loss * known).sum() / max(len(truth), 1))


def _read_pairs(path: Path, labels: int) -> sp.csr_array:
    if not path.is_file():
        raise StoreError(f"{path}: missing, so nobody knows which labels go together")
    table = storage.read_parquet(path)
    cells = (table["given"].to_numpy(), table["label"].to_numpy())
    if any(len(cell) and not 0 <= cell.min() <= cell.max() < labels for cell in cells):
        raise ValueError(f"{_PAIRS} names labels that are not there")
    return sp.csr_array((table["share"].to_numpy(), cells), shape=(labels, labels))
