"""YAML is read in one place: what it gives, and what it refuses with the line."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from longtail.errors import ConfigError
from longtail.yaml_files import MAX_BYTES, MAX_DEPTH, parse_yaml, read_yaml


def parsed(text):
    return parse_yaml(text, origin="a.yaml")


def refused(text):
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert str(caught.value).startswith("a.yaml: ")
    return str(caught.value)


def test_plain_data_with_the_booleans_of_yaml_12():
    text = "a: [1, 2.5, off, no, on, true, ~]\nb: {c: 'x', d: 2026-11-22}\n"
    found = parsed(text)
    assert found["a"] == [1, 2.5, "off", "no", "on", True, None]
    assert found["b"]["d"].isoformat() == "2026-11-22"


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_nothing_is_none(text):
    assert parsed(text) is None


def test_a_key_that_stands_twice_is_named_with_both_lines():
    said = refused("a: 1\nb:\n  c: 1\n  d: 2\n  'c': 3\n")
    assert "line 5: 'c' stands twice, first in line 3" in said


@pytest.mark.parametrize("text", ["1: a\n0x1: b\n", "{a: 1, a: 1}", "a: 1\n? a\n: 2\n",
                                  "b: &b {x: 1}\nc:\n  <<: *b\n  <<: *b\n"])  # fmt: skip
def test_the_same_key_in_other_spellings(text):
    assert "stands twice" in refused(text)


def test_merged_keys_may_be_overridden():
    text = "a: &a {x: 1, y: 1}\nb: &b\n  <<: *a\n  y: 2\nc:\n  <<: *b\n  x: 3\n"
    assert parsed(text)["c"] == {"x": 3, "y": 2}


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: 1\nb: [1\n", 3), ("a: 1\n\tb: 2", 2), ("a: !!python/object/apply:os.getcwd []", 1),
     ("a: 1\n--- \nb: 2", 2), ("a: 1\nb: 2026-13-45", 2), ("a: !!int x", 1), ("a: !!bool x", 1),
     ("a: !!timestamp x", 1), ("a: !!int ''", 1), ("a: 1\n[1]: 2", 2), ("a: *b", 1),
     ("!!pairs a: 1", 1),
     ("a:\n  b: !!float x", 2), ("a: =", 1), ("\n\nx: !tag y", 3), (f"a: {'9' * 5000}", 1)],
)  # fmt: skip
def test_what_is_not_such_yaml_is_refused_with_its_line(text, line):
    assert f"line {line}: " in refused(text)


def test_characters_that_yaml_does_not_allow():
    assert "not YAML" in refused("a: \x00")
    assert "not YAML" in refused("a: \ud800")


def bomb(link, levels=60):
    lines = ["l0: &l0 {k: v}"]
    lines += [f"l{i}: &l{i} {link.replace('*', f'*l{i - 1}')}" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize("link", ["[*, *, *]", "{a: *, b: *}", "{<<: [*, *]}"])
def test_a_billion_laughs_are_counted_not_built(link):
    started = time.perf_counter()
    assert "more than 500000 values, aliases written out" in refused(bomb(link))
    assert time.perf_counter() - started < 5


def test_an_alias_of_what_it_stands_in_is_refused():
    assert "*a stands for nothing before it" in refused("a: &a [1, *a]")


def test_an_alias_may_be_used():
    assert parsed("a: &a [1, 2]\nb: *a\n") == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_nesting_has_an_end(depth):
    assert "levels deep" in refused("[" * depth + "]" * depth)
    assert parsed("[" * MAX_DEPTH + "]" * MAX_DEPTH)


def test_files(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: \xc3\xa4\n")
    assert read_yaml(file) == read_yaml(str(file)) == {"a": "ä"}
    file.write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match=r"a\.yaml: not YAML \(not UTF-8 at byte 3\)"):
        read_yaml(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path)
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml("a\x00b")


@pytest.mark.parametrize("unit", [b"#", "ä".encode()])
def test_a_file_too_long_is_not_read_to_its_end(tmp_path, unit):
    file = tmp_path / "long.yaml"
    file.write_bytes(b"#" + unit * (MAX_BYTES // len(unit) + 1))
    with pytest.raises(ConfigError, match="more than 4 MiB"):
        read_yaml(file)


WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=9)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner),
    max_leaves=12,
)


@given(PLAIN)
def test_what_was_dumped_is_read_back(value):
    assert parsed(yaml.safe_dump(value, allow_unicode=True)) == value


@given(st.text(alphabet=":-[]{}&*!|>'\"%@`#?<,= \n\tab1é\x00\ud800~.", max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        parsed(text)
    except ConfigError as error:
        said = str(error)
    else:
        said = "a.yaml: "
    assert said.startswith("a.yaml: ")
