"""What a label's own name says: texts that use its words, or mean something close to it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer

from longtail import storage
from longtail.errors import StoreError
from longtail.models.evidence import Annotated, MissingEvidenceError, Scores
from longtail.models.reading import Reading

_MEANING = "names.parquet"
_WORDS = "name_words.parquet"
_TOKEN = r"(?u)\b\w+\b"  # noqa: S105 - a pattern of words
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def in_words(label: str, *more: str) -> str:
    """A label's name as words, with its description and aliases where there are any.

    Example:
        >>> in_words("implemented-in::rubyOnRails", "Written in Ruby.")
        'implemented in ruby On Rails. Written in Ruby.'
    """
    kept = (c if c.isalnum() or unicodedata.category(c).startswith("M") else " "
            for c in _CAMEL.sub(" ", label))  # fmt: skip
    words = " ".join("".join(kept).split())
    return ". ".join(part for part in (words, *more) if part)


class LabelNames:
    """Cosine between what a text means and what the label's name means.

    Meaning is the mean of the frozen layers' states, which no training has touched, so that a label
    without a single text can be told from the others.

    Args:
        names: of the L labels, in words.
        read: reads texts with the encoder.
    """

    name: ClassVar[str] = "names"

    def __init__(
        self, names: Sequence[str] = (), read: Callable[[Sequence[str]], Reading] | None = None
    ) -> None:
        self.names = tuple(names)
        self._read = read
        self.vectors: NDArray[np.float16] = np.zeros((0, 0), dtype=np.float16)

    def fit(self, memory: Annotated) -> Self:  # noqa: ARG002 - names need no text
        """Read the names.

        Raises:
            MissingEvidenceError: no layer of the encoder is frozen, or no label has a word.
        """
        if not any(self.names):
            raise MissingEvidenceError("no label has a word in its name")
        meaning = None if self._read is None else self._read(self.names).meaning
        if meaning is None:
            raise MissingEvidenceError(
                "the encoder has no frozen layers, and trained ones know labels, not meanings"
            )
        named = np.array([bool(name) for name in self.names])
        # A label without a word is as close to a text as labels are in the mean.
        meaning[~named] = meaning[named].mean(axis=0)
        self.vectors = meaning.astype(np.float16)
        return self

    def score(self, reading: Reading) -> Scores:
        """Cosines, float32 (n, L)."""
        if reading.meaning is None:
            raise ValueError("the reading has no meaning to compare with the labels' names")
        cosines: Scores = reading.meaning @ self.vectors.astype(np.float32).T
        return cosines

    def save(self, directory: Path) -> None:
        """Write names and vectors."""
        flat = pa.array(np.ascontiguousarray(self.vectors).reshape(-1), pa.float16())
        vectors = pa.FixedSizeListArray.from_arrays(flat, self.vectors.shape[1])
        table = pa.table({"name": pa.array(self.names, pa.string()), "vector": vectors})
        storage.write_parquet(directory / _MEANING, table)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            StoreError: the file is damaged or something else.
        """
        table = _read_table(directory / _MEANING, ("name", "vector"))
        found = cls(table["name"].to_pylist())
        flat = table["vector"].combine_chunks().flatten().to_numpy()
        found.vectors = flat.reshape(table.num_rows, -1).astype(np.float16, copy=False)
        return found


class NameWords:
    """How many of the words of a label's name a text has, the rare words counting more.

    Of the words w that text and name share, the sum of idf(w)² (1 + ln tf(w)), divided by the
    length of the name's vector and by the square root of the text's words: a cosine between text
    and name but for the text's words that are in no name.

    Args:
        names: of the L labels, in words.
    """

    name: ClassVar[str] = "name_words"

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(names)
        self._counter = CountVectorizer(token_pattern=_TOKEN)
        self._weights = sp.csr_array((0, 0), dtype=np.float64)

    def fit(self, memory: Annotated) -> Self:
        """Learn how common the words of the names are.

        Raises:
            MissingEvidenceError: no label has a word in its name.
        """
        try:
            counts = self._counter.fit_transform(self.names)
        except ValueError as error:
            raise MissingEvidenceError("no label has a word in its name") from error
        texts = self._counter.transform(memory.reading.texts)
        having = np.bincount(texts.indices, minlength=texts.shape[1])
        idf = np.log((1.0 + texts.shape[0]) / (1.0 + having)) + 1.0
        names = sp.csr_array(counts > 0, dtype=np.float64) * idf
        lengths = np.sqrt((names**2).sum(axis=1))
        scaled = sp.diags_array(1.0 / np.maximum(lengths, 1e-9)) @ names
        self._weights = sp.csr_array(scaled * idf)
        return self

    def score(self, reading: Reading) -> Scores:
        """Shared words, float32 (n, L), at least 0."""
        counts = sp.csr_array(self._counter.transform(reading.texts), dtype=np.float64)
        counts.data = 1.0 + np.log(counts.data)
        word = re.compile(_TOKEN)
        lengths = np.array([sum(1 for _ in word.finditer(text)) for text in reading.texts])
        scaled = sp.diags_array(1.0 / np.sqrt(1.0 + lengths)) @ counts
        return np.asarray((scaled @ self._weights.T).toarray(), dtype=np.float32)

    def save(self, directory: Path) -> None:
        """Write the words and their weights by label."""
        words = sorted(self._counter.vocabulary_, key=self._counter.vocabulary_.__getitem__)
        by_word = sp.csc_array(self._weights)
        starts = pa.array(by_word.indptr, pa.int32())
        table = pa.table(
            {
                "word": pa.array(words, pa.string()),
                "labels": pa.ListArray.from_arrays(starts, pa.array(by_word.indices, pa.int32())),
                "weights": pa.ListArray.from_arrays(starts, pa.array(by_word.data, pa.float64())),
            }
        )
        about = {"labels": str(by_word.shape[0])}
        storage.write_parquet(directory / _WORDS, table.replace_schema_metadata(about))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            StoreError: the file is damaged or something else.
        """
        path = directory / _WORDS
        table = _read_table(path, ("word", "labels", "weights"))
        try:
            labels = int(table.schema.metadata[b"labels"])
            found = cls()
            vocabulary = {word: column for column, word in enumerate(table["word"].to_pylist())}
            found._counter = CountVectorizer(token_pattern=_TOKEN, vocabulary=vocabulary)
            rows, weights = (table[name].combine_chunks() for name in ("labels", "weights"))
            by_word = sp.csc_array(
                (weights.flatten().to_numpy(), rows.flatten().to_numpy(), rows.offsets.to_numpy()),
                shape=(labels, table.num_rows),
            )
            by_word.check_format(full_check=True)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path}: not the words of label names ({error})") from error
        found._weights = sp.csr_array(by_word)
        return found


def _read_table(path: Path, columns: Sequence[str]) -> pa.Table:
    if not path.is_file():
        raise StoreError(f"{path}: missing, so these are not the names of labels")
    table = storage.read_parquet(path)
    if tuple(table.column_names) != tuple(columns):
        raise StoreError(f"{path}: has the columns {', '.join(table.column_names)}, expected "
                         f"{', '.join(columns)}")  # fmt: skip
    return table
