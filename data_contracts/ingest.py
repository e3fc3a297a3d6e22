"""From an export to accepted annotations, a quarantine and an account that balances."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.contract import Checked, check_annotations
from data_contracts.sentences import reason_kind
from longtail.annotations.merge import Merged, merge_annotations
from longtail.annotations.readers import read_annotations
from longtail.annotations.schema import QUARANTINE
from longtail.annotations.sources import file_name
from longtail.config import DataSettings
from longtail.errors import DataError

logger = logging.getLogger(__name__)

_SHOWN_REASONS = 5
_SHOWN_ROWS = 3


@dataclass(frozen=True)
class Account:
    """Where every row of an export went.

    Attributes:
        rows_read: rows of the export.
        accepted: rows that became an annotation of their own.
        quarantined: rows set aside with their reasons.
        merged: rows folded into another row of the same id.
        skipped: rows that the export itself marks as not to be used, such as a cancelled
            annotation; CSV, JSON Lines and Parquet have none.
    """

    rows_read: int
    accepted: int
    quarantined: int
    merged: int
    skipped: int = 0

    @property
    def share_quarantined(self) -> float:
        """Quarantined rows among the rows read, in [0, 1]."""
        return self.quarantined / self.rows_read if self.rows_read else 0.0

    def check(self) -> None:
        """Raise if a row got lost or was counted twice.

        Raises:
            ArithmeticError: rows read ≠ accepted + quarantined + merged + skipped.
        """
        accounted = self.accepted + self.quarantined + self.merged + self.skipped
        if self.rows_read != accounted:
            raise ArithmeticError(f"{self.rows_read} rows read, {accounted} accounted for: {self}")


@dataclass(frozen=True)
class Ingested:
    """An export after reading, contract and merge.

    Attributes:
        accepted: one row per id, schema ANNOTATIONS.
        quarantine: schema QUARANTINE, by position.
        account: where every row went.
        warnings: what is odd but acceptable, as sentences.
    """

    accepted: pa.Table
    quarantine: pa.Table
    account: Account
    warnings: tuple[str, ...]


class QuarantineError(DataError):
    """Too many rows were set aside.

    Attributes:
        quarantine: the rows with their reasons (QUARANTINE), for the caller to save.
        account: where every row went.
    """

    def __init__(self, message: str, quarantine: pa.Table, account: Account) -> None:
        super().__init__(message)
        self.quarantine = quarantine
        self.account = account


def ingest(
    path: str | Path,
    settings: DataSettings,
    *,
    data_docs: Path | None = None,
    labels_required: bool = True,
) -> Ingested:
    """Read an export, hold it to the contract and merge rows of one id.

    Nothing is written but the Data Docs.

    Args:
        path: local path or fsspec URL of a CSV, JSON Lines or Parquet file.
        settings: how to read, what to allow.
        data_docs: folder for Great Expectations' pages; None writes none.
        labels_required: False for texts that are to be labelled; labels are then null.

    Raises:
        QuarantineError: more rows than ``max_quarantined`` allows are bad, or all of them are.
        DataError: the file cannot be read at all.
    """
    file = file_name(path)
    raw = pa.concat_tables(list(read_annotations(path, settings, labels_required=labels_required)))
    checked = check_annotations(
        raw, settings, file=file, labels_required=labels_required, data_docs=data_docs
    )
    merged = merge_annotations(checked.accepted, settings.several_annotators)
    quarantine = _quarantine(raw, checked, merged, file)
    account = Account(raw.num_rows, merged.table.num_rows, quarantine.num_rows, merged.n_merged)
    account.check()
    _limit(path, quarantine, account, settings)
    for sentence in checked.warnings:
        logger.warning("%s: %s", file, sentence)
    return Ingested(merged.table, quarantine, account, checked.warnings)


def _quarantine(raw: pa.Table, checked: Checked, merged: Merged, file: str) -> pa.Table:
    """The contract's quarantine and the merge's conflicts as one table, by position."""
    if not merged.quarantined:
        return checked.quarantined
    reasons = {checked.accepted["position"][row].as_py(): why for row, why in merged.quarantined}
    chosen = raw.filter(pc.is_in(raw["position"], pa.array(list(reasons), pa.int64())))
    rows = [
        {"file": file, "reasons": reasons[row["position"]], **row}
        for row in chosen.select(["position", "id", "raw"]).to_pylist()
    ]
    conflicts = pa.Table.from_pylist(rows, schema=QUARANTINE)
    return pa.concat_tables([checked.quarantined, conflicts]).sort_by("position")


def _limit(
    path: str | Path, quarantine: pa.Table, account: Account, settings: DataSettings
) -> None:
    share, limit = account.share_quarantined, settings.max_quarantined
    if share <= limit and account.accepted:
        return
    counted = f"{path}: {account.quarantined} of {account.rows_read} rows ({share:.1%}) are bad"
    if share > limit:
        verdict = f"more than data.max_quarantined allows ({limit:.1%})"
        advice = "Mend the export, or raise data.max_quarantined in the configuration"
    else:
        verdict = "so that not one is left"
        advice = "Mend the export"
    reasons = "\n  ".join(_commonest(quarantine))
    message = f"{counted}, {verdict}; nothing was taken over.\n  {reasons}\n{advice}."
    raise QuarantineError(message, quarantine, account)


def _commonest(quarantine: pa.Table) -> list[str]:
    """The commonest reasons with their count, an example and the rows where they were found."""
    examples: dict[str, tuple[str, list[int]]] = {}
    counts: Counter[str] = Counter()
    pairs = zip(quarantine["position"].to_pylist(), quarantine["reasons"].to_pylist(), strict=True)
    for position, reasons in pairs:
        for sentence in reasons:
            kind = reason_kind(sentence)
            counts[kind] += 1
            examples.setdefault(kind, (sentence, []))[1].append(position)
    shown = [
        _with_rows(count, *examples[kind]) for kind, count in counts.most_common(_SHOWN_REASONS)
    ]
    if len(counts) > _SHOWN_REASONS:
        shown.append(f"and {len(counts) - _SHOWN_REASONS} other reasons")
    return shown


def _with_rows(count: int, sentence: str, positions: list[int]) -> str:
    rows = ", ".join(map(str, positions[:_SHOWN_ROWS])) + ", …" * (count > _SHOWN_ROWS)
    return f"{count} × in row{'s' if count > 1 else ''} {rows}: {sentence}"
