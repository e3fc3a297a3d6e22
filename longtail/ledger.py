"""Which split a text was ever put in: append-only, so that a test text stays a test text.

    ROOT/generations/000000/entries.parquet   id, split, event
                           /manifest.json     generation, data set, parent, file digests
    ROOT/generations/000001/ …

A generation is a committed directory that is never changed; it names the digest of the manifest
before it. An id is assigned once. A text that leaves the data set gets a ``deleted`` row, its
tombstone, and keeps its split should it come back (``restored``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa

from longtail import storage
from longtail.config import SplitName
from longtail.errors import StoreError

Event = Literal["assigned", "deleted", "restored"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
ENTRIES = pa.schema([("id", pa.string()), ("split", pa.string()), ("event", pa.string())])
_FILE = "entries.parquet"


@dataclass(frozen=True)
class Entry:
    """Where a text stands.

    Attributes:
        split: never changes.
        cohort: generation in which the text was assigned; 0 is the original cohort.
        dataset: fingerprint of the data set it was assigned with.
        deleted: whether the text has left the data set.
    """

    split: SplitName
    cohort: int
    dataset: str
    deleted: bool = False


@dataclass(frozen=True)
class LedgerEntries:
    """The ledger as read at one moment.

    Attributes:
        by_id: every text that was ever assigned, deleted ones too.
        generations: how many there are; the number of the next one.
    """

    by_id: Mapping[str, Entry] = field(default_factory=dict)
    generations: int = 0

    @property
    def deleted(self) -> set[str]:
        """Texts that have left the data set."""
        return {name for name, entry in self.by_id.items() if entry.deleted}


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
        by_id: dict[str, Entry] = {}
        parent, paths = "", self._generations()
        for number, path in enumerate(paths):
            manifest = self._verify(path, number, parent)
            for row in storage.read_parquet(path / _FILE).to_pylist():
                by_id[row["id"]] = _next(by_id.get(row["id"]), row, manifest, path)
            parent = storage.sha256_file(path / storage.MANIFEST)
        return LedgerEntries(by_id, len(paths))

    def extend(
        self,
        assigned: Mapping[str, SplitName],
        present: Collection[str],
        *,
        dataset: str,
        after: LedgerEntries | None = None,
    ) -> LedgerEntries:
        """Assign new ids, and mark the ids that left the data set or came back.

        Nothing is written when nothing is new. Runs that extend at once wait for each other.

        Args:
            assigned: split of new ids; known ids may be among them with the split they have.
            present: all ids of the data set, not only those of this run.
            dataset: fingerprint of the data set.
            after: the entries that the assignment was made from.

        Raises:
            StoreError: a known id is given another split, the ledger is damaged, or another run
                has extended it since ``after`` was read.
        """
        with storage.lock(self.root / ".lock"):
            known, here = self.read(), set(present)
            if after is not None and known.generations != after.generations:
                raise StoreError(
                    f"{self.root}: another run has extended the split ledger meanwhile; nothing "
                    "was written, start this run again"
                )
            rows = _events(known, assigned, here)
            if not rows:
                return known
            number, paths = known.generations, self._generations()
            parent = storage.sha256_file(paths[-1] / storage.MANIFEST) if paths else ""
            about = {"generation": number, "dataset": dataset, "parent": parent}
            with storage.committed_directory(self._path(number), about) as staging:
                table = pa.Table.from_pylist(rows, schema=ENTRIES)
                storage.write_parquet(staging / _FILE, table)
            return self.read()

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


def _next(
    known: Entry | None, row: Mapping[str, Any], manifest: Mapping[str, Any], path: Path
) -> Entry:
    """The entry of an id after one more row."""
    split, event = row["split"], row["event"]
    moved = known is not None and known.split != split
    if split not in SPLITS or event not in get_args(Event) or moved:
        stood = "nowhere" if known is None else f"in {known.split}"
        raise StoreError(
            f"{path / _FILE}: id {row['id']!r} stood {stood} and is now {event!r} in {split!r}; an "
            "id never changes its split, so the ledger was altered; restore it from a backup"
        )
    if known is None:
        return Entry(split, int(manifest["generation"]), str(manifest["dataset"]))
    return Entry(known.split, known.cohort, known.dataset, event == "deleted")


def _events(
    known: LedgerEntries, assigned: Mapping[str, SplitName], present: set[str]
) -> list[dict[str, str]]:
    """Rows to append, sorted by id."""
    rows = []
    for name, split in assigned.items():
        entry = known.by_id.get(name)
        if split not in SPLITS:
            raise StoreError(f"id {name!r}: {split!r} is no split; expected one of {SPLITS}")
        if entry is not None and entry.split != split:
            raise StoreError(
                f"id {name!r} stands in {entry.split} since generation {entry.cohort} and cannot "
                f"move to {split}; an id never changes its split"
            )
        if entry is None:
            rows.append({"id": name, "split": split, "event": "assigned"})
    for name, entry in known.by_id.items():
        if entry.deleted == (name in present):
            event = "restored" if entry.deleted else "deleted"
            rows.append({"id": name, "split": entry.split, "event": event})
    return sorted(rows, key=lambda row: row["id"])
