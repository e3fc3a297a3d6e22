"""The account balances, whatever comes; the limit stops before anything is written."""

from __future__ import annotations

import json
import logging
from collections import Counter
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_validation import PlainValidation

from data_contracts import contract
from data_contracts import ingest as ingesting
from data_contracts.account import Account, Tally
from data_contracts.ingest import QuarantineError, ingest
from data_contracts.repeated import find_repeated
from longtail.annotations.merge import merge_annotations
from longtail.annotations.readers import read_annotations
from longtail.annotations.schema import ANNOTATIONS, QUARANTINE, RAW, SKIPPED
from longtail.config import ColumnSettings, DataSettings
from longtail.errors import EmptyExportError

NAMES = st.sampled_from([None, "", " ", "a", "b", "c", "a\nb", "x" * 600])
ROWS = st.fixed_dictionaries(
    {
        "id": NAMES,
        "text": st.sampled_from([None, "", "one", "two", "a\x00b", "y" * 90]),
        "labels": st.none() | st.lists(st.sampled_from(["x", "y", "", " ", "z" * 300]), max_size=3),
        "who": st.sampled_from([None, "ann", "bob"]),
        "when": st.sampled_from([None, "2026-01-01", "2026-02-01", "2999-01-01", "soon"]),
        "split": st.sampled_from([None, "train", "DEV", "nowhere"]),
    }
)
FULL = ColumnSettings(annotator="who", annotated_at="when", split="split")


def rows_of(path):
    return pq.read_table(path)


def write_csv(path, rows, junk):
    cells = [[json.dumps(cell) if isinstance(cell, list) else cell or "" for cell in row.values()]
             for row in rows]  # fmt: skip
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in cells]
    lines = [",".join(ROW_NAMES), *quoted, *junk]
    path.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines))


def write_jsonl(path, rows, junk):
    path.write_bytes(b"\n".join([*(json.dumps(row).encode() for row in rows), *junk]))


def write_parquet(path, rows, _junk):
    schema = pa.schema([(name, pa.list_(pa.string()) if name == "labels" else pa.string())
                        for name in ROW_NAMES])  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


ROW_NAMES = ("id", "text", "labels", "who", "when", "split")
WRITERS = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}


@pytest.fixture
def plainly(monkeypatch):
    monkeypatch.setattr(contract, "Validation", PlainValidation)


@pytest.mark.usefixtures("plainly")
@pytest.mark.parametrize("kind", WRITERS)
@given(
    rows=st.lists(ROWS, min_size=1, max_size=12),
    junk=st.lists(st.sampled_from([b"\xff", b'"', b"{", b"1,2", b"[[", b'"a\n"b']), max_size=3),
    policy=st.sampled_from(["latest", "union", "majority"]),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_account_balances_whatever_comes(tmp_path, kind, rows, junk, policy):
    path = tmp_path / f"x.{kind}"
    WRITERS[kind](path, rows, junk)
    chosen = DataSettings(max_quarantined=1.0, max_text_characters=50, columns=FULL,
                          several_annotators=policy)  # fmt: skip
    outputs = Path(mkdtemp(dir=tmp_path))
    try:
        done = ingest(path, chosen, outputs)
        account, ids = done.account, rows_of(done.accepted)["id"].to_pylist()
        assert len(set(ids)) == len(ids) == account.accepted
    except QuarantineError as refused:
        account = refused.account
        assert account.accepted == 0
    quarantine = rows_of(outputs / "quarantine.parquet")
    account.check()
    assert account.rows_read >= len(rows)
    assert quarantine.num_rows == account.quarantined
    assert all(quarantine["reasons"].to_pylist())
    positions = quarantine["position"].to_pylist()
    assert positions == sorted(set(positions))


def test_an_unbalanced_account_is_an_error():
    with pytest.raises(ArithmeticError, match="10 rows read, 9 accounted for"):
        Account(10, 5, 3, 1).check()


def put(folder, *rows):
    path = folder / "export.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def good(name, labels=("x",)):
    return {"id": name, "text": f"text {name}", "labels": list(labels)}


@pytest.fixture
def outputs(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_a_good_export(tmp_path, outputs, caplog):
    rows = [good("a", ["y", "x", "y "]), good("b", []), good("b", [])]
    with caplog.at_level(logging.WARNING, logger="data_contracts"):
        done = ingest(put(tmp_path, *rows), DataSettings(), outputs)
    accepted = rows_of(done.accepted)
    assert accepted.schema == ANNOTATIONS
    assert rows_of(done.voices).schema == ANNOTATIONS
    assert rows_of(done.quarantine).schema == QUARANTINE
    assert rows_of(done.skipped).schema == SKIPPED
    assert accepted["labels"].to_pylist() == [["x", "y"], []]
    assert done.account == Account(rows_read=3, accepted=2, quarantined=0, merged=1)
    assert done.warnings == (
        "A label stands twice in one row and was counted once: 1 row (1)",
        "A text has no labels: 2 rows (2, 3)",
    )
    assert "export.jsonl: A text has no labels" in caplog.text
    names = ["accepted.parquet", "quarantine.parquet", "skipped.parquet", "voices.parquet"]
    assert sorted(entry.name for entry in outputs.iterdir()) == names


def test_above_the_limit_nothing_is_taken_over_and_the_quarantine_is_handed_over(tmp_path, outputs):
    bad = [{"id": f"n{n}", "text": None, "labels": ["x"]} for n in range(5)]
    path = put(tmp_path, *(good(str(n)) for n in range(93)), *bad, {"id": 1}, {"id": 2})
    with pytest.raises(QuarantineError) as caught:
        ingest(path, DataSettings(), outputs)
    message = str(caught.value)
    assert "7 of 100 rows (7.0%) are bad" in message
    assert "data.max_quarantined allows (5.0%)" in message
    assert "7 × in rows 94, 95, 96, …: text: is missing" in message
    assert "2 × in rows 99, 100: labels: missing" in message
    assert message.endswith("or raise data.max_quarantined in the configuration.")
    assert caught.value.account == Account(100, 93, 7, 0)
    quarantine = rows_of(caught.value.quarantine)
    assert quarantine["position"].to_pylist() == list(range(94, 101))
    assert len(quarantine["reasons"].to_pylist()[-1]) == 2
    assert {entry.name for entry in outputs.iterdir()} == {"quarantine.parquet", "skipped.parquet"}


def test_exactly_at_the_limit_goes_on(tmp_path, outputs):
    path = put(tmp_path, *(good(str(n)) for n in range(19)), {"id": "bad"})
    assert ingest(path, DataSettings(max_quarantined=0.05), outputs).account.quarantined == 1


def test_conflicts_count_against_the_limit_too(tmp_path, outputs):
    path = put(tmp_path, good("a"), good("a", ["y"]), *(good(str(n)) for n in range(8)))
    with pytest.raises(QuarantineError, match=r"2 of 10 rows \(20\.0%\)"):
        ingest(path, DataSettings(max_quarantined=0.1), outputs)


def test_texts_to_be_labelled(tmp_path, outputs):
    path = put(tmp_path, {"id": 1, "text": "t"}, {"id": 2, "text": "u", "labels": 3}, {"id": 3})
    done = ingest(path, DataSettings(max_quarantined=0.5), outputs, labels_required=False)
    assert rows_of(done.accepted)["labels"].to_pylist() == [None, None]
    assert rows_of(done.quarantine)["position"].to_pylist() == [3]
    assert done.warnings == ()


def test_ids_that_count_the_rows_are_warned_of(tmp_path, outputs):
    path = put(tmp_path, *(good(str(n)) for n in range(5)))
    (warning,) = ingest(path, DataSettings(), outputs).warnings
    assert warning.startswith("The ids look like row numbers")
    assert ingest(path, DataSettings(), outputs, labels_required=False).warnings == ()


def test_what_a_killed_run_left_is_not_taken_for_whole(tmp_path, outputs):
    (outputs / ".ingest").mkdir()
    (outputs / ".ingest" / "accepted.parquet").write_bytes(b"half")
    (outputs / "accepted.parquet").write_bytes(b"of an earlier run")
    with pytest.raises(QuarantineError):
        ingest(put(tmp_path, {**good("a"), "text": None}), DataSettings(), outputs)
    assert {entry.name for entry in outputs.iterdir()} == {"quarantine.parquet", "skipped.parquet"}


def cancelled(name, reason="cancelled"):
    return {**good(name), "skipped": reason}


@pytest.fixture
def marked(monkeypatch):
    """A reader whose rows may say that they are not to be used, as those of annotation tools."""

    def read(*rows):
        numbered = [{"problems": [], "raw": "{}", "position": n, **row}
                    for n, row in enumerate(rows, 1)]  # fmt: skip
        table = pa.Table.from_pylist(numbered, schema=RAW)
        monkeypatch.setattr(ingesting, "read_annotations", lambda *_, **__: iter([table]))

    return read


def test_skipped_rows_are_neither_accepted_nor_bad(outputs, marked):
    marked(good("a"), cancelled("b"), {**cancelled("c"), "text": None}, cancelled("d", "ignored"))
    done = ingest("tasks.json", DataSettings(), outputs)
    assert done.account == Account(4, 1, 0, 0, 3, {"cancelled": 2, "ignored": 1})
    assert rows_of(done.skipped).to_pylist()[2] == {
        "file": "tasks.json", "position": 4, "id": "d", "reason": "ignored", "raw": "{}"
    }  # fmt: skip


def test_nothing_but_skipped_rows(outputs, marked):
    marked(cancelled("a"), cancelled("b"))
    with pytest.raises(QuarantineError, match=r"(?s)2 marked .* not one is.*Export again when"):
        ingest("tasks.json", DataSettings(), outputs)


def test_a_quiet_week_is_told_and_not_refused(outputs, marked, tmp_path):
    marked(cancelled("a"), cancelled("b"))
    done = ingest("tasks.json", DataSettings(), outputs, may_be_empty=True)
    assert done.account == Account(2, 0, 0, 0, 2, {"cancelled": 2})
    assert rows_of(done.accepted).num_rows == rows_of(done.voices).num_rows == 0
    assert "only 2 rows that it marks as not to be used; the data set stays" in done.warnings[-1]


@pytest.mark.parametrize(
    ("name", "content"), [("x.csv", "id,text,labels\n"), ("x.jsonl", ""), ("x.json", "[]")]
)
def test_an_export_without_rows_is_refused_unless_it_may_be_empty(name, content, outputs, tmp_path):
    export = tmp_path / name
    export.write_text(content)
    with pytest.raises(EmptyExportError):
        ingest(export, DataSettings(), outputs)
    pages = tmp_path / "pages"
    done = ingest(export, DataSettings(), outputs, data_docs=pages, may_be_empty=True)
    assert done.account == Account(0, 0, 0, 0)
    assert rows_of(done.accepted).num_rows == 0
    assert "not a single row" in done.warnings[-1]


def test_a_week_of_bad_rows_alone_is_refused_whatever_may_be_empty(outputs, marked):
    marked({**good("a"), "text": None}, cancelled("b"))
    settings = DataSettings(max_quarantined=1.0)
    with pytest.raises(QuarantineError):
        ingest("tasks.json", settings, outputs, may_be_empty=True)


def test_too_many_reasons_are_counted_together():
    tally = Tally()
    tally.add((f"reason {n}", 1) for n in range(150))
    found = tally.most_frequent()
    assert len(found) == 101
    assert found["other reasons"] == 50


PEOPLE = st.sampled_from([None, "ann", "bob", "cid"])
DAYS = st.sampled_from([None, "2026-01-01", "2026-01-02", "2026-01-03"])
REPEATING = st.fixed_dictionaries(
    {
        "id": st.sampled_from("abcdefgh"),
        "text": st.sampled_from(["one", "two"]),
        "labels": st.lists(st.sampled_from("xyz"), max_size=2),
        "who": PEOPLE,
        "when": DAYS,
        "split": st.none(),
    }
)


@pytest.mark.usefixtures("plainly")
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@given(
    rows=st.lists(REPEATING, min_size=1, max_size=25),
    bucket_rows=st.integers(1, 12),
    part_rows=st.integers(1, 9),
    policy=st.sampled_from(["latest", "union", "majority", "at_least"]),
    collide=st.booleans(),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_in_parts_and_buckets_as_all_at_once(
    tmp_path, kind, rows, bucket_rows, part_rows, policy, collide
):
    path, outputs = tmp_path / f"x.{kind}", Path(mkdtemp(dir=tmp_path))
    WRITERS[kind](path, rows, [])
    chosen = DataSettings(max_quarantined=1.0, columns=FULL, several_annotators=policy)
    whole = pa.concat_tables(list(read_annotations(path, chosen)))
    expected = merge_annotations(with_sets(whole), policy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingesting, "find_repeated", partial(find_repeated, bucket_rows=bucket_rows))
        patch.setattr(ingesting, "_parts", lambda tables: in_parts(tables, part_rows))
        if collide:
            patch.setattr(ingesting, "stable_hash", lambda ids: np.ones(len(ids), np.uint64))
        try:
            done = ingest(path, chosen, outputs)
        except QuarantineError:
            assert expected.table.num_rows == 0
            return
    assert by_id(rows_of(done.accepted)) == by_id(expected.table)
    assert done.account.merged == expected.n_merged
    found = rows_of(done.quarantine)
    reasons = dict(zip(found["position"].to_pylist(), found["reasons"].to_pylist(), strict=True))
    assert reasons == {whole["position"][row].as_py(): why for row, why in expected.quarantined}
    contents = [json.loads(raw)["id"] for raw in found["raw"].to_pylist()]
    assert contents == [rows[position - 1]["id"] for position in found["position"].to_pylist()]
    assert by_who(rows_of(done.voices)) == by_who(expected.voices)
    order = {row["id"]: n for n, row in reversed(list(enumerate(rows)))}
    places = [order[name] for name in rows_of(done.accepted)["id"].to_pylist()]
    assert places == sorted(places)


def with_sets(table):
    sets = pa.array([sorted(set(labels)) for labels in table["labels"].to_pylist()])
    return table.set_column(table.schema.get_field_index("labels"), "labels", sets)


def in_parts(tables, rows):
    whole = pa.concat_tables(list(tables))
    return (whole.slice(start, rows) for start in range(0, whole.num_rows, rows))


def by_id(table):
    return {row["id"]: row for row in table.to_pylist()}


def by_who(table):
    return sorted(map(str, table.to_pylist()))


@given(st.lists(st.integers(0, 6), max_size=30), st.integers(1, 8))
def test_buckets_hold_all_rows_of_an_id(numbers, bucket_rows):
    hashes = np.array(numbers, dtype=np.uint64)
    found = find_repeated(hashes, bucket_rows)
    counts = Counter(numbers)
    assert found.single.tolist() == [counts[number] == 1 for number in numbers]
    repeated = [number for number in numbers if counts[number] > 1]
    of_id = set(zip(repeated, found.bucket.tolist(), strict=True))
    assert len(of_id) == len(set(repeated))
    assert sorted(set(found.bucket.tolist())) == list(range(len(found.starts)))
    for bucket, start in enumerate(found.starts.tolist()):
        rows = np.flatnonzero(~found.single)[found.bucket == bucket]
        assert rows[0] == start
    assert found.starts.tolist() == sorted(found.starts.tolist())
