"""The linear arm: binary relevance over TF-IDF, one linear classifier per label."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from longtail.config import LinearSettings
from longtail.errors import DataError

logger = logging.getLogger(__name__)

_SVM_SLOPE = 2.0
_WORD = r"(?u)\b\w+\b"
_ALWAYS, _NEVER = 1.0, 0.0


class LinearBaseline:
    """TF-IDF with a linear SVM or a logistic regression per label.

    Words and word n-grams, sublinear term frequency (1 + ln tf), smoothed idf, unit length. The
    SVM is liblinear's L2-regularised squared hinge (Fan et al., JMLR 2008). Scores are squeezed
    into (0, 1) so that the same threshold policies apply: σ(2d) of the SVM's decision value d,
    σ(d) of the regression's. They keep the order of the decision values; for the SVM they are
    not probabilities.

    Args:
        settings: estimator, its C and the vocabulary's limits.
        seed: of liblinear's coordinate order.
    """

    def __init__(self, settings: LinearSettings, *, seed: int = 0) -> None:
        self.settings = settings
        self.seed = seed
        self.vectorizer: TfidfVectorizer | None = None
        self.weights = np.zeros((0, 0), dtype=np.float32)
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
        self.weights = np.zeros((labels, features.shape[1]), dtype=np.float32)
        self.intercepts = np.zeros(labels, dtype=np.float32)
        self.constants = np.full(labels, np.nan)
        # One after another: liblinear keeps one random state per process, so in threads the
        # result would depend on their timing.
        for label in range(labels):
            targets, rows = self._targets(columns, label, known)
            positives = int(targets.sum())
            if positives in (0, len(targets)):
                self.constants[label] = _ALWAYS if positives else _NEVER
                continue
            estimator = self._fit_label(features if rows is None else features[rows], targets)
            self.weights[label] = estimator.coef_.ravel()
            self.intercepts[label] = float(np.ravel(estimator.intercept_)[0])
        return self

    def decisions(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Decision values d, float32 (n, L): above 0 where a label's classifier says yes.

        A label that no training text had, or that all of them had, has 0: no opinion.

        Raises:
            RuntimeError: not fitted.
        """
        if self.vectorizer is None:
            raise RuntimeError("fit() comes first")
        features = self.vectorizer.transform(texts).astype(np.float32)
        result: NDArray[np.float32] = features @ self.weights.T
        result += self.intercepts
        return result

    def predict(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Scores in (0, 1), shape (n, L).

        A label that no training text had scores 0, one that all of them had scores 1.

        Raises:
            RuntimeError: not fitted.
        """
        slope = _SVM_SLOPE if self.settings.estimator == "svm" else 1.0
        decisions = self.decisions(texts).astype(np.float64)
        scores = 1.0 / (1.0 + np.exp(-np.clip(slope * decisions, -60.0, 60.0)))
        learnt = np.isnan(self.constants)
        result: NDArray[np.float32] = np.where(learnt, scores, self.constants).astype(np.float32)
        return result

    def _fit_words(self, texts: Sequence[str]) -> sp.csr_matrix:
        if not len(texts):
            raise DataError("there is no training text for the linear baseline")
        # In a handful of texts a word in two of them is rare already.
        min_df = min(self.settings.min_df, max(1, len(texts) // 10))
        self.vectorizer = TfidfVectorizer(
            sublinear_tf=True,
            ngram_range=(1, self.settings.ngram_max),
            min_df=min_df,
            max_features=self.settings.max_features,
            token_pattern=_WORD,
            dtype=np.float64,
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

    def _estimator(self) -> Any:
        c = self.settings.c
        if self.settings.estimator == "svm":
            return LinearSVC(C=c, random_state=self.seed, dual=True, tol=1e-3)
        return LogisticRegression(
            C=c, solver="liblinear", dual=True, random_state=self.seed, tol=1e-2, max_iter=200
        )
