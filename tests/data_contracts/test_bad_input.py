"""Every kind of bad input ends as a quarantined row or a refused file, in words, never otherwise.

Each case is a file with six good rows beside the bad ones (or a file that is bad as a whole) and
what must be said of it.
"""

from __future__ import annotations

import datetime as dt
import gzip
import io
import itertools
import json
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from plain_validation import PlainValidation, validate_plainly

from data_contracts import contract
from data_contracts.expectations import validate
from data_contracts.helpers import annotation_helpers
from data_contracts.ingest import QuarantineError, ingest
from data_contracts.suites import annotations_suite
from longtail.annotations.readers import read_annotations
from longtail.config import ColumnSettings, DataSettings
from longtail.errors import DataError

GOOD = [{"id": f"g{n}", "text": f"a fine text {n}", "labels": ["a", "b"]} for n in range(6)]
GOOD_CSV = "".join(f'{row["id"]},{row["text"]},"[""a"", ""b""]"\n' for row in GOOD).encode()
GOOD_JSONL = "".join(json.dumps(row) + "\n" for row in GOOD).encode()
HEADER = b"id,text,labels\n"


@dataclass(frozen=True)
class Case:
    """A file, where its bad rows stand, and what must be said of each of them."""

    name: str
    file: str
    data: bytes
    said: tuple[str, ...]
    positions: tuple[int, ...] = (7,)
    settings: DataSettings = field(default_factory=lambda: DataSettings(max_quarantined=0.9))

    def __str__(self) -> str:
        return self.name


def csv_row(name, row, *said, **more):
    return Case(name, "x.csv", HEADER + GOOD_CSV + row, said, **more)


def jsonl_row(name, row, *said, **more):
    line = row if isinstance(row, bytes) else json.dumps(row).encode()
    return Case(name, "x.jsonl", GOOD_JSONL + line, said, **more)


def labels_row(name, labels, *said, **more):
    return jsonl_row(name, {"id": "bad", "text": "t", "labels": labels}, *said, **more)


def settings(**options):
    return DataSettings(max_quarantined=0.9, **options)


def parquet(rows):
    sink = io.BytesIO()
    pq.write_table(rows, sink)
    return sink.getvalue()


SPLIT = ColumnSettings(split="split")
DATED = ColumnSettings(annotated_at="when", annotator="who")

QUARANTINED = [
    csv_row("csv: not UTF-8", b"bad,caf\xe9,[]\n", "row: line 8 is not UTF-8; save the file as"),
    csv_row("csv: quote never closed", b'bad,"open,[]\n', "line 8 is never closed; close it"),
    csv_row("csv: text after a closing quote", b'bad,"x"y,[]\n', "line 8 cannot be read as CSV"),
    csv_row("csv: a field too many", b"bad,t,u,[]\n", "4 fields, the header has 3; put quotes"),
    csv_row("csv: a field too few", b"bad,t\n", "2 fields, the header has 3"),
    csv_row("csv: NUL byte", b"bad,a\x00b,[]\n", "text: a NUL character at character 2; remove"),
    csv_row("csv: Python list", b"bad,t,\"['a']\"\n", "looks like a Python list", "write a JSON"),
    csv_row("csv: labels not a list", b"bad,t,a|b\n", "labels: 'a|b' is not a list", "separator"),
    csv_row("csv: labels empty", b"bad,t,\n", "labels: missing or null; label the text"),
    csv_row("csv: labels cut off", b'bad,t,"[""a"""\n', "is not valid JSON; write a JSON list"),
    csv_row("csv: id empty", b",t,[]\n", "id: is missing; give every text an id"),
    csv_row("csv: text blank", b"bad,  ,[]\n", "text: has nothing but white space; fill it in"),
    csv_row("csv: 10 MB text", b"bad," + b"x" * 10_000_000 + b",[]\n",
            "text: 10,000,000 characters, at most 100,000 are allowed; divide the text"),
    csv_row("csv: JSON although separated", b'bad,t,"[""a""]"\n', "remove that setting",
            positions=tuple(range(1, 8)), settings=settings(label_separator="|")),
    Case("csv: blank label between separators", "x.csv",
         HEADER + b"1,t,a|b\n2,t,a||b\n3,t,\n", ("labels: label 2 is blank; remove it",), (2,),
         settings(label_separator="|")),
    Case("csv: wrong separator", "x.csv",
         HEADER + b"1,t,a\n2,t," + b";".join(b"label%d" % n for n in range(40)) + b"\n",
         ("labels: a label of 309 characters", "separator of the labels another"), (2,),
         settings(label_separator="|")),
    Case("csv: unknown split", "x.csv", b"id,text,labels,split\n1,t,[],dev\n2,t,[],holdout\n",
         ("split: 'holdout' is not a split; write train",), (2,), settings(columns=SPLIT)),
    Case("csv: date not ISO", "x.csv", b"id,text,labels,when,who\n1,t,[],01.03.26,\n2,t,[],,\n",
         ("annotated_at: '01.03.26' is not a date; write ISO 8601",), (1,),
         settings(columns=DATED)),
    jsonl_row("jsonl: not UTF-8", b'{"id": "caf\xe9"}', "row: byte 12 of the line is not UTF-8"),
    jsonl_row("jsonl: not JSON", b'{"id": "bad",', "row: not valid JSON", "at character 14"),
    jsonl_row("jsonl: a list", b'["bad", "t"]', "row: a list", "an object {...} is expected"),
    jsonl_row("jsonl: null", b"null", "row: null was found"),
    jsonl_row("jsonl: nested 100,000 deep", b"[" * 100_000, "row: brackets are nested too deeply"),
    jsonl_row("jsonl: a number of 5,000 digits", b'{"id": ' + b"9" * 5_000 + b"}", "more digits"),
    jsonl_row("jsonl: a key twice", b'{"id": "x", "id": "y", "text": "t", "labels": []}',
              "id: the key 'id' stands more than once in the object; keep one"),
    jsonl_row("jsonl: lone surrogate", b'{"id": "x", "text": "a\\ud83d", "labels": []}',
              "text: half of a character (\\ud83d) at character 2"),
    jsonl_row("jsonl: NaN for a text", b'{"id": "x", "text": NaN, "labels": []}',
              "text: the number nan was found, a text is expected"),
    jsonl_row("jsonl: text null", {"id": "x", "text": None, "labels": []}, "text: is missing"),
    jsonl_row("jsonl: text a number", {"id": "x", "text": 3, "labels": []}, "the number 3"),
    jsonl_row("jsonl: text a list", {"id": "x", "text": ["t"], "labels": []}, "text: a list"),
    jsonl_row("jsonl: id a truth value", {"id": True, "text": "t", "labels": []}, "id: true"),
    jsonl_row("jsonl: id a fraction", {"id": 1.5, "text": "t", "labels": []}, "the number 1.5"),
    jsonl_row("jsonl: id too long", {"id": "x" * 513, "text": "t", "labels": []},
              "id: 513 characters", "at most 512 are allowed"),
    jsonl_row("jsonl: id with a line break", {"id": "a\nb", "text": "t", "labels": []},
              "id: 'a\\nb' has a control character; remove it"),
    jsonl_row("jsonl: text nothing", {"id": "x", "text": "\u3000", "labels": []}, "white space"),
    jsonl_row("jsonl: id invisible", {"id": "\u200b", "text": "t", "labels": []},
              "id: is blank; give every text an id"),
    jsonl_row("jsonl: date a number", {"id": "x", "text": "t", "labels": [], "who": "", "when": 3},
              "annotated_at: the number 3 was found, a date is expected; write ISO 8601",
              settings=settings(columns=DATED)),
    jsonl_row("jsonl: labels missing", {"id": "x", "text": "t"}, "labels: missing or null"),
    labels_row("labels: null", None, "labels: missing or null", "write [] for a text that"),
    labels_row("labels: a string", "a|b", "name what separates the labels", "data.label_sep"),
    labels_row("labels: nested 100,000 deep", "[" * 100_000, "labels: lists nested too deeply"),
    labels_row("labels: an object", {"a": 1}, "labels: an object ({'a': 1}) was found, a list"),
    labels_row("labels: a number", 3, "labels: the number 3 was found, a list is expected"),
    labels_row("label: null", ["a", None], "label 2 is null, a name in quotes is expected"),
    labels_row("label: a number", [7], "label 1 is the number 7"),
    labels_row("label: a truth value", [False], "label 1 is false"),
    labels_row("label: nested", [["a"]], "label 1 is a list"),
    labels_row("label: an object", [{"name": "a"}], "label 1 is an object"),
    labels_row("label: empty", ["a", ""], "labels: label 2 is blank; remove it"),
    labels_row("label: invisible", ["\u200b"], "labels: label 1 is blank"),
    labels_row("label: too long", ["x" * 201], "a label of 201 characters", "at most 200"),
    labels_row("label: control character", ["a\x07b"], "'a\\x07b' has a control character"),
    labels_row("label: line break", ["a\nb"], "'a\\nb' has a control character"),
    labels_row("label: lone surrogate", ["\ud800"], "label 1 has half of a character (\\ud800)"),
    labels_row("label: not in the taxonomy", ["a", "zebra"], "labels: 'zebra' is no label or alias",
               "or set data.unknown_labels: add", settings=settings(
                   taxonomy=str(Path(__file__).with_name("two_labels.yaml")),
                   unknown_labels="quarantine")),
    jsonl_row("everything at once", {"id": None, "text": "", "labels": ["", "x" * 300]},
              "id: is missing", "text: has nothing", "label 1 is blank", "300 characters"),
    Case("duplicated id, other labels", "x.jsonl", GOOD_JSONL
         + b'{"id": "d", "text": "t", "labels": ["a"]}\n{"id": "d", "text": "t", "labels": []}',
         ("id: 'd' stands in rows 7, 8 with different labels ('a' / 'none')", "keep one row"),
         (7, 8)),
    Case("duplicated id, other text", "x.jsonl", GOOD_JSONL
         + b'{"id": "d", "text": "t", "labels": []}\n{"id": "d", "text": "u", "labels": []}',
         ("with different text, and not all of them are dated",), (7, 8)),
    Case("annotators disagree, no dates", "x.jsonl",
         b'{"id": "d", "text": "t", "labels": ["a"], "who": "ann"}\n' + GOOD_JSONL
         + b'{"id": "d", "text": "t", "labels": [], "who": "bob", "when": null}\n',
         ("by 2 annotators", "data.several_annotators: union or majority"), (1, 8),
         settings(columns=DATED)),
    Case("duplicated id, same moment", "x.jsonl",
         b'{"id": "d", "text": "t", "labels": ["a"], "who": "ann", "when": "2026-03-01"}\n'
         b'{"id": "d", "text": "t", "labels": ["b"], "who": "ann", "when": "2026-03-01"}\n'
         + GOOD_JSONL,
         ("by the same annotator in rows 1, 2", "the last of them are of the same moment"),
         (1, 2), settings(columns=DATED)),
    Case("parquet: a date beyond the calendar", "x.parquet", parquet(pa.table({
        "id": ["a", "b"], "text": ["t", "t"], "labels": [["x"], ["x"]], "who": ["", ""],
        "when": pa.array([0, 2**62], pa.timestamp("us"))})),
         ("annotated_at: the value cannot be read",), (2,), settings(columns=DATED)),
    Case("parquet: nulls", "x.parquet", parquet(pa.table({
        "id": ["a", "b", None], "text": ["t", None, "t"], "labels": [["x"], ["x"], [None]]})),
         ("is missing",), (2, 3)),
    Case("parquet: bytes that are not UTF-8", "x.parquet", parquet(pa.table({
        "id": ["a", "b"], "text": [b"t", b"\xff"], "labels": [["x"], ["x"]]})),
         ("text: '\\\\xff' is not UTF-8; write the column as UTF-8",), (2,)),
]  # fmt: skip


def plain(name, file, data, said, **options):
    return Case(name, file, data, (said,), (), DataSettings(**options))


def rows(**columns):
    return parquet(pa.table({"id": ["a"], "text": ["t"], "labels": [["x"]], **columns}))


def zipped(name):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(name, "<?xml?>")
    return sink.getvalue()


REFUSED = [
    plain("empty", "x.csv", b"", "the file is empty"),
    plain("header only", "x.csv", HEADER, "holds no rows of data"),
    plain("blank lines only", "x.jsonl", b"\n\n", "holds no rows of data"),
    plain("gzip", "x.csv", gzip.compress(HEADER), "gzip-compressed; decompress it first"),
    plain("Excel workbook", "x.csv", zipped("[Content_Types].xml"), "save the sheet as CSV UTF-8"),
    plain("UTF-16", "x.csv", (HEADER + GOOD_CSV).decode().encode("utf-16"), "iconv -f UTF-16"),
    plain("binary", "x.csv", bytes(range(256)) * 9, "is a binary file"),
    plain("pretty JSON", "x.json", json.dumps(GOOD[0], indent=1).encode(), "over several lines"),
    plain("missing column", "x.csv", b"id,body,labels\n1,t,[]\n",
          "no column 'text'; the columns found are 'id', 'body', 'labels'"),
    plain("no header", "x.csv", GOOD_CSV, "no columns 'id', 'text', 'labels'"),
    plain("column twice", "x.csv", b"id,text,text,labels\n1,t,u,[]\n", "stands 2 times"),
    plain("header not UTF-8", "x.csv", b"id,text,labels,\xe9\n1,t,[],\n", "header is not UTF-8"),
    plain("header's quote open", "x.csv", b'id,"text,labels\n1,t,[]\n', "header in line 1"),
    plain("mapped column absent", "x.csv", HEADER + GOOD_CSV, "data.columns.split: NAME",
          columns=SPLIT),
    plain("key that no object has", "x.jsonl", b'{"id": 1, "text": "t", "tags": []}\n',
          "did you mean 'tags'?"),
    plain("named parquet", "x.parquet", HEADER + GOOD_CSV, "does not start with PAR1"),
    plain("parquet said to be CSV", "x.csv", rows(), "set data.format: parquet", format="csv"),
    plain("parquet truncated", "x.parquet", rows()[:-30], "damaged or was cut off"),
    plain("parquet: labels a struct", "x.parquet", rows(labels=[{"a": 1}]), "is of type struct"),
    plain("parquet: labels numbers", "x.parquet", rows(labels=[[1]]), "a list of strings is"),
    plain("parquet: labels nested", "x.parquet", rows(labels=[[["x"]]]), "is of type list<"),
    plain("parquet: text numbers", "x.parquet", rows(text=[3]), "a string is expected for text"),
    plain("every row bad", "x.csv", HEADER + b",,\n,,\n", "not one is left", max_quarantined=1.0),
    plain("too many rows bad", "x.csv", HEADER + GOOD_CSV + b",t,[]\n",
          "1 of 7 rows (14.3%) are bad, more than data.max_quarantined allows (5.0%)"),
]  # fmt: skip


REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "data.md"


def documented_reasons():
    """Each reason of the reference as a pattern; … stands for anything."""
    table = REFERENCE.read_text().split("### Every reason")[1].split("\n## ")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]
    reasons = [reason for cell in cells for reason in re.findall("`([^`]+)`", cell)]
    return {reason: re.escape(reason).replace("…", ".*") for reason in reasons}


def put(folder, case):
    path = folder / case.file
    path.write_bytes(case.data)
    return path


def test_there_are_at_least_thirty_five_kinds():
    names = [case.name for case in QUARANTINED + REFUSED]
    assert len(set(names)) == len(names) >= 35


@pytest.fixture
def plainly(monkeypatch):
    """Rules judged in NumPy, for speed; that Great Expectations agrees is a test of its own."""
    monkeypatch.setattr(contract, "Validation", PlainValidation)


def outcome(folder, case):
    outputs = folder / "out"
    outputs.mkdir(exist_ok=True)
    try:
        done = ingest(put(folder, case), case.settings, outputs)
    except QuarantineError as refused:
        return pq.read_table(refused.quarantine), refused.account
    assert pq.read_table(done.accepted).num_rows == done.account.accepted
    return pq.read_table(done.quarantine), done.account


@pytest.mark.usefixtures("plainly")
@pytest.mark.parametrize("case", QUARANTINED, ids=str)
def test_bad_rows_are_quarantined_with_every_reason(tmp_path, case):
    quarantine, account = outcome(tmp_path, case)
    account.check()
    assert quarantine["position"].to_pylist() == list(case.positions)
    assert account.quarantined == len(case.positions)
    found = quarantine.to_pylist()
    assert {row["file"] for row in found} == {case.file}
    reasons = " / ".join(reason for row in found for reason in row["reasons"])
    for sentence in case.said:
        assert sentence in reasons
    assert all(row["raw"] for row in found)


@pytest.mark.usefixtures("plainly")
def test_the_reference_lists_exactly_the_reasons_that_exist(tmp_path):
    documented, met = documented_reasons(), set()
    for case in QUARANTINED:
        quarantine, _ = outcome(tmp_path, case)
        for reason in itertools.chain(*quarantine["reasons"].to_pylist()):
            found = {name for name, like in documented.items() if re.match(like, reason)}
            assert found, f"not in {REFERENCE.name}: {reason}"
            met |= found
    assert met == set(documented)


def test_great_expectations_agrees_on_every_bad_row(tmp_path):
    tables = [
        table for case in QUARANTINED for table in read_annotations(put(tmp_path, case),
                                                                    case.settings)
    ]  # fmt: skip
    now, outside = dt.datetime.now(dt.UTC), {3: ("a", "b")}
    frame = annotation_helpers(pa.concat_tables(tables), True, now, outside)
    suite = annotations_suite(100_000)
    findings = validate(frame, suite)
    assert findings == validate_plainly(frame, suite)
    critical = {rule.name for rule in suite.rules if rule.severity == "critical"}
    assert critical <= {finding.rule.name for finding in findings}


@pytest.mark.usefixtures("plainly")
@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_bad_files_are_refused_in_a_sentence(tmp_path, case):
    path = put(tmp_path, case)
    outputs = tmp_path / "out"
    outputs.mkdir()
    with pytest.raises(DataError) as caught:
        ingest(path, case.settings, outputs)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert case.said[0] in message
    left = {"quarantine.parquet", "skipped.parquet"}
    assert {entry.name for entry in outputs.iterdir()} == (
        left if isinstance(caught.value, QuarantineError) else set()
    )


def test_a_directory_and_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="is a directory without a file to read"):
        ingest(tmp_path, DataSettings(), tmp_path)
    with pytest.raises(DataError, match="no such file"):
        ingest(tmp_path / "absent.csv", DataSettings(), tmp_path)
