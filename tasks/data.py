"""Reading the run's split back: texts, label matrices, label space and groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from longtail import storage
from longtail.config import SplitName
from longtail.evaluation import TestSet
from longtail.hashing import Hashes
from longtail.known import Bools, Since, known_cells
from longtail.labels import LabelGroups, LabelSpace
from longtail.leaks import training_hashes
from tasks.handles import SplitHandle

LEFT_OUT = "left_out.parquet"


@dataclass(frozen=True)
class SplitData:
    """The run's split on disk, read on demand."""

    handle: SplitHandle

    @cached_property
    def space(self) -> LabelSpace:
        """The label space of every matrix."""
        return LabelSpace(tuple(storage.read_json(self.handle.label_space)["labels"]))

    @cached_property
    def groups(self) -> LabelGroups:
        """HEAD, MEDIUM and TAIL, fixed on the training support."""
        value = storage.read_json(self.handle.label_space)
        return LabelGroups(tuple(value["groups"]), tuple(value["support"]), tuple(value["cutoffs"]))

    @cached_property
    def since(self) -> Since:
        """From when on each label could be given; None: always."""
        kept = storage.read_json(self.handle.label_space).get("since") or [None] * len(self.space)
        return tuple(None if moment is None else datetime.fromisoformat(moment) for moment in kept)

    def table(self, split: SplitName, columns: list[str] | None = None) -> pa.Table:
        """A split's rows."""
        return storage.read_parquet(self.handle.directory / f"{split}.parquet", columns)

    def ids(self, split: SplitName) -> list[str]:
        """A split's text ids, row order."""
        return list(self.table(split, ["id"])["id"].to_pylist())

    def texts(self, split: SplitName) -> list[str]:
        """A split's texts, row order."""
        return list(self.table(split, ["text"])["text"].to_pylist())

    def y(self, split: SplitName) -> sp.csr_array:
        """A split's label matrix, boolean CSR of shape (texts, labels)."""
        return self.space.encode(self.table(split, ["labels"])["labels"])

    def known(self, split: SplitName) -> Bools | None:
        """A split's cells whose truth is known, bool (texts, labels); None: all of them."""
        if not any(self.since):
            return None
        table = self.table(split, ["annotated_at", "labels"])
        y = self.space.encode(table["labels"])
        return known_cells(table["annotated_at"], self.since, y)

    def training_hashes(self, splits: Sequence[SplitName]) -> tuple[Hashes, Hashes]:
        """Hashes of the ids and texts of the splits that a model has learned from."""
        rows = pa.concat_tables([self.table(split, ["id", "text"]) for split in splits])
        return training_hashes(rows["id"], rows["text"])

    @cached_property
    def test(self) -> TestSet:
        """The test set as evaluation and gate want it."""
        table = self.table("test")
        return TestSet(
            ids=tuple(table["id"].to_pylist()),
            units=table["unit"].to_numpy().astype(np.int64),
            cohort=table["cohort"].to_numpy().astype(np.int64),
            y=self.space.encode(table["labels"]),
            labels=self.space.names,
            known=self.known("test"),
        )


def write_label_space(
    path: Path, space: LabelSpace, groups: LabelGroups, since: Since | None = None
) -> None:
    """Write what :class:`SplitData` reads.

    Args:
        path: the file.
        space: L labels.
        groups: of the labels.
        since: from when on each label could be given, (L,); by default all of them always.
    """
    began = [None] * len(space) if since is None else since
    storage.write_json(
        path,
        {
            "labels": space.names,
            "groups": groups.of_label,
            "support": groups.support,
            "cutoffs": groups.cutoffs,
            "since": [None if moment is None else moment.isoformat() for moment in began],
        },
    )
