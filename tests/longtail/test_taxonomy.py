"""The taxonomy file: what it may say, how mistakes in it are told, and what it changes."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest

from longtail.errors import ConfigError
from longtail.taxonomy import Taxonomy, load_taxonomy
from longtail.taxonomy_check import Kind
from longtail.yaml_files import parse_yaml

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "data_contracts" / "taxonomy.example.yaml"
PAGE = ROOT / "docs" / "reference" / "taxonomy.md"
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
JULY = datetime(2026, 7, 1, tzinfo=UTC)


@pytest.fixture
def load(tmp_path):
    def written(text):
        path = tmp_path / "taxonomy.yaml"
        path.write_text(text, encoding="utf-8")
        return load_taxonomy(path)

    return written


def taxonomy(**labels):
    return Taxonomy.model_validate({"labels": labels})


def rows(*labels):
    return pa.table({"id": [str(n) for n in range(len(labels))],
                     "labels": pa.array(labels, pa.list_(pa.string()))})  # fmt: skip


# ── what a file says ─────────────────────────────────────────────────────────────────────────


def test_the_example_says_what_it_seems_to():
    example = load_taxonomy(EXAMPLE)
    assert list(example.labels) == ["billing", "refund", "sign-in", "passkey", "fax"]
    assert example.canonical["login"] == "sign-in"
    assert example.ancestors == {"refund": ("billing",), "passkey": ("sign-in",)}
    assert example.since(["passkey", "billing", "not there"]) == (MARCH, None, None)
    assert example.retired(JULY) == {"fax"}
    assert example.retired(MARCH) == frozenset()


def test_the_page_on_taxonomies_shows_the_example_and_every_finding():
    page = PAGE.read_text(encoding="utf-8")
    shown = parse_yaml(page.split("```yaml")[1].split("```")[0], origin="page")
    assert Taxonomy.model_validate(shown).fingerprint == load_taxonomy(EXAMPLE).fingerprint
    assert all(f"| `{kind}` |" in page for kind in get_args(Kind))


@pytest.mark.parametrize(
    "date",
    ["2026-03-01", "'2026-03-01'", "2026-03-01T00:00:00Z", "2026-03-01 01:00:00+01:00",
     "2026-03-01T00:00:00"],
)  # fmt: skip
def test_a_date_is_a_moment_in_utc(load, date):
    assert load(f"labels: {{a: {{since: {date}}}}}").since(["a"]) == (MARCH,)


def test_a_label_of_which_nothing_is_said_is_a_label(load):
    found = load("labels:\n  a:\n  b: {}\n")
    assert list(found.labels) == ["a", "b"]


def test_words_that_yaml_of_old_took_for_booleans_are_labels(load):
    assert list(load("labels: {on: , off: , 'yes': }").labels) == ["on", "off", "yes"]


def test_a_label_ends_at_its_until_to_the_microsecond():
    one = taxonomy(a={"until": "2026-03-01T00:00:00Z"})
    assert one.retired(MARCH) == {"a"}
    assert one.retired(datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=UTC)) == frozenset()
    assert one.retired(datetime(2026, 3, 1)) == {"a"}  # noqa: DTZ001 - without a zone it is UTC


def test_what_is_implied_is_followed_to_the_top():
    found = taxonomy(a={"parents": ["b", "d"]}, b={"parents": ["c"]}, c={}, d={"parents": ["c"]})
    assert found.ancestors == {"a": ("b", "c", "d"), "b": ("c",), "d": ("c",)}


def test_a_chain_of_a_thousand_parents_is_followed():
    names = [f"n{n:04}" for n in range(1000)]
    links = {name: {"parents": [above]} for name, above in pairwise(names)}
    assert len(taxonomy(**links, n0999={}).ancestors["n0000"]) == 999


def test_the_fingerprint_is_of_the_content_alone():
    one = taxonomy(a={"aliases": ["x", "y"]}, b={"since": "2026-03-01"})
    other = taxonomy(b={"since": "2026-03-01T00:00:00Z"}, a={"aliases": ["y", "x"]})
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != taxonomy(a={"aliases": ["x", "y"]}, b={}).fingerprint


# ── mistakes ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a section 'labels'"),
        ("- a", "expected a section 'labels'"),
        ("labels: {}", "labels: .* at least 1 item"),
        ("labels: [a]", "labels: .* valid dictionary"),
        ("labels: {a: }\nlables: {}", "lables: no such key; there are labels"),
        ("labels: {a: {alias: b}}", "label 'a': alias: no such key; there are description, alias"),
        ("labels: {a: {aliases: b}}", "label 'a': aliases: .* valid tuple, found 'b'"),
        ("labels: {a: text}", "label 'a': .*found 'text'"),
        ("labels: {1: }", "label '1': 1 is no text for YAML; put the name in quotes"),
        ("labels: {a: {parents: [2]}}", "label 'a': parents: 2 is no text for YAML"),
        ("labels: {' a': }", "white space around it"),
        ("labels: {'': }", "'' is empty"),
        (f"labels: {{{'x' * 201}: }}", "longer than 200 characters"),
        ("labels: {a: {since: soon}}", "label 'a': since: 'soon' is not a date; write ISO 8601"),
        ("labels: {a: {since: ''}}", "label 'a': since: nothing was found"),
        ("labels: {a: {since: 2026}}", "label 'a': since: the number 2026 .* a date is expected"),
        ("labels: {a: {since: 0001-01-01T00:00:00+10:00}}", "label 'a': since: "),
        ("labels: {a: {since: 2026-03-02, until: 2026-03-01}}",
         "label 'a': until 2026-03-01 is not after since 2026-03-02"),
        ("labels: {a: {aliases: [b]}, b: }", "label 'a': its alias 'b' is a label itself"),
        ("labels: {a: {aliases: [a]}}", "label 'a': its alias 'a' is a label itself"),
        ("labels: {a: {aliases: [x]}, b: {aliases: [x]}}",
         "label 'b': its alias 'x' is also one of 'a'"),
        ("labels: {a: {parents: [c]}}", "label 'a': its parent 'c' is no label here"),
        ("labels: {a: {parents: [x]}, b: {aliases: [x]}}", "but an alias of 'b'"),
        ("labels: {a: {parents: [a]}}", "label 'a': it is its own parent, by way of a → a"),
        ("labels: {x: {parents: [a]}, a: {parents: [b]}, b: {parents: [c]}, c: {parents: [a]}}",
         "label 'a': it is its own parent, by way of a → b → c → a"),
        ("labels: {a: {}, a: {}}", "'a' stands twice"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_and_label(load, text, said):
    with pytest.raises(ConfigError, match=said) as raised:
        load(text)
    assert "taxonomy.yaml: " in str(raised.value)
    assert "pydantic" not in str(raised.value)


def test_all_mistakes_are_told_at_once_but_not_a_thousand(load):
    with pytest.raises(ConfigError, match="and 90 more") as raised:
        load("labels:\n" + "".join(f"  l{n}: {{parents: [p{n}]}}\n" for n in range(100)))
    assert str(raised.value).count("is no label here") == 10


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        load_taxonomy(tmp_path / "absent.yaml")


# ── what it changes ──────────────────────────────────────────────────────────────────────────


def test_a_view_leaves_the_stored_names_as_they_are():
    stored = rows(["login"], ["fax"], ["passkey", "refund"], None)
    viewed = load_taxonomy(EXAMPLE).apply(stored, as_of=JULY, add_parents=True)
    assert viewed.table["labels"].to_pylist() == [
        ["sign-in"], [], ["billing", "passkey", "refund", "sign-in"], None
    ]  # fmt: skip
    assert stored["labels"].to_pylist()[0] == ["login"]
    assert viewed.table.schema == stored.schema
    assert viewed.to_json() == {
        "renamed": {"login": 1}, "retired": {"fax": 1}, "emptied": 1,
        "added": {"billing": 1, "sign-in": 1},
    }  # fmt: skip


def test_parents_are_added_only_where_that_is_asked_for():
    viewed = load_taxonomy(EXAMPLE).apply(rows(["refund"]), as_of=MARCH, add_parents=False)
    assert viewed.table["labels"].to_pylist() == [["refund"]]


def test_rows_with_names_that_it_does_not_know_are_found_across_chunks():
    example = load_taxonomy(EXAMPLE)
    one, other = rows(["billing"], ["tax", "login", "vat"]), rows(None, [], ["sso"])
    column = pa.concat_tables([one, other])["labels"]
    assert example.rows_with_unknown(column) == [(1, ("tax", "vat")), (4, ("sso",))]
    assert "log-in" in example.canonical
    assert "tax" not in example.canonical
