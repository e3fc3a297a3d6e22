"""Sets of three-word shingles as 64-bit hashes, from columns of text and without Python strings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail.hashing import Hashes, stable_hash, string_parts

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

SHINGLE_WORDS = 3
_WORD = re.compile(r"\w+")
_ASCII_WORD = np.array([chr(byte).isalnum() or chr(byte) == "_" for byte in range(128)])
_IS_WORD = np.concatenate([_ASCII_WORD, np.ones(128, dtype=bool)])


@dataclass(frozen=True)
class Shingles:
    """The shingles of texts: ``values[offsets[i]:offsets[i + 1]]``, at least one for each text."""

    values: Hashes
    offsets: Ints

    @property
    def sizes(self) -> Ints:
        """Shingles of each text."""
        return np.diff(self.offsets)

    def sets(self) -> Shingles:
        """The same, sorted and each once."""
        owner = np.repeat(np.arange(len(self.sizes)), self.sizes)
        order = np.lexsort((self.values, owner))
        owner, values = owner[order], self.values[order]
        fresh = np.ones(len(owner), dtype=bool)
        fresh[1:] = (owner[1:] != owner[:-1]) | (values[1:] != values[:-1])
        counts = np.bincount(owner[fresh], minlength=len(self.sizes))
        return Shingles(values[fresh], np.concatenate([[0], np.cumsum(counts)]))


def shingled(blocks: Iterator[pa.StringArray]) -> Iterator[Shingles]:
    r"""Shingles of normalised texts, block by block.

    A word is a run of letters, digits and underscores, as ``\w`` of :mod:`re` has it; a text of
    fewer than three words is one shingle, a text without any word one of its own.
    """
    powers = _Powers(0)
    for block in blocks:
        if not len(block):
            continue
        values, bounds = _words_only(block)
        if len(values) >= len(powers.up):
            powers = _Powers(2 * len(values) + 1)
        hashes, per_text = _word_hashes(values, bounds, powers)
        yield _shingles(hashes, per_text)


class _Powers:
    """Powers of an odd number and of its inverse modulo 2⁶⁴, and a random number for each byte."""

    def __init__(self, n: int) -> None:
        base = int(stable_hash(["base"])[0]) | 1
        self.up = _powers(base, n)
        self.down = _powers(pow(base, -1, 1 << 64), n)
        self.of_byte = stable_hash(map(str, range(256)))


def _powers(base: int, n: int) -> Hashes:
    powers = np.full(n, base, dtype=np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)


def _words_only(block: pa.StringArray) -> tuple[Bytes, Ints]:
    """A block's bytes and bounds, after which every byte from 128 on belongs to a word."""
    bounds, data = next(string_parts(block))
    values = np.frombuffer(data, dtype=np.uint8)[bounds[0] : bounds[-1]]
    bounds = bounds - bounds[0]
    odd = np.ones(len(block), dtype=bool)
    odd[_rows(bounds, np.flatnonzero(_IS_WORD[values]))] = False
    odd[_rows(bounds, np.flatnonzero(values >= 128))] = True
    if not odd.any():
        return values, bounds
    plain = [
        " ".join(_WORD.findall(text)) or f"{stable_hash([text])[0]:x}"
        for text in block.filter(pa.array(odd)).to_pylist()
    ]
    replaced = pc.replace_with_mask(block, pa.array(odd), pa.array(plain, pa.string()))
    bounds, data = next(string_parts(replaced))
    values = np.frombuffer(data, dtype=np.uint8)[bounds[0] : bounds[-1]]
    return values, bounds - bounds[0]


def _rows(bounds: Ints, places: Ints) -> Ints:
    """The rows that some bytes belong to, each once."""
    rows = np.searchsorted(bounds, places, side="right") - 1
    return rows[np.flatnonzero(np.diff(rows, prepend=-1))]


def _word_hashes(values: Bytes, bounds: Ints, powers: _Powers) -> tuple[Hashes, Ints]:
    """A hash of every word, and how many words each text has.

    A word's hash is a polynomial over its bytes: the difference of two running sums, brought to
    one scale by the inverse power of where it starts.
    """
    inside = np.zeros(len(values) + 1, dtype=bool)
    inside[:-1] = _IS_WORD[values]
    begins = inside[:-1].copy()
    begins[1:] &= ~inside[:-2]
    heads = bounds[:-1][np.diff(bounds) > 0]
    begins[heads] = inside[heads]
    starts = np.flatnonzero(begins)
    ends = inside[:-1] & ~inside[1:]
    ends[heads[1:] - 1] = inside[heads[1:] - 1]
    stops = np.flatnonzero(ends) + 1
    sums = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(powers.of_byte[values] * powers.up[: len(values)], out=sums[1:])
    hashes = mix((sums[stops] - sums[starts]) * powers.down[starts])
    return hashes, np.diff(np.searchsorted(starts, bounds))


def _shingles(hashes: Hashes, per_text: Ints) -> Shingles:
    counts = np.maximum(per_text - SHINGLE_WORDS + 1, 1)
    owner = np.repeat(np.arange(len(per_text)), counts)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    within = np.arange(len(owner)) - offsets[owner]
    start = (np.cumsum(per_text) - per_text)[owner] + within
    values = np.zeros(len(owner), dtype=np.uint64)
    for step in range(SHINGLE_WORDS):
        there = step < per_text[owner]
        word = hashes[np.minimum(start + step, len(hashes) - 1)]
        values = mix(values + np.where(there, word, np.uint64(0)))
    return Shingles(values, offsets)


def mix(x: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit depends on every bit."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
