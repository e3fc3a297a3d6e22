"""Writes docs/reference/configuration.md from the configuration models themselves.

``python -m flows.reference`` prints the page; a test keeps the committed one in step.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.config import RetrainConfig
from flows.deployment import NotificationSettings, ScheduleSettings
from longtail.config import WatchSettings

_INTRODUCTION = """\
# Configuration

Made by `python -m flows.reference` from the models in `flows/config.py` and `longtail/config.py`.

A retrain takes one configuration. Give it as YAML (`--config FILE`), change single settings with
`--set KEY=VALUE` (such as `--set training.epochs=6`), or fill in the form of the deployment. An
unknown key or a value out of range is refused before anything runs.
"""

_WATCH = """\
# A watch

`longtail watch` and the deployment `watch` take `name`, `store`, `data` as above without a path,
and `watch`; see [the inbox](inbox.md)."""

_DEPLOYMENT = """\
# Settings of the deployments

A profile's section `deployment`, which a run does not read; see `deployments/README.md`. Its
`watch` is below.
"""

_TYPES = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def page() -> str:
    """The whole page, in Markdown."""
    lines = [_INTRODUCTION]
    _section("", RetrainConfig, lines)
    lines += [_DEPLOYMENT, ""]
    for key, section in (("schedule", ScheduleSettings), ("notifications", NotificationSettings)):
        _section(f"deployment.{key}", section, lines)
    lines += [_WATCH, ""]
    _section("watch", WatchSettings, lines)
    return "\n".join(lines).rstrip("\n") + "\n"


def _section(prefix: str, model: type[BaseModel], lines: list[str]) -> None:
    heading = f"## `{prefix}`" if prefix else "## Top level"
    about = inspect.cleandoc(model.__doc__ or "")
    lines += [heading, "", about, ""]
    lines += ["| key | default | values | meaning |", "| --- | --- | --- | --- |"]
    schemas = model.model_json_schema()["properties"]
    below: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        key = f"{prefix}.{name}" if prefix else name
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            below.append((key, nested))
            continue
        cells = (f"`{key}`", f"`{_default(field)}`", _values(schemas[name]), field.description)
        lines.append(f"| {' | '.join(_cell(cell or '') for cell in cells)} |")
    lines.append("")
    for key, nested in below:
        _section(key, nested, lines)


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    return json.dumps(value, default=str)


def _values(schema: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in words."""
    if "anyOf" in schema:
        return " or ".join(_values(one) for one in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        each = schema.get("prefixItems")
        length = f"{len(each)}: " if each else ""
        return f"list of {length}{_values(each[0] if each else schema['items'])}"
    if schema.get("type") == "object":
        below = schema["additionalProperties"]
        return "keys to values" if below is True else f"keys to {_values(below)}"
    bounds = [f"{sign} {schema[bound]:g}" for bound, sign in _BOUNDS.items() if bound in schema]
    return " ".join([_TYPES[schema["type"]], ", ".join(bounds)]).strip()


def _cell(text: str) -> str:
    """One cell of a Markdown table: a bar in it would end it, also between backticks."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
