"""Which file is read how, and which is refused."""

from __future__ import annotations

import gzip
import json
import logging
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longtail.annotations.readers import read_annotations
from longtail.annotations.schema import RAW
from longtail.config import ColumnSettings, DataSettings
from longtail.errors import DataError

ROWS = [{"id": "1", "text": "café", "labels": ["a", "b"]}, {"id": "2", "text": "x", "labels": []}]
CSV = 'id,text,labels\n1,café,"[""a"", ""b""]"\n2,x,[]\n'
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)


def read(path, **options):
    required = options.pop("labels_required", True)
    return pa.concat_tables(
        read_annotations(path, DataSettings(**options), labels_required=required)
    )


def put(folder, name, data):
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.csv", CSV), ("a.txt", CSV), ("a", CSV), ("a.jsonl", JSONL), ("a.json", JSONL),
     ("a", JSONL), ("a.csv", JSONL), ("we[i]rd *.csv", CSV)],
)  # fmt: skip
def test_the_format_is_found_by_name_and_content(tmp_path, name, data):
    table = read(put(tmp_path, name, data))
    assert table.schema == RAW
    assert table.select(["id", "text", "labels"]).to_pylist() == ROWS
    assert table["problems"].to_pylist() == [[], []]


@pytest.mark.parametrize("name", ["a.parquet", "a.bin", "a.csv"])
def test_parquet_is_known_by_its_first_bytes(tmp_path, name):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / name)
    assert read(tmp_path / name).select(["id", "text", "labels"]).to_pylist() == ROWS


def test_a_named_format_wins_over_the_name(tmp_path):
    assert read(put(tmp_path, "a.jsonl", CSV), format="csv").num_rows == 2


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"", "empty"),
        ("a.csv", "id,text,labels\n", "no rows of data"),
        ("a.jsonl", "\n\n", "no rows of data"),
        ("a.csv", "\n\n", "nothing but blank lines"),
        ("a.csv", b"\xef\xbb\xbf", "nothing but blank lines"),
        ("a.csv", gzip.compress(CSV.encode(), mtime=0), "gunzip"),
        ("a.csv", b"PK\x03\x04" + bytes(40), "zip archive is cut off"),
        ("a.csv", CSV.encode("utf-16"), "UTF-16"),
        ("a.csv", CSV.encode("utf-16-le"), "UTF-16"),
        ("a.csv", CSV.encode("utf-32"), "UTF-32"),
        ("a.csv", bytes(range(256)) * 10, "binary file"),
        ("a.parquet", CSV, "does not start with PAR1"),
        ("a.parquet", gzip.compress(b"x", mtime=0), "gunzip"),
        ("a.json", '[{"id": 1}]', "no columns 'text', 'labels'"),
    ],
)
def test_files_that_cannot_be_read_at_all(tmp_path, name, data, said):
    with pytest.raises(DataError, match=said) as caught:
        read(put(tmp_path, name, data))
    assert name in str(caught.value)


def test_a_parquet_file_under_another_named_format(tmp_path):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"set data\.format: parquet"):
        read(tmp_path / "a.csv", format="csv")
    with pytest.raises(DataError, match="does not start with PAR1"):
        read(put(tmp_path, "b.csv", CSV), format="parquet")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("named", ["auto", "jsonl", "prodigy", "doccano", "label-studio"])
@pytest.mark.parametrize("data", [b"\n", b" \t", b"[ ", b"{ ", b'"\n', b"[{", b'["\\'])
def test_much_of_nothing_is_refused_or_set_aside_at_once(tmp_path, data, named):
    path = put(tmp_path, "a", data * 300_000)
    try:
        table = read(path, format=named)
    except DataError:
        return
    assert all(table["problems"].to_pylist())


def test_absent_and_directory_and_unknown_protocol(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match="is a directory"):
        read(tmp_path)
    with pytest.raises(DataError, match="cannot be opened"):
        read("nosuchprotocol://x/a.csv")


def test_optional_columns_are_read_where_they_are_and_a_split_only_when_named(tmp_path, caplog):
    data = "id,text,labels,group,split,who\n1,a,[],g,dev,ann\n2,b,[],,,\n"
    path = put(tmp_path, "a.csv", data)
    with caplog.at_level(logging.INFO, logger="longtail"):
        rows = read(path).to_pylist()
    assert [(row["group"], row["split"], row["annotator"]) for row in rows] == [
        ("g", None, None),
        (None, None, None),
    ]
    assert "data.columns.split" in caplog.text
    columns = ColumnSettings(group=None, split="split", annotator="who")
    row = read(path, columns=columns).to_pylist()
    assert (row[0]["group"], row[0]["split"], row[0]["annotator"]) == (None, "validation", "ann")
    assert (row[1]["group"], row[1]["split"], row[1]["annotator"]) == (None, None, None)


def test_an_optional_column_that_is_named_must_be_there(tmp_path):
    path = put(tmp_path, "a.csv", "id,text,labels\n1,a,[]\n")
    with pytest.raises(DataError, match="no column 'thread'"):
        read(path, columns=ColumnSettings(group="thread"))


def test_columns_may_have_other_names(tmp_path):
    path = put(tmp_path, "a.csv", "key,body,tags\n1,t,a|b\n")
    columns = ColumnSettings(id="key", text="body", labels="tags")
    row = read(path, columns=columns, label_separator="|").to_pylist()[0]
    assert (row["id"], row["text"], row["labels"]) == ("1", "t", ["a", "b"])


def test_texts_to_be_labelled_need_no_labels(tmp_path):
    path = put(tmp_path, "a.csv", "id,text\n1,t\n")
    assert read(path, labels_required=False)["labels"].to_pylist() == [None]
    wrong = put(tmp_path, "b.csv", "id,text,labels\n1,t,{}\n")
    assert read(wrong, labels_required=False)["problems"].to_pylist() == [[]]


def test_batches_are_bounded(tmp_path):
    rows = "".join(f"{n},t,[]\n" for n in range(10_001))
    path = put(tmp_path, "a.csv", "id,text,labels\n" + rows)
    sizes = [batch.num_rows for batch in read_annotations(path, DataSettings())]
    assert sizes == [10_000, 1]


BROKEN_LINES = [
    b'1,"a', b"2,b,[]", b'"', b'3,"x ""y""","[""a""]"', b'{"id":1,"text":"a","labels":[]}',
    b'{"id":', b"[[[", b"\xff\xfe", b"\r", b",,,", b'4,a,"[null]"', b"\xf0\x9f",
]  # fmt: skip
GARBAGE = st.lists(st.binary(max_size=40) | st.sampled_from(BROKEN_LINES), max_size=12)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@given(lines=GARBAGE)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_garbage_raises_anything_but_a_data_error(tmp_path, kind, lines):
    head = {"csv": b"id,text,labels\n9,fine,[]\n",
            "jsonl": b'{"id":9,"text":"fine","labels":[]}\n'}[kind]  # fmt: skip
    path = put(tmp_path, f"a.{kind}", head + b"\n".join(lines))
    try:
        table = read(path, format=kind)
    except DataError:  # a file may be refused; anything else that is raised fails the test
        return
    positions = table["position"].to_pylist()
    assert positions == sorted(set(positions))
    for row in table.to_pylist():
        assert row["raw"] is not None
        assert row["problems"] or row["text"] is not None or row["labels"] is None
    if kind == "jsonl":
        n_lines = sum(bool(line.strip()) for line in path.read_bytes().split(b"\n"))
        assert table.num_rows == n_lines


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tasks", "lines"])
def test_memory_does_not_grow_with_the_export(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("longtail.annotations.readers._BATCH_CHARACTERS", 1 << 20)
    monkeypatch.setattr("longtail.annotations.objects._PEEK_CHARACTERS", 1 << 20)

    def item(number):
        text = f"word {number} " * 100
        task = {"id": number, "data": {"text": text}, "annotations": [{"id": 1, "result": []}]}
        return json.dumps(task if kind == "tasks" else {"id": number, "text": text, "labels": []})

    def peak(n_items):
        path = tmp_path / "export.json"
        with path.open("w") as file:
            file.write("[" if kind == "tasks" else "")
            file.writelines(item(number) + ",\n"[kind == "lines" :] for number in range(n_items))
            file.write("{}]" if kind == "tasks" else "")
        tracemalloc.start()
        n_rows = sum(batch.num_rows for batch in read_annotations(path, DataSettings()))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert n_rows == n_items + (kind == "tasks")
        return used

    peak(100)  # what is imported on the way
    assert peak(16_000) < 1.3 * peak(4_000)


def test_half_a_character_in_the_name_of_a_key_can_be_printed(tmp_path):
    path = put(tmp_path, "a.jsonl", '{"\\ud800id": "x", "text": "t", "labels": []}\n')
    with pytest.raises(DataError, match="did you mean") as caught:
        read(path)
    assert str(caught.value).encode()
