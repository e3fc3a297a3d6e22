"""Names of labels that may mean the same: by their spelling, and by the texts that have them."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

CUTOFF = 0.85
"""Likeness of two normalised names, difflib's ratio, from which on they are taken for alike."""
MIN_TEXTS, MIN_SHARE = 3, 0.5
"""Texts that must have exchanged one name for the other, and their share of those compared."""
_NAMES = 500
_SEPARATORS = re.compile(r"[\s\-_./:,;|'’()]+")


@dataclass(frozen=True)
class Exchange:
    """Texts that were stored with one label and now come with another one instead.

    Attributes:
        old: the label that they had, and have no more.
        texts: how many there are.
        compared: stored texts that now have the new label.
    """

    old: str
    texts: int
    compared: int


def normalised(name: str) -> str:
    """A name without case, Unicode form and what separates words; numbers stay apart.

    Other signs stay: C, C++ and C# are three things.
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return _SEPARATORS.sub(_between, folded) or folded


def same_but_for_spelling(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Names that are one and the same once normalised, each set sorted."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        found[normalised(name)].append(name)
    return [tuple(alike) for alike in found.values() if len(alike) > 1]


def likest(names: Sequence[str], others: Collection[str]) -> dict[str, str]:
    """For each name the other name that is most like it, where one is like it at all.

    Names that differ in a number are two things, however alike they look. Where there are more
    than 500 names, those after the first 500 are compared for equal spelling only.

    Args:
        names: most important first.
        others: what they are compared with.
    """
    spelled: dict[str, str] = {}
    for other in sorted(others, reverse=True):
        spelled[normalised(other)] = other
    found = {}
    for place, name in enumerate(names):
        key = normalised(name)
        pool = [key] if key in spelled else spelled if place < _NAMES else []
        numbers = re.findall(r"\d+", key)
        for match in difflib.get_close_matches(key, pool, n=5, cutoff=CUTOFF):
            if re.findall(r"\d+", match) == numbers and spelled[match] != name:
                found[name] = spelled[match]
                break
    return found


def exchanges(
    now: pa.Table, stored: pa.Table, fresh: Collection[str], canonical: Mapping[str, str]
) -> dict[str, Exchange]:
    """For each new label the stored one whose place it took, where the texts bear that out.

    Args:
        now: id and labels of the export's rows that have a new label.
        stored: id and labels of the data set, ids unique.
        fresh: the new labels.
        canonical: today's name of each name; one that is not in it stays.
    """
    place = pc.index_in(now["id"], stored["id"].combine_chunks())
    both = pc.is_valid(place)
    before = stored["labels"].take(place.filter(both)).to_pylist()
    compared: Counter[str] = Counter()
    lost: dict[str, Counter[str]] = defaultdict(Counter)
    for old, new in zip(before, now["labels"].filter(both).to_pylist(), strict=True):
        has = {canonical.get(name, name) for name in new}
        gone = {name for name in old or () if canonical.get(name, name) not in has}
        for name in set(new).intersection(fresh):
            compared[name] += 1
            lost[name].update(gone)
    found = {}
    for name, counts in lost.items():
        for old, texts in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:1]:
            if texts >= MIN_TEXTS and texts >= MIN_SHARE * compared[name]:
                found[name] = Exchange(old, texts, compared[name])
    return found


def _between(separators: re.Match[str]) -> str:
    """What is left of separators: 1.5 is not 15."""
    before = separators.string[: separators.start()][-1:]
    after = separators.string[separators.end() :][:1]
    return "." if before.isdecimal() and after.isdecimal() else ""
