"""A first taxonomy is one that can be read back, whatever the labels are called."""

from __future__ import annotations

import pytest

from longtail.errors import ConfigError
from longtail.taxonomy import load_taxonomy
from longtail.taxonomy_draft import draft, write_draft

NAMES = ["plain", "no", "1", "null", "a: b", "# not a comment", "it's", 'say "x"', "Straße",
         "日本", "\U0001f600", "a\tb", "\x7f\x85\ufeff", "\\", "- x", "{x}", "*x", "!x",
         "é" * 200]  # fmt: skip


def test_every_label_comes_back_as_it_was_the_most_frequent_first(tmp_path):
    path = tmp_path / "taxonomy.yaml"
    counts = {name: 1000 - place for place, name in enumerate(NAMES)}
    write_draft(path, draft(dict(reversed(counts.items())), "week\n48.csv"))
    assert list(load_taxonomy(path).labels) == NAMES
    assert '"plain":  # rows: 1,000' in path.read_text(encoding="utf-8")
    assert path.read_text(encoding="utf-8").startswith("# The labels of week 48.csv,")


def test_names_that_no_annotation_could_have_are_left_out():
    content = draft({"a": 1, " b ": 1, "": 1, "c" * 201: 1}, "x.csv")
    assert content.count("rows:") == 1


def test_without_a_label_there_is_no_taxonomy():
    with pytest.raises(ConfigError, match=r"x\.csv: has no label"):
        draft({}, "x.csv")


def test_a_file_that_is_there_stays(tmp_path):
    path = tmp_path / "taxonomy.yaml"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="is there already and is not overwritten"):
        write_draft(path, "new")
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_directory_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        write_draft(tmp_path / "absent" / "taxonomy.yaml", "new")
