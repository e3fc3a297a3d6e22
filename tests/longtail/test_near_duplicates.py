from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.minhash import near_pairs
from longtail.near_duplicates import find_units
from longtail.shingles import SHINGLE_WORDS


def units_of(texts, groups=None, similarity=0.8, **options):
    ids = [f"t{row:05d}" for row in range(len(texts))]
    return find_units(ids, texts, groups or [None] * len(texts), similarity, **options)


def jaccard(first, second):
    sets = [
        {tuple(words[at : at + SHINGLE_WORDS]) for at in range(max(len(words) - 2, 1))}
        for words in (first.split(), second.split())
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def family(generator, n, words=60):
    """Texts of which each is a copy of an earlier one with some words changed."""
    texts = []
    for row in range(n):
        if row and generator.random() < 0.7:
            text = texts[generator.integers(row)].split()
            for at in generator.integers(0, words, generator.integers(1, 5)):
                text[at] = f"w{generator.integers(10_000)}"
        else:
            text = [f"w{word}" for word in generator.integers(0, 10_000, words)]
        texts.append(" ".join(text))
    return list(dict.fromkeys(texts))


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.9])
def test_the_pairs_are_those_of_the_naive_comparison(similarity):
    texts = family(np.random.default_rng(3), 120)
    expected = {
        (a, b): jaccard(texts[a], texts[b])
        for a, b in itertools.combinations(range(len(texts)), 2)
        if jaccard(texts[a], texts[b]) >= similarity
    }
    pairs = near_pairs(texts, similarity)
    found = dict(zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True),
                     pairs.similarity.tolist(), strict=True))  # fmt: skip
    assert len(expected) >= 5
    assert found == pytest.approx(expected)


def test_similarity_one_asks_for_the_same_words():
    pairs = near_pairs(["the cat sat down", "the cat, sat down!", "the cat sat up"], 1.0)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0], [1])


def test_texts_that_differ_only_in_case_form_and_space_are_one_unit():
    result = units_of(
        ["Printer  on FIRE", "printer on fire", "printer on ﬁre", "no printer at all"]
    )
    assert result.units.tolist() == [0, 0, 0, 1]
    assert result.n_pairs == 0


def test_groups_and_near_duplicates_chain():
    base = " ".join(f"word{at}" for at in range(60))
    texts = [base, base.replace("word30", "other"), "something else entirely here", "lone text"]
    result = units_of(texts, ["a", "b", "b", None])
    assert result.units.tolist() == [0, 0, 0, 1]
    assert [(pair.first, pair.second) for pair in result.pairs] == [("t00000", "t00001")]
    assert result.pairs[0].similarity == pytest.approx(55 / 61)


def test_rows_without_group_are_not_a_group():
    assert units_of(["one", "two", "three"], [None, None, None]).units.tolist() == [0, 1, 2]


def test_short_texts_are_bound_by_their_words_only():
    result = units_of(
        ["reset password", "reset password!", "password reset", "reset", "???", "!!!"]
    )
    assert result.units.tolist() == [0, 0, 1, 2, 3, 4]


@given(st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_row_order_does_not_matter(random):
    texts = family(np.random.default_rng(random.randrange(1000)), 40, words=30)
    groups = [random.choice(["a", "b", None, None, None, None]) for _ in texts]
    ids = [f"id{row}" for row in range(len(texts))]
    order = list(range(len(texts)))
    random.shuffle(order)
    plain = find_units(ids, texts, groups, 0.7)
    shuffled = find_units(
        [ids[at] for at in order], [texts[at] for at in order], [groups[at] for at in order], 0.7
    )
    assert np.array_equal(shuffled.units, plain.units[order])
    assert shuffled.n_pairs == plain.n_pairs
    in_id_order = plain.units[np.argsort(ids)]
    firsts = [unit for at, unit in enumerate(in_id_order) if unit not in in_id_order[:at]]
    assert firsts == list(range(len(firsts)))


def test_a_template_with_many_fillings_is_bound_without_a_square_number_of_pairs():
    frame = " ".join(f"word{at}" for at in range(36))
    texts = [f"alert {row} on host{row % 7} {frame} host{row % 7} again" for row in range(1500)]
    begun = time.perf_counter()
    result = units_of(texts, similarity=0.85)
    assert time.perf_counter() - begun < 20
    assert all(len(set(result.units[host::7].tolist())) == 1 for host in range(7))
    assert result.n_pairs < 1500 * 60


def test_many_copies_of_one_text_are_one_unit():
    result = units_of(["the very same text every time"] * 5000)
    assert result.units.tolist() == [0] * 5000
    assert (result.n_pairs, result.pairs) == (0, ())


def test_the_listing_is_capped_and_the_count_is_not():
    texts = [" ".join([*(f"w{at}" for at in range(40)), f"end{row}"]) for row in range(12)]
    result = units_of(texts, listed=5)
    assert len(result.pairs) == 5
    assert result.n_pairs == 12 * 11 // 2


def test_nothing_in_nothing_out():
    result = find_units([], [], [], 0.8)
    assert result.units.shape == (0,)
    assert result.n_pairs == 0


def test_a_similarity_of_nothing_is_refused():
    with pytest.raises(ValueError, match="similarity"):
        near_pairs(["a"], 0.0)


def test_at_similarity_one_only_equal_texts_are_bound():
    texts = ["the cat sat down", "The cat  sat down", "the cat, sat down!"]
    assert units_of(texts, similarity=0.99).units.tolist() == [0, 0, 0]
    result = units_of(texts, similarity=1.0)
    assert result.units.tolist() == [0, 0, 1]
    assert result.n_pairs == 0
