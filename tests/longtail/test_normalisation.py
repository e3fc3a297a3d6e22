from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import longtail.normalisation
from longtail.annotations.merge import normalise_text
from longtail.hashing import stable_hash, wide_hash
from longtail.normalisation import normalised, text_hash, wide_text_hash

ascii_texts = st.text(st.characters(max_codepoint=127), max_size=30)
spaced = st.text(st.sampled_from("aB \t\n\x1c\x1f\x85\xa0é"), max_size=12)
texts = st.lists(
    st.one_of(st.none(), ascii_texts, spaced, st.text(max_size=10).filter(str.isprintable)),
    max_size=12,
)


@given(texts, st.integers(0, 3), st.sampled_from([1, 7, 1 << 20]))
@settings(max_examples=300, deadline=None)
def test_a_column_is_normalised_as_its_texts_are_one_by_one(column, cut, block):
    expected = [None if text is None else normalise_text(text) for text in column]
    whole = pa.array(column, pa.string())
    chunks = pa.chunked_array([whole.slice(0, cut), whole.slice(cut)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(longtail.normalisation, "_BLOCK_BYTES", block)
        assert normalised(chunks).to_pylist() == expected
        assert normalised(whole).to_pylist() == expected
        assert normalised(whole.slice(cut)).to_pylist() == expected[cut:]
        filled = [text or "" for text in expected]
        assert np.array_equal(text_hash(chunks), stable_hash(filled))
        assert np.array_equal(wide_text_hash(chunks), wide_hash(filled))


def test_no_texts():
    assert normalised(pa.array([], pa.string())).to_pylist() == []
    assert normalised(pa.chunked_array([], pa.string())).to_pylist() == []
    assert text_hash(pa.array([], pa.string())).shape == (0,)
    assert wide_text_hash(pa.array([], pa.string())).shape == (0, 2)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=8))
@settings(deadline=None)
def test_a_column_and_its_python_strings_have_the_same_hashes(strings):
    columns = [pa.array(strings, pa.string()), pa.array(strings, pa.large_string())]
    for column in (*columns, pa.chunked_array([columns[0].slice(0, 2), columns[0].slice(2)])):
        assert np.array_equal(stable_hash(column, seed=9), stable_hash(strings, seed=9))
        assert np.array_equal(wide_hash(column), wide_hash(strings))


def test_the_wide_hash_is_the_one_of_the_standard():
    digest = hashlib.blake2b("né".encode(), digest_size=16, key=bytes(8)).digest()
    halves = [int.from_bytes(digest[at : at + 8], "little") for at in (0, 8)]
    assert wide_hash(["né"]).tolist() == [halves]
    assert wide_hash([]).shape == (0, 2)
