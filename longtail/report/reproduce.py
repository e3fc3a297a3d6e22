"""How to get this run again: fingerprints, versions and the configuration."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
from collections.abc import Iterator, Mapping
from typing import Any

import longtail
from longtail.report.files import RunFiles, part
from longtail.report.table import Cell, Table, table

_PACKAGES = ("torch", "transformers", "scikit-learn", "numpy", "pandas", "pyarrow", "scipy")
_HEXADECIMAL = re.compile("[0-9a-f]{16,}")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def configuration(run: RunFiles) -> str:
    """The configuration as JSON, without the user and password of any URL."""
    if not run.config:
        return ""
    return _CREDENTIALS.sub("", json.dumps(run.config, indent=2, ensure_ascii=False))


def fingerprints(run: RunFiles) -> Table | None:
    """Everything in the run's files that identifies data, splits or models."""
    sources = {
        "Test set": part(run.metrics, "test"),
        "Account": run.account,
        "Statistics": run.statistics,
        "Split": run.quality,
        "Decisions on the test set": part(run.verdict, "arms"),
    }
    rows: list[list[str | Cell]] = [
        [f"{name}{', ' + path if path else ''}", Cell(value, "code")]
        for name, tree in sources.items()
        for path, value in _found(tree)
    ]
    caption = "Fingerprints: equal ones mean equal content."
    return table(caption, ["Of", "Fingerprint"], rows, names=2) if rows else None


def _found(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        name = key.replace("_", " ").replace("fingerprint", "").strip()
        below = ", ".join(step for step in (path, name) if step)
        if isinstance(value, Mapping):
            yield from _found(value, below)
        elif isinstance(value, str) and _HEXADECIMAL.fullmatch(value):
            yield below, value


def versions() -> Table:
    """Versions of what wrote this page."""
    rows: list[list[str | Cell]] = [
        ["longtail", longtail.__version__],
        ["Python", platform.python_version()],
    ]
    for package in _PACKAGES:
        try:
            rows.append([package, importlib.metadata.version(package)])
        except importlib.metadata.PackageNotFoundError:
            rows.append([package, "not installed"])
    return table("Versions.", ["Package", "Version"], rows, names=2)
