"""One JSON array: streamed, and a damaged item costs that item."""

from __future__ import annotations

import io
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.annotations import json_array
from longtail.annotations.json_array import array_items
from longtail.errors import DataError


def read(data):
    return list(array_items(io.BytesIO(data), "x.json"))


def values(data):
    return [item.value for item in read(data)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("chunk", [1, 3, 1 << 16])
@given(items=st.lists(JSON, max_size=5), indent=st.none() | st.integers(0, 2), ascii_=st.booleans())
@settings(deadline=None, max_examples=60)
def test_any_array_is_read_as_json_reads_it(chunk, items, indent, ascii_):
    text = json.dumps(items, indent=indent, ensure_ascii=ascii_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "_CHUNK", chunk)
        found = read(text.encode("utf-8", "replace"))
    assert [item.position for item in found] == list(range(1, len(items) + 1))
    for item, expected in zip(found, items, strict=True):
        good = isinstance(expected, dict)
        assert (item.value is not None) == good == (item.why is None)
        if good:
            assert repr(json.loads(item.raw)) == repr(dict(item.value))


def test_byte_order_mark_white_space_and_a_comma_too_many():
    assert values(b'\xef\xbb\xbf \n[ {"a": 1} ,\r\n{"a": 2}, ] \n') == [{"a": 1}, {"a": 2}]
    assert values(b" [ ] ") == []


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (b'{"a" 1}', "not valid JSON"),
        (b'{"a": tru}', "not valid JSON"),
        (b"nonsense", "not valid JSON"),
        (b'{"a": "caf\xe9"}', "character 11 of the item is not UTF-8"),
        (b'"a, ] b"', "'a, ] b' was found, an object"),
        (b"12", "the number 12 was found"),
        (b"[1, [2]]", "a list ([1, [2]]) was found"),
        (b'{"a": ' + b"9" * 5000 + b"}", "more digits than can be read"),
        (b'{"a": ' + b"[" * 3000 + b"]" * 3000 + b"}", "nested too deeply"),
        (b'{"a": "\n"}', "not valid JSON"),
    ],
)
def test_a_damaged_item_costs_that_item(item, said):
    first, broken, last = read(b'[{"k": "\\"]"},' + item + b', {"k": 2}]')
    assert broken.value is None
    assert said in broken.why
    assert broken.raw.encode()
    assert (first.value, last.value) == ({"k": '"]'}, {"k": 2})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'[{"a": 1}', "cut off after item 1"),
        (b'[{"a": 1},', "cut off after item 1"),
        (b'[{"a": 1}, {"a": "x', "cut off after item 1"),
        (b"[", "cut off after item 0"),
        (b'[{"a": 1} {"a": 2}]', "after item 1 of the array '{' stands"),
        (b'[{"a": 1}][', "'[' stands after the end"),
        (b'{"a": 1}', "not a JSON array"),
        (b"", "not a JSON array"),
    ],
)
def test_a_damaged_array_is_refused(data, said):
    with pytest.raises(DataError) as caught:
        read(data)
    assert said in str(caught.value)


def test_a_number_may_be_cut_anywhere(monkeypatch):
    monkeypatch.setattr(json_array, "_CHUNK", 3)
    (item,) = read(b"[0.0]")
    assert "the number 0.0 was found" in item.why


def test_nan_is_read_as_python_writes_it():
    (item,) = read(b'[{"a": NaN, "b": -Infinity}]')
    assert item.why is None


@pytest.mark.parametrize("quote", [b'"', b"[", b'{"a":', b"9"])
def test_an_endless_item_is_passed_over(monkeypatch, quote):
    monkeypatch.setattr(json_array, "MAX_RECORD_BYTES", 1000)
    monkeypatch.setattr(json_array, "_CHUNK", 64)
    closing = {b'"': b'"', b"[": b"]", b'{"a":': b"}", b"9": b""}[quote]
    inner = {b'"': b'\\"[x', b"[": b'"]\\"",', b'{"a":': b'"}\\\\",', b"9": b"9999"}[quote]
    long = quote + inner * 5000 + closing
    first, broken, last = read(b'[{"k": 1},' + long + b', {"k": 2}]')
    assert "longer than" in broken.why
    assert len(broken.raw) < 11_000
    assert (first.value, last.value) == ({"k": 1}, {"k": 2})
    with pytest.raises(DataError, match="cut off after item 1"):
        read(b'[{"k": 1},' + long[: len(long) // 2])


def test_small_items_behind_a_large_one_are_looked_at_in_small_pieces(monkeypatch):
    longest = 0
    original = json_array._DECODER.raw_decode

    class Watched:
        def raw_decode(self, text, place):
            nonlocal longest
            longest = len(text) - place
            return original(text, place)

    monkeypatch.setattr(json_array, "_DECODER", Watched())
    monkeypatch.setattr(json_array, "_CHUNK", 16)
    found = read(b'[{"k": "' + b"x" * 3000 + b'"}' + b",{bad}" * 500 + b"]")
    assert sum(item.why is not None for item in found) == 500
    assert longest <= 16 * json_array._MOST_CHUNKS


class _Endless(io.RawIOBase):
    """An array of one task over and over again, never all of it in memory."""

    def __init__(self, item, n_items):
        self._item, self._left, self._rest = item + b",\n", n_items, b"["

    def readable(self):
        return True

    def readinto(self, buffer):
        while len(self._rest) < len(buffer) and self._left:
            self._rest += self._item * min(self._left, 100)
            self._left -= min(self._left, 100)
            if not self._left:
                self._rest = self._rest.rstrip(b",\n") + b"]"
        data, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


@pytest.mark.slow
def test_a_large_export_takes_little_memory():
    item = json.dumps({"id": 1, "data": {"text": "words " * 300}, "annotations": []}).encode()
    n_items = 32_000  # 60 MB
    tracemalloc.start()
    found = sum(item.why is None for item in array_items(_Endless(item, n_items), "x.json"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == n_items
    assert peak < 4 << 20
