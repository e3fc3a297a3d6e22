"""What an upsert makes of a data set, decided on arrays.

Rows are named by a *reference*: stored texts come first, then the stored duplicates, then the rows
that arrive, so that one number says which row of which of the three is meant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail.dataset_index import RowIndex
from longtail.hash_tables import (
    NOWHERE,
    Bools,
    Ints,
    number_distinct,
    places_of,
    repeated,
    same_hashes,
)
from longtail.hashing import Hashes

Verdicts = NDArray[np.int8]
UNDECIDED, CHANGED, UNCHANGED, OUTDATED = np.arange(4, dtype=np.int8)

NamesOf = Callable[[Ints], pa.Array]
"""The ids, as strings, of rows that are given by their references."""


@dataclass(frozen=True)
class Stored:
    """A version, as arrays.

    Attributes:
        texts: the stored texts (n).
        merged: the ids that repeat one of them (m).
        targets: hash of the id of the text that each of them repeats, shape (m, 2).
    """

    texts: RowIndex
    merged: RowIndex
    targets: Hashes

    def kept(self, came: Hashes) -> Kept:
        """What stays when only the ids that came are left; hashes of shape (k, 2)."""
        return Kept(
            places_of(self.texts.ids, came) != NOWHERE, places_of(self.merged.ids, came) != NOWHERE
        )

    def all_kept(self, n_spared: int = 0) -> Kept:
        """Nothing goes."""
        n_texts, n_merged = len(self.texts), len(self.merged)
        return Kept(np.ones(n_texts, dtype=bool), np.ones(n_merged, dtype=bool), n_spared)


@dataclass(frozen=True)
class Kept:
    """What a full export leaves.

    Attributes:
        texts: flags over the stored texts.
        merged: flags over the stored duplicates.
        n_spared: how many of the texts it lacks, and leaves all the same.
    """

    texts: Bools
    merged: Bools
    n_spared: int = 0

    @property
    def n_deleted(self) -> int:
        """How many texts go."""
        return int((~self.texts).sum())


@dataclass(frozen=True)
class Arriving:
    """The rows that arrive, at most one per id (k).

    Attributes:
        index: their hashes.
        verdicts: what several voices made of a row: CHANGED, UNCHANGED, OUTDATED; UNDECIDED
            where the row speaks for itself. Shape (k,).
        counted: False for a row that is not of the export, but decided anew by another policy.
    """

    index: RowIndex
    verdicts: Verdicts
    counted: Bools


@dataclass(frozen=True)
class Plan:
    """The next version.

    Attributes:
        texts: flags over the stored texts: which stay as they are.
        merged: flags over the stored duplicates: which stay as they are.
        promoted: flags over the stored duplicates: which become texts.
        placed: flags over the arriving rows: which are stored as texts.
        folded: references of rows that are recorded as duplicates, ascending.
        into: reference of the text that each of these repeats.
        counts: of the rows of the export, and of the deleted texts.
        is_new: whether this differs from what is stored.
    """

    texts: Bools
    merged: Bools
    promoted: Bools
    placed: Bools
    folded: Ints
    into: Ints
    counts: dict[str, int]
    is_new: bool


def make_plan(
    stored: Stored, kept: Kept, arriving: Arriving, names: NamesOf, *, merge_duplicates: bool
) -> Plan:
    """Decide what becomes of every stored and every arriving row.

    A known id with other content replaces what is stored, unless it is older. A new id whose
    duplicate key is that of a text, or of another new id, is folded into it: into the one with the
    smallest id, texts before new ones, so that the order of an export does not matter. So is a
    stored duplicate whose text is gone; if there is no other, it becomes a text itself.
    """
    new, n, m = arriving.index, len(stored.texts), len(stored.merged)
    at_text = places_of(new.ids, stored.texts.ids)
    verdicts = _verdicts(arriving, stored.texts, at_text)
    # A voice may leave a text as it is and count as a change all the same, and another policy
    # may change a text of which nobody said anything new.
    decided = (verdicts == CHANGED) | (arriving.verdicts != UNDECIDED)
    replacing = (at_text != NOWHERE) & decided & ~_same(new, stored.texts, at_text)
    texts = kept.texts.copy()
    texts[at_text[replacing]] = False

    at_merged = np.where(at_text == NOWHERE, places_of(new.ids, stored.merged.ids), NOWHERE)
    of_merged = _verdicts(arriving, stored.merged, at_merged)
    outdated = (of_merged == OUTDATED) & (arriving.verdicts == UNDECIDED)
    homeless = (at_text == NOWHERE) & ~outdated
    at_target = places_of(stored.targets, stored.texts.ids)
    has_target = (at_target != NOWHERE) & np.append(kept.texts, False)[at_target]
    waiting = kept.merged.copy()
    waiting[at_merged[homeless & (at_merged != NOWHERE)]] = False
    merged, orphans = waiting & has_target, waiting & ~has_target

    seeking = np.concatenate([n + np.flatnonzero(orphans), n + m + np.flatnonzero(homeless)])
    into = np.full(len(seeking), NOWHERE, dtype=np.int64)
    if merge_duplicates and len(seeking):
        base = np.concatenate([np.flatnonzero(texts), n + m + np.flatnonzero(replacing)])
        into = _originals(seeking, base, _Keys(stored, new), names)
    is_folded = into != NOWHERE
    folded, settled = seeking[is_folded], seeking[~is_folded]
    promoted = np.zeros(m, dtype=bool)
    promoted[settled[settled < n + m] - n] = True
    placed = replacing.copy()
    added = settled[settled >= n + m] - n - m
    placed[added] = True
    counted = arriving.counted
    n_outdated = outdated | ((at_text != NOWHERE) & (verdicts == OUTDATED))
    counts = {
        "added": int(counted[added].sum()),
        "changed": int((counted & (at_text != NOWHERE) & (verdicts == CHANGED)).sum()),
        "unchanged": int((counted & (at_text != NOWHERE) & (verdicts == UNCHANGED)).sum()),
        "merged": int(counted[folded[folded >= n + m] - n - m].sum()),
        "outdated": int((counted & n_outdated).sum()),
        "deleted": kept.n_deleted,
    }
    gone = not (kept.texts.all() and kept.merged.all())
    is_new = gone or bool(placed.any() or promoted.any())
    is_new = is_new or _folds_differ(stored, new, at_merged, folded, into[is_folded])
    return Plan(texts, merged, promoted, placed, folded, into[is_folded], counts, is_new)


def _same(new: RowIndex, old: RowIndex, places: Ints) -> Bools:
    """Which new rows hold what the old row at their place holds; False where they have none."""
    same = np.zeros(len(new), dtype=bool)
    known = np.flatnonzero(places != NOWHERE)
    same[known] = new.same_content(old, known, places[known])
    return same


def _verdicts(arriving: Arriving, old: RowIndex, places: Ints) -> Verdicts:
    """What each arriving row is beside the stored one of its id; UNDECIDED where there is none."""
    new = arriving.index
    known = np.flatnonzero(places != NOWHERE)
    older = np.zeros(len(new), dtype=bool)
    older[known] = new.older_than(old, known, places[known])
    found = np.where(_same(new, old, places), UNCHANGED, np.where(older, OUTDATED, CHANGED))
    found = np.where(arriving.verdicts == UNDECIDED, found, arriving.verdicts)
    return np.where(places == NOWHERE, UNDECIDED, found)


@dataclass(frozen=True)
class _Keys:
    """The duplicate keys of rows that are given by their references."""

    stored: Stored
    new: RowIndex

    def of(self, rows: Ints) -> Hashes:
        n, m = len(self.stored.texts), len(self.stored.merged)
        found = np.empty((len(rows), 2), dtype=np.uint64)
        for index, start in ((self.stored.texts, 0), (self.stored.merged, n), (self.new, n + m)):
            mine = (rows >= start) & (rows < start + len(index))
            found[mine] = index.keys[rows[mine] - start]
        return found


def _originals(seeking: Ints, base: Ints, keys: _Keys, names: NamesOf) -> Ints:
    """For each row that seeks one, the row that it repeats, or NOWHERE if it repeats none."""
    sought = keys.of(seeking)
    in_base = places_of(keys.of(base), sought) != NOWHERE
    base = base[in_base]
    shared = repeated(np.concatenate([keys.of(base), sought]) if len(base) else sought)
    del sought
    seeks = shared[len(base) :]
    base, alike = base[shared[: len(base)]], seeking[seeks]
    rows = np.concatenate([base, alike])
    is_seeking = np.arange(len(rows)) >= len(base)
    into = np.full(len(seeking), NOWHERE, dtype=np.int64)
    if not len(rows):
        return into
    group, n_groups = number_distinct(keys.of(rows))
    rank = pc.rank(names(rows), tiebreaker="first").to_numpy()
    order = np.lexsort((rank, is_seeking, group))
    first = np.ones(len(order), dtype=bool)
    first[1:] = np.diff(group[order]) > 0
    original = np.empty(n_groups, dtype=np.int64)
    original[group[order][first]] = rows[order][first]
    found = original[group]
    found[found == rows] = NOWHERE
    into[seeks] = found[is_seeking]
    return into


def _folds_differ(stored: Stored, new: RowIndex, at_merged: Ints, folded: Ints, into: Ints) -> bool:
    """Whether a recorded duplicate is new, has another content, or repeats another text now."""
    n, m = len(stored.texts), len(stored.merged)
    rows = folded - n - m
    if not len(rows):
        return False
    if (rows < 0).any() or (into >= n).any() or (at_merged[rows] == NOWHERE).any():
        return True
    was = at_merged[rows]
    same = new.same_content(stored.merged, rows, was)
    return not (same & same_hashes(stored.texts.ids[into], stored.targets[was])).all()
