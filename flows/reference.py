"""Writes docs/reference/configuration.md from the configuration models themselves.

``python -m flows.reference`` prints the page; a test keeps the committed one in step.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.config import RetrainConfig

_INTRODUCTION = """\
# Configuration

Made by `python -m flows.reference` from the models in `flows/config.py` and `longtail/config.py`.

A retrain takes one configuration. Give it as YAML (`--config FILE`), change single settings with
`--set KEY=VALUE` (such as `--set training.epochs=6`), or fill in the form of the deployment. An
unknown key or a value out of range is refused before anything runs.
"""


def page() -> str:
    """The whole page, in Markdown."""
    lines = [_INTRODUCTION]
    _section("", RetrainConfig, lines)
    return "\n".join(lines) + "\n"


def _section(prefix: str, model: type[BaseModel], lines: list[str]) -> None:
    heading = f"## `{prefix}`" if prefix else "## Top level"
    summary = (model.__doc__ or "").strip().split("\n\n")[0]
    lines += [heading, "", summary, "", "| key | default | meaning |", "| --- | --- | --- |"]
    below: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        key = f"{prefix}.{name}" if prefix else name
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            below.append((key, nested))
            continue
        lines.append(f"| `{key}` | `{_default(field)}` | {_meaning(field)} |")
    lines.append("")
    for key, nested in below:
        _section(key, nested, lines)


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    return json.dumps(value, default=str)


def _meaning(field: FieldInfo) -> str:
    kind = str(field.annotation).replace("typing.", "").replace("<class '", "").replace("'>", "")
    choices = kind.replace("Literal", "one of ") if "Literal" in kind else ""
    text = field.description or ""
    return " ".join(part for part in (text, choices.replace("|", "or")) if part).strip()


if __name__ == "__main__":
    sys.stdout.write(page())
