"""JSON Lines: one object per line, any line may be broken."""

from __future__ import annotations

import io

import pytest

from longtail.annotations import objects
from longtail.annotations.jsonl_reader import jsonl_records
from longtail.errors import DataError

WANTED = {"id": "id", "text": "text", "labels": "labels"}
GOOD = b'{"id": "g", "text": "t", "labels": []}\n'


def read(data, wanted=WANTED):
    return list(jsonl_records(io.BytesIO(data), "x.jsonl", wanted))


def test_positions_are_line_numbers_and_blank_lines_are_passed_over():
    records = read(b"\xef\xbb\xbf" + GOOD + b"\r\n\n" + GOOD.replace(b"\n", b"\r\n"))
    assert [record.position for record in records] == [1, 4]
    assert records[0].raw == GOOD.decode().strip()


def test_unicode_line_separators_do_not_end_a_line():
    records = read('{"id": "a", "text": "x\u2028y\x85z", "labels": []}\n'.encode())
    assert records[0].values["text"] == "x\u2028y\x85z"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"id": 1,', "not valid JSON"),
        (b'{"id": "caf\xe9"}', "byte 12 of the line is not UTF-8 (0xe9)"),
        pytest.param(b"[" * 100_000, "nested too deeply", id="deep list"),
        pytest.param(b'{"a":' * 100_000, "nested too deeply", id="deep object"),
        (b"null", "null was found, an object"),
        (b'"text"', "'text' was found"),
        (b"[1, 2]", "a list ([1, 2]) was found"),
        pytest.param(b'{"id": ' + b"9" * 5000 + b"}", "more digits than can be read", id="digits"),
        (b'{"a": 1} {"b": 2}', "not valid JSON (Extra data"),
        (b"\x00\x01", "not valid JSON"),
    ],
)
def test_a_broken_line_costs_that_line(line, said):
    first, broken, last = read(GOOD + line + b"\n" + GOOD)
    assert broken.values is None
    assert said in broken.problems[0]
    assert broken.problems[0].startswith("row: ")
    assert broken.raw.encode()
    assert first.values == last.values


def test_a_key_that_stands_twice_is_a_problem_of_its_field_alone():
    line = b'{"id": "a", "text": "t", "labels": ["a"], "labels": ["b"], "note": 1, "note": 2}\n'
    (record,) = read(line)
    assert record.problems == (
        "labels: the key 'labels' stands more than once in the object; keep one",
    )


def test_one_object_over_several_lines_is_not_json_lines():
    with pytest.raises(DataError, match=r"not JSON Lines.*jq -c"):
        read(b'{\n"id": 1\n}')


def test_a_key_that_no_object_has_refuses_the_file():
    with pytest.raises(DataError, match=r"no column 'labels'.*data.columns.labels: tags"):
        read(b'{"id": 1, "text": "a", "tags": []}\nnot json\n')


def test_nothing_but_blank_lines_yields_nothing():
    assert read(b"\n \n") == []


def test_an_endless_line_is_passed_over(monkeypatch):
    monkeypatch.setattr(objects, "MAX_RECORD_BYTES", 100)
    monkeypatch.setattr(objects, "_SKIPPED_BYTES", 7)
    long = b'{"id": "' + b"x" * 1000 + b'"}\n'
    first, broken, last = read(GOOD + long + GOOD)
    assert "the line is longer than" in broken.problems[0]
    assert (first.values, [first.position, last.position]) == (last.values, [1, 3])
    assert read(GOOD + long.strip())[1].problems == broken.problems
    fits = b'{"id": "' + b"y" * (100 - 11) + b'"}\n'
    assert len(fits) == 100
    assert read(GOOD + fits)[1].values is not None


def test_objects_that_were_peeked_at_are_read_once(monkeypatch):
    monkeypatch.setattr(objects, "_PEEK_OBJECTS", 2)
    assert [record.position for record in read(GOOD * 5)] == [1, 2, 3, 4, 5]
