"""What a run's page in the Prefect UI tells: a few artifacts in the field's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact


def publish_table(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """Show rows as a table; the key is lower case with dashes."""
    create_table_artifact(key=key, table=[dict(row) for row in rows], description=description)


def publish_markdown(key: str, markdown: str, description: str) -> None:
    """Show Markdown; the key is lower case with dashes."""
    create_markdown_artifact(key=key, markdown=markdown, description=description)


def percent(value: float | None) -> str:
    """A share as a percentage, a missing one as a dash."""
    return "–" if value is None else f"{value:.1%}"
