"""Append-only logs of JSON lines that survive a crash in the middle of a line."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail import storage
from longtail.errors import StoreError

LOOKS = "looks.jsonl"


@dataclass(frozen=True)
class Journal:
    """A file with one JSON object per line, in the order of events.

    Attributes:
        path: the file; it need not exist yet.
    """

    path: Path

    def entries(self) -> list[dict[str, Any]]:
        """All entries, oldest first; an unfinished last line (a crash while writing) is left out.

        Raises:
            StoreError: a finished line is not a JSON object.
        """
        return [self._parse(number, line) for number, line in enumerate(self._lines(), start=1)]

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry and flush it to the disk."""
        with self.locked():
            self._append(entry)

    def append_once(self, entry: Mapping[str, Any], key: tuple[str, ...]) -> None:
        """Add an entry unless one with the same values under ``key`` is there."""
        with self.locked():
            wanted = [entry[name] for name in key]
            if all([old.get(name) for name in key] != wanted for old in self.entries()):
                self._append(entry)

    def locked(self) -> AbstractContextManager[None]:
        """Hold the journal's own lock."""
        return storage.lock(self.path.with_name(f".{self.path.name}.lock"), timeout=60.0)

    def _append(self, entry: Mapping[str, Any]) -> None:
        self._drop_torn_line()
        line = json.dumps(storage.finite(entry), ensure_ascii=False, allow_nan=False)
        storage.append_line(self.path, line)

    def _lines(self) -> list[str]:
        if not self.path.is_file():
            return []
        text = storage.read_text(self.path)
        finished, _, _ = text.rpartition("\n")
        # Not splitlines(): a line separator of Unicode may stand inside a JSON string.
        return finished.split("\n") if finished else []

    def _drop_torn_line(self) -> None:
        if not self.path.is_file():
            return
        with self.path.open("r+b") as handle:
            content = handle.read()
            if content and not content.endswith(b"\n"):
                handle.truncate(content.rfind(b"\n") + 1)

    def _parse(self, number: int, line: str) -> dict[str, Any]:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise StoreError(
                f"{self.path}, line {number}: not JSON ({error}); restore the file from a backup"
            ) from error
        if not isinstance(entry, dict):
            raise StoreError(f"{self.path}, line {number}: expected a JSON object, found {line!r}")
        return entry


def record_look(
    model_store: Path, run_id: str, test_fingerprint: str, at: dt.datetime | None = None
) -> int:
    """Record that a run has looked at the test set, and count the looks so far.

    Args:
        model_store: directory of what persists of this model.
        run_id: the run that evaluates; a repeated task of one run counts once.
        test_fingerprint: of the test rows that were evaluated.
        at: when; now by default.

    Returns:
        How many evaluations of this model's test set there have been, this one included.
    """
    journal = Journal(model_store / LOOKS)
    when = (at or dt.datetime.now(dt.UTC)).isoformat(timespec="seconds")
    entry = {"at": when, "run_id": run_id, "test_fingerprint": test_fingerprint}
    journal.append_once(entry, key=("run_id", "test_fingerprint"))
    return len(journal.entries())
