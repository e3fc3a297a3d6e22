"""The whole audit of a table of annotations: sections as data, and proposed corrections."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.audit import conflicts, implied, near, rare
from longtail.audit.candidates import Candidate, likeliest_first
from longtail.audit.label_search import SearchedLabels, search_label_errors
from longtail.config import AuditSettings
from longtail.errors import DataError
from longtail.labels import LabelSpace
from longtail.near_duplicates import Units, find_units

logger = logging.getLogger(__name__)

LISTED = 500
"""Entries of one list of ``audit.json`` at most; the counts are of all."""

_NEAR_COMPARED = 20_000


@dataclass(frozen=True)
class AuditInput:
    """What is audited.

    Attributes:
        table: schema ANNOTATIONS, under today's label names, n rows with unique ids.
        known: bool (n, L), L the labels of the table, sorted; None: every cell is known.
        parents: what each label implies by the taxonomy.
        merged: ``id``, ``merged_into`` of rows stored once because they repeat a stored row.
        sides: int8 (n,), 0 train, 1 validation, 2 test, −1 none: as the ledger has it; None
            where there is no ledger (the data's own split is read from the table).
    """

    table: pa.Table
    known: NDArray[np.bool_] | None = None
    parents: Mapping[str, Sequence[str]] = field(default_factory=dict)
    merged: pa.Table | None = None
    sides: NDArray[np.int8] | None = None


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        sections: the content of ``audit.json``.
        candidates: proposed corrections, the surest first.
    """

    sections: dict[str, Any]
    candidates: tuple[Candidate, ...]


def run_audit(given: AuditInput, settings: AuditSettings, *, similarity: float) -> Audit:
    """Look for everything that can be told from the annotations alone.

    Args:
        given: the annotations.
        settings: what to look for.
        similarity: Jaccard similarity that makes texts near-duplicates, in (0, 1].

    Raises:
        DataError: there is not one text.
    """
    if given.table.num_rows == 0:
        raise DataError("there is no text to audit; bring annotations with --data FILE")
    started = time.monotonic()
    table = given.table
    ids = table["id"].to_pylist()
    space = LabelSpace.of(table["labels"])
    y = space.encode(table["labels"])
    _say(started, f"{len(ids):,} texts, {len(space):,} labels; looking for duplicates")
    duplicates = conflicts.find_duplicates(table, given.merged)
    close, units = _units(table, similarity)
    pairs = near.near_duplicates(table, y, close, listed=LISTED)
    _say(started, f"{duplicates.beyond_first:,} duplicates, {pairs.pairs:,} near-duplicate pairs")
    found = implied.find_implied(
        y, space, share=settings.implied_share, texts=settings.implied_texts,
        known=given.known, parents=given.parents,
    )  # fmt: skip
    sides = near.own_sides(table["split"]) if given.sides is None else given.sides
    scarce = rare.find_rare(y, space, units, min_texts=settings.min_label_texts, sides=sides)
    searched = _searched(table, ids, y, space, units, given.known, settings)
    candidates = likeliest_first(
        [
            *conflicts.conflict_candidates(duplicates.conflicts),
            *implied.implied_candidates(found, ids),
            *(searched.candidates if searched else ()),
        ]
    )
    _say(started, f"{len(candidates):,} labels to look at")
    sections = {
        "texts": len(ids),
        "labels": len(space),
        "settings": settings.model_dump(mode="json"),
        "near_duplicate_similarity": similarity,
        "duplicates": conflicts.as_json(duplicates, LISTED),
        "near_duplicates": vars(pairs),
        "label_errors": searched.as_json() if searched else None,
        "implied": implied.as_json(found, ids, LISTED),
        "rare_labels": rare.as_json(scarce),
        "candidates": _counts(candidates),
    }
    return Audit(sections, tuple(candidates))


def _say(started: float, what: str) -> None:
    logger.info("audit, %.0f s: %s", time.monotonic() - started, what)


def _units(table: pa.Table, similarity: float) -> tuple[Units, NDArray[np.int64]]:
    """Near-duplicates by text alone, and the units that groups make of them."""
    ids, texts, groups = (table[name] for name in ("id", "text", "group"))
    alone = pa.nulls(table.num_rows, pa.string())
    close = find_units(ids, texts, alone, similarity, listed=_NEAR_COMPARED)
    if groups.null_count == table.num_rows:
        return close, close.units
    return close, find_units(ids, texts, groups, similarity, listed=0).units


def _searched(
    table: pa.Table,
    ids: list[str],
    y: sp.csr_array,
    space: LabelSpace,
    units: NDArray[np.int64],
    known: NDArray[np.bool_] | None,
    settings: AuditSettings,
) -> SearchedLabels | None:
    if not settings.label_errors:
        return None
    return search_label_errors(
        table["text"].to_pylist(), y, space, ids=ids, units=units, known=known, settings=settings
    )


def _counts(candidates: Sequence[Candidate]) -> dict[str, Any]:
    kinds: dict[str, dict[str, int]] = {}
    for one in candidates:
        actions = kinds.setdefault(one.kind, {"add": 0, "remove": 0})
        actions[one.action] += 1
    return {
        "cells": len(candidates),
        "texts": len({one.id for one in candidates}),
        "by_kind": kinds,
    }
