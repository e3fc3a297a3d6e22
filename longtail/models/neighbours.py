"""What the nearest annotated texts say: a vote of similar texts for their labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
import scipy.special
from numpy.typing import NDArray

from longtail import storage
from longtail.errors import StoreError
from longtail.hashing import as_column
from longtail.models.evidence import Annotated, MissingEvidenceError, Scores
from longtail.models.reading import Reading
from longtail.normalisation import text_hash

_FILE = "memory.parquet"
_BLOCK = 1 << 25  # similarities at a time, 128 MB
_PRIOR_VOTES = 2.0


@dataclass(frozen=True)
class Similar:
    """The nearest annotated texts of one text, the nearest first.

    Attributes:
        ids: of the annotated texts.
        similarities: cosines.
        rows: their rows in the memory.
    """

    ids: tuple[str, ...]
    similarities: tuple[float, ...]
    rows: tuple[int, ...]


class Neighbours:
    """k nearest annotated texts, weighted by similarity, as log-odds of each label.

    The share of a label among the k nearest texts, weighted by softmax(cosine / temperature), is
    drawn towards the label's share of all texts as if ``2`` votes had been cast that way, and
    given as log-odds. Vectors are what the encoder's output layer reads, kept in half precision;
    the search is exact, in blocks of matrix products.

    A text that is itself in the memory is not asked for its own labels, nor are its
    near-duplicates: their whole unit is left out of its vote. Cells that are not known take no
    part.

    Args:
        k: neighbours that vote.
        temperature: of the softmax; smaller trusts the nearest more.
        encoder: whose vectors are compared.
    """

    name: ClassVar[str] = "neighbours"

    def __init__(self, k: int = 50, temperature: float = 0.05, *, encoder: str = "encoder") -> None:
        self.k = k
        self.temperature = temperature
        self.encoder = encoder
        self.ids: tuple[str, ...] = ()
        self.vectors: NDArray[np.float16] = np.zeros((0, 0), dtype=np.float16)
        self.y = sp.csr_array((0, 0), dtype=np.float32)
        self.unknown = sp.csr_array((0, 0), dtype=np.float32)
        self.hashes = np.zeros(0, dtype=np.uint64)
        self.units = np.zeros(0, dtype=np.int64)

    def fit(self, memory: Annotated) -> Self:
        """Remember annotated texts.

        Raises:
            MissingEvidenceError: there are none.
        """
        if not len(memory.ids):
            raise MissingEvidenceError("there is no annotated text to compare with")
        known = memory.known
        self.ids = tuple(memory.ids)
        self.vectors = memory.reading.vectors[self.encoder].astype(np.float16)
        self.y = sp.csr_array(
            memory.y if known is None else memory.y.multiply(known), dtype=np.float32
        )
        self.y.eliminate_zeros()
        self.unknown = (
            sp.csr_array(self.y.shape, dtype=np.float32)
            if known is None
            else sp.csr_array(~known, dtype=np.float32)
        )
        self.hashes = _hashes(memory.reading.texts)
        self.units = np.asarray(memory.units, dtype=np.int64)
        return self

    def score(self, reading: Reading) -> Scores:
        """Log-odds of each label among the nearest texts, float32 (n, L)."""
        result = np.empty((len(reading.texts), self.y.shape[1]), dtype=np.float32)
        prior = self._prior()
        strength = np.float32(_PRIOR_VOTES / min(self.k, len(self.ids)))
        for rows, nearest, similarities in self._nearest(reading, self.k):
            weights = _votes(nearest, similarities, self.temperature, len(self.ids))
            votes = (weights @ self.y).toarray()
            # Where nobody is left to vote, the share stays that of all texts.
            cast = weights.sum(axis=1)[:, None] - (weights @ self.unknown).toarray()
            share = (votes + strength * prior) / (cast + strength)
            result[rows] = scipy.special.logit(np.clip(share, 1e-6, 1 - 1e-6))
        return result

    def similar(self, reading: Reading, k: int) -> list[Similar]:
        """The k nearest annotated texts of each text, without itself and its near-duplicates."""
        found = []
        for _, nearest, similarities in self._nearest(reading, k):
            order = np.argsort(-similarities, axis=1, kind="stable")
            for row in range(len(nearest)):
                at = [j for j in order[row] if np.isfinite(similarities[row, j])]
                rows = tuple(int(nearest[row, j]) for j in at)
                close = tuple(float(similarities[row, j]) for j in at)
                found.append(Similar(tuple(self.ids[j] for j in rows), close, rows))
        return found

    def similar_with_label(
        self, reading: Reading, given: NDArray[np.bool_], k: int
    ) -> dict[tuple[int, int], Similar]:
        """The k nearest annotated texts that have a label, without the text's near-duplicates.

        Args:
            reading: n texts.
            given: bool (n, L), of which texts and labels to look for them.
            k: annotated texts of each.

        Returns:
            By (text, label) of the cells that are given and have any.
        """
        asked = reading.vectors[self.encoder]
        own = _own_units(_hashes(reading.texts), self.hashes, self.units)
        having, cells = sp.csc_array(self.y), sp.csc_array(given)
        found = {}
        for label in np.flatnonzero(np.diff(cells.indptr)).tolist():
            members = having.indices[having.indptr[label] : having.indptr[label + 1]]
            rows = cells.indices[cells.indptr[label] : cells.indptr[label + 1]]
            vectors = self.vectors[members].astype(np.float32).T
            step = max(1, _BLOCK // max(len(members), 1))
            for start in range(0, len(rows), step):
                block = rows[start : start + step]
                for row, close in zip(block.tolist(), asked[block] @ vectors, strict=True):
                    if row in own:
                        close[self.units[members] == own[row]] = -np.inf
                    similar = self._best(members, close, k)
                    if similar.ids:
                        found[row, label] = similar
        return found

    def _best(self, rows: NDArray[Any], close: NDArray[np.float32], k: int) -> Similar:
        """The k of some rows of the memory that are closest; -inf never is."""
        if k < len(rows):
            at = np.argpartition(-close, k - 1)[:k]
            rows, close = rows[at], close[at]
        order = np.lexsort((rows, -close))
        order = order[np.isfinite(close[order])]
        chosen = tuple(rows[order].tolist())
        return Similar(
            tuple(self.ids[row] for row in chosen), tuple(close[order].tolist()), chosen
        )  # fmt: skip

    def save(self, directory: Path) -> None:
        """Write the memory as one Parquet file."""
        vectors = pa.array(np.ascontiguousarray(self.vectors).reshape(-1), pa.float16())
        table = pa.table(
            {
                "id": pa.array(self.ids, pa.string()),
                "text": pa.array(self.hashes, pa.uint64()),
                "unit": pa.array(self.units, pa.int64()),
                "labels": _lists(self.y),
                "unknown": _lists(self.unknown),
                "vector": pa.FixedSizeListArray.from_arrays(vectors, self.vectors.shape[1]),
            }
        )
        about = {"labels": str(self.y.shape[1]), "k": str(self.k),
                 "temperature": repr(self.temperature), "encoder": self.encoder}  # fmt: skip
        storage.write_parquet(directory / _FILE, table.replace_schema_metadata(about))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            StoreError: the file is damaged or something else.
        """
        path = directory / _FILE
        if not path.is_file():
            raise StoreError(f"{path}: missing, so this is not a saved memory")
        table = storage.read_parquet(path)
        try:
            about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
            memory = cls(int(about["k"]), float(about["temperature"]), encoder=about["encoder"])
            memory.ids = tuple(table["id"].to_pylist())
            memory.hashes = table["text"].to_numpy()
            memory.units = table["unit"].to_numpy()
            shape = (table.num_rows, int(about["labels"]))
            memory.y, memory.unknown = (_matrix(table[name], shape) for name in _CELLS)
            flat = table["vector"].combine_chunks().flatten().to_numpy()
            memory.vectors = flat.reshape(table.num_rows, -1).astype(np.float16, copy=False)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"{path}: not a whole memory ({error})") from error
        if not np.isfinite(memory.vectors).all():
            raise StoreError(f"{path}: not a whole memory (a vector is not finite)")
        return memory

    def _prior(self) -> NDArray[np.float32]:
        """Share of all texts that have a label, of those of which it is known, (L,)."""
        cast = len(self.ids) - self.unknown.sum(axis=0)
        shares: NDArray[np.float32] = ((self.y.sum(axis=0) + 0.5) / (cast + 1.0)).astype(np.float32)
        return shares

    def _nearest(
        self, reading: Reading, k: int
    ) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[np.float32]]]:
        """Blocks of texts with the rows and similarities of their k nearest, unordered."""
        k = min(k, len(self.ids))
        vectors = self.vectors.astype(np.float32)
        asked = reading.vectors[self.encoder]
        own = _own_units(_hashes(reading.texts), self.hashes, self.units)
        step = max(1, _BLOCK // max(len(self.ids), 1))
        for start in range(0, len(reading.texts), step):
            rows = slice(start, start + step)
            close = asked[rows] @ vectors.T
            for row in range(len(close)):
                unit = own.get(start + row)
                if unit is not None:
                    close[row, self.units == unit] = -np.inf
            nearest = np.argpartition(-close, k - 1, axis=1)[:, :k]
            yield rows, nearest, np.take_along_axis(close, nearest, axis=1)


def _votes(
    nearest: NDArray[np.int64], similarities: NDArray[np.float32], temperature: float, size: int
) -> sp.csr_array:
    """Weights of the neighbours, rows adding up to 1 (to 0 where nobody is left), (n, size)."""
    best = similarities.max(axis=1, keepdims=True)
    best[~np.isfinite(best)] = 0.0
    weights = np.exp((similarities - best) / np.float32(temperature))
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    starts = np.arange(0, weights.size + 1, weights.shape[1])
    return sp.csr_array((weights.ravel(), nearest.ravel(), starts), shape=(len(nearest), size))


def _hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    return text_hash(as_column(texts))


def _own_units(
    asked: NDArray[np.uint64], remembered: NDArray[np.uint64], units: NDArray[np.int64]
) -> dict[int, int]:
    """Unit in the memory of each text that is itself in the memory, by the text's row."""
    order = np.argsort(remembered, kind="stable")
    at = np.searchsorted(remembered, asked, sorter=order)
    at = np.minimum(at, len(order) - 1)
    rows = np.flatnonzero(remembered[order[at]] == asked)
    return {int(row): int(units[order[at[row]]]) for row in rows}


_CELLS = ("labels", "unknown")


def _lists(cells: sp.csr_array) -> pa.ListArray:
    sorted_cells = sp.csr_array(cells)
    sorted_cells.sort_indices()
    return pa.ListArray.from_arrays(
        pa.array(sorted_cells.indptr, pa.int32()), pa.array(sorted_cells.indices, pa.int32())
    )


def _matrix(column: pa.ChunkedArray, shape: tuple[int, int]) -> sp.csr_array:
    lists = column.combine_chunks()
    indices = lists.flatten().to_numpy()
    starts = lists.offsets.to_numpy()
    matrix = sp.csr_array((np.ones(len(indices), np.float32), indices, starts), shape=shape)
    matrix.check_format(full_check=True)
    return matrix
