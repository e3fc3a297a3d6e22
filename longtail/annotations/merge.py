"""How several rows of one id become one annotation, and which of them contradict each other."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from longtail.annotations.contradictions import reasons_of
from longtail.annotations.directory import file_numbers
from longtail.annotations.moments import UNDATED
from longtail.annotations.row_codes import (
    Codes,
    Flags,
    RowCodes,
    last_by,
    row_codes,
)
from longtail.annotations.schema import ANNOTATIONS
from longtail.config import AnnotatorPolicy
from longtail.labels import label_lists

Policy = AnnotatorPolicy
_DECIDED, _UNDATED_ROWS, _SAME_MOMENT = range(3)
_WHY = {
    _UNDATED_ROWS: "not all of them are dated",
    _SAME_MOMENT: "the last of them are of the same moment",
}
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Merged:
    """The outcome of a merge; every row of the input is in the table, quarantined or merged.

    Attributes:
        table: one row per id (schema ANNOTATIONS), in the order of first appearance.
        quarantined: (row index in the input, its reasons) of rows that contradict each other.
        n_merged: rows that were folded into another row.
        voices: what each annotator said of an id of the table that several annotated, one row
            per id and annotator (schema ANNOTATIONS), in the order of the input. They are
            among the rows of the table and the merged ones, not beside them.
    """

    table: pa.Table
    quarantined: list[tuple[int, list[str]]]
    n_merged: int
    voices: pa.Table


def normalise_text(text: str) -> str:
    """Text as duplicates are looked for: NFKC, case folded, white space collapsed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def merge_annotations(table: pa.Table, policy: Policy, *, at_least: int = 2) -> Merged:
    """Make one row of all rows that share an id.

    Rows of one annotator (or of none named): the latest by date wins; identical rows are one;
    otherwise they contradict each other and all of them are quarantined. What different
    annotators say of one text is decided by the policy: ``latest`` by date, ``union`` of the
    labels, ``majority`` (labels that more than half of the annotators gave), or ``at_least``
    (labels that so many of them gave, or all of them where they are fewer). Where text, group
    or split differ, dates decide which is current, and rows about an older one are outdated.
    Where dates do not decide between rows of several files, the later file is believed.

    Args:
        table: the columns of ANNOTATIONS, id and text never null; where there is a column
            ``position``, reasons name it and it tells the file, else the row index from 1.
        policy: see above.
        at_least: how many annotators must have given a label under the policy of that name.
    """
    repeated = _is_repeated(table["id"])
    plain = table.select(ANNOTATIONS.names).cast(ANNOTATIONS)
    if not repeated.any():
        return Merged(plain, [], 0, ANNOTATIONS.empty_table())
    rows = plain.filter(pa.array(repeated))
    codes = row_codes(rows)
    every, files = np.arange(rows.num_rows), _files(table)[repeated]
    own, own_why = _by_file(codes, every, codes.voice, codes.content, files)
    voices = np.sort(own[own_why == _DECIDED])
    must_agree = codes.content if policy == "latest" else codes.about
    last, why = _by_file(codes, voices, codes.id, must_agree, files)
    heard = own_why[codes.voice] == _DECIDED
    used = heard & (last >= 0)[codes.id] & (why[codes.id] == _DECIDED)
    last[why != _DECIDED] = -1
    decided = _decided(rows, codes, voices[used[voices]], last, policy, at_least)
    places = np.flatnonzero(repeated)
    disputes = np.where(heard, codes.n_voices + codes.id, codes.voice)[~used]
    quarantined = reasons_of(
        _with_positions(table, rows, places).filter(pa.array(~used)), places[~used], disputes,
        [_WHY[one] for one in np.concatenate([own_why, why])[disputes].tolist()],
    )  # fmt: skip
    first = last_by(codes.id[used], codes.n_ids, -np.flatnonzero(used))
    first = np.flatnonzero(used)[first[first >= 0]]
    merged = _rebuilt(plain, repeated, places[np.sort(first)], decided)
    return Merged(
        merged, quarantined, int(used.sum()) - decided.num_rows, _several(rows, codes, voices, used)
    )


def resolve_voices(voices: pa.Table, policy: Policy, *, at_least: int = 2) -> pa.Table:
    """The annotation of each text from what its annotators said, however they contradict.

    What ``merge_annotations`` makes of rows that do not contradict each other, this makes of
    them too. Beyond that each row takes the place of the one before, unless both are dated and
    it is the older one: a later row is the answer to an earlier one.

    Args:
        voices: rows of ANNOTATIONS, those of one id in the order in which they arrived; id and
            text never null.
        policy: as in ``merge_annotations``.
        at_least: as in ``merge_annotations``.

    Returns:
        One row per id (ANNOTATIONS), in the order of first appearance.
    """
    rows = voices.select(ANNOTATIONS.names).cast(ANNOTATIONS)
    if rows.num_rows == 0:
        return rows
    codes = row_codes(rows)
    own = _in_turn(codes, np.arange(rows.num_rows), codes.voice, codes.content)
    current = np.sort(own)
    must_agree = codes.content if policy == "latest" else codes.about
    last = _in_turn(codes, current, codes.id, must_agree)
    return _decided(rows, codes, current, last, policy, at_least)


def current_voices(voices: pa.Table) -> pa.Table:
    """The voices that are about the text, group and split that count today.

    Args:
        voices: as in ``resolve_voices``.

    Returns:
        One row per id and annotator (ANNOTATIONS), each label once, in the order given.
    """
    rows = voices.select(ANNOTATIONS.names).cast(ANNOTATIONS)
    if rows.num_rows == 0:
        return rows
    codes = row_codes(rows)
    own = np.sort(_in_turn(codes, np.arange(rows.num_rows), codes.voice, codes.content))
    last = _in_turn(codes, own, codes.id, codes.about)
    is_current = np.zeros(rows.num_rows, dtype=bool)
    is_current[own] = codes.about[own] == codes.about[last[codes.id[own]]]
    return _with_column(rows, "labels", codes.label_lists()).filter(pa.array(is_current))


def _is_repeated(ids: pa.ChunkedArray) -> Flags:
    """Which rows have an id that stands more than once."""
    counts = ids.value_counts()
    several = pc.struct_field(counts, "values").filter(
        pc.greater(pc.struct_field(counts, "counts"), 1)
    )
    if len(several) == 0:
        return np.zeros(len(ids), dtype=bool)
    return np.asarray(pc.is_in(ids, several).to_numpy(), dtype=bool)


def _latest(codes: RowCodes, rows: Codes, group: Codes) -> Codes:
    """The row of the last date per group; of several the later row, and without dates the last."""
    last = last_by(group[rows], int(group.max()) + 1, codes.date[rows], rows)
    last[last >= 0] = rows[last[last >= 0]]
    return last


def _undisputed(codes: RowCodes, rows: Codes, group: Codes, same: Codes) -> tuple[Codes, Codes]:
    """The row per group that the dates make the current one; equal content needs no date.

    Args:
        codes: of all rows.
        rows: the rows that count, ascending.
        group: of every row.
        same: code of every row; the rows of a group contradict each other where it differs.

    Returns:
        The row of each group, −1 where it has none, and why it is not to be trusted.
    """
    last = _latest(codes, rows, group)
    mine = last[group[rows]]
    date = codes.date[rows]
    differs = same[rows] != same[mine]

    def any_in_group(flags: Flags) -> Flags:
        return np.bincount(group[rows][flags], minlength=len(last)) > 0

    undated = any_in_group(date == UNDATED)
    tied = any_in_group(differs & (date == codes.date[mine]))
    why = np.where(undated, _UNDATED_ROWS, np.where(tied, _SAME_MOMENT, _DECIDED))
    return last, np.where(any_in_group(differs), why, _DECIDED)


def _by_file(
    codes: RowCodes, rows: Codes, group: Codes, same: Codes, files: Codes
) -> tuple[Codes, Codes]:
    """As ``_undisputed``, but where dates do not decide, only the last file's rows count.

    Args:
        codes: as there.
        rows: as there.
        group: as there.
        same: as there.
        files: number of the file of every row.
    """
    last, why = _undisputed(codes, rows, group, same)
    newest = np.full(len(last), -1, dtype=np.int64)
    np.maximum.at(newest, group[rows], files[rows])
    outdone = (why[group[rows]] != _DECIDED) & (files[rows] < newest[group[rows]])
    return _undisputed(codes, rows[~outdone], group, same) if outdone.any() else (last, why)


def _in_turn(codes: RowCodes, rows: Codes, group: Codes, same: Codes) -> Codes:
    """The row per group that is left when each takes its turn; see ``resolve_voices``."""
    last, why = _undisputed(codes, rows, group, same)
    undated = rows[codes.date[rows] == UNDATED]
    stop = np.full(len(last), -1, dtype=np.int64)
    np.maximum.at(stop, group[undated], undated)  # what is before it cannot win any more
    open_rows = rows[(why[group[rows]] != _DECIDED) & (rows >= stop[group[rows]])]
    turn = last_by(
        group[open_rows], len(last), open_rows != stop[group[open_rows]],
        codes.date[open_rows], open_rows,
    )  # fmt: skip
    return np.where(turn >= 0, open_rows[turn], last) if len(open_rows) else last


def _decided(
    rows: pa.Table, codes: RowCodes, voices: Codes, last: Codes, policy: Policy, at_least: int
) -> pa.Table:
    """One row per id: the current one, with the labels that the policy makes of all current ones.

    Args:
        rows: all rows, ANNOTATIONS.
        codes: of all rows.
        voices: one row per id and annotator, ascending.
        last: the current row of each id, −1 for an id to be left out.
        policy: as in ``merge_annotations``.
        at_least: as in ``merge_annotations``.
    """
    kept = np.flatnonzero(last >= 0)
    if policy == "latest":
        current = np.sort(last[kept])
    else:
        current = voices[codes.about[voices] == codes.about[last[codes.id[voices]]]]
    chosen = _latest(codes, current, codes.id)[kept] if len(kept) else kept
    n_current = np.bincount(codes.id[current], minlength=codes.n_ids)
    table = _taken(rows, chosen)
    labels = _elected(codes, current, policy, at_least).take(pa.array(kept))
    annotator = pc.if_else(pa.array(n_current[kept] > 1), None, table["annotator"])
    table = _with_column(table, "labels", labels)
    return _with_column(table, "annotator", annotator)


def _elected(codes: RowCodes, current: Codes, policy: Policy, at_least: int) -> pa.Array:
    """The labels of each id that enough of its current rows have; null where none has any."""
    votes = np.zeros(len(codes.id), dtype=bool)
    votes[current] = codes.has_labels[current]
    ballots = np.bincount(codes.id[votes], minlength=codes.n_ids)
    needed = {
        "latest": np.ones_like(ballots),
        "union": np.ones_like(ballots),
        "majority": ballots // 2 + 1,
        "at_least": np.minimum(ballots, at_least),
    }[policy]
    counted = votes[codes.pair_row]
    n_names = max(len(codes.names), 1)
    given, times = np.unique(
        codes.id[codes.pair_row[counted]] * n_names + codes.pair_label[counted],
        return_counts=True,
    )
    given = given[times >= needed[given // n_names]]
    return label_lists(given // n_names, given % n_names, ballots > 0, codes.names)


def _several(rows: pa.Table, codes: RowCodes, voices: Codes, used: Flags) -> pa.Table:
    """The voices of the ids that more than one annotator spoke of."""
    voices = voices[used[voices]]
    is_voice = np.zeros(rows.num_rows, dtype=bool)
    is_voice[voices] = np.bincount(codes.id[voices], minlength=codes.n_ids)[codes.id[voices]] > 1
    return _with_column(rows, "labels", codes.label_lists()).filter(pa.array(is_voice))


def _rebuilt(plain: pa.Table, repeated: Flags, firsts: Codes, decided: pa.Table) -> pa.Table:
    """The input with each repeated id's decided row in the place of its first one.

    Args:
        plain: the input (ANNOTATIONS).
        repeated: which of its rows have a repeated id.
        firsts: the row that each decided one replaces, ascending.
        decided: the rows to put there, in the same order.
    """
    is_first = np.zeros(plain.num_rows, dtype=bool)
    is_first[firsts] = True
    parts, start, taken = [ANNOTATIONS.empty_table()], 0, 0
    for batch in plain.to_batches(max_chunksize=_ROWS_AT_ONCE):
        here = slice(start, start + batch.num_rows)
        stays, replaced = ~repeated[here], is_first[here]
        start += batch.num_rows
        part = pa.Table.from_batches([batch]).filter(pa.array(stays))
        if n_here := int(replaced.sum()):
            by_place = replaced[stays | replaced]
            order = np.where(
                by_place, part.num_rows - 1 + by_place.cumsum(), (~by_place).cumsum() - 1
            )
            both = pa.concat_tables([part, decided.slice(taken, n_here)])
            part = both.take(pa.array(order))
            taken += n_here
        parts.append(part)
    return pa.concat_tables(parts)


def _taken(rows: pa.Table, places: Codes) -> pa.Table:
    """Rows by their places, in pieces: one piece of more than 2 GB of text Arrow cannot build."""
    starts = range(0, len(places), _ROWS_AT_ONCE)
    pieces = [rows.take(pa.array(places[i : i + _ROWS_AT_ONCE])) for i in starts]
    return pa.concat_tables([ANNOTATIONS.empty_table(), *pieces])


def _with_column(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    place = ANNOTATIONS.get_field_index(name)
    return table.set_column(place, ANNOTATIONS.field(name), values)


def _files(table: pa.Table) -> Codes:
    """The number of the file of every row."""
    if "position" in table.column_names:
        return file_numbers(table["position"].to_numpy())
    return np.zeros(table.num_rows, dtype=np.int64)


def _with_positions(table: pa.Table, rows: pa.Table, places: Codes) -> pa.Table:
    """The rows with the position that reasons name."""
    if "position" in table.column_names:
        return rows.append_column("position", table["position"].take(pa.array(places)))
    return rows.append_column("position", pa.array(places + 1))
