"""What stages of a run have made, kept under what it was made of.

    ROOT/STAGE/KEY/…              the stage's files
                   manifest.json  written last: when, by which run, size and SHA-256 of each file

The key is the fingerprint of the stage's inputs, its settings and the code that it runs
(:mod:`longtail.code_fingerprint`), so an entry is never out of date; it may only be unused. Files
are hard links where the file system has them, for both sides replace files and never write into
them.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from longtail import storage
from longtail.errors import StoreError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One stage's result in the cache.

    Attributes:
        stage: its name.
        key: fingerprint of what it was made of.
        run: the run that made it.
        made_at: when, ISO 8601 in UTC.
        used_at: when it was last made or found, seconds since the epoch.
        size: bytes.
        directory: where it is.
    """

    stage: str
    key: str
    run: str
    made_at: str
    used_at: float
    size: int
    directory: Path


class StageCache:
    """Results of stages on disk, bounded, shared by runs and processes, safe against a kill.

    Args:
        directory: where to keep them; created when needed.
        max_bytes: bound on the disk; the results that were used least recently go first.
    """

    def __init__(self, directory: str | Path, *, max_bytes: int = 20 << 30) -> None:
        self.directory = Path(directory)
        self.max_bytes = max_bytes

    def take(self, stage: str, key: str, into: Path) -> Entry | None:
        """Put a stage's files into a directory, if they are here and whole.

        Args:
            stage: its name.
            key: what it is made of.
            into: directory of the run; files of the same names are replaced, others stay.

        Returns:
            The entry, None where there is none. A damaged one is thrown away.
        """
        directory = self.directory / stage / key
        try:
            manifest = storage.verify_directory(directory)
            for name in manifest["files"]:
                _place(directory / name, into / name)
            os.utime(directory / storage.MANIFEST)
        except (StoreError, FileNotFoundError) as error:  # another process may be trimming
            if directory.exists():
                logger.warning("A cached result cannot be used and is made anew: %s", error)
                shutil.rmtree(directory, ignore_errors=True)
            return None
        return _entry(directory, manifest)

    def keep(self, stage: str, key: str, source: Path, *, run: str) -> None:
        """Keep all files of a directory as the result of a stage."""
        if not self.max_bytes:
            return
        about = {"run": run, "made_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds")}
        with storage.committed_directory(self.directory / stage / key, about) as staging:
            for path in sorted(source.rglob("*")):
                if path.is_file():
                    _place(path, staging / path.relative_to(source))
        self.trim()

    def entries(self) -> list[Entry]:
        """Everything that is kept, the least recently used first."""
        return sorted(self._found(), key=lambda entry: entry.used_at)

    def trim(self) -> list[Entry]:
        """Remove what goes beyond the bound; gives what was removed."""
        entries = self.entries()
        excess = sum(entry.size for entry in entries) - self.max_bytes
        removed = []
        for entry in entries:
            if excess <= 0:
                break
            shutil.rmtree(entry.directory, ignore_errors=True)
            excess -= entry.size
            removed.append(entry)
        return removed

    def clear(self, stage: str | None = None) -> list[Entry]:
        """Remove everything, or everything of one stage; gives what was removed."""
        removed = [entry for entry in self.entries() if stage in {None, entry.stage}]
        for entry in removed:
            shutil.rmtree(entry.directory, ignore_errors=True)
        return removed

    def _found(self) -> Iterator[Entry]:
        for path in self.directory.glob(f"*/[!.]*/{storage.MANIFEST}"):
            try:
                yield _entry(path.parent, storage.read_json(path))
            except (FileNotFoundError, StoreError):
                continue


def _entry(directory: Path, manifest: dict[str, object]) -> Entry:
    files = manifest["files"]
    assert isinstance(files, dict)
    return Entry(
        stage=directory.parent.name,
        key=directory.name,
        run=str(manifest["run"]),
        made_at=str(manifest["made_at"]),
        used_at=(directory / storage.MANIFEST).stat().st_mtime,
        size=sum(file["bytes"] for file in files.values()),
        directory=directory,
    )


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
