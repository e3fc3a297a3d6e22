from __future__ import annotations

import re

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.annotations.merge import normalise_text
from longtail.shingles import SHINGLE_WORDS, shingled

words = st.sampled_from(["a", "b", "ab", "ba", "é", "ß_", "٣", "!", "…", "a-b", "", "x" * 40])
texts = st.lists(st.lists(words, max_size=7).map(" ".join).map(normalise_text), max_size=6)


def naive(text):
    found = re.findall(r"\w+", text)
    if not found:
        return {("nothing but", text)}
    places = range(max(len(found) - SHINGLE_WORDS + 1, 1))
    return {tuple(found[at : at + SHINGLE_WORDS]) for at in places}


@given(texts, st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_two_texts_share_as_many_shingles_as_the_naive_sets(column, cut):
    array = pa.array(column, pa.string())
    blocks = [array.slice(0, cut), array.slice(cut)]
    sets = [
        set(part.values[start:stop].tolist())
        for part in (shingles.sets() for shingles in shingled(iter(blocks)))
        for start, stop in zip(part.offsets[:-1], part.offsets[1:], strict=True)
    ]
    expected = [naive(text) for text in column]
    assert [len(one) for one in sets] == [len(one) for one in expected]
    for mine, one in zip(sets, expected, strict=True):
        for theirs, other in zip(sets, expected, strict=True):
            assert len(mine & theirs) == len(one & other)


def test_no_texts():
    assert list(shingled(iter([pa.array([], pa.string())]))) == []
