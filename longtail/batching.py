"""Tokenised texts, batches of similar length, and the order of training.

Batches are padded to their own longest text, never to the maximum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from longtail.processes import Processes

UNKNOWN = -100.0
_TOKENISED_AT_ONCE = 2000
_MEGA_BATCHES = 50


class Source(Protocol):
    """Where a batch's inputs come from: token ids or cached activations."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, shape (n,)."""

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """The inputs of some texts, padded to the longest."""

    def rows(self, part: slice) -> Source:
        """Some of the texts."""


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and their labels.

    Attributes:
        texts: n texts.
        y: label matrix, bool (n, L).
        known: bool (n, L), False where nobody knows whether the label holds; None: all known.
    """

    texts: Sequence[str]
    y: sp.csr_array
    known: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class TokenSource:
    """Tokenised texts.

    Attributes:
        texts: the texts.
        ids: token ids of each text, cut at the maximum length.
        lengths: number of tokens of each text, int64 (n,).
        padding_id: token id that fills a batch up.
    """

    texts: tuple[str, ...]
    ids: tuple[NDArray[np.int32], ...]
    lengths: NDArray[np.int64]
    padding_id: int

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Token ids and attention mask, int64 (texts, tokens)."""
        lengths = self.lengths[rows]
        width = int(lengths.max(initial=1))
        ids = np.full((len(rows), width), self.padding_id, dtype=np.int64)
        for position, row in enumerate(rows):
            ids[position, : self.lengths[row]] = self.ids[row]
        mask = (np.arange(width) < lengths[:, None]).astype(np.int64)
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}

    def rows(self, part: slice) -> TokenSource:
        """Some of the texts."""
        return replace(self, texts=self.texts[part], ids=self.ids[part], lengths=self.lengths[part])


def tokenise(tokenizer: Any, texts: Sequence[str], max_length: int) -> TokenSource:
    """Tokenise texts, cut at ``max_length`` tokens, special tokens included."""
    ids: list[NDArray[np.int32]] = []
    for start in range(0, len(texts), _TOKENISED_AT_ONCE):
        chunk = list(texts[start : start + _TOKENISED_AT_ONCE])
        encoded = tokenizer(
            chunk, truncation=True, max_length=max_length, padding=False,
            return_attention_mask=False, return_token_type_ids=False,
        )["input_ids"]  # fmt: skip
        ids.extend(np.asarray(row, dtype=np.int32) for row in encoded)
    lengths = np.fromiter((len(row) for row in ids), dtype=np.int64, count=len(ids))
    return TokenSource(tuple(texts), tuple(ids), lengths, int(tokenizer.pad_token_id))


def length_batches(
    lengths: NDArray[np.int64], rows: NDArray[np.int64], tokens: int
) -> Iterator[list[int]]:
    """Rows in order of length, as many per batch as fit into ``tokens`` padded tokens.

    The longest come first, so that memory runs out at once or not at all.
    """
    batch: list[int] = []
    longest = 1
    for row in rows[np.argsort(-lengths[rows], kind="stable")]:
        longest = max(longest, int(lengths[row])) if batch else max(1, int(lengths[row]))
        if batch and longest * (len(batch) + 1) > tokens:
            yield batch
            batch, longest = [], max(1, int(lengths[row]))
        batch.append(int(row))
    if batch:
        yield batch


class RowNumbers(Dataset[int]):
    """The row numbers 0 … n − 1; the collator looks the rows up, a batch at a time."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, row: int) -> int:
        return row


@dataclass(frozen=True)
class Collator:
    """Rows to a batch with its targets.

    Attributes:
        source: token ids or activations.
        y: label matrix, bool (n, L).
        known: bool (n, L), False where nobody knows; None: all known.
    """

    source: Source
    y: sp.csr_array
    known: NDArray[np.bool_] | None = None

    def __call__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """The inputs, and ``labels``: float32 (texts, L) with unknown cells at ``UNKNOWN``.

        No rows give one text of which nothing is known: a process that has no share of an epoch's
        last texts takes part in the step all the same, and adds nothing to it.
        """
        if not len(rows):
            nothing = torch.full((1, self.y.shape[1]), UNKNOWN)
            return {**self.source.batch([0]), "labels": nothing}
        labels = self.y[list(rows)].toarray().astype(np.float32)
        if self.known is not None:
            labels[~self.known[list(rows)]] = UNKNOWN
        return {**self.source.batch(rows), "labels": torch.from_numpy(labels)}


class LengthGroupedOrder(Sampler[int]):
    """A seeded order in which each optimiser step's texts are of similar length.

    Texts are shuffled, sorted by length within stretches of 50 steps, and the steps shuffled. The
    order depends on seed, epoch, the lengths and the size of a step alone: it is the same for
    every loss, and however a step is divided over processes or accumulated.

    Args:
        lengths: tokens of each text.
        step: texts per optimiser step, over all processes and accumulated batches.
        seed: of the order.
    """

    def __init__(self, lengths: NDArray[np.int64], step: int, seed: int) -> None:
        self.lengths = lengths
        self.step = step
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the order of another epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        rows = random.permutation(len(self.lengths))
        stretch = self.step * _MEGA_BATCHES
        steps: list[NDArray[np.int64]] = []
        for start in range(0, len(rows), stretch):
            part = rows[start : start + stretch]
            part = part[np.argsort(-self.lengths[part], kind="stable")]
            steps.extend(part[i : i + self.step] for i in range(0, len(part), self.step))
        # A smaller last step stays last: elsewhere it would shift all that follow.
        last = [steps.pop()] if steps and len(steps[-1]) < self.step else []
        shuffled = [steps[i] for i in random.permutation(len(steps))] + last
        return iter([int(row) for rows in shuffled for row in rows])


class SharedBatches(Sampler[list[int]]):
    """This process's part of every micro-batch.

    What the processes hold together is what one process alone would hold. Every ``count``-th row
    is taken, because rows come in order of length: the parts are equally long.

    Args:
        order: of all texts.
        batch_size: texts per micro-batch, over all processes.
        processes: that share it.
    """

    def __init__(self, order: LengthGroupedOrder, batch_size: int, processes: Processes) -> None:
        self.order = order
        self.batch_size = batch_size
        self.processes = processes

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rows = list(self.order)
        for start in range(0, len(rows), self.batch_size):
            yield rows[start : start + self.batch_size][self.processes.share]


class EpochLoader(DataLoader[int]):
    """A loader of :class:`SharedBatches` that passes on which epoch it is."""

    def __init__(self, batches: SharedBatches, collator: Collator, *, pin_memory: bool) -> None:
        super().__init__(
            RowNumbers(len(batches.order)),
            batch_sampler=batches,
            collate_fn=collator,
            pin_memory=pin_memory,
        )
        self.order = batches.order

    def set_epoch(self, epoch: int) -> None:
        """Take the order of another epoch, counted from 0."""
        self.order.set_epoch(epoch)
