"""What a run's page in the Prefect UI tells: a few artifacts in the field's words."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.handles import RunHandle

REPORTS_VARIABLE = "LONGTAIL_REPORTS_URL"


def artifact_key(run: RunHandle, what: str) -> str:
    """The key of an artifact: lower case and dashes, and one of its own for each model.

    The UI shows all artifacts of a key as one history, which of several models is nobody's.
    """
    return f"{run.name.replace('_', '-')}-{what}"


def publish_table(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """Show rows as a table under a key of :func:`artifact_key`."""
    create_table_artifact(key=key, table=[dict(row) for row in rows], description=description)


def publish_markdown(key: str, markdown: str, description: str) -> None:
    """Show Markdown under a key of :func:`artifact_key`."""
    create_markdown_artifact(key=key, markdown=markdown, description=description)


def link(run: RunHandle, path: Path) -> str:
    """Where a browser finds a file of a run.

    Below ``LONGTAIL_REPORTS_URL``, where something serves the store; else, and for what is
    outside of the store, the file on the machine that ran.
    """
    return _served(run, path) or path.resolve().as_uri()


def location(run: RunHandle, path: Path) -> str:
    """The same for a message: without a server, the path as a terminal takes it."""
    return _served(run, path) or str(path)


def percent(value: float | None) -> str:
    """A share as a percentage, a missing one as a dash."""
    return "–" if value is None else f"{value:.1%}"


def _served(run: RunHandle, path: Path) -> str | None:
    base, store = os.environ.get(REPORTS_VARIABLE), run.store.resolve()
    if not base or not path.resolve().is_relative_to(store):
        return None
    return f"{base.rstrip('/')}/{quote(path.resolve().relative_to(store).as_posix())}"
