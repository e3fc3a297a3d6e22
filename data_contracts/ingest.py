"""From an export of any size to accepted annotations, a quarantine and a balanced account.

The export passes through in parts: reader, contract, Parquet. What is kept of a row meanwhile are
its position and a hash of its id, 16 bytes; rows that share an id are brought together afterwards
(:mod:`data_contracts.repeated`).
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_contracts.account import Account, Tally
from data_contracts.contract import AnnotationContract
from data_contracts.quarantine import complete_quarantine
from data_contracts.repeated import CONFLICTS, Outcome, find_repeated, merge_repeated
from data_contracts.sentences import reason_kind
from longtail.annotations.contents import read_contents
from longtail.annotations.directory import export_files, named
from longtail.annotations.merge import merge_annotations
from longtail.annotations.readers import read_annotations
from longtail.annotations.row_numbers import RowNumbers
from longtail.annotations.schema import ANNOTATIONS, QUARANTINE, SKIPPED
from longtail.annotations.sources import file_name
from longtail.config import DataSettings
from longtail.errors import DataError, EmptyExportError
from longtail.hashing import stable_hash
from longtail.row_groups import RowGroupWriter, batches_of

logger = logging.getLogger(__name__)

_NUMBERED = (
    "The ids look like row numbers. If they are, they name other texts in the next export: map a "
    "column that stays with its text to data.columns.id. Numbers that a tool or a database gave "
    "its texts are fine"
)
_QUIET = (
    "There is nothing in this export that could be taken over, {}; the data set stays as it is. "
    "If annotations were made since the last export, look at how it is made"
)
_STAGING = ".ingest"
_TAKEN = ("accepted.parquet", "voices.parquet")
_SET_ASIDE = ("quarantine.parquet", "skipped.parquet")
_PART_ROWS = 250_000
_PART_BYTES = 192 << 20
_SHOWN_REASONS = 5
_SHOWN_ROWS = 3
_MOST_KINDS = 1_000


@dataclass(frozen=True)
class Ingested:
    """An export after reading, contract and merge; the tables are Parquet files.

    Attributes:
        accepted: one row per id, schema ANNOTATIONS, in the order in which ids first stand.
        voices: schema ANNOTATIONS; of every id with several annotators, one row for each.
        quarantine: schema QUARANTINE, by position.
        skipped: schema SKIPPED, by position.
        account: where every row went.
        warnings: what is odd but acceptable, as sentences.
    """

    accepted: Path
    voices: Path
    quarantine: Path
    skipped: Path
    account: Account
    warnings: tuple[str, ...]


class QuarantineError(DataError):
    """Too many rows were set aside.

    Attributes:
        quarantine: Parquet file of the rows with their reasons (QUARANTINE).
        skipped: Parquet file of the rows that the export marks as not to be used (SKIPPED).
        account: where every row went.
    """

    def __init__(self, message: str, quarantine: Path, skipped: Path, account: Account) -> None:
        super().__init__(message)
        self.quarantine = quarantine
        self.skipped = skipped
        self.account = account


@dataclass(frozen=True)
class _Read:
    """What is known after the export has been read once."""

    rows: int
    positions: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    without_content: NDArray[np.int64]
    skipped: dict[str, int]
    numbered: bool


def ingest(
    path: str | Path,
    settings: DataSettings,
    directory: Path,
    *,
    data_docs: Path | None = None,
    labels_required: bool = True,
    may_be_empty: bool = False,
) -> Ingested:
    """Read an export, hold it to the contract and merge rows of one id.

    Args:
        path: local path or fsspec URL of an export, or of a directory of them.
        settings: how to read, what to allow.
        directory: made where it is missing; for ``accepted.parquet``, ``voices.parquet``,
            ``quarantine.parquet`` and ``skipped.parquet``; files of these names are replaced. Each
            appears when it is whole.
        data_docs: folder for Great Expectations' pages; None writes none.
        labels_required: False for texts that are to be labelled; labels are then null.
        may_be_empty: whether an export without rows, or with rows only that it marks as not to be
            used, is a quiet week and no fault: nothing is accepted then, and a warning says so.

    Raises:
        QuarantineError: more rows than ``max_quarantined`` allows are bad, or none is left; only
            the quarantine and the skipped rows are written.
        DataError: the file cannot be read at all; nothing is written.
    """
    staging = directory / _STAGING
    shutil.rmtree(staging, ignore_errors=True)  # what a run that was killed has left
    for name in (*_TAKEN, *_SET_ASIDE):
        (directory / name).unlink(missing_ok=True)
    staging.mkdir(parents=True)
    try:
        return _ingest(path, settings, directory, staging, data_docs, labels_required, may_be_empty)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _ingest(
    path: str | Path,
    settings: DataSettings,
    directory: Path,
    staging: Path,
    data_docs: Path | None,
    labels_required: bool,
    may_be_empty: bool,
) -> Ingested:
    file = file_name(path)
    contract = AnnotationContract(settings, file=file, labels_required=labels_required)
    parts = _parts(read_annotations(path, settings, labels_required=labels_required))
    if may_be_empty:
        parts = _or_nothing(parts)
    read = _read_once(parts, contract, staging, file)
    if data_docs is not None and read.rows:
        contract.write_pages(data_docs)
    outcome = _merge(read, settings, staging)
    quarantine = staging / "quarantine.parquet"
    without = np.sort(np.concatenate([read.without_content, outcome.conflicts["position"]]))
    if len(without):
        contents = read_contents(path, settings, without, labels_required=labels_required)
        complete_quarantine(quarantine, file, outcome.conflicts, contents)
    n_quarantined = read.rows - len(read.positions) - sum(read.skipped.values())
    account = Account(
        rows_read=read.rows,
        accepted=outcome.accepted,
        quarantined=n_quarantined + outcome.conflicts.num_rows,
        merged=outcome.merged,
        skipped=sum(read.skipped.values()),
        skipped_reasons=read.skipped,
    )
    account.check()
    files = export_files(path)
    for name in _SET_ASIDE if files else ():
        _name_files(staging / name, [file_name(one) for one in files or ()])
    set_aside = [_publish(staging / name, directory) for name in _SET_ASIDE]
    quiet = may_be_empty and account.accepted == account.quarantined == 0
    if not quiet:
        _limit(path, settings, account, *set_aside)
    warnings = contract.warnings
    if read.numbered and labels_required:
        warnings = (*warnings, _NUMBERED)
    if quiet:
        warnings = (*warnings, _QUIET.format(_what_came(account)))
    for sentence in warnings:
        logger.warning("%s: %s", file, sentence)
    accepted, voices = (_publish(staging / name, directory) for name in _TAKEN)
    return Ingested(
        accepted=accepted,
        voices=voices,
        quarantine=set_aside[0],
        skipped=set_aside[1],
        account=account,
        warnings=warnings,
    )


def _or_nothing(parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The parts; none of an export that holds no rows."""
    with contextlib.suppress(EmptyExportError):
        yield from parts


def _what_came(account: Account) -> str:
    if not account.skipped:
        return "not a single row"
    return f"only {account.skipped} rows that it marks as not to be used"


def _parts(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Tables of a quarter of a million rows, or some hundred megabytes."""
    part: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        part.append(table)
        rows, size = rows + table.num_rows, size + table.nbytes
        if rows >= _PART_ROWS or size >= _PART_BYTES:
            yield pa.concat_tables(part)
            part, rows, size = [], 0, 0
    if part:
        yield pa.concat_tables(part)


def _read_once(
    parts: Iterator[pa.Table], contract: AnnotationContract, staging: Path, file: str
) -> _Read:
    positions, hashes, without = [np.empty(0, np.int64)], [np.empty(0, np.uint64)], []
    skipped, n_rows, numbers = Tally(), 0, RowNumbers()
    with (
        RowGroupWriter(staging / "accepted.parquet", ANNOTATIONS, passing=True) as good,
        RowGroupWriter(staging / "quarantine.parquet", QUARANTINE) as bad,
        RowGroupWriter(staging / "skipped.parquet", SKIPPED) as unused,
    ):
        for part in parts:
            n_rows += part.num_rows
            numbers.add(name.as_py() for name in part["id"])
            unused.write(_skipped(part, file, skipped))
            checked = contract.check(_used(part))
            good.write(checked.accepted)
            positions.append(checked.accepted["position"].to_numpy())
            hashes.append(stable_hash(checked.accepted["id"]))
            bad.write(checked.quarantined)
            unknown = checked.quarantined.filter(pc.is_null(checked.quarantined["raw"]))
            without.append(unknown["position"].to_numpy())
            logger.info("%s: %d rows read, %d of them accepted", file, n_rows, good.rows)
    return _Read(
        rows=n_rows,
        positions=np.concatenate(positions),
        hashes=np.concatenate(hashes),
        without_content=np.concatenate([np.empty(0, np.int64), *without]),
        skipped=skipped.most_frequent(),
        numbered=numbers.likely,
    )


def _skipped(part: pa.Table, file: str, tally: Tally) -> pa.Table:
    rows = part.filter(pc.is_valid(part["skipped"]))
    counts = rows["skipped"].value_counts()
    tally.add(zip(counts.field(0).to_pylist(), counts.field(1).to_pylist(), strict=True))
    columns = [pa.repeat(file, rows.num_rows), rows["position"], rows["id"], rows["skipped"],
               rows["raw"]]  # fmt: skip
    return pa.table(columns, schema=SKIPPED)


def _used(part: pa.Table) -> pa.Table:
    if part["skipped"].null_count == part.num_rows:
        return part  # a filter would copy it
    return part.filter(pc.is_null(part["skipped"]))


def _merge(read: _Read, settings: DataSettings, staging: Path) -> Outcome:
    """Leave one row per id in the staged file, and write what several annotators said."""
    source, voices = staging / "accepted.parquet", staging / "voices.parquet"
    repeated = find_repeated(read.hashes)
    if len(repeated.starts) == 0:
        with RowGroupWriter(voices, ANNOTATIONS, passing=True):
            return Outcome(len(read.positions), 0, CONFLICTS.empty_table())
    merge = partial(
        merge_annotations, policy=settings.several_annotators, at_least=settings.at_least
    )
    target = staging / "merged.parquet"
    outcome = merge_repeated(source, target, voices, read.positions, repeated, merge)
    target.replace(source)
    return outcome


def _name_files(path: Path, files: Sequence[str]) -> None:
    """Give the rows of a directory's exports their own file and the position within it."""
    target = path.with_name("named.parquet")
    schema = pq.read_schema(path)
    with RowGroupWriter(target, schema) as out:
        for rows in batches_of(path):
            out.write(named(rows, files))
    target.replace(path)


def _publish(staged: Path, directory: Path) -> Path:
    return staged.replace(directory / staged.name)


def _limit(
    path: str | Path, settings: DataSettings, account: Account, quarantine: Path, skipped: Path
) -> None:
    share, limit = account.share_quarantined, settings.max_quarantined
    if share <= limit and account.accepted:
        return
    counted = f"{path}: {account.quarantined} of {account.rows_read} rows ({share:.1%}) are bad"
    if account.skipped:
        counted += f" and {account.skipped} marked as not to be used"
    if share > limit:
        verdict = f"more than data.max_quarantined allows ({limit:.1%})"
        advice = "Mend the export, or raise data.max_quarantined in the configuration"
    else:
        verdict = "so that not one is left"
        advice = "Mend the export" if account.quarantined else "Export again when rows can be used"
    reasons = [*_commonest(quarantine, file_name(path)), *_commonly_skipped(account)]
    listed = "".join(f"\n  {reason}" for reason in reasons)
    message = f"{counted}, {verdict}; nothing was taken over.{listed}\n{advice}."
    raise QuarantineError(message, quarantine, skipped, account)


def _commonest(quarantine: Path, export: str) -> list[str]:
    """The commonest reasons with their count, an example and the rows where they were found."""
    examples: dict[str, tuple[str, list[str]]] = {}
    counts: Counter[str] = Counter()
    for rows in batches_of(quarantine, ["file", "position", "reasons"]):
        named_rows = [
            str(row["position"]) if row["file"] == export else f"{row['position']} of {row['file']}"
            for row in rows.select(["file", "position"]).to_pylist()
        ]
        pairs = zip(named_rows, rows["reasons"].to_pylist(), strict=True)
        for position, sentence in ((at, why) for at, reasons in pairs for why in reasons):
            kind = reason_kind(sentence)
            if kind not in examples and len(examples) >= _MOST_KINDS:
                continue
            counts[kind] += 1
            places = examples.setdefault(kind, (sentence, []))[1]
            if len(places) <= _SHOWN_ROWS:
                places.append(position)
    shown = [
        _with_rows(count, *examples[kind]) for kind, count in counts.most_common(_SHOWN_REASONS)
    ]
    if len(counts) > _SHOWN_REASONS:
        shown.append(f"and {len(counts) - _SHOWN_REASONS} other reasons")
    return shown


def _commonly_skipped(account: Account) -> list[str]:
    reasons = list(account.skipped_reasons.items())[:_SHOWN_REASONS]
    return [f"{count} × not to be used: {reason}" for reason, count in reasons]


def _with_rows(count: int, sentence: str, positions: list[str]) -> str:
    rows = ", ".join(positions[:_SHOWN_ROWS]) + ", …" * (count > _SHOWN_ROWS)
    return f"{count} × in row{'s' if count > 1 else ''} {rows}: {sentence}"
