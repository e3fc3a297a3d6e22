"""Batches: padded to their own longest text, in one order whatever the loss."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_case import labelled, tiny_encoder

from longtail.batching import (
    UNKNOWN,
    Collator,
    LengthGroupedOrder,
    RowNumbers,
    length_batches,
    tokenise,
)


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60), tokens=st.integers(40, 200))
def test_batches_hold_every_row_once_and_fit(lengths, tokens):
    array = np.array(lengths)
    batches = list(length_batches(array, np.arange(len(array)), tokens))
    assert sorted(row for batch in batches for row in batch) == list(range(len(array)))
    assert all(len(batch) * array[batch].max() <= tokens for batch in batches)
    longest = [array[batch].max() for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_a_batch_is_padded_to_its_own_longest_text():
    encoder = tiny_encoder()
    source = tokenise(encoder.tokenizer, ["printer", "printer printer printer", "a " * 99], 10)
    assert source.lengths.tolist() == [3, 5, 10]
    batch = source.batch([0, 1])
    assert batch["input_ids"].shape == (2, 5)
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 5]
    assert batch["input_ids"][0, 3:].tolist() == [encoder.tokenizer.pad_token_id] * 2


def test_the_collator_marks_unknown_cells():
    part = labelled(10, 1, unknown=True)
    source = tokenise(tiny_encoder().tokenizer, part.texts, 20)
    labels = Collator(source, part.y, part.known)([4, 2])["labels"].numpy()
    known = part.known[[4, 2]]
    assert (labels[~known] == UNKNOWN).all()
    assert (labels[known] == part.y[[4, 2]].toarray()[known]).all()
    assert labels.dtype == np.float32


@given(n=st.integers(1, 300), step=st.integers(1, 40), seed=st.integers(0, 5))
def test_an_epoch_holds_every_text_once(n, step, seed):
    lengths = np.random.default_rng(0).integers(1, 100, n)
    assert sorted(LengthGroupedOrder(lengths, step, seed)) == list(range(n))


def test_the_order_depends_on_seed_and_epoch_alone():
    lengths = np.random.default_rng(0).integers(1, 100, 200)
    order = LengthGroupedOrder(lengths, 8, seed=1)
    first = list(order)
    torch.manual_seed(99)
    assert list(LengthGroupedOrder(lengths, 8, seed=1)) == first
    assert list(LengthGroupedOrder(lengths, 8, seed=2)) != first
    order.set_epoch(1)
    assert list(order) != first


def test_a_step_holds_texts_of_similar_length():
    lengths = np.random.default_rng(0).integers(1, 100, 4000)
    rows = np.array(list(LengthGroupedOrder(lengths, 16, seed=0))).reshape(-1, 16)
    wasted = 1 - lengths.sum() / (lengths[rows].max(axis=1) * 16).sum()
    assert wasted < 0.05
    # Yet the steps do not come in order of length.
    assert abs(np.corrcoef(np.arange(len(rows)), lengths[rows].mean(axis=1))[0, 1]) < 0.2


def test_row_numbers():
    rows = RowNumbers(3)
    assert [rows[row] for row in range(len(rows))] == [0, 1, 2]


def test_no_text_is_no_batch():
    assert list(length_batches(np.zeros(0, np.int64), np.zeros(0, np.int64), 10)) == []
    assert tokenise(tiny_encoder().tokenizer, [], 10).lengths.shape == (0,)


@pytest.mark.parametrize("text", ["", " ", "\n", "\u200b", "\ud800"])
def test_a_text_without_words_is_still_a_text(text):
    clean = text.encode("utf-8", "replace").decode()
    assert tokenise(tiny_encoder().tokenizer, [clean], 10).lengths[0] >= 2
