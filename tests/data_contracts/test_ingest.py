"""The account balances, whatever comes; the limit stops before anything is written."""

from __future__ import annotations

import json
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_validation import validate_plainly

from data_contracts import contract
from data_contracts.ingest import Account, QuarantineError, ingest
from longtail.annotations.schema import ANNOTATIONS, QUARANTINE
from longtail.config import ColumnSettings, DataSettings

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
    monkeypatch.setattr(contract, "validate", validate_plainly)


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
    try:
        done = ingest(path, chosen)
        quarantine, account = done.quarantine, done.account
        ids = done.accepted["id"].to_pylist()
        assert len(set(ids)) == len(ids) == account.accepted
    except QuarantineError as refused:
        quarantine, account = refused.quarantine, refused.account
        assert account.accepted == 0
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


def test_a_good_export(tmp_path, caplog):
    rows = [good("a", ["y", "x", "y "]), good("b", []), good("b", [])]
    with caplog.at_level(logging.WARNING, logger="data_contracts"):
        done = ingest(put(tmp_path, *rows), DataSettings())
    assert done.accepted.schema == ANNOTATIONS
    assert done.quarantine.schema == QUARANTINE
    assert done.accepted["labels"].to_pylist() == [["x", "y"], []]
    assert done.account == Account(rows_read=3, accepted=2, quarantined=0, merged=1)
    assert done.warnings == (
        "A label stands twice in one row and was counted once: 1 row (1)",
        "A text has no labels: 2 rows (2, 3)",
    )
    assert "export.jsonl: A text has no labels" in caplog.text


def test_above_the_limit_nothing_is_written_and_the_quarantine_is_handed_over(tmp_path):
    bad = [{"id": f"n{n}", "text": None, "labels": ["x"]} for n in range(5)]
    path = put(tmp_path, *(good(str(n)) for n in range(93)), *bad, {"id": 1}, {"id": 2})
    with pytest.raises(QuarantineError) as caught:
        ingest(path, DataSettings())
    message = str(caught.value)
    assert "7 of 100 rows (7.0%) are bad" in message
    assert "data.max_quarantined allows (5.0%)" in message
    assert "7 × in rows 94, 95, 96, …: text: is missing" in message
    assert "2 × in rows 99, 100: labels: missing" in message
    assert message.endswith("or raise data.max_quarantined in the configuration.")
    assert caught.value.account == Account(100, 93, 7, 0)
    assert caught.value.quarantine["position"].to_pylist() == list(range(94, 101))
    assert len(caught.value.quarantine["reasons"].to_pylist()[-1]) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["export.jsonl"]


def test_exactly_at_the_limit_goes_on(tmp_path):
    path = put(tmp_path, *(good(str(n)) for n in range(19)), {"id": "bad"})
    assert ingest(path, DataSettings(max_quarantined=0.05)).account.quarantined == 1


def test_conflicts_count_against_the_limit_too(tmp_path):
    path = put(tmp_path, good("a"), good("a", ["y"]), *(good(str(n)) for n in range(8)))
    with pytest.raises(QuarantineError, match=r"2 of 10 rows \(20\.0%\)"):
        ingest(path, DataSettings(max_quarantined=0.1))


def test_texts_to_be_labelled(tmp_path):
    path = put(tmp_path, {"id": 1, "text": "t"}, {"id": 2, "text": "u", "labels": 3}, {"id": 3})
    done = ingest(path, DataSettings(max_quarantined=0.5), labels_required=False)
    assert done.accepted["labels"].to_pylist() == [None, None]
    assert done.quarantine["position"].to_pylist() == [3]
    assert done.warnings == ()
