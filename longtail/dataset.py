"""The data set: every accepted annotation, versioned, one row per text.

    ROOT/current.json                 which version is current; replaced atomically
    ROOT/versions/000001/texts.parquet    schema ANNOTATIONS, in the order of arrival
                        /merged.parquet   rows that repeat a stored text, and merged_into
                        /voices.parquet   every annotator's row of texts that several annotated
                        /deleted.parquet  ids that full exports deleted, and in which version
                        /index.parquet    hashes of the texts' rows and then of the merged ones
                        /manifest.json    counts, fingerprint, parent, policy, file digests

A version is never changed after it became current. A crash before the pointer moved leaves a
directory that the next upsert replaces. Rows pass in batches; what is held in memory of each is its
entry in the index (:mod:`longtail.dataset_index`).
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from longtail import dataset_files as files
from longtail import storage
from longtail.config import AnnotatorPolicy
from longtail.content import content_fingerprint, distinct_labels
from longtail.dataset_index import RowIndex, indexed
from longtail.dataset_plan import Kept, Plan, Stored, make_plan
from longtail.dataset_voices import Policy, hear
from longtail.errors import DataError, StoreError
from longtail.hash_tables import NOWHERE, places_of, same_hashes
from longtail.hashing import wide_hash
from longtail.row_groups import batches_of, in_order

logger = logging.getLogger(__name__)

_FORMAT = 2
_GUARD_ROWS = 50
_GUARD_LABEL_SHARE = 0.1

Export = Literal["delta", "full"]


@dataclass(frozen=True)
class DatasetVersion:
    """A handle on one version.

    Attributes:
        path: its directory.
        fingerprint: SHA-256 of the content; the same content has the same fingerprint.
        version: number, from 1.
        n_texts: texts stored.
        n_labels: distinct labels.
    """

    path: Path
    fingerprint: str
    version: int
    n_texts: int
    n_labels: int


@dataclass(frozen=True)
class Upserted:
    """What an upsert did; the counts add up to the rows that were given.

    Attributes:
        version: the version that is now current.
        added: new ids.
        changed: known ids with new content, or with what another annotator says of them.
        unchanged: known ids with the content they had.
        merged: ids that repeat a stored text with the same labels, group and split.
        outdated: known ids whose stored annotation is of a later date than the one given.
        deleted: stored texts that a full export lacks; not among the rows that were given.
        spared: stored texts that it lacks too, but whose row may be one without a readable id.
    """

    version: DatasetVersion
    added: int
    changed: int
    unchanged: int
    merged: int
    outdated: int = 0
    deleted: int = 0
    spared: int = 0


@dataclass(frozen=True)
class Preview:
    """What an upsert of a delta would do.

    Attributes:
        added: new ids.
        changed: known ids with new content.
        news: fingerprint of what would be stored and is not yet, that of nothing where all is;
            two exports with the same one leave the same data set behind.
        is_new: whether there would be a new version.
    """

    added: int
    changed: int
    news: str
    is_new: bool


class DatasetStore:
    """The versions of one data set under one directory."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def current(self) -> DatasetVersion | None:
        """The current version, or None before the first upsert.

        Raises:
            StoreError: the version that the pointer names is missing.
        """
        pointer = self.root / "current.json"
        if not pointer.exists():
            return None
        return self._version(int(storage.read_json(pointer)["version"]))

    def has(self, number: int) -> bool:
        """Whether a version is kept; old ones are pruned."""
        return (self._directory(number) / storage.MANIFEST).exists()

    def read(
        self, version: DatasetVersion | int | None = None, columns: list[str] | None = None
    ) -> pa.Table:
        """The texts of a version (default: the current one), sorted by id.

        Args:
            version: which; None: the current one.
            columns: columns of ANNOTATIONS; None: all. Without ``id`` the rows are as stored.

        Raises:
            StoreError: there is no such version, or its files are not what was written.
        """
        table = storage.read_parquet(self._verified(version) / files.TEXTS, columns)
        if "id" not in table.column_names:
            return table
        return in_order(table, pc.sort_indices(table["id"]).to_numpy())

    def batches(
        self, version: DatasetVersion | int | None = None, columns: list[str] | None = None
    ) -> Iterator[pa.Table]:
        """The texts of a version as they are stored, some megabytes at a time; else as ``read``."""
        return batches_of(self._verified(version) / files.TEXTS, columns)

    def read_voices(self, version: DatasetVersion | int | None = None) -> pa.Table:
        """What each annotator said of the texts that several ever annotated (ANNOTATIONS).

        One row per id and annotator, no name being one of its own; those of one id in the order
        in which they came.
        """
        return storage.read_parquet(self._verified(version) / files.VOICES)

    def read_merged(self, version: DatasetVersion | int | None = None) -> pa.Table:
        """The ids that repeat a stored text, with the id they were merged into."""
        path = self._verified(version) / files.MERGED
        return storage.read_parquet(path, ["id", "merged_into"]).sort_by("id")

    def read_deleted(self, version: DatasetVersion | int | None = None) -> pa.Table:
        """The ids that full exports deleted and that never came back, and in which version."""
        return storage.read_parquet(self._verified(version) / files.DELETED)

    def upsert(
        self,
        accepted: Path | pa.Table,
        *,
        merge_duplicates: bool,
        voices: Path | pa.Table | None = None,
        policy: AnnotatorPolicy = "latest",
        at_least: int = 2,
        export: Literal["delta", "full"] = "delta",
        withheld: Iterable[str | None] = (),
        max_deleted: float = 0.1,
    ) -> Upserted:
        """Add new texts, replace changed ones, and in a full export delete what it lacks.

        Nothing new leaves the version as it is.

        Args:
            accepted: accepted annotations (ANNOTATIONS), ids unique; a table or a Parquet file.
            merge_duplicates: a new id whose normalised text, labels, group and split equal those
                of a stored text or of another new one is recorded as merged instead of being
                stored: into the one with the smallest id. It then follows the text it was merged
                into, until it comes with other content or that text is deleted.
            voices: the rows of every id that several annotators labelled in this export.
            policy: how the voices of one text become one label set; another one than last time is
                applied to all that is stored.
            at_least: for the policy of that name.
            export: what a text that is not in the export means: delta: nothing; full: it is
                deleted, with its voices.
            withheld: ids whose rows came but were set aside; a full export does not delete them.
                Null is an id that could not be read: it may be any, so nothing is deleted.
            max_deleted: share of the stored texts above which a full export is refused.

        Raises:
            DataError: the export plainly belongs to another data set, or lacks too many texts.
            StoreError: another run holds the lock, or the store is damaged.
            ValueError: an id is null or stands twice.
        """
        index, labels = indexed(accepted)
        how = Policy(policy, at_least)
        with storage.lock(self.root / ".lock"):
            before = self.current()
            path = None if before is None else self._verified(before)
            stored = files.stored_index(path)
            self._refuse_other_data(before, stored, index, labels)
            kept = self._kept(stored, index, export, withheld, max_deleted)
            rows = files.sources(path, accepted, voices)
            anew = path is not None and not how.same_as(**_policy_of(path))
            heard = hear(rows, stored, kept, index, how, anew=anew)
            following = files.NextVersion(
                1 if before is None else before.version + 1, path, rows, stored, kept, heard
            )
            plan = make_plan(
                stored, kept, heard.arriving, following.names, merge_duplicates=merge_duplicates
            )
            after = before
            if after is None or plan.is_new or heard.is_new:
                after = self._commit(before, following, plan, how)
        return Upserted(after, **plan.counts, spared=kept.n_spared)

    def preview(
        self,
        accepted: Path | pa.Table,
        *,
        merge_duplicates: bool,
        voices: Path | pa.Table | None = None,
        policy: AnnotatorPolicy = "latest",
        at_least: int = 2,
    ) -> Preview:
        """What :meth:`upsert` would do with a delta, without doing it; the arguments are its own.

        Raises:
            DataError: the export plainly belongs to another data set.
            StoreError: the store is damaged.
            ValueError: an id is null or stands twice.
        """
        index, labels = indexed(accepted)
        before = self.current()
        path = None if before is None else self._verified(before)
        stored = files.stored_index(path)
        self._refuse_other_data(before, stored, index, labels)
        rows, kept = files.sources(path, accepted, voices), stored.all_kept()
        # Another policy would change texts of which nothing has come.
        heard = hear(rows, stored, kept, index, Policy(policy, at_least), anew=False)
        following = files.NextVersion(0, path, rows, stored, kept, heard)
        plan = make_plan(
            stored, kept, heard.arriving, following.names, merge_duplicates=merge_duplicates
        )
        news = content_fingerprint(following.news(plan))
        is_new = plan.is_new or heard.is_new
        return Preview(plan.counts["added"], plan.counts["changed"], news, is_new)

    def prune(self, keep: int) -> list[int]:
        """Remove all versions but the last ones; the current one and the one before always stay.

        A version holds all rows by itself, those that were deleted included, so none needs an
        earlier one; the one before is what a run that has just made a version compares it with.

        Args:
            keep: how many are to stay, at least two.

        Returns:
            Numbers of the versions that were removed.

        Raises:
            StoreError: another run holds the lock, or the store is damaged.
        """
        with storage.lock(self.root / ".lock"):
            current = self.current()
            if current is None:
                return []
            paths = sorted((self.root / "versions").glob("[0-9]*"))
            last = current.version - max(keep, 2)
            old = [path for path in paths if int(path.name) <= last]
            for path in old:
                # Gone at once: a version that is there is whole.
                gone = path.with_name(f".{path.name}.{uuid.uuid4().hex}.old")
                os.replace(path, gone)
                shutil.rmtree(gone, ignore_errors=True)
            return [int(path.name) for path in old]

    def _chosen(self, version: DatasetVersion | int | None) -> DatasetVersion:
        if isinstance(version, DatasetVersion):
            return version
        chosen = self.current() if version is None else self._version(version)
        if chosen is None:
            raise StoreError(f"{self.root}: no data set yet; run longtail retrain --data FILE")
        return chosen

    def _verified(self, version: DatasetVersion | int | None) -> Path:
        path = self._chosen(version).path
        storage.verify_directory(path)
        return path

    def _directory(self, number: int) -> Path:
        return self.root / "versions" / f"{number:06d}"

    def _version(self, number: int) -> DatasetVersion:
        path = self._directory(number)
        manifest = path / storage.MANIFEST
        if not manifest.exists():
            raise StoreError(
                f"{path}: version {number} of the data set is missing; restore it, or take a later "
                "one if retention.datasets has removed it"
            )
        about = storage.read_json(manifest)
        if about.get("format") != _FORMAT:
            raise StoreError(
                f"{path}: written by an earlier version of Longtail, which kept less of an "
                "annotation than this one needs; bring the exports again under another --name"
            )
        return DatasetVersion(
            path, about["fingerprint"], about["version"], about["n_texts"], about["n_labels"]
        )

    def _commit(
        self, before: DatasetVersion | None, following: files.NextVersion, plan: Plan, how: Policy
    ) -> DatasetVersion:
        number = following.number
        about = {
            "format": _FORMAT,
            "version": number,
            "parent": before.fingerprint if before else None,
            "counts": plan.counts,
            "policy": {"name": how.name, "at_least": how.at_least},
        }
        with storage.committed_directory(self._directory(number), about) as staging:
            about |= dataclasses.asdict(following.write(staging, plan))
        storage.write_json(self.root / "current.json", {"version": number})
        logger.info("Data set version %d: %s", number, plan.counts)
        return self._version(number)

    def _kept(
        self,
        stored: Stored,
        index: RowIndex,
        export: Export,
        withheld: Iterable[str | None],
        max_deleted: float,
    ) -> Kept:
        """What stays of the stored rows.

        Raises:
            DataError: too many would be deleted.
        """
        n_stored = len(stored.texts)
        if export == "delta":
            return stored.all_kept()
        set_aside = wide_hash(withheld)
        kept = stored.kept(np.concatenate([index.ids, set_aside]))
        if same_hashes(set_aside, wide_hash([None])).any():
            return stored.all_kept(n_spared=kept.n_deleted)
        if kept.n_deleted > max_deleted * n_stored:
            raise DataError(
                f"{self.root}: {kept.n_deleted} of the {n_stored} stored texts are not in this "
                f"full export, more than data.max_deleted allows ({max_deleted:.1%}); nothing was "
                "written. If they are meant to be deleted, raise data.max_deleted; if the export "
                "holds only what is new, set data.export: delta"
            )
        return kept

    def _refuse_other_data(
        self, before: DatasetVersion | None, stored: Stored, index: RowIndex, labels: pa.Array
    ) -> None:
        """Two data sets mixed into one cannot be told apart afterwards."""
        if before is None or len(index) < _GUARD_ROWS or len(labels) == 0:
            return
        if any((places_of(index.ids, own.ids) != NOWHERE).any() for own in
               (stored.texts, stored.merged)):  # fmt: skip
            return
        known = pa.array([], pa.string())
        for batch in batches_of(before.path / files.TEXTS, ["labels"]):
            known = pa.concat_arrays([known, distinct_labels(batch)]).unique()
        shared = pc.sum(pc.is_in(labels, known)).as_py()
        if shared < _GUARD_LABEL_SHARE * len(labels):
            raise DataError(
                f"{self.root}: the export shares no id and {shared} of its {len(labels)} "
                f"labels with the {before.n_texts} texts stored here, so it seems to be another "
                "data set; give it a name of its own with --name"
            )


def _policy_of(path: Path) -> dict[str, Any]:
    about: dict[str, Any] = storage.read_json(path / storage.MANIFEST)["policy"]
    return about
