import pytest

from longtail.control_file import join_description, parse_tags, read_paragraphs


def test_paragraphs_keep_continued_lines_and_only_the_named_fields():
    lines = ["Package: a\n", "Depends: x,\n", " y\n", "Tag: p::q,\n", " r::s\n", "\n", "\n"]
    lines += ["Package: b\r\n"]

    paragraphs = list(read_paragraphs(lines, {"Package", "Tag"}))

    assert paragraphs == [{"Package": "a", "Tag": "p::q,\n r::s"}, {"Package": "b"}]


def test_paragraphs_without_the_fields_and_stray_continuations_are_passed_over():
    lines = [" a line before any field", "", "Other: x", " more", "", "Package: a"]

    assert list(read_paragraphs(lines, {"Package"})) == [{"Package": "a"}]


def test_a_value_may_hold_colons():
    assert list(read_paragraphs(["Tag: a::b, c::d:e"], {"Tag"})) == [{"Tag": "a::b, c::d:e"}]


@pytest.mark.parametrize(
    ("field", "tags"),
    [
        ("", []),
        ("role::program", ["role::program"]),
        ("b::x, a::y,\n c::z", ["a::y", "b::x", "c::z"]),
        ("a::y, a::y", ["a::y"]),
        ("implemented-in::{c,c++}, role::program", None),
        ("implemented-in::{c, c++},role::program", None),
        ("role::TODO, devel::lang:TODO", []),
        ("made-of::{TODO,html}", ["made-of::html"]),
    ],
)
def test_tags(field, tags):
    shorthand = ["implemented-in::c", "implemented-in::c++", "role::program"]

    assert parse_tags(field) == (shorthand if tags is None else tags)


def test_description_joins_lines_and_keeps_paragraphs_and_lists():
    field = "short one\n Some long\n text:\n  * item\n  * other\n .\n The end."

    assert join_description(field) == "short one\n\nSome long text:\n* item\n* other\n\nThe end."


def test_description_may_be_short_only():
    assert join_description("short one") == "short one"
