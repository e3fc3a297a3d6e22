"""Texts that stand several times, and those among them that are labelled differently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail.audit.candidates import Candidate
from longtail.near_duplicates import find_units

EXCERPT_CHARACTERS = 160
_COLUMNS = ["id", "labels", "annotator", "annotated_at", "source", "split"]


@dataclass(frozen=True)
class Saying:
    """What one row says of a text that stands several times."""

    id: str
    labels: tuple[str, ...]
    annotator: str | None
    annotated_at: str | None
    source: str | None
    split: str | None


@dataclass(frozen=True)
class Conflict:
    """Rows of one text whose label sets differ.

    Attributes:
        excerpt: the beginning of the text.
        disputed: labels that some of the rows have and others do not, sorted.
        sayings: the rows, by id.
    """

    excerpt: str
    disputed: tuple[str, ...]
    sayings: tuple[Saying, ...]


@dataclass(frozen=True)
class Duplicates:
    """Texts that are equal after normalisation.

    Attributes:
        texts: rows, those that were merged into another one included.
        sets: distinct texts that stand more than once.
        beyond_first: rows beyond the first of their text.
        test_in_train: rows of the data's own test split whose text stands in its train split too;
            None where the data brings no split.
        conflicts: the sets whose label sets differ, the largest first.
    """

    texts: int
    sets: int
    beyond_first: int
    test_in_train: int | None
    conflicts: tuple[Conflict, ...]

    @property
    def texts_in_conflict(self) -> int:
        """Rows of all conflicts."""
        return sum(len(conflict.sayings) for conflict in self.conflicts)


def find_duplicates(table: pa.Table, merged: pa.Table | None = None) -> Duplicates:
    """Group rows by their normalised text and compare what is said of each.

    Args:
        table: schema ANNOTATIONS.
        merged: ``id`` and ``merged_into`` of rows that the data set no longer stores because they
            repeat a stored row with the same labels; they count as duplicates.
    """
    codes, n_texts = _distinct_texts(table)
    copies = np.ones(table.num_rows, dtype=np.int64) + _merged_copies(table, merged)
    per_text = np.bincount(codes, weights=copies, minlength=n_texts).astype(np.int64)
    rows_of = np.bincount(codes, minlength=n_texts)
    repeated = np.flatnonzero(rows_of[codes] > 1)
    return Duplicates(
        texts=int(copies.sum()),
        sets=int((per_text > 1).sum()),
        beyond_first=int(copies.sum()) - n_texts,
        test_in_train=_test_in_train(table["split"], codes, n_texts),
        conflicts=_conflicts(table, repeated, codes[repeated]),
    )


def conflict_candidates(conflicts: Sequence[Conflict]) -> list[Candidate]:
    """What the majority of a text's rows would change in the others.

    Where they are even, both ways are proposed at a score of ½: a person accepts one of them.
    """
    return [one for conflict in conflicts for one in _proposals(conflict)]


def excerpt(text: str) -> str:
    """The beginning of a text in one line."""
    line = " ".join(text[: 4 * EXCERPT_CHARACTERS].split())
    shortened = len(line) > EXCERPT_CHARACTERS or len(text) > 4 * EXCERPT_CHARACTERS
    return line[:EXCERPT_CHARACTERS].rstrip() + "…" * shortened


def as_json(found: Duplicates, listed: int) -> dict[str, Any]:
    """The section of ``audit.json``."""
    return {
        "texts": found.texts,
        "sets": found.sets,
        "beyond_first": found.beyond_first,
        "conflicting_sets": len(found.conflicts),
        "texts_in_conflict": found.texts_in_conflict,
        "test_in_train": found.test_in_train,
        "listed": [
            {
                "excerpt": one.excerpt,
                "disputed": one.disputed,
                "sayings": [vars(saying) for saying in one.sayings],
            }
            for one in found.conflicts[:listed]
        ],
    }


def _distinct_texts(table: pa.Table) -> tuple[NDArray[np.int64], int]:
    """A number for each row's normalised text, from 0 on, and how many there are."""
    alone = pa.nulls(table.num_rows, pa.string())
    codes = find_units(table["id"], table["text"], alone, 1.0, listed=0).units
    return codes, int(codes.max(initial=-1)) + 1


def _merged_copies(table: pa.Table, merged: pa.Table | None) -> NDArray[np.int64]:
    """How many rows were merged into each row."""
    if merged is None or merged.num_rows == 0:
        return np.zeros(table.num_rows, dtype=np.int64)
    place = pc.drop_null(pc.index_in(merged["merged_into"], table["id"].combine_chunks()))
    return np.bincount(place.to_numpy().astype(np.int64), minlength=table.num_rows)


def _test_in_train(split: pa.ChunkedArray, codes: NDArray[np.int64], n_texts: int) -> int | None:
    if split.null_count == len(split):
        return None
    in_train = np.zeros(n_texts, dtype=bool)
    in_train[codes[_is(split, "train")]] = True
    return int(in_train[codes[_is(split, "test")]].sum())


def _is(split: pa.ChunkedArray, name: str) -> NDArray[np.bool_]:
    flags: NDArray[np.bool_] = pc.fill_null(pc.equal(split, name), False).to_numpy()
    return flags


def _conflicts(
    table: pa.Table, rows: NDArray[np.int64], codes: NDArray[np.int64]
) -> tuple[Conflict, ...]:
    taken = table.select(_COLUMNS).take(pa.array(rows)).to_pylist()
    members: dict[int, list[int]] = {}
    for place, code in enumerate(codes.tolist()):
        members.setdefault(code, []).append(place)
    found = []
    for places in members.values():
        said = [frozenset(taken[place]["labels"] or ()) for place in places]
        if len(set(said)) == 1:
            continue
        disputed = frozenset().union(*said) - frozenset.intersection(*said)
        text = str(table["text"][int(rows[places[0]])])
        sayings = sorted((_saying(taken[place]) for place in places), key=lambda one: one.id)
        found.append(Conflict(excerpt(text), tuple(sorted(disputed)), tuple(sayings)))
    return tuple(sorted(found, key=lambda one: (-len(one.sayings), one.sayings[0].id)))


def _saying(row: dict[str, Any]) -> Saying:
    when = row["annotated_at"]
    return Saying(
        id=row["id"],
        labels=tuple(sorted(set(row["labels"] or ()))),
        annotator=row["annotator"],
        annotated_at=None if when is None else when.isoformat(),
        source=row["source"],
        split=row["split"],
    )


def _proposals(conflict: Conflict) -> list[Candidate]:
    n = len(conflict.sayings)
    votes = Counter(label for saying in conflict.sayings for label in saying.labels)
    made = []
    for label in conflict.disputed:
        ayes = votes[label]
        for saying in conflict.sayings:
            has = label in saying.labels
            against = n - ayes if has else ayes
            if 2 * against < n:
                continue
            others = f"{against} of the {n} rows of this text {'lack' if has else 'have'} the label"
            even = "; they are even, so accept one way only" if 2 * against == n else ""
            made.append(
                Candidate(
                    saying.id, label, "remove" if has else "add", "conflict", against / n,
                    others + even,
                )
            )  # fmt: skip
    return made
