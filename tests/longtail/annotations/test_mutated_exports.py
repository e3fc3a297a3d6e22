"""However an export is broken: rows or words, and every row is of exactly one kind."""

from __future__ import annotations

import copy
import json

import pyarrow as pa
import pytest
from export_case import (
    ARGILLA,
    ARGILLA_NESTED,
    DOCCANO,
    DOCCANO_CSV,
    EXPORTS,
    LABEL_STUDIO,
    LABEL_STUDIO_CSV,
    LABEL_STUDIO_MIN,
    PRODIGY,
    PRODIGY_TEACH,
    as_lines,
    as_parquet,
    as_zip,
    tool_of_name,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from reading_case import count_rows

OBJECTS = {
    "label-studio": LABEL_STUDIO, "label-studio-min": LABEL_STUDIO_MIN, "doccano": DOCCANO,
    "argilla": ARGILLA, "argilla-nested": ARGILLA_NESTED, "prodigy": PRODIGY,
    "prodigy-teach": PRODIGY_TEACH,
}  # fmt: skip
TEXT = st.text(st.characters(), max_size=6)  # with half characters, controls and NUL
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT
    | st.sampled_from(["2026-13-01", "accept", "submitted", '{"choices": [1]}', "[[", "a#b", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
COLUMNS = st.sampled_from(
    [{}, {"labels": "topic"}, {"id": "text"}, {"annotator": None}, {"annotated_at": "text"}]
)


def places(value, path=()):
    """Every place within a JSON value."""
    yield path
    if not isinstance(value, dict | list):
        return
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield from places(part, (*path, key))


def edited(value, path, how, new):
    """A copy with one place replaced, removed or renamed."""
    if not path:
        return new
    result = copy.deepcopy(value)
    parent = result
    for key in path[:-1]:
        parent = parent[key]
    if how == "remove":
        del parent[path[-1]]
    elif how == "rename" and isinstance(parent, dict) and isinstance(new, str):
        parent[new] = parent.pop(path[-1])
    else:
        parent[path[-1]] = new
    return result


@st.composite
def mutated_objects(draw, objects):
    items = list(objects)
    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.integers(0, len(items) - 1))
        path = draw(st.sampled_from(list(places(items[index]))))
        how = draw(st.sampled_from(["replace", "remove", "rename"]))
        items[index] = edited(items[index], path, how, draw(VALUES))
    return items


@st.composite
def mutated_bytes(draw, data):
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([0, 1, 2, 7, 40]))
        parts = st.binary(max_size=6) | st.sampled_from(
            [b'"', b"{", b"}", b"[", b"]", b",", b"\\", b"\n", b"\xff", b"\x00", b"#", data[:30]]
        )
        data = data[:start] + draw(parts) + data[start + length :]
    return data


def as_text(objects, array):
    """JSON as a careless program writes it: half characters stay, as escapes."""
    if array:
        return json.dumps(objects).encode()
    return "".join(json.dumps(item) + "\n" for item in objects).encode()


@pytest.mark.parametrize("kind", OBJECTS)
@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_edited_objects(kind, data):
    objects = data.draw(mutated_objects(OBJECTS[kind]))
    array = data.draw(st.booleans())
    named = data.draw(st.sampled_from(["auto", tool_of_name(kind)]))
    counts = count_rows(
        as_text(objects, array),
        format=named,
        columns=data.draw(COLUMNS),
        labels_required=data.draw(st.booleans()),
    )
    if counts is not None and tool_of_name(kind) in {"doccano", "prodigy"}:
        assert sum(counts.values()) == len(objects)
    elif counts is not None:
        assert sum(counts.values()) >= len(objects)


@pytest.mark.parametrize("name", [name for name in EXPORTS if not name.endswith(".parquet")])
@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_edited_bytes(name, data):
    broken = data.draw(mutated_bytes(EXPORTS[name]))
    named = data.draw(st.sampled_from(["auto", tool_of_name(name), "jsonl", "csv"]))
    count_rows(broken, name=data.draw(st.sampled_from([name, "x"])), format=named)


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_edited_members_of_an_archive(data):
    files = {
        "ann.jsonl": data.draw(mutated_bytes(as_lines(DOCCANO))),
        data.draw(TEXT) + ".csv": data.draw(mutated_bytes(DOCCANO_CSV.encode())),
        "all.json": as_text(data.draw(mutated_objects(DOCCANO)), array=True),
    }
    try:
        archive = as_zip(files)
    except (UnicodeEncodeError, ValueError):  # zipfile itself cannot write such a name
        return
    count_rows(archive)


@given(rows=st.lists(st.lists(TEXT, min_size=8, max_size=8), max_size=4), data=st.data())
@settings(max_examples=80, deadline=None)
def test_cells_of_anything(rows, data):
    lines = [LABEL_STUDIO_CSV.splitlines()[0], *(",".join(row) for row in rows)]
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    count_rows(text, labels_required=data.draw(st.booleans()))


@given(data=st.binary(max_size=60) | st.binary(max_size=30).map(lambda end: b"PK\x03\x04" + end))
@settings(max_examples=300, deadline=None)
@pytest.mark.parametrize("named", ["auto", "label-studio", "doccano", "argilla", "prodigy"])
def test_any_bytes(named, data):
    count_rows(data, format=named)


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_edited_records_as_parquet(data):
    try:
        content = as_parquet(data.draw(mutated_objects(ARGILLA)))
    except (pa.ArrowException, ValueError, TypeError, AttributeError, OverflowError):
        return  # no table has such columns
    count_rows(content, format=data.draw(st.sampled_from(["auto", "argilla"])))
