"""What several annotators said of one text, over all exports.

A version keeps the rows of every annotator, *voices*, of the texts that two or more ever annotated;
of all others the stored text is the only voice. No name counts as an annotator of its own. Only the
texts of which something new was said, or all of them under another policy, are decided anew; their
voices are held in memory, those of the other texts are not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from longtail.annotations.merge import resolve_voices
from longtail.annotations.schema import ANNOTATIONS
from longtail.config import AnnotatorPolicy
from longtail.content import canonical
from longtail.dataset_index import RowIndex, concat, index_of
from longtail.dataset_plan import (
    CHANGED,
    OUTDATED,
    UNCHANGED,
    UNDECIDED,
    Arriving,
    Kept,
    Stored,
    Verdicts,
)
from longtail.hash_tables import NOWHERE, Bools, Ints, number_distinct, places_of
from longtail.hashing import Hashes
from longtail.row_groups import Source, batches_of, chosen_rows


@dataclass(frozen=True)
class Policy:
    """How voices become one label set.

    Attributes:
        name: see ``data.several_annotators``.
        at_least: for the policy of that name.
    """

    name: AnnotatorPolicy
    at_least: int

    def same_as(self, name: str | None, at_least: int | None) -> bool:
        """Whether a version's texts were decided by this policy."""
        return self.name == name and (self.name != "at_least" or self.at_least == at_least)


@dataclass(frozen=True)
class Voices:
    """The outcome.

    Attributes:
        arriving: the rows of the export, those with several voices in the place of what the export
            alone made of them; texts decided anew that are not in the export follow.
        decided: the texts that were decided from voices, ANNOTATIONS.
        from_decided: row of ``decided`` for each arriving one, NOWHERE if it is the export's own.
        voices: the voices of these texts, ANNOTATIONS.
        kept: flags over the stored voices: which stay as they are.
        is_new: whether something was said that is not stored, or a voice goes.
    """

    arriving: Arriving
    decided: pa.Table
    from_decided: Ints
    voices: pa.Table
    kept: Bools
    is_new: bool


@dataclass(frozen=True)
class _Pool:
    """Rows with their index."""

    table: pa.Table
    index: RowIndex

    def filter(self, rows: Bools) -> _Pool:
        return _Pool(self.table.filter(pa.array(rows)), self.index.take(rows))


@dataclass(frozen=True)
class Sources:
    """The rows behind the indices: what is stored, and the export's."""

    texts: Source
    merged: Source
    voices: Source
    accepted: Source
    given_voices: Source


def hear(
    sources: Sources, stored: Stored, kept: Kept, accepted: RowIndex, policy: Policy, *, anew: bool
) -> Voices:
    """Combine what the export says with what was said before.

    Of one annotator, the later row by date counts; without dates for both, the export's.

    Args:
        sources: the rows.
        stored: the version before.
        kept: what the export leaves of it.
        accepted: index of the export's rows (k).
        policy: how voices become one label set.
        anew: decide every text with several voices, since the policy is another one.
    """
    old = _pool_index(batches_of(sources.voices))
    stays = _is_kept(old.ids, stored, kept)
    given = _pool(map(canonical, batches_of(sources.given_voices)))
    given = given.filter(places_of(given.index.ids, accepted.ids) != NOWHERE)
    at_text = places_of(accepted.ids, stored.texts.ids)
    at_merged = places_of(accepted.ids, stored.merged.ids)
    has_old = places_of(accepted.ids, old.ids) != NOWHERE
    has_given = places_of(accepted.ids, given.index.ids) != NOWHERE
    other = _other_annotator(accepted, stored.texts, at_text)
    other |= _other_annotator(accepted, stored.merged, at_merged)
    affected = has_old | has_given | other
    again = stays & (anew | (places_of(old.ids, accepted.ids[affected]) != NOWHERE))
    if not (affected.any() or again.any()):
        plain = np.full(len(accepted), UNDECIDED)
        return Voices(
            Arriving(accepted, plain, np.ones(len(accepted), dtype=bool)),
            ANNOTATIONS.empty_table(), np.full(len(accepted), NOWHERE, dtype=np.int64),
            ANNOTATIONS.empty_table(), stays, not stays.all(),
        )  # fmt: skip
    alone = affected & ~has_old
    before = [
        chosen_rows(batches_of(sources.voices), again),
        chosen_rows(batches_of(sources.texts), _flags(at_text[alone], len(stored.texts))),
        chosen_rows(batches_of(sources.merged), _flags(at_merged[alone], len(stored.merged))),
    ]
    said_before = _pool(batch.select(ANNOTATIONS.names) for batches in before for batch in batches)
    own = chosen_rows(batches_of(sources.accepted), affected & ~has_given)
    said_now = _joined(given, _pool(map(canonical, own)))
    voices, news, older = _combine(said_before, said_now)
    decided = canonical(resolve_voices(voices.table, policy.name, at_least=policy.at_least))
    index = index_of(decided)
    arriving, from_decided = _replaced(accepted, index, _verdict_of(index, said_now, news, older))
    several = _several(voices.index)
    is_new = bool(news.any()) or not stays.all()
    return Voices(
        arriving, decided, from_decided, voices.table.filter(pa.array(several)),
        stays & ~again, is_new,
    )  # fmt: skip


def _is_kept(ids: Hashes, stored: Stored, kept: Kept) -> Bools:
    """Which ids belong to a stored row that stays."""
    at_text = places_of(ids, stored.texts.ids)
    at_merged = places_of(ids, stored.merged.ids)
    here: Bools = (at_text != NOWHERE) & np.append(kept.texts, False)[at_text]
    here |= (at_merged != NOWHERE) & np.append(kept.merged, False)[at_merged]
    return here


def _combine(before: _Pool, now: _Pool) -> tuple[_Pool, Bools, Bools]:
    """The voices that count; which of those of now are new, and which are older than before's."""
    at = places_of(_voice_ids(now.index), _voice_ids(before.index))
    known = np.flatnonzero(at != NOWHERE)
    same, older = np.zeros(len(at), dtype=bool), np.zeros(len(at), dtype=bool)
    same[known] = now.index.same_content(before.index, known, at[known])
    older[known] = now.index.older_than(before.index, known, at[known])
    older &= ~same
    news = ~same & ~older
    stays = np.ones(len(before.index), dtype=bool)
    stays[at[news & (at != NOWHERE)]] = False
    return _joined(before.filter(stays), now.filter(news)), news, older


def _verdict_of(decided: RowIndex, now: _Pool, news: Bools, older: Bools) -> Verdicts:
    """What the export's voices make of each decided text; CHANGED for one it does not name."""
    at = places_of(now.index.ids, decided.ids)
    verdicts = np.full(len(decided), CHANGED)
    verdicts[at] = UNCHANGED
    verdicts[at[older]] = OUTDATED
    verdicts[at[news]] = CHANGED
    return verdicts


def _replaced(accepted: RowIndex, decided: RowIndex, verdicts: Verdicts) -> tuple[Arriving, Ints]:
    """The arriving rows with the decided ones in the place of the export's, or after them."""
    n = len(accepted)
    at = places_of(decided.ids, accepted.ids)
    here, beyond = np.flatnonzero(at != NOWHERE), np.flatnonzero(at == NOWHERE)
    index = concat([accepted, decided.take(beyond)])
    from_decided = np.concatenate([np.full(n, NOWHERE, dtype=np.int64), beyond])
    from_decided[at[here]] = here
    said = np.concatenate([np.full(n, UNDECIDED), verdicts[beyond]])
    said[at[here]] = verdicts[here]
    index.content[at[here]], index.keys[at[here]] = decided.content[here], decided.keys[here]
    index.dates[at[here]], index.annotators[at[here]] = (
        decided.dates[here], decided.annotators[here],
    )  # fmt: skip
    return Arriving(index, said, np.arange(len(index)) < n), from_decided


def _other_annotator(accepted: RowIndex, old: RowIndex, places: Ints) -> Bools:
    """Which rows come from another annotator than the stored row of their id."""
    other = np.zeros(len(accepted), dtype=bool)
    known = np.flatnonzero(places != NOWHERE)
    other[known] = accepted.annotators[known] != old.annotators[places[known]]
    return other


def _several(index: RowIndex) -> Bools:
    """Which rows belong to an id that more than one annotator spoke of."""
    numbers, n_ids = number_distinct(index.ids)
    several: Bools = np.bincount(numbers, minlength=n_ids)[numbers] > 1
    return several


def _voice_ids(index: RowIndex) -> Hashes:
    """A hash for each (id, annotator); the annotator's is a hash itself, so that they mix."""
    return np.column_stack([index.ids[:, 0] ^ index.annotators, index.ids[:, 1]])


def _flags(places: Ints, n: int) -> Bools:
    flags = np.zeros(n, dtype=bool)
    flags[places[places != NOWHERE]] = True
    return flags


def _pool(batches: Iterable[pa.Table]) -> _Pool:
    tables = [ANNOTATIONS.empty_table(), *batches]
    return _Pool(pa.concat_tables(tables), _pool_index(tables))


def _pool_index(batches: Iterable[pa.Table]) -> RowIndex:
    return concat([index_of(batch, keys=False) for batch in batches])


def _joined(first: _Pool, second: _Pool) -> _Pool:
    return _Pool(pa.concat_tables([first.table, second.table]), concat([first.index, second.index]))
