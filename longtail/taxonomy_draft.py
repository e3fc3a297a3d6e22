"""A first ``taxonomy.yaml``, made of the labels that an export has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from longtail.annotations.schema import MAX_LABEL_CHARACTERS
from longtail.errors import ConfigError

_HEAD = """\
# The labels of {source}, most frequent first. What else can be said of a label:
#   description: what it means
#   aliases: [names, that, it, had]
#   since: 2026-03-01    # annotations from before do not lack it, it is unknown there
#   until: 2026-06-30    # from then on it is left out
#   parents: [labels, that, it, implies]
labels:
"""


def draft(texts: Mapping[str, int], source: str) -> str:
    """The file's content.

    Args:
        texts: rows of the export that have each label.
        source: what the export is called.

    Raises:
        ConfigError: there is no label.
    """
    names = [name for name in texts if name == name.strip() and len(name) <= MAX_LABEL_CHARACTERS]
    named = sorted(filter(None, names), key=lambda name: (-texts[name], name))
    if not named:
        raise ConfigError(f"{source}: has no label that could stand in a taxonomy")
    lines = [f"  {_quoted(name)}:  # rows: {texts[name]:,}\n    description: ''\n"
             for name in named]  # fmt: skip
    return _HEAD.format(source=_one_line(source)) + "".join(lines)


def write_draft(path: Path, content: str) -> None:
    """Write the file, unless there is one.

    Raises:
        ConfigError: there is one, or it cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError as error:
        raise ConfigError(
            f"{path}: is there already and is not overwritten; name another file with --out"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error


def _quoted(name: str) -> str:
    """A name as YAML in quotes, whatever signs are in it."""
    text: str = yaml.safe_dump(name, default_style='"', allow_unicode=True, width=float("inf"))
    return text.strip()


def _one_line(text: str) -> str:
    return " ".join(text.split())
