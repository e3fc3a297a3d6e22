"""The files of one version of a data set: reading what is stored, writing what comes next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from longtail import storage
from longtail.annotations.schema import ANNOTATIONS
from longtail.content import canonical, content_fingerprint, distinct_labels, row_digests
from longtail.dataset_index import Chosen, concat, read_index, write_index
from longtail.dataset_plan import Kept, Plan, Stored
from longtail.dataset_voices import Sources, Voices
from longtail.hash_tables import NOWHERE, Bools, Ints, places_of
from longtail.hashing import Hashes, wide_hash
from longtail.row_groups import RowGroupWriter, Source, batches_of, chosen_rows

TEXTS, MERGED, VOICES, DELETED = (
    f"{name}.parquet" for name in ("texts", "merged", "voices", "deleted")
)
_INDEX = "index.parquet"

MERGED_ROWS = ANNOTATIONS.append(pa.field("merged_into", pa.string()))
DELETED_IDS = pa.schema([("id", pa.string()), ("version", pa.int64())])


@dataclass(frozen=True)
class Content:
    """What a version's manifest says of its content.

    Attributes:
        fingerprint: of texts and voices.
        n_texts: texts stored.
        n_labels: distinct labels of theirs.
    """

    fingerprint: str
    n_texts: int
    n_labels: int


def sources(before: Path | None, accepted: Source, given_voices: Source | None) -> Sources:
    """Where the rows are: in the directory of the version before, if there is one, and given."""
    return Sources(
        texts=before / TEXTS if before else ANNOTATIONS.empty_table(),
        merged=before / MERGED if before else MERGED_ROWS.empty_table(),
        voices=before / VOICES if before else ANNOTATIONS.empty_table(),
        accepted=accepted,
        given_voices=ANNOTATIONS.empty_table() if given_voices is None else given_voices,
    )


def stored_index(before: Path | None) -> Stored:
    """The arrays of a version."""
    if before is None:
        return Stored(concat([]), concat([]), np.empty((0, 2), np.uint64))
    n_texts = int(storage.read_json(before / storage.MANIFEST)["n_texts"])
    index = read_index(before / _INDEX)
    targets = [wide_hash(batch["merged_into"]) for batch in batches_of(before / MERGED)]
    return Stored(
        index.take(slice(0, n_texts)),
        index.take(slice(n_texts, None)),
        np.concatenate([np.empty((0, 2), np.uint64), *targets]),
    )


@dataclass(frozen=True)
class NextVersion:
    """Everything that the next version is written from.

    Attributes:
        number: its number.
        before: directory of the version before, None for the first.
        sources: the rows that are stored and that arrive.
        stored: the version before, as arrays.
        kept: what a full export leaves of it.
        heard: the arriving rows, and what several annotators said.
    """

    number: int
    before: Path | None
    sources: Sources
    stored: Stored
    kept: Kept
    heard: Voices

    def names(self, rows: Ints) -> pa.Array:
        """The ids of rows that are given by their references (:mod:`longtail.dataset_plan`)."""
        n, m = len(self.stored.texts), len(self.stored.merged)
        arriving = rows - n - m
        from_decided = np.full(len(rows), NOWHERE, dtype=np.int64)
        from_decided[arriving >= 0] = self.heard.from_decided[arriving[arriving >= 0]]
        parts = [
            (rows < n, rows, self.sources.texts),
            ((rows >= n) & (arriving < 0), rows - n, self.sources.merged),
            ((arriving >= 0) & (from_decided == NOWHERE), arriving, self.sources.accepted),
            (from_decided != NOWHERE, from_decided, self.heard.decided),
        ]
        found = [_ids_at(source, places[mine]) for mine, places, source in parts]
        order = np.concatenate([np.flatnonzero(mine) for mine, _, _ in parts])
        return pa.concat_arrays(found).take(pa.array(np.argsort(order)))

    def news(self, plan: Plan) -> Hashes:
        """Digests of the rows and voices that would be stored and that nothing stored holds."""
        index = self.heard.arriving.index
        voices = [row_digests(canonical(batch)) for batch in batches_of(self.heard.voices)]
        came = np.concatenate([index.content[plan.placed | self._folded(plan)], *voices])
        spoken = [row_digests(canonical(batch)) for batch in batches_of(self.sources.voices)]
        known = [self.stored.texts.content, self.stored.merged.content, *spoken]
        fresh = came[places_of(came, np.concatenate(known)) == NOWHERE]
        return np.unique(fresh, axis=0)

    def write(self, directory: Path, plan: Plan) -> Content:
        """Write all files into an empty directory."""
        n_labels = self._write_texts(directory / TEXTS, plan)
        self._write_merged(directory / MERGED, plan)
        spoken = self._write_voices(directory / VOICES)
        self._write_deleted(directory / DELETED)
        n_texts, content = self._write_index(directory / _INDEX, plan)
        fingerprint = content_fingerprint(content)
        if len(spoken):
            fingerprint = storage.fingerprint(fingerprint, content_fingerprint(spoken))
        return Content(fingerprint, n_texts, n_labels)

    @property
    def _n_stored(self) -> int:
        return len(self.stored.texts) + len(self.stored.merged)

    def _divided(self, chosen: Bools) -> tuple[Bools, Ints]:
        """Chosen arriving rows: flags of the export's own, and places of the decided ones."""
        is_own = self.heard.from_decided == NOWHERE
        return chosen & is_own, np.flatnonzero(chosen & ~is_own)

    def _folded(self, plan: Plan) -> Bools:
        """The arriving rows that are recorded as duplicates."""
        rows = plan.folded[plan.folded >= self._n_stored] - self._n_stored
        return _flags(rows, len(self.heard.from_decided))

    def _moved(self, plan: Plan) -> Ints:
        """Places of the stored duplicates that repeat another text from now on."""
        n = len(self.stored.texts)
        return plan.folded[plan.folded < self._n_stored] - n

    def _arriving(self, chosen: Bools) -> Iterator[pa.Table]:
        """Arriving rows: the export's own, then those that were decided."""
        own, decided = self._divided(chosen)
        yield from map(canonical, chosen_rows(batches_of(self.sources.accepted), own))
        yield self.heard.decided.take(pa.array(self.heard.from_decided[decided]))

    def _write_index(self, path: Path, plan: Plan) -> tuple[int, Hashes]:
        """Returns how many of the rows are texts, and their digests."""
        new, old = self.heard.arriving.index, self.stored
        texts: list[Chosen] = [(old.texts, plan.texts), (old.merged, plan.promoted)]
        texts += [(new, rows) for rows in self._divided(plan.placed)]
        merged: list[Chosen] = [(old.merged, plan.merged), (old.merged, self._moved(plan))]
        merged += [(new, rows) for rows in self._divided(self._folded(plan))]
        write_index(path, [*texts, *merged])
        content = np.concatenate([index.content[rows] for index, rows in texts])
        return len(content), content

    def _write_texts(self, path: Path, plan: Plan) -> int:
        """Returns the number of distinct labels."""
        labels = pa.array([], pa.string())
        with RowGroupWriter(path, ANNOTATIONS) as writer:
            for part in (
                chosen_rows(batches_of(self.sources.texts), plan.texts),
                chosen_rows(batches_of(self.sources.merged), plan.promoted),
                self._arriving(plan.placed),
            ):
                for batch in part:
                    writer.write(batch)
                    labels = pa.concat_arrays([labels, distinct_labels(batch)]).unique()
        return len(labels.drop_null())

    def _write_merged(self, path: Path, plan: Plan) -> None:
        folded, moved = self._folded(plan), self._moved(plan)
        own, decided = self._divided(folded)
        arriving = np.concatenate([np.flatnonzero(own), decided]) + self._n_stored
        order = np.concatenate([moved + len(self.stored.texts), arriving])
        into = self.names(plan.into[np.searchsorted(plan.folded, order)])
        with RowGroupWriter(path, MERGED_ROWS) as writer:
            for batch in chosen_rows(batches_of(self.sources.merged), plan.merged):
                writer.write(batch)
            start = 0
            for part in (
                chosen_rows(
                    batches_of(self.sources.merged), _flags(moved, len(self.stored.merged))
                ),
                self._arriving(folded),
            ):
                for batch in part:
                    target = into.slice(start, batch.num_rows)
                    start += batch.num_rows
                    rows = batch.select(ANNOTATIONS.names)
                    writer.write(rows.append_column(MERGED_ROWS.field("merged_into"), target))

    def _write_voices(self, path: Path) -> Hashes:
        """Returns the digests of the rows."""
        digests = [np.empty((0, 2), np.uint64)]
        kept = chosen_rows(batches_of(self.sources.voices), self.heard.kept)
        with RowGroupWriter(path, ANNOTATIONS) as writer:
            for part in (kept, batches_of(self.heard.voices)):
                for batch in part:
                    writer.write(batch)
                    digests.append(row_digests(batch))
        return np.concatenate(digests)

    def _write_deleted(self, path: Path) -> None:
        """What went earlier and did not come back, and what goes now."""
        came = self.heard.arriving.index.ids
        with RowGroupWriter(path, DELETED_IDS) as writer:
            for batch in batches_of(self.before / DELETED) if self.before else ():
                away = places_of(wide_hash(batch["id"]), came) == NOWHERE
                writer.write(batch.filter(pa.array(away)))
            for source, kept in (
                (self.sources.texts, self.kept.texts),
                (self.sources.merged, self.kept.merged),
            ):
                for batch in chosen_rows(batches_of(source, ["id"]), ~kept):
                    number = pa.array(np.full(batch.num_rows, self.number))
                    writer.write(batch.append_column("version", number))


def _ids_at(source: Source, places: Ints) -> pa.Array:
    """The ids of the rows at some places, in the order of the places."""
    if not len(places):
        return pa.array([], pa.string())
    distinct = np.unique(places)
    chosen = np.zeros(int(distinct[-1]) + 1, dtype=bool)
    chosen[distinct] = True
    parts = [batch["id"].combine_chunks() for batch in _until(source, chosen)]
    ids = pa.concat_arrays([part.cast(pa.string()) for part in parts])
    return ids.take(pa.array(np.searchsorted(distinct, places)))


def _until(source: Source, chosen: Bools) -> Iterator[pa.Table]:
    """The chosen rows' ids; nothing is read beyond the last of them."""
    start = 0
    for batch in batches_of(source, ["id"]):
        if start >= len(chosen):
            return
        here = chosen[start : start + batch.num_rows]
        yield batch.slice(0, len(here)).filter(pa.array(here))
        start += batch.num_rows


def _flags(places: Ints, n: int) -> Bools:
    flags = np.zeros(n, dtype=bool)
    flags[places] = True
    return flags
