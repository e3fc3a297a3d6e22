"""What a run directory holds for the report; only the verdict has to be there."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longtail import storage
from longtail.audit import AUDIT, AUDIT_FAILED
from longtail.errors import StoreError
from longtail.examples import EXAMPLES

PENDING = "pending.json"  # a verdict that waits for a person, until verdict.json is there
ARM_ORDER = ("linear", "bce", "matched", "candidate", "champion", "best_champion")
_EXAMPLES_PER_REASON = 3
_LONGEST_REASON = 300
# A quoted value, else one that was cut before its closing quote, else a number.
_VALUE = re.compile(
    r"""(?:\bb|(?<!\w))(?:'(?:[^'\\]|\\.)*'(?!\w)|"(?:[^"\\]|\\.)*"(?!\w)|['"].*…)|\d(?:[\d.,]*\d)?""",
    re.DOTALL,
)


@dataclass(frozen=True)
class Quarantine:
    """The rows set aside, without their content.

    Attributes:
        rows: how many.
        reasons: rows per reason, the row's own values left out; a row may have several.
        examples: up to three (file, 1-based row) per reason.
    """

    rows: int
    reasons: dict[str, int]
    examples: dict[str, list[tuple[str, int]]]


@dataclass(frozen=True)
class RunFiles:
    """The run's JSON files as plain structures; a missing one is an empty mapping.

    Attributes:
        directory: the run directory.
        date: when the run began, UTC; where no file says, when the verdict was written.
        waits: since when and until when a person is asked; empty for a verdict that stands.
        audit_failed: why there is no audit, as a sentence; empty where nothing went wrong.
        examples: a few explained suggestions, or why there are none.
    """

    directory: Path
    date: dt.datetime
    verdict: dict[str, Any]
    waits: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    account: dict[str, Any] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    quarantine: Quarantine | None = None
    audit: dict[str, Any] = field(default_factory=dict)
    audit_failed: str = ""
    examples: dict[str, Any] = field(default_factory=dict)

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms that were evaluated, in reading order."""
        present = list(part(self.metrics, "arms"))
        known = [arm for arm in ARM_ORDER if arm in present]
        return (*known, *(arm for arm in present if arm not in known))

    @property
    def name(self) -> str:
        """The model's name; the directory's where no file says."""
        for source in (self.metrics, self.config):
            if isinstance(source.get("name"), str) and source["name"]:
                return str(source["name"])
        return self.directory.resolve().name

    @property
    def id(self) -> str:
        """The run's id; empty where no file says."""
        return str(self.metrics.get("run") or "")

    def overall(self, arm: str, metric: str) -> float | None:
        """An overall test metric of an arm; None where it is missing or could not be computed."""
        return number(part(self.metrics, "arms", arm, "overall").get(metric))

    def per_label(self, arm: str, metric: str) -> list[float | None]:
        """A per-label metric of an arm in label order; empty where it is missing."""
        values = part(self.metrics, "arms", arm, "per_label").get(metric)
        return [number(value) for value in values] if isinstance(values, list) else []

    def labels(self) -> list[dict[str, Any]]:
        """The labels with group and support, in label order."""
        found = self.metrics.get("labels")
        return [entry for entry in found if isinstance(entry, dict)] if found else []


def load_run(directory: Path) -> RunFiles:
    """Read a run directory; where no verdict stands yet, with the one that waits for a person.

    Raises:
        StoreError: there is no verdict, or a file is damaged.
    """
    verdict_path = directory / "verdict.json"
    metrics = _mapping(directory / "metrics.json")
    waits: dict[str, Any] = {}
    if not verdict_path.is_file() and (directory / PENDING).is_file():
        verdict_path = directory / PENDING
        waits = _mapping(verdict_path)
    if not verdict_path.is_file():
        raise StoreError(
            f"{verdict_path}: not found, so this run never reached its verdict; a report needs "
            "the directory of a finished retrain"
        )
    verdict = part(waits, "verdict") if waits else _mapping(verdict_path)
    if verdict.get("decision") not in {"promote", "block"}:
        raise StoreError(
            f"{verdict_path}: 'decision' must be 'promote' or 'block', found "
            f"{verdict.get('decision')!r}"
        )
    written = dt.datetime.fromtimestamp(verdict_path.stat().st_mtime, dt.UTC)
    return RunFiles(
        directory=directory,
        date=_moment(metrics.get("started_at")) or written,
        verdict=verdict,
        waits=waits,
        metrics=metrics,
        config=_mapping(directory / "config.json"),
        account=_mapping(directory / "account.json"),
        statistics=_mapping(directory / "statistics.json"),
        quality=_mapping(directory / "splits" / "quality.json"),
        quarantine=_quarantine(directory / "quarantine.parquet"),
        audit=_mapping(directory / AUDIT),
        audit_failed=str(_mapping(directory / AUDIT_FAILED).get("reason") or ""),
        examples=_mapping(directory / EXAMPLES),
    )


def part(tree: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """A mapping inside nested mappings; empty where any step is missing or is no mapping."""
    found: Any = tree
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def number(value: Any) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) != float("inf") and value == value else None


def without_values(reason: str) -> str:
    """A reason without the values of its row: it can be counted, and it quotes nobody."""
    return _VALUE.sub("…", reason)[:_LONGEST_REASON]


def _mapping(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    value = storage.read_json(path)
    if not isinstance(value, dict):
        raise StoreError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _moment(value: Any) -> dt.datetime | None:
    try:
        moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.astimezone(dt.UTC) if moment else None


def _quarantine(path: Path) -> Quarantine | None:
    if not path.is_file():
        return None
    # The raw rows stay on the disk: this page is forwarded, and they are somebody's texts.
    table = storage.read_parquet(path, columns=["file", "position", "reasons"])
    counts: Counter[str] = Counter()
    examples: dict[str, list[tuple[str, int]]] = {}
    for file, position, reasons in zip(
        table["file"].to_pylist(),
        table["position"].to_pylist(),
        table["reasons"].to_pylist(),
        strict=True,
    ):
        for reason in dict.fromkeys(map(without_values, reasons or ["no reason recorded"])):
            counts[reason] += 1
            if len(examples.setdefault(reason, [])) < _EXAMPLES_PER_REASON:
                examples[reason].append((file, position))
    return Quarantine(table.num_rows, dict(counts.most_common()), examples)
