"""What stages of a run have made, kept under what it was made of.

    ROOT/STAGE/KEY/…              the stage's files
                   manifest.json  written last: when, by which run, size and SHA-256 of each file

The key is the fingerprint of the stage's inputs, its settings and the code that it runs
(:mod:`longtail.code_fingerprint`), so an entry is never out of date; it may only be unused. Files
are hard links where the file system has them, for both sides replace files and never write into
them; one that was written into all the same is found by its SHA-256 and made anew.

Who writes or removes holds ``ROOT/.lock``; who takes does not. What a killed process left half
written has a hidden name and goes the next time that somebody keeps something.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail import storage
from longtail.errors import StoreError

logger = logging.getLogger(__name__)

_DAY = 86_400.0
_DAMAGED = (StoreError, KeyError, TypeError, AttributeError)


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
        max_bytes: bound on the disk; the results that were used least recently go first. 0 keeps
            nothing and finds nothing.
    """

    def __init__(self, directory: str | Path, *, max_bytes: int = 20 << 30) -> None:
        self.directory = Path(directory)
        self.max_bytes = max_bytes

    def take(self, stage: str, key: str, into: Path) -> Entry | None:
        """Put a stage's files into a directory, if they are here and whole.

        Args:
            stage: its name.
            key: what it is made of.
            into: directory of the run; files of the same names are replaced, others stay. Nothing
                is touched unless all of them are whole.

        Returns:
            The entry, None where there is none. A damaged one is thrown away.
        """
        directory = self.directory / stage / key
        if not self.max_bytes or not (directory / storage.MANIFEST).is_file():
            return None
        staging = into / f".{key[:8]}.{uuid.uuid4().hex}.staging"
        try:
            _copy(directory, staging)
            manifest = storage.verify_directory(staging)
            entry = _entry(directory, manifest)
            for name in manifest["files"]:
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(staging / name, into / name)
            with contextlib.suppress(OSError):  # removed just now, and taken all the same
                os.utime(directory / storage.MANIFEST)
        except _DAMAGED as error:
            logger.warning("%s: a damaged result is made anew (%s)", directory, error)
            _remove(directory)
            return None
        except OSError as error:
            if directory.exists():  # else another process has removed it just now
                logger.warning("%s: cannot be taken over (%s)", directory, error)
            return None
        else:
            return entry
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def keep(
        self, stage: str, key: str, source: Path, *, run: str, files: Sequence[str] | None = None
    ) -> None:
        """Keep what a stage made. That it cannot be kept is a warning: the result is there.

        Args:
            stage: its name.
            key: what it is made of.
            source: where its files are.
            run: the run that made them.
            files: names of its files and directories there; by default all.
        """
        if not self.max_bytes:
            return
        about = {"run": run, "made_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds")}
        try:
            with self._locked():
                self._sweep()
                with storage.committed_directory(self.directory / stage / key, about) as staging:
                    for path in _files(source, files):
                        storage.link_or_copy(path, staging / path.relative_to(source))
                self._trim()
        except (OSError, StoreError) as error:
            logger.warning("%s: its result is not kept for later runs (%s)", stage, error)

    def entries(self) -> list[Entry]:
        """Everything that is kept, the least recently used first."""
        return sorted(self._found(), key=lambda entry: entry.used_at)

    def clear(self, stage: str | None = None, *, older_than_days: float = 0.0) -> list[Entry]:
        """Remove results; gives what was removed.

        Args:
            stage: only those of this stage.
            older_than_days: only those that nobody has used for so long.
        """
        if not self.directory.is_dir():
            return []
        until = time.time() - older_than_days * _DAY
        with self._locked():
            self._sweep()
            removed = [
                entry
                for entry in self.entries()
                if stage in {None, entry.stage} and entry.used_at <= until
            ]
            for entry in removed:
                _remove(entry.directory)
        return removed

    def _trim(self) -> None:
        """Remove what goes beyond the bound."""
        entries = self.entries()
        excess = sum(entry.size for entry in entries) - self.max_bytes
        for entry in entries:
            if excess <= 0:
                return
            _remove(entry.directory)
            excess -= entry.size

    def _sweep(self) -> None:
        """Remove what processes that were killed have left; under the lock nobody else writes."""
        for path in self.directory.glob("*/*"):
            if path.name.startswith(".") or not (path / storage.MANIFEST).is_file():
                shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with storage.lock(self.directory / ".lock"):
            yield

    def _found(self) -> Iterator[Entry]:
        for path in self.directory.glob(f"*/[!.]*/{storage.MANIFEST}"):
            with contextlib.suppress(OSError, *_DAMAGED):
                yield _entry(path.parent, storage.read_json(path))


def _entry(directory: Path, manifest: dict[str, Any]) -> Entry:
    return Entry(
        stage=directory.parent.name,
        key=directory.name,
        run=str(manifest["run"]),
        made_at=str(manifest["made_at"]),
        used_at=(directory / storage.MANIFEST).stat().st_mtime,
        size=sum(file["bytes"] for file in manifest["files"].values()),
        directory=directory,
    )


def _files(root: Path, names: Sequence[str] | None) -> Iterator[Path]:
    """The files of a directory, or those of some names and below them; whatever is there."""
    for start in [root] if names is None else [root / name for name in names]:
        for path in sorted(start.rglob("*")) if start.is_dir() else [start]:
            if path.is_file():
                yield path


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in _files(source, None):
        storage.link_or_copy(path, target / path.relative_to(source))


def _remove(directory: Path) -> None:
    """At once for those who look, then file by file."""
    gone = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}.old")
    with contextlib.suppress(OSError):
        os.replace(directory, gone)
        shutil.rmtree(gone, ignore_errors=True)
