"""Several exports in one directory, read as one."""

from __future__ import annotations

import json
import zipfile

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.ingest import QuarantineError, ingest
from longtail.annotations.contents import read_contents
from longtail.annotations.directory import export_files, within_file
from longtail.annotations.readers import read_annotations
from longtail.config import DataSettings
from longtail.errors import DataError, EmptyExportError
from longtail.storage import write_manifest

SETTINGS = DataSettings(label_separator="|")


def row(name, *labels, text=None, **more):
    return {"id": name, "text": text or f"text of {name}", "labels": list(labels), **more}


def write(path, *rows):
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


def rows_of(path, **settings):
    tables = read_annotations(path, DataSettings(**settings))
    return [one for table in tables for one in table.to_pylist()]


def accepted(path, tmp_path, **settings):
    """Labels by id, and the whole outcome."""
    outcome = ingest(path, DataSettings(**settings), tmp_path / "out")
    table = pq.read_table(outcome.accepted).to_pylist()
    return {one["id"]: one["labels"] for one in table}, outcome


@pytest.fixture
def inbox(tmp_path):
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def test_files_of_many_formats_are_one_export(inbox):
    write(inbox / "1.jsonl", row("a", "x"), row("b", "y"))
    (inbox / "2.csv").write_text("id,text,labels\nc,text of c,x|y\n", encoding="utf-8")
    (inbox / "3.json").write_text(json.dumps([row("d", "z")]), encoding="utf-8")
    with zipfile.ZipFile(inbox / "4.zip", "w") as archive:
        archive.writestr("ada.jsonl", json.dumps({"id": 5, "text": "five", "label": ["x"]}) + "\n")
        archive.writestr("bob.jsonl", json.dumps({"id": 6, "text": "six", "label": ["y"]}) + "\n")
    read = rows_of(inbox, label_separator="|")
    assert [one["id"] for one in read] == ["a", "b", "c", "d", "5", "6"]
    assert [one["labels"] for one in read] == [["x"], ["y"], ["x", "y"], ["z"], ["x"], ["y"]]
    positions = np.array([one["position"] for one in read])
    assert (np.diff(positions) > 0).all()
    assert within_file(positions).tolist() == [1, 2, 1, 1, 1, 2]


def test_hidden_files_manifests_and_directories_are_passed_over(inbox):
    write(inbox / "a.jsonl", row("a", "x"))
    (inbox / ".a.jsonl.part").write_text("half a li")
    (inbox / "below").mkdir()
    write(inbox / "below" / "b.jsonl", row("b", "x"))
    write_manifest(inbox)
    assert [one["id"] for one in rows_of(inbox)] == ["a"]
    assert export_files(inbox) == (str(inbox / "a.jsonl"),)


def test_a_single_file_is_what_it_was(inbox):
    path = write(inbox / "a.jsonl", row("a", "x"))
    assert export_files(path) is None
    assert rows_of(path)[0]["position"] == 1


def test_an_empty_directory_says_so(inbox):
    with pytest.raises(DataError, match="directory without a file"):
        rows_of(inbox)


def test_a_file_without_rows_beside_others_is_a_quiet_day(inbox):
    (inbox / "a.csv").write_text("id,text,labels\n", encoding="utf-8")
    with pytest.raises(EmptyExportError, match="none of its 1 files"):
        rows_of(inbox)
    write(inbox / "b.jsonl", row("b", "x"))
    assert [one["id"] for one in rows_of(inbox)] == ["b"]


def test_a_member_that_cannot_be_read_is_named(inbox):
    write(inbox / "a.jsonl", row("a", "x"))
    (inbox / "b.csv.gz").write_bytes(b"\x1f\x8b garbage")
    with pytest.raises(DataError, match=r"b\.csv\.gz: is gzip"):
        rows_of(inbox)


def test_a_directory_in_an_object_store_is_read_too():
    memory = fsspec.filesystem("memory")
    memory.pipe("/exports/b.jsonl", json.dumps(row("b", "y")).encode())
    memory.pipe("/exports/a.jsonl", json.dumps(row("a", "x")).encode())
    memory.pipe("/exports/.hidden", b"?")
    try:
        assert [one["id"] for one in rows_of("memory://exports")] == ["a", "b"]
    finally:
        memory.rm("/exports", recursive=True)


def test_the_later_file_wins_where_there_are_no_dates(inbox, tmp_path):
    write(inbox / "1.jsonl", row("a", "x"), row("b", "y"))
    write(inbox / "2.jsonl", row("a", "z"))
    labels, outcome = accepted(inbox, tmp_path)
    assert labels == {"a": ["z"], "b": ["y"]}
    assert outcome.account.merged == 1
    assert outcome.account.quarantined == 0


def test_dates_decide_over_the_order_of_the_files(inbox, tmp_path):
    write(inbox / "1.jsonl", row("a", "x", annotated_at="2024-05-02T00:00:00Z"))
    write(inbox / "2.jsonl", row("a", "z", annotated_at="2024-05-01T00:00:00Z"))
    assert accepted(inbox, tmp_path)[0] == {"a": ["x"]}


def test_a_contradiction_within_the_last_file_stays_one(inbox, tmp_path):
    write(inbox / "1.jsonl", row("a", "x"), row("b", "y"))
    write(inbox / "2.jsonl", row("a", "z"), row("a", "w"))
    labels, outcome = accepted(inbox, tmp_path, max_quarantined=0.9)
    assert labels == {"b": ["y"]}
    assert "2 of file 2" in pq.read_table(outcome.quarantine)["reasons"].to_pylist()[0][0]


def test_both_annotators_are_heard_though_their_files_differ(inbox, tmp_path):
    write(inbox / "1.jsonl", row("a", "x", annotator="ada"))
    write(inbox / "2.jsonl", row("a", "z", annotator="bob"))
    labels, outcome = accepted(inbox, tmp_path, several_annotators="union")
    assert labels == {"a": ["x", "z"]}
    assert pq.read_table(outcome.voices).num_rows == 2
    labels, outcome = accepted(inbox, tmp_path, several_annotators="latest")
    assert labels == {"a": ["z"]}
    assert pq.read_table(outcome.voices).num_rows == 2


def test_the_quarantine_names_the_file_and_its_own_row(inbox, tmp_path):
    write(inbox / "1.jsonl", row("a", "x"), row("b", "x"))
    write(inbox / "2.jsonl", row("c", "x"), {"id": "d", "text": None, "labels": ["x"]})
    pq.write_table(
        pa.table({"id": ["e", None], "text": ["e", "f"], "labels": ["x", "x"]}),
        inbox / "3.parquet",
    )
    _, outcome = accepted(inbox, tmp_path, max_quarantined=0.9, label_separator="|")
    found = pq.read_table(outcome.quarantine).to_pylist()
    assert [(one["file"], one["position"]) for one in found] == [("2.jsonl", 2), ("3.parquet", 2)]
    assert '"d"' in found[0]["raw"]
    assert '"f"' in found[1]["raw"]


def test_too_many_bad_rows_name_the_file(inbox, tmp_path):
    write(inbox / "1.jsonl", row("a", "x"))
    write(inbox / "2.jsonl", {"id": "d", "text": None, "labels": ["x"]})
    with pytest.raises(QuarantineError, match=r"in row 1 of 2\.jsonl"):
        accepted(inbox, tmp_path, max_quarantined=0.1)


def test_contents_come_from_the_right_file(inbox):
    for number in range(3):
        write(inbox / f"{number}.jsonl", *(row(f"{number}-{i}", "x") for i in range(4)))
    read = rows_of(inbox)
    chosen = np.array([read[place]["position"] for place in (1, 6, 11)])
    found = dict(read_contents(inbox, DataSettings(), chosen))
    assert [json.loads(found[at])["id"] for at in chosen] == ["0-1", "1-2", "2-3"]


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4))
def test_any_bytes_are_rows_or_a_sentence(tmp_path_factory, contents):
    directory = tmp_path_factory.mktemp("fuzz")
    for number, content in enumerate(contents):
        (directory / f"{number}.jsonl").write_bytes(content)
    last = 0
    try:
        for table in read_annotations(directory, DataSettings()):
            for position in table["position"].to_pylist():
                assert position > last
                last = position
    except DataError as error:
        said = str(error)
        assert str(directory) in said
