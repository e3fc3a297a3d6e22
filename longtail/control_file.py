"""Debian's control files: paragraphs of fields, descriptions and debtags (Debian Policy, §5)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator


def read_paragraphs(lines: Iterable[str], fields: Collection[str]) -> Iterator[dict[str, str]]:
    """Read the paragraphs of a control file one by one, the named fields only.

    A field goes on in the lines that begin with a blank; they are kept with their line breaks.
    A paragraph that has none of the fields is passed over.
    """
    paragraph: dict[str, str] = {}
    name = ""
    for line in itertools.chain(lines, [""]):
        text = line.rstrip("\r\n")
        if text[:1] in (" ", "\t"):
            if name:
                paragraph[name] += "\n" + text
        elif text.strip():
            name, _, value = text.partition(":")
            name = name if name in fields else ""
            if name:
                paragraph[name] = value.strip()
        else:
            name = ""
            if paragraph:
                yield paragraph
            paragraph = {}


def parse_tags(field: str) -> list[str]:
    """Sorted tags of a ``Tag`` field; ``implemented-in::{c,c++}`` stands for two tags.

    Tags that end in ``:TODO`` are notes between taggers that the vocabulary lacks a word: they say
    nothing of the package and are left out.
    """
    tags: set[str] = set()
    for item in re.findall(r"(?:[^,{\s]|\{[^}]*\})+", field):
        prefix, brace, rest = item.partition("{")
        tags.update(prefix + tail.strip() for tail in rest.rstrip("}").split(",") if tail.strip())
        if not brace:
            tags.add(item)
    return sorted(tag for tag in tags if not tag.endswith(":TODO"))


def join_description(field: str) -> str:
    """A description as plain text: short, empty line, long; paragraphs and lists on their lines."""
    short, *lines = field.split("\n")
    text = ""
    for line in lines:
        content = line.strip()
        if content == ".":
            text += "\n\n"
        elif line[1:2] in (" ", "\t") and text:  # indented: a list item, shown as it is
            text += "\n" + content
        else:
            text += " " + content if text and not text.endswith("\n") else content
    return f"{short.strip()}\n\n{text.strip()}".strip()
