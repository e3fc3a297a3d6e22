"""The linear arm: binary relevance over TF-IDF, one linear classifier per label."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from longtail import storage
from longtail.config import LinearSettings
from longtail.errors import DataError, StoreError

_SVM_SLOPE = 2.0
_WORD = r"(?u)\b\w+\b"
_ALWAYS, _NEVER = 1.0, 0.0
_ROWS = 4096
_FORMAT = 1
_ABOUT = "linear.json"
_TERMS = "terms.parquet"
_TERM_FIELDS = {
    "term": pa.string(), "idf": pa.float64(),
    "labels": pa.list_(pa.int32()), "weights": pa.list_(pa.float16()),
}  # fmt: skip


class LinearBaseline:
    """TF-IDF with a linear SVM or a logistic regression per label.

    Words and word n-grams, sublinear term frequency (1 + ln tf), smoothed idf, unit length. The
    SVM is liblinear's L2-regularised squared hinge (Fan et al., JMLR 2008). Scores are squeezed
    into (0, 1) so that the same threshold policies apply: σ(2d) of the SVM's decision value d,
    σ(d) of the regression's. They keep the order of the decision values; for the SVM they are
    not probabilities.

    Weights are rounded to half precision, and those below ``settings.smallest_weight`` dropped
    (as in DiSMEC, Babbar & Schölkopf, WSDM 2017), by :meth:`fit` itself: what is evaluated is what
    is saved and served.

    Args:
        settings: estimator, its C and the vocabulary's limits.
        seed: of liblinear's coordinate order.
    """

    def __init__(self, settings: LinearSettings, *, seed: int = 0) -> None:
        self.settings = settings
        self.seed = seed
        self.vectorizer: TfidfVectorizer | None = None
        self.weights = sp.csc_array((0, 0), dtype=np.float32)
        self.intercepts = np.zeros(0, dtype=np.float32)
        self.constants = np.zeros(0)

    def fit(self, texts: Sequence[str], y: sp.csr_array, known: Any = None) -> LinearBaseline:
        """Fit one classifier per label.

        Args:
            texts: n training texts.
            y: label matrix, bool (n, L).
            known: bool (n, L); a label's unknown texts are left out of its classifier.

        Raises:
            DataError: no text, or no word in any of them.
        """
        features = self._fit_words(texts)
        columns = sp.csc_array(y)
        labels = y.shape[1]
        weights: list[sp.csr_array] = []
        self.intercepts = np.zeros(labels, dtype=np.float32)
        self.constants = np.full(labels, np.nan)
        # One after another: liblinear keeps one random state per process, so in threads the
        # result would depend on their timing.
        for label in range(labels):
            targets, rows = self._targets(columns, label, known)
            positives = int(targets.sum())
            if positives in (0, len(targets)):
                self.constants[label] = _ALWAYS if positives else _NEVER
                self.intercepts[label] = 1.0 if positives else -1.0
                weights.append(sp.csr_array((1, features.shape[1]), dtype=np.float32))
                continue
            estimator = self._fit_label(features if rows is None else features[rows], targets)
            weights.append(self._kept(estimator.coef_))
            self.intercepts[label] = float(np.ravel(estimator.intercept_)[0])
        self.weights = sp.csc_array(sp.vstack(weights))
        return self

    def decisions(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Decision values d, float32 (n, L): above 0 where a label's classifier says yes.

        A label that no training text had has −1, one that all of them had 1: the margin, which is
        what a support vector machine gives that has seen one side only. With 0, a sum with
        decision values would raise such a label above all others, whose negatives lie near −1.

        Raises:
            RuntimeError: not fitted.
        """
        if self.vectorizer is None:
            raise RuntimeError("fit() comes first")
        result = np.empty((len(texts), len(self.intercepts)), dtype=np.float32)
        for start in range(0, len(texts), _ROWS):
            rows = slice(start, start + _ROWS)
            features = sp.csr_array(self.vectorizer.transform(texts[rows]), dtype=np.float32)
            result[rows] = (features @ self.weights.T).toarray()
        result += self.intercepts
        return result

    def predict(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Scores in (0, 1), shape (n, L).

        A label that no training text had scores 0, one that all of them had scores 1.

        Raises:
            RuntimeError: not fitted.
        """
        return self.scores(self.decisions(texts))

    def scores(self, decisions: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scores that :meth:`predict` makes of decision values, (n, L)."""
        slope = _SVM_SLOPE if self.settings.estimator == "svm" else 1.0
        scores = 1.0 / (1.0 + np.exp(-np.clip(slope * decisions.astype(np.float64), -60.0, 60.0)))
        learnt = np.isnan(self.constants)
        result: NDArray[np.float32] = np.where(learnt, scores, self.constants).astype(np.float32)
        return result

    def save(self, directory: str | Path) -> Path:
        """Write the fitted model as plain arrays; it appears whole or not at all.

        ``linear.json`` holds the settings, intercepts and constants, ``terms.parquet`` the
        vocabulary with its idf and each term's weights by label, ``manifest.json`` their SHA-256.

        Raises:
            RuntimeError: not fitted.
        """
        if self.vectorizer is None:
            raise RuntimeError("fit() comes first")
        vocabulary: dict[str, int] = self.vectorizer.vocabulary_
        starts = pa.array(self.weights.indptr, pa.int32())
        labels = pa.array(self.weights.indices, pa.int32())
        values = pa.array(self.weights.data.astype(np.float16), pa.float16())
        columns = [
            sorted(vocabulary, key=vocabulary.__getitem__),
            self.vectorizer.idf_,
            *(pa.ListArray.from_arrays(starts, cells) for cells in (labels, values)),
        ]
        terms = pa.table(columns, schema=pa.schema(_TERM_FIELDS))
        with storage.committed_directory(directory) as staging:
            storage.write_parquet(staging / _TERMS, terms)
            storage.write_json(staging / _ABOUT, {
                "format": _FORMAT,
                "settings": self.settings.model_dump(mode="json"),
                "seed": self.seed,
                "intercepts": self.intercepts.tolist(),
                "constants": self.constants.tolist(),
            })  # fmt: skip
        return Path(directory)

    @classmethod
    def load(cls, directory: str | Path) -> LinearBaseline:
        """Read what :meth:`save` wrote; it gives the same decision values, bit for bit.

        Raises:
            StoreError: unfinished, damaged, or something else.
        """
        root = Path(directory)
        storage.verify_directory(root)
        for name in (_ABOUT, _TERMS):
            if not (root / name).is_file():
                raise StoreError(f"{root / name}: missing, so this is not a saved linear arm")
        about = storage.read_json(root / _ABOUT)
        found = about.get("format") if isinstance(about, dict) else None
        if found != _FORMAT:
            raise StoreError(
                f"{root / _ABOUT}: format {found}, this version of Longtail reads {_FORMAT}"
            )
        terms = storage.read_parquet(root / _TERMS)
        try:
            return cls._of(about, terms)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{root}: not a whole linear arm ({error})") from error

    @classmethod
    def _of(cls, about: dict[str, Any], terms: pa.Table) -> LinearBaseline:
        model = cls(LinearSettings.model_validate(about["settings"]), seed=int(about["seed"]))
        model.intercepts = np.array(about["intercepts"], dtype=np.float32)
        model.constants = np.array(about["constants"], dtype=np.float64)
        if model.intercepts.shape != model.constants.shape:
            raise ValueError("as many intercepts as constants expected")
        if terms.schema != pa.schema(_TERM_FIELDS):
            raise ValueError(f"{_TERMS} has other columns: {', '.join(terms.schema.names)}")
        labels, weights = (terms[name].combine_chunks() for name in ("labels", "weights"))
        if not labels.offsets.equals(weights.offsets):
            raise ValueError("as many weights as labels expected for every term")
        values = weights.flatten().to_numpy().astype(np.float32)
        model.weights = sp.csc_array(
            (values, labels.flatten().to_numpy(), labels.offsets.to_numpy()),
            shape=(len(model.intercepts), terms.num_rows),
        )
        model.weights.check_format(full_check=True)
        idf = terms["idf"].to_numpy()
        if not all(np.isfinite(part).all() for part in (values, model.intercepts, idf)):
            raise ValueError("a number is not finite")
        vocabulary = {term: column for column, term in enumerate(terms["term"].to_pylist())}
        model.vectorizer = _vectorizer(model.settings, vocabulary=vocabulary)
        model.vectorizer.idf_ = idf
        return model

    def _fit_words(self, texts: Sequence[str]) -> sp.csr_matrix:
        if not len(texts):
            raise DataError("there is no training text for the linear baseline")
        # In a handful of texts a word in two of them is rare already.
        min_df = min(self.settings.min_df, max(1, len(texts) // 10))
        self.vectorizer = _vectorizer(
            self.settings, min_df=min_df, max_features=self.settings.max_features
        )
        try:
            return self.vectorizer.fit_transform(texts)
        except ValueError as error:
            raise DataError(
                f"the linear baseline finds no word in the training texts ({error})"
            ) from error

    @staticmethod
    def _targets(
        columns: sp.csc_array, label: int, known: Any
    ) -> tuple[NDArray[np.int8], NDArray[np.int64] | None]:
        targets = np.zeros(columns.shape[0], dtype=np.int8)
        targets[columns.indices[columns.indptr[label] : columns.indptr[label + 1]]] = 1
        if known is None:
            return targets, None
        rows = np.flatnonzero(np.asarray(known[:, label]))
        return targets[rows], rows if len(rows) < columns.shape[0] else None

    def _fit_label(self, features: sp.csr_matrix, targets: NDArray[np.int8]) -> Any:
        estimator = self._estimator()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return estimator.fit(features, targets)

    def _kept(self, coefficients: NDArray[np.float64]) -> sp.csr_array:
        rounded = coefficients.astype(np.float16).astype(np.float32)
        return sp.csr_array(np.where(np.abs(rounded) < self.settings.smallest_weight, 0.0, rounded),
                            dtype=np.float32)  # fmt: skip

    def _estimator(self) -> Any:
        c = self.settings.c
        if self.settings.estimator == "svm":
            return LinearSVC(C=c, random_state=self.seed, dual=True, tol=1e-3)
        return LogisticRegression(
            C=c, solver="liblinear", dual=True, random_state=self.seed, tol=1e-2, max_iter=200
        )


def _vectorizer(settings: LinearSettings, **options: Any) -> TfidfVectorizer:
    return TfidfVectorizer(
        sublinear_tf=True,
        ngram_range=(1, settings.ngram_max),
        token_pattern=_WORD,
        dtype=np.float64,
        **options,
    )
