"""Corrections: the list that the audit proposes, and carrying out what a person has accepted."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from longtail import storage
from longtail.audit.candidates import Action, Candidate
from longtail.errors import DataError
from longtail.hashing import stable_hash
from longtail.spreadsheet import csv_text, unguarded

COLUMNS = ("id", "label", "action", "kind", "score", "evidence", "text_hash", "accepted")
_NEEDED = ("id", "label", "action", "text_hash", "accepted")
_YES = frozenset({"yes", "y", "true", "1", "x"})
_NO = frozenset({"", "no", "n", "false", "0"})

Outcome = Literal["applied", "text_changed", "text_gone", "already_so"]


@dataclass(frozen=True)
class Correction:
    """One cell that a person has decided to change.

    Attributes:
        id: of the text.
        label: to add or to remove.
        action: which of the two.
        text_hash: of the text that the person saw.
    """

    id: str
    label: str
    action: Action
    text_hash: str


@dataclass(frozen=True)
class Corrections:
    """A list of corrections as it was read.

    Attributes:
        accepted: those to be carried out, in the file's order.
        proposed: rows of the list, accepted or not.
    """

    accepted: tuple[Correction, ...]
    proposed: int


@dataclass(frozen=True)
class CorrectionCounts:
    """What became of the accepted corrections; the last four add up to the first.

    Attributes:
        accepted: corrections that were accepted.
        applied: carried out.
        text_changed: skipped, the text is not the one that was looked at.
        text_gone: skipped, no text of this id is left.
        already_so: skipped, the label was there already, or no longer.
        texts: texts that were changed.
    """

    accepted: int
    applied: int
    text_changed: int
    text_gone: int
    already_so: int
    texts: int

    def as_json(self) -> dict[str, int]:
        """As plain values."""
        return asdict(self)


def corrections_csv(candidates: Sequence[Candidate], texts: Mapping[str, str]) -> str:
    """The list as CSV, with an empty column ``accepted`` for a person to fill.

    Args:
        candidates: what is proposed.
        texts: text of each id that is in it.
    """
    ids = list(dict.fromkeys(one.id for one in candidates))
    hashes = dict(zip(ids, text_hashes([texts[name] for name in ids]), strict=True))
    rows = [
        (one.id, one.label, one.action, one.kind, round(one.score, 4), one.evidence,
         hashes[one.id], None)
        for one in candidates
    ]  # fmt: skip
    return csv_text(COLUMNS, rows)


def text_hashes(texts: Sequence[str]) -> list[str]:
    """What the list keeps of each text: BLAKE2b-64 in hexadecimal."""
    # The letter keeps a spreadsheet from reading digits with an "e" as a number.
    return [f"h{int(value):016x}" for value in stable_hash(texts)]


def read_corrections(path: str | Path) -> Corrections:
    """Read a list of corrections, as the audit wrote it and a person filled it in.

    Args:
        path: CSV in UTF-8, separated by commas or semicolons; ``accepted`` is yes, y, true, 1 or
            x for those to carry out, empty, no, n, false or 0 for the others.

    Raises:
        DataError: the file cannot be read, a column is missing, a cell says something else, or two
            accepted rows contradict each other.
    """
    text = _read(path)
    separator = (
        ";" if text.partition("\n")[0].count(";") > text.partition("\n")[0].count(",") else ","
    )
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        missing = [name for name in _NEEDED if name not in (rows.fieldnames or ())]
        if missing:
            raise DataError(
                f"{path}: no column {', '.join(missing)}; give the corrections.csv that the audit "
                "wrote, with the column accepted filled in"
            )
        accepted = [_row(path, number, row) for number, row in enumerate(rows, start=1)]
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error}); save it as CSV once more") from error
    chosen = tuple(one for one in accepted if one is not None)
    _check(path, chosen)
    return Corrections(tuple(dict.fromkeys(chosen)), len(accepted))


def apply_corrections(
    table: pa.Table, corrections: Sequence[Correction]
) -> tuple[pa.Table, CorrectionCounts]:
    """A view of the table with the accepted corrections; the table itself stays as it is.

    Args:
        table: with columns ``id`` (unique), ``text`` and ``labels``.
        corrections: what was accepted, :func:`read_corrections`.
    """
    wanted = list(dict.fromkeys(one.id for one in corrections))
    found = pc.index_in(pa.array(wanted, pa.string()), table["id"].combine_chunks())
    row_of = {name: row for name, row in zip(wanted, found.to_pylist(), strict=True)
              if row is not None}  # fmt: skip
    rows = pa.array(list(row_of.values()), pa.int64())
    texts, before = table["text"].take(rows).to_pylist(), table["labels"].take(rows).to_pylist()
    hashes = dict(zip(row_of, text_hashes(texts), strict=True))
    labels = {name: set(given or ()) for name, given in zip(row_of, before, strict=True)}
    counts = dict.fromkeys(get_args(Outcome), 0)
    changed: set[str] = set()
    for one in corrections:
        outcome = _outcome(one, hashes, labels)
        counts[outcome] += 1
        if outcome == "applied":
            (labels[one.id].add if one.action == "add" else labels[one.id].remove)(one.label)
            changed.add(one.id)
    replaced = {row_of[name]: sorted(labels[name]) for name in row_of if name in changed}
    made = CorrectionCounts(accepted=len(corrections), texts=len(changed), **counts)
    return _with_labels(table, replaced), made


def _outcome(one: Correction, hashes: Mapping[str, str], labels: Mapping[str, set[str]]) -> Outcome:
    if one.id not in hashes:
        return "text_gone"
    if hashes[one.id] != one.text_hash:
        return "text_changed"
    if (one.label in labels[one.id]) == (one.action == "add"):
        return "already_so"
    return "applied"


def _with_labels(table: pa.Table, replaced: Mapping[int, list[str]]) -> pa.Table:
    if not replaced:
        return table
    place = table.schema.get_field_index("labels")
    kind = table.schema.field(place)
    order = np.arange(table.num_rows)
    order[list(replaced)] = table.num_rows + np.arange(len(replaced))
    column = table["labels"].combine_chunks()
    both = pa.concat_arrays([column, pa.array(list(replaced.values()), kind.type)])
    return table.set_column(place, kind, both.take(pa.array(order)))


def _read(path: str | Path) -> str:
    try:
        with storage.open_input(path) as handle:
            return handle.read().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found; check data.corrections") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason}); save it as CSV in UTF-8") from error


def _row(path: str | Path, number: int, row: Mapping[str, str | None]) -> Correction | None:
    cells = {name: unguarded(row[name] or "") for name in _NEEDED}
    said = cells["accepted"].strip().casefold()
    if said in _NO:
        return None
    if said not in _YES:
        raise DataError(
            f"{path}, row {number}: accepted is {cells['accepted'][:40]!r}; write yes, or leave it "
            "empty"
        )
    if cells["action"] not in get_args(Action):
        raise DataError(
            f"{path}, row {number}: action is {cells['action'][:40]!r}; expected add or remove"
        )
    if not cells["id"] or not cells["label"]:
        raise DataError(f"{path}, row {number}: accepted, but without an id or a label")
    return Correction(
        cells["id"], cells["label"], cast("Action", cells["action"]), cells["text_hash"]
    )


def _check(path: str | Path, accepted: Sequence[Correction]) -> None:
    said: dict[tuple[str, str], Action] = {}
    for one in accepted:
        if said.setdefault((one.id, one.label), one.action) != one.action:
            raise DataError(
                f"{path}: the label {one.label!r} of {one.id!r} is to be both added and removed; "
                "accept one of the two"
            )
