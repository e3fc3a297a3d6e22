"""Which split a text was ever put in: append-only, so that a test text stays a test text.

    ROOT/generations/000000/entries.parquet   id, split, event
                           /manifest.json     generation, data set, parent, file digests
    ROOT/generations/000001/ …

A generation is a committed directory that is never changed; it names the digest of the manifest
before it. An id is assigned once. A text that leaves the data set gets a ``deleted`` row, its
tombstone, and keeps its split should it come back (``restored``).

In memory an id is its 128-bit hash (:func:`longtail.hashing.wide_hash`): 22 bytes an entry with
all that is known of it, whatever the length of the ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail import storage
from longtail.config import SplitName
from longtail.errors import StoreError
from longtail.hashing import Hashes, Strings, as_column, wide_hash

Event = Literal["assigned", "deleted", "restored"]
EVENTS: tuple[Event, ...] = get_args(Event)
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
NOWHERE = -1
ASSIGNED = pa.schema([("id", pa.string()), ("split", pa.string())])
ENTRIES = pa.schema([*ASSIGNED, ("event", pa.string())])
_FILE = "entries.parquet"
_ASSIGNED, _DELETED, _RESTORED = range(len(EVENTS))

Bools = NDArray[np.bool_]
Codes = NDArray[np.int8]
Cohorts = NDArray[np.int32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Standing:
    """Where each of some ids stands; arrays of shape (ids,).

    Attributes:
        splits: place of its split in :data:`SPLITS`, −1 where the ledger does not know it.
        cohorts: generation in which it was assigned, −1 where the ledger does not know it.
        deleted: whether the text has left the data set.
    """

    splits: Codes
    cohorts: Cohorts
    deleted: Bools

    @property
    def known(self) -> Bools:
        """Whether the ledger knows the id."""
        known: Bools = self.splits != NOWHERE
        return known


@dataclass(frozen=True, eq=False)
class LedgerEntries:
    """The ledger as read at one moment; arrays of shape (entries,), sorted by ``keys``.

    Attributes:
        keys: (entries, 2), hash of every id that was ever assigned, deleted ones too.
        splits: place of the split in :data:`SPLITS`; never changes.
        cohorts: generation in which the text was assigned; 0 is the original cohort.
        deleted: whether the text has left the data set.
        datasets: per generation, fingerprint of the data set that it was assigned with.
        head: digest of the last generation's manifest, and so of everything before it.
    """

    keys: Hashes = field(default_factory=lambda: np.empty((0, 2), dtype=np.uint64))
    splits: Codes = field(default_factory=lambda: np.empty(0, dtype=np.int8))
    cohorts: Cohorts = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    deleted: Bools = field(default_factory=lambda: np.empty(0, dtype=bool))
    datasets: tuple[str, ...] = ()
    head: str = ""

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def generations(self) -> int:
        """How many there are; the number of the next one."""
        return len(self.datasets)

    def lookup(self, ids: Strings) -> Standing:
        """Where ids stand, in their order."""
        column = as_column(ids)
        if not len(self):
            nowhere = np.full(len(column), NOWHERE, dtype=np.int8)
            return Standing(nowhere, nowhere.astype(np.int32), nowhere >= 0)
        places = self.places(wide_hash(column))
        known = places >= 0
        return Standing(
            np.where(known, self.splits[places], np.int8(NOWHERE)),
            np.where(known, self.cohorts[places], np.int32(NOWHERE)),
            known & self.deleted[places],
        )

    def places(self, keys: Hashes) -> Ints:
        """Place of each hash among the entries, −1 where it is none of them; shape (n,)."""
        if not len(self):
            return np.full(len(keys), NOWHERE, dtype=np.int64)
        high, last = self.keys[:, 0], len(self) - 1
        places = np.searchsorted(high, keys[:, 0])
        while True:  # past entries of which only the high half agrees; there hardly ever is one
            here = np.minimum(places, last)
            near = (places <= last) & (high[here] == keys[:, 0])
            passing = near & (self.keys[here, 1] != keys[:, 1])
            if not passing.any():
                return np.where(near, places, NOWHERE)
            places[passing] += 1


class _Rows(NamedTuple):
    """Rows of generations, in the order in which they were written."""

    keys: Hashes
    splits: Codes
    events: Codes
    generations: Cohorts


class SplitLedger:
    """The ledger under a directory.

    Args:
        root: local directory; made when something is first written.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def read(self) -> LedgerEntries:
        """Every entry, checked against the manifests.

        Raises:
            StoreError: a generation is missing, unfinished or altered, or an id was moved.
        """
        parent, datasets, parts = "", [], []
        for number, path in enumerate(self._generations()):
            datasets.append(str(self._verify(path, number, parent)["dataset"]))
            parts.append(_rows(storage.read_parquet(path / _FILE), number))
            parent = storage.sha256_file(path / storage.MANIFEST)
        rows = _joined(parts)
        order, fresh = _by_id(rows)
        wrong = _wrong(rows, order, fresh)
        if len(wrong):
            raise self._altered(rows, order, int(wrong[0]))
        return _entries(rows, order, fresh, tuple(datasets), parent)

    def extend(
        self,
        assigned: pa.Table,
        present: Strings,
        *,
        dataset: str,
        after: LedgerEntries | None = None,
    ) -> LedgerEntries:
        """Assign new ids, and mark the ids that left the data set or came back.

        Nothing is written when nothing is new. Runs that extend at once wait for each other.

        Args:
            assigned: split of new ids (:data:`ASSIGNED`), each once; known ids may be among them
                with the split that they have.
            present: all ids of the data set, not only those of this run.
            dataset: fingerprint of the data set.
            after: the entries that the assignment was made from.

        Returns:
            The entries as they are now.

        Raises:
            StoreError: a known id is given another split, the ledger is damaged, or another run
                has extended it since ``after`` was read.
        """
        with storage.lock(self.root / ".lock"):
            known = self.read() if after is None else after
            paths = self._generations()
            head = storage.sha256_file(paths[-1] / storage.MANIFEST) if paths else ""
            if (len(paths), head) != (known.generations, known.head):
                raise StoreError(
                    f"{self.root}: another run has extended the split ledger meanwhile; nothing "
                    "was written, start this run again"
                )
            table = self._events(known, assigned, present)
            if not table.num_rows:
                return known
            number = known.generations
            about = {"generation": number, "dataset": dataset, "parent": head}
            with storage.committed_directory(self._path(number), about) as staging:
                storage.write_parquet(staging / _FILE, table)
            rows = _joined([*_as_rows(known), _rows(table, number)])
            head = storage.sha256_file(self._path(number) / storage.MANIFEST)
            return _entries(rows, *_by_id(rows), (*known.datasets, dataset), head)

    def _path(self, number: int) -> Path:
        return self.root / "generations" / f"{number:06d}"

    def _generations(self) -> list[Path]:
        """Finished generations in order; a staging directory of a killed run is not one."""
        folder = self.root / "generations"
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        return [path for path in found if path.is_dir() and not path.name.startswith(".")]

    def _verify(self, path: Path, number: int, parent: str) -> dict[str, Any]:
        if path != self._path(number):
            raise StoreError(
                f"{self._path(number)}: missing from the split ledger, which goes on with "
                f"{path.name}; restore it from a backup"
            )
        manifest = storage.verify_directory(path)
        if manifest.get("generation") != number or manifest.get("parent") != parent:
            raise StoreError(
                f"{path}: does not follow the generation before it; the split ledger was altered, "
                "restore it from a backup"
            )
        return manifest

    def _altered(self, rows: _Rows, order: Ints, wrong: int) -> StoreError:
        """What is wrong with a row, given its place in the order of the ids."""
        at = int(order[wrong])
        before = int(order[wrong - 1]) if wrong else at
        path = self._path(int(rows.generations[at]))
        start = int(np.searchsorted(rows.generations, rows.generations[at]))
        row = storage.read_parquet(path / _FILE).slice(at - start, 1).to_pylist()[0]
        repeats = wrong > 0 and bool((rows.keys[at] == rows.keys[before]).all())
        stood = f"in {SPLITS[rows.splits[before]]}" if repeats else "nowhere"
        return StoreError(
            f"{path / _FILE}: id {row['id']!r} stood {stood} and is now {row['event']!r} in "
            f"{row['split']!r}; an id is assigned once and never changes its split, so the ledger "
            "was altered; restore it from a backup"
        )

    def _events(self, known: LedgerEntries, assigned: pa.Table, present: Strings) -> pa.Table:
        """Rows to append, sorted by id."""
        new = assigned.filter(pa.array(_require_unmoved(known, assigned)))
        parts = [_with_event(new, _ASSIGNED)]
        here = np.zeros(len(known) + 1, dtype=bool)
        here[known.places(wide_hash(present))] = True
        turned = known.deleted == here[: len(known)]
        if turned.any():
            for table in self._named(known, turned):
                came = known.lookup(table["id"]).deleted
                parts.append(_with_event(table.filter(pa.array(came)), _RESTORED))
                parts.append(_with_event(table.filter(pa.array(~came)), _DELETED))
        table = pa.concat_tables(parts)
        return table.take(pc.sort_indices(table["id"])).combine_chunks()

    def _named(self, known: LedgerEntries, wanted: Bools) -> Iterator[pa.Table]:
        """Ids and splits of some entries; in memory there are hashes only."""
        for path in self._generations():
            table = storage.read_parquet(path / _FILE)
            table = table.filter(pc.equal(table["event"], EVENTS[_ASSIGNED]))
            rows = wanted[known.places(wide_hash(table["id"]))]
            yield table.select(ASSIGNED.names).filter(pa.array(rows))


def _require_unmoved(known: LedgerEntries, assigned: pa.Table) -> Bools:
    """Rows whose id is new, once it is sure that no other one is given another split."""
    splits = split_codes(assigned["split"])
    standing = known.lookup(assigned["id"])
    moved = standing.known & (standing.splits != splits)
    for row in np.flatnonzero((splits < 0) | moved)[:1].tolist():
        name, split = assigned["id"][row].as_py(), assigned["split"][row].as_py()
        if splits[row] < 0:
            raise StoreError(f"id {name!r}: {split!r} is no split; expected one of {SPLITS}")
        raise StoreError(
            f"id {name!r} stands in {SPLITS[standing.splits[row]]} since generation "
            f"{standing.cohorts[row]} and cannot move to {split}; an id never changes its split"
        )
    return ~standing.known


def _with_event(table: pa.Table, event: int) -> pa.Table:
    events = pa.repeat(pa.scalar(EVENTS[event]), table.num_rows)
    return table.select(ASSIGNED.names).append_column("event", events).cast(ENTRIES)


def split_codes(column: pa.ChunkedArray) -> Codes:
    """Place of each split's name in :data:`SPLITS`, −1 for null and for any other name."""
    return _codes(column, SPLITS)


def _codes(column: pa.ChunkedArray, names: tuple[str, ...]) -> Codes:
    """Place of each string among the names, −1 for one that is none of them."""
    places = pc.fill_null(pc.index_in(column, pa.array(names)), NOWHERE)
    codes: Codes = places.to_numpy().astype(np.int8)
    return codes


def _rows(table: pa.Table, generation: int) -> _Rows:
    return _Rows(
        wide_hash(table["id"]),
        split_codes(table["split"]),
        _codes(table["event"], EVENTS),
        np.full(table.num_rows, generation, dtype=np.int32),
    )


def _as_rows(known: LedgerEntries) -> list[_Rows]:
    """The shortest history that leads to the entries."""
    gone = known.deleted
    assigned = np.full(len(known), _ASSIGNED, dtype=np.int8)
    deleted = np.full(int(gone.sum()), _DELETED, dtype=np.int8)
    return [
        _Rows(known.keys, known.splits, assigned, known.cohorts),
        _Rows(known.keys[gone], known.splits[gone], deleted, known.cohorts[gone]),
    ]


def _joined(parts: list[_Rows]) -> _Rows:
    nothing = LedgerEntries()
    return _Rows(*map(np.concatenate, zip(*_as_rows(nothing), *parts, strict=True)))


def _by_id(rows: _Rows) -> tuple[Ints, Bools]:
    """Order of the rows by id, then as written; and, in that order, which is an id's first."""
    order = np.lexsort((rows.keys[:, 1], rows.keys[:, 0]))
    keys = rows.keys[order]
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    return order, fresh


def _wrong(rows: _Rows, order: Ints, fresh: Bools) -> Ints:
    """Places in the order of rows that no run can have written."""
    splits, events = rows.splits[order], rows.events[order]
    wrong = (splits < 0) | (events < 0) | (fresh != (events == _ASSIGNED))
    wrong[1:] |= ~fresh[1:] & (splits[1:] != splits[:-1])
    return np.flatnonzero(wrong)


def _entries(
    rows: _Rows, order: Ints, fresh: Bools, datasets: tuple[str, ...], head: str
) -> LedgerEntries:
    first, last = order[fresh], order[np.append(fresh[1:], True)] if len(order) else order
    return LedgerEntries(
        keys=rows.keys[first],
        splits=rows.splits[first],
        cohorts=rows.generations[first],
        deleted=rows.events[last] == _DELETED,
        datasets=datasets,
        head=head,
    )
