"""CSV: one damaged row costs that row and no other."""

from __future__ import annotations

import io

import pytest

from longtail.annotations import csv_reader
from longtail.annotations.csv_reader import csv_records
from longtail.errors import DataError

WANTED = {"id": "id", "text": "text", "labels": "labels"}
HEADER = b"id,text,labels\n"


def read(data, wanted=WANTED):
    return list(csv_records(io.BytesIO(data), "x.csv", wanted))


def ids(records):
    return [record.values["id"] if record.values else None for record in records]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_mark(end, bom):
    data = bom + end.join([b"id,text,labels", b'1,"a, ""b""",[]', b"2,c,[]"]) + end
    records = read(data)
    assert [record.position for record in records] == [1, 2]
    assert records[0].values == {"id": "1", "text": 'a, "b"', "labels": "[]"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_in_the_header(delimiter):
    data = "\n".join(delimiter.join(row) for row in (["labels", " id ", "text"], ["[]", "1", "a"]))
    assert read(data.encode())[0].values == {"labels": "[]", "id": "1", "text": "a"}


def test_line_breaks_within_quotes_belong_to_the_text():
    records = read(HEADER + b'1,"a\nb\r\n\nc",[]\n2,d,[]\n')
    assert records[0].values["text"] == "a\nb\r\n\nc"
    assert ids(records) == ["1", "2"]


def test_a_quote_never_closed_costs_one_row():
    records = read(HEADER + b'1,a,[]\n2,"open,[]\n3,c,[]\n4,d,[]\n')
    assert ids(records) == ["1", None, "3", "4"]
    assert "the quote opened in line 3 is never closed" in records[1].problems[0]
    assert records[1].raw == '2,"open,[]'


def test_a_quote_that_meets_another_rows_quotes_costs_one_row():
    records = read(HEADER + b'1,"open,[]\n2,b,[]\n3,"c",[]\n4,d,[]\n')
    assert ids(records) == [None, "2", "3", "4"]
    assert "lines 2 to 4 cannot be read as CSV" in records[0].problems[0]


def test_two_stray_quotes_do_not_swallow_the_rows_between_them():
    inner = b"".join(b"%d,text,[]\n" % n for n in range(2, 9))
    records = read(HEADER + b'1,"open,[]\n' + inner + b'9,close",[]\n10,z,[]\n')
    assert ids(records)[1:8] == [str(n) for n in range(2, 9)]
    assert ids(records)[-1] == "10"
    assert "never closed" in records[0].problems[0]


def test_bytes_that_are_not_utf8_cost_their_row():
    records = read(HEADER + b"1,caf\xe9,[]\n2,caf\xc3\xa9,[]\n")
    assert ids(records) == [None, "2"]
    assert records[0].raw == "1,caf\\xe9,[]"
    assert "line 2 is not UTF-8" in records[0].problems[0]
    assert records[1].values["text"] == "café"


@pytest.mark.parametrize(("row", "count"), [(b"1,a,b,[]\n", 4), (b"1,a\n", 2)])
def test_a_wrong_number_of_fields(row, count):
    records = read(HEADER + row + b"2,b,[]\n")
    assert ids(records) == [None, "2"]
    assert f"line 2 has {count} fields, the header has 3" in records[0].problems[0]


def test_blank_lines_are_no_rows_and_fields_may_be_huge():
    text = b"x" * 300_000
    records = read(b"\n" + HEADER + b"\n1," + text + b",[]\n\n")
    assert [record.position for record in records] == [1]
    assert len(records[0].values["text"]) == 300_000


def test_a_missing_column_is_named_with_a_guess():
    with pytest.raises(DataError, match=r"no column 'labels'.*'id', 'text', 'Tags'.*did you mean"):
        read(b"id,text,Tags\n1,a,[]\n")


def test_a_column_that_stands_twice():
    with pytest.raises(DataError, match="'text' stands 2 times"):
        read(b"id,text,text,labels\n1,a,b,[]\n")


@pytest.mark.parametrize(
    ("header", "said"),
    [(b'id,"text,labels\n1,a,[]\n', "header"), (b"id,text,labels,caf\xe9\n", "not UTF-8")],
)
def test_a_header_that_cannot_be_read(header, said):
    with pytest.raises(DataError, match=said):
        read(header)


def test_an_endless_line_is_passed_over(monkeypatch):
    monkeypatch.setattr(csv_reader, "MAX_RECORD_BYTES", 100)
    monkeypatch.setattr(csv_reader, "_SKIPPED", 7)
    records = read(HEADER + b"1,a,[]\n2," + b"x" * 500 + b",[]\n3,c,[]\n4," + b"y" * 500)
    assert ids(records) == ["1", None, "3", None]
    assert all("the line is longer than" in records[n].problems[0] for n in (1, 3))


def test_an_endless_row_costs_its_first_line(monkeypatch):
    monkeypatch.setattr(csv_reader, "MAX_RECORD_BYTES", 100)
    inner = b"text and more\n" * 20
    records = read(HEADER + b'1,"open\n' + inner + b"2,b,[]\n")
    assert "the quote opened in line 2 is never closed" in records[0].problems[0]
    assert len(records) == 22
    assert ids(records)[-1] == "2"


def test_an_endless_line_within_an_open_quote_does_not_hide_it(monkeypatch):
    monkeypatch.setattr(csv_reader, "MAX_RECORD_BYTES", 100)
    records = read(HEADER + b'1,"open\n' + b"x" * 500 + b"\n2,b,[]\n")
    assert ids(records) == [None, None, "2"]
    assert "never closed" in records[0].problems[0]
    assert "longer than" in records[1].problems[0]


@pytest.mark.parametrize("data", [b"id,text,labels" + b"x" * 200 + b"\n", b'"id\n' + b"x\n" * 90])
def test_an_endless_header_is_refused(monkeypatch, data):
    monkeypatch.setattr(csv_reader, "MAX_RECORD_BYTES", 100)
    with pytest.raises(DataError, match="header"):
        read(data)


def test_quotes_made_to_be_read_again_and_again_take_linear_time(monkeypatch):
    monkeypatch.setattr(csv_reader, "_FREE_GIVEN_BACK", 0)
    lines = 0
    original = csv_reader._Lines.__next__

    def counted(self):
        nonlocal lines
        lines += 1
        return original(self)

    monkeypatch.setattr(csv_reader._Lines, "__next__", counted)
    n_lines = 2_000
    records = read(HEADER + b'a","\n' * n_lines)
    assert len(records) == n_lines
    assert lines < 20 * n_lines
