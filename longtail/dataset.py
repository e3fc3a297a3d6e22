"""The data set: every accepted annotation, versioned, one row per text.

    ROOT/current.json                 which version is current; replaced atomically
    ROOT/versions/000001/texts.parquet    schema ANNOTATIONS, sorted by id
                        /merged.parquet   id, merged_into: texts that repeat a stored one
                        /manifest.json    counts, fingerprint, parent, file digests

A version is never changed after it became current. A crash before the pointer moved leaves a
directory that the next upsert replaces.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from longtail import storage
from longtail.annotations.schema import ANNOTATIONS
from longtail.config import AnnotatorPolicy
from longtail.content import (
    canonical,
    content_fingerprint,
    distinct_labels,
    duplicate_keys,
    same_rows,
)
from longtail.errors import DataError, StoreError

logger = logging.getLogger(__name__)

MERGED = pa.schema([("id", pa.string()), ("merged_into", pa.string())])
MIN_LABELS = 2
MIN_LABELLED_TEXTS = 30
_GUARD_ROWS = 50
_GUARD_LABEL_SHARE = 0.1


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
        changed: known ids with new content.
        unchanged: known ids with the content they had.
        merged: new ids that repeat a stored text with the same labels, group and split.
        outdated: known ids whose stored annotation is of a later date than the one given.
        deleted: stored texts that a full export lacks; not among the rows that were given.
    """

    version: DatasetVersion
    added: int
    changed: int
    unchanged: int
    merged: int
    outdated: int = 0
    deleted: int = 0


@dataclass(frozen=True)
class _Plan:
    texts: pa.Table
    merged: dict[str, str]
    counts: dict[str, int]


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

    def read(
        self, version: DatasetVersion | int | None = None, columns: list[str] | None = None
    ) -> pa.Table:
        """The texts of a version (default: the current one), in no particular order.

        Args:
            version: which; None: the current one.
            columns: columns of ANNOTATIONS; None: all.

        Raises:
            StoreError: there is no such version, or its files are not what was written.
        """
        chosen = self._chosen(version)
        storage.verify_directory(chosen.path)
        return storage.read_parquet(chosen.path / "texts.parquet", columns)

    def batches(
        self, version: DatasetVersion | int | None = None, columns: list[str] | None = None
    ) -> Iterator[pa.Table]:
        """The texts of a version a bounded number of rows at a time; else as :meth:`read`."""
        yield self.read(version, columns)

    def read_voices(self, version: DatasetVersion | int | None = None) -> pa.Table:
        """What each annotator said of the texts that several ever annotated (ANNOTATIONS)."""
        self._chosen(version)
        return ANNOTATIONS.empty_table()

    def read_merged(self, version: DatasetVersion | int | None = None) -> pa.Table:
        """The ids that repeat a stored text, with the id they were merged into."""
        return storage.read_parquet(self._chosen(version).path / "merged.parquet")

    def upsert(
        self,
        accepted: Path | pa.Table,
        *,
        merge_duplicates: bool,
        voices: Path | pa.Table | None = None,
        policy: AnnotatorPolicy = "latest",
        at_least: int = 2,
        export: Literal["delta", "full"] = "delta",
        withheld: Iterable[str] = (),
        max_deleted: float = 0.1,
    ) -> Upserted:
        """Add new texts and replace changed ones; nothing new leaves the version as it is.

        Args:
            accepted: accepted annotations (ANNOTATIONS), ids unique; a table or a Parquet file.
            merge_duplicates: a new id whose normalised text, labels, group and split equal those
                of a stored or earlier row is recorded as merged instead of being stored. It then
                follows the row it was merged into, until it comes with other content.
            voices: the rows of every id that several annotators labelled in this export.
            policy: how the voices of one text become one label set.
            at_least: for the policy of that name.
            export: ``full``: a stored text that is not in the export is deleted.
            withheld: ids whose rows came but were set aside; a full export does not delete them.
            max_deleted: share of the stored texts above which a full export is refused.

        Raises:
            DataError: the export plainly belongs to another data set, or lacks too many texts.
            StoreError: another run holds the lock, or the store is damaged.
        """
        given = storage.read_parquet(accepted) if isinstance(accepted, Path) else accepted
        incoming = canonical(given)
        with storage.lock(self.root / ".lock"):
            before = self.current()
            stored = ANNOTATIONS.empty_table() if before is None else self.read(before)
            merged = {} if before is None else _mapping(self.read_merged(before))
            self._refuse_other_data(stored, merged, incoming)
            here = stored
            if export == "full":
                here = self._kept(stored, incoming, withheld, max_deleted)
                merged = _still_merged(merged, here, incoming, withheld)
            plan = _plan(here, merged, incoming, merge_duplicates=merge_duplicates)
            plan.counts["deleted"] = stored.num_rows - here.num_rows
            news = any(plan.counts[name] for name in ("added", "changed", "deleted"))
            news = news or plan.merged != merged
            after = self._commit(before, plan) if news or before is None else before
        return Upserted(after, **plan.counts)

    def _chosen(self, version: DatasetVersion | int | None) -> DatasetVersion:
        if isinstance(version, DatasetVersion):
            return version
        chosen = self.current() if version is None else self._version(version)
        if chosen is None:
            raise StoreError(f"{self.root}: no data set yet; run longtail retrain --data FILE")
        return chosen

    def _directory(self, number: int) -> Path:
        return self.root / "versions" / f"{number:06d}"

    def _version(self, number: int) -> DatasetVersion:
        path = self._directory(number)
        manifest = path / storage.MANIFEST
        if not manifest.exists():
            raise StoreError(f"{path}: version {number} of the data set is missing; restore it")
        about = storage.read_json(manifest)
        return DatasetVersion(
            path, about["fingerprint"], about["version"], about["n_texts"], about["n_labels"]
        )

    def _commit(self, before: DatasetVersion | None, plan: _Plan) -> DatasetVersion:
        number = 1 if before is None else before.version + 1
        about = {
            "version": number,
            "parent": before.fingerprint if before else None,
            "fingerprint": content_fingerprint(plan.texts),
            "n_texts": plan.texts.num_rows,
            "n_labels": len(distinct_labels(plan.texts)),
            "counts": plan.counts,
        }
        merged = {"id": list(plan.merged), "merged_into": list(plan.merged.values())}
        with storage.committed_directory(self._directory(number), about) as staging:
            storage.write_parquet(staging / "texts.parquet", plan.texts)
            storage.write_parquet(staging / "merged.parquet", pa.table(merged, schema=MERGED))
        storage.write_json(self.root / "current.json", {"version": number})
        logger.info("Data set version %d: %s", number, plan.counts)
        return self._version(number)

    def _kept(
        self, stored: pa.Table, incoming: pa.Table, withheld: Iterable[str], max_deleted: float
    ) -> pa.Table:
        """The stored texts that a full export still has.

        Raises:
            DataError: too many would be deleted.
        """
        came = pa.concat_arrays(
            [incoming["id"].combine_chunks(), pa.array(list(withheld), pa.string())]
        )
        kept = stored.filter(pc.is_in(stored["id"], came))
        n_gone = stored.num_rows - kept.num_rows
        if n_gone > max_deleted * stored.num_rows:
            raise DataError(
                f"{self.root}: {n_gone} of the {stored.num_rows} stored texts are not in this full "
                f"export, more than data.max_deleted allows ({max_deleted:.1%}); nothing was "
                "written. If they are meant to be deleted, raise data.max_deleted; if the export "
                "holds only what is new, set data.export: delta"
            )
        return kept

    def _refuse_other_data(
        self, stored: pa.Table, merged: Mapping[str, str], incoming: pa.Table
    ) -> None:
        """Two data sets mixed into one cannot be told apart afterwards."""
        labels = distinct_labels(incoming)
        if stored.num_rows == 0 or incoming.num_rows < _GUARD_ROWS or len(labels) == 0:
            return
        known = pa.concat_arrays([stored["id"].combine_chunks(), pa.array(merged, pa.string())])
        shared_ids = pc.sum(pc.is_in(incoming["id"], known)).as_py()
        shared_labels = pc.sum(pc.is_in(labels, distinct_labels(stored))).as_py()
        if not shared_ids and shared_labels < _GUARD_LABEL_SHARE * len(labels):
            raise DataError(
                f"{self.root}: the export shares no id and {shared_labels} of its {len(labels)} "
                f"labels with the {stored.num_rows} texts stored here, so it seems to be another "
                "data set; give it a name of its own with --name"
            )


def check_trainable(table: pa.Table) -> None:
    """Check that a data set is enough to train on; a weekly export alone need not be.

    Raises:
        DataError: fewer than two labels, or fewer than thirty texts with a label.
    """
    labels = distinct_labels(table)
    n_labelled = pc.sum(pc.greater(pc.list_value_length(table["labels"]), 0)).as_py() or 0
    if len(labels) == 0:
        raise DataError(
            f"none of the {table.num_rows} texts has a label; label some of them, or check "
            "data.columns.labels and data.label_separator"
        )
    if len(labels) < MIN_LABELS:
        raise DataError(
            f"all {n_labelled} labelled texts have the same one label, {labels[0].as_py()!r}; at "
            f"least {MIN_LABELS} different labels are needed. Check data.columns.labels and "
            "data.label_separator, or lower data.min_label_support"
        )
    if n_labelled < MIN_LABELLED_TEXTS:
        raise DataError(
            f"only {n_labelled} texts have a label, at least {MIN_LABELLED_TEXTS} are needed to "
            "train, tune and test; label more texts"
        )


def drop_rare_labels(table: pa.Table, min_support: int) -> tuple[pa.Table, tuple[str, ...], int]:
    """Leave out labels with too few texts.

    Args:
        table: schema ANNOTATIONS.
        min_support: fewest texts of a label that stays.

    Returns:
        The table without those labels and without the texts that had no other label; the names of
        the dropped labels, sorted; how many texts were left out. Texts that never had a label
        stay.
    """
    counts = pc.value_counts(pc.list_flatten(table["labels"]))
    rare = counts.filter(pc.less(pc.struct_field(counts, "counts"), min_support))
    dropped = set(pc.struct_field(rare, "values").to_pylist())
    if not dropped:
        return table, (), 0
    before = table["labels"].to_pylist()
    after = [labels and [name for name in labels if name not in dropped] for labels in before]
    stays = np.array([bool(new) or not old for old, new in zip(before, after, strict=True)])
    place = table.schema.get_field_index("labels")
    field = table.schema.field(place)
    reduced = table.set_column(place, field, pa.array(after, field.type)).filter(pa.array(stays))
    return reduced, tuple(sorted(dropped)), int((~stays).sum())


def _plan(
    stored: pa.Table, merged: Mapping[str, str], incoming: pa.Table, *, merge_duplicates: bool
) -> _Plan:
    """What the next version holds, and how it came about."""
    place = pc.index_in(incoming["id"], stored["id"].combine_chunks())
    is_known = pc.is_valid(place)
    known, arrived = incoming.filter(is_known), incoming.filter(pc.invert(is_known))
    old_places = place.filter(is_known).to_numpy().astype(np.int64)
    same, outdated = _compare(stored.take(pa.array(old_places)), known)
    changes = ~same & ~outdated
    stays = np.ones(stored.num_rows, dtype=bool)
    stays[old_places[changes]] = False
    base = pa.concat_tables([stored.filter(pa.array(stays)), known.filter(pa.array(changes))])
    into = _duplicates(base, arrived) if merge_duplicates else {}
    added = arrived.filter(pc.invert(pc.is_in(arrived["id"], pa.array(into, pa.string()))))
    came = set(arrived["id"].to_pylist())
    counts = {
        "added": added.num_rows,
        "changed": int(changes.sum()),
        "unchanged": int(same.sum()),
        "merged": len(into),
        "outdated": int(outdated.sum()),
    }
    texts = pa.concat_tables([base, added]) if added.num_rows else base
    kept = {name: target for name, target in merged.items() if name not in came}
    return _Plan(canonical(texts), dict(sorted({**kept, **into}.items())), counts)


def _compare(old: pa.Table, new: pa.Table) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows are the same, and which differ but are older than what is stored."""
    same = same_rows(old, new)
    older = pc.fill_null(pc.less(new["annotated_at"], old["annotated_at"]), False)
    return same, older.to_numpy() & ~same


def _duplicates(base: pa.Table, arrived: pa.Table) -> dict[str, str]:
    """Arrived ids that repeat a row of the base, or an earlier arrived one, and which."""
    first: dict[object, str] = {}
    for key, name in zip(duplicate_keys(base), base["id"].to_pylist(), strict=True):
        first.setdefault(key, name)
    into = {}
    for key, name in zip(duplicate_keys(arrived), arrived["id"].to_pylist(), strict=True):
        original = first.setdefault(key, name)
        if original != name:
            into[name] = original
    return into


def _still_merged(
    merged: Mapping[str, str], kept: pa.Table, incoming: pa.Table, withheld: Iterable[str]
) -> dict[str, str]:
    present = {*incoming["id"].to_pylist(), *withheld}
    targets = set(kept["id"].to_pylist())
    return {name: into for name, into in merged.items() if name in present and into in targets}


def _mapping(merged: pa.Table) -> dict[str, str]:
    return dict(zip(merged["id"].to_pylist(), merged["merged_into"].to_pylist(), strict=True))
