"""Files of an inbox, copied and read as a retrain would read them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from longtail.annotations.schema import ANNOTATIONS
from longtail.config import DataSettings, WatchSettings
from longtail.dataset import DatasetStore, Preview
from longtail.errors import DataError
from tasks import inbox_state as states
from tasks.inbox_files import Landed, copy_file


@dataclass(frozen=True)
class Watched:
    """What is watched, for whom.

    Attributes:
        model_store: directory of the model in the store.
        data: how the files are read.
        merge_duplicates: as a retrain merges them.
        settings: inbox and limits.
        address: the model's directory as other machines find it, where workers share the store.
    """

    model_store: Path
    data: DataSettings
    merge_duplicates: bool
    settings: WatchSettings
    address: str | None = None

    def announced(self, directory: Path) -> str:
        """A batch's directory as a run on any machine finds it."""
        if self.address is None:
            return str(directory.resolve())
        return f"{self.address}/{directory.relative_to(self.model_store).as_posix()}"

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model_store.name


@dataclass(frozen=True)
class Candidate:
    """A file and the copy that was made of it.

    Attributes:
        landed: the file in the inbox.
        frozen: the copy.
        sha256: of the content.
    """

    landed: Landed
    frozen: Path
    sha256: str


@dataclass(frozen=True)
class Frozen:
    """What has come of copying files.

    Attributes:
        candidates: files that were copied.
        refused: by URL, why a file cannot be used.
        failures: files that the system did not let be copied, and why.
    """

    candidates: tuple[Candidate, ...]
    refused: dict[str, str]
    failures: tuple[str, ...]


class Reader:
    """Copies files and reads the copies, without touching the data set."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.store = DatasetStore(watched.model_store / "dataset")

    @property
    def dataset(self) -> str | None:
        """Fingerprint of the data set as it is now."""
        current = self.store.current()
        return None if current is None else current.fingerprint

    def freeze(self, fresh: Sequence[Landed], number: int) -> Frozen:
        """Copy files; what cannot be copied is told, and does not hold up the others.

        Args:
            fresh: the files, in the order in which they are to be read.
            number: how many were ever copied; the copies' names go on from there.
        """
        candidates: list[Candidate] = []
        refused: dict[str, str] = {}
        failures: list[str] = []
        most = int(self.watched.settings.max_file_gigabytes * 1e9)
        landing = self.watched.model_store / states.INBOX / states.LANDING
        for place, landed in enumerate(fresh, number + 1):
            frozen = landing / f"{place:06d}-{_safe(landed)}"
            try:
                candidates.append(Candidate(landed, frozen, copy_file(landed, frozen, most)))
            except FileNotFoundError:
                continue  # taken away meanwhile
            except DataError as error:
                refused[landed.url] = _about(str(error), frozen, landed)
                frozen.unlink(missing_ok=True)
            except OSError as error:
                frozen.unlink(missing_ok=True)
                failures.append(f"{landed.url}: cannot be copied ({error.strerror or error})")
        return Frozen(tuple(candidates), refused, tuple(failures))

    def preview(self, files: Sequence[Path]) -> Preview:
        """What the files, read as one export, would do to the data set.

        Raises:
            DataError: together they cannot be read, though each of them can.
        """
        if not files:
            nothing = ANNOTATIONS.empty_table()
            return self.store.preview(nothing, merge_duplicates=self.watched.merge_duplicates)
        with tempfile.TemporaryDirectory(prefix="longtail-watch-") as scratch:
            together = _gathered(files, Path(scratch) / "files")
            accepted, voices = _ingest(together, self.watched.data, Path(scratch) / "read")
            return self.store.preview(
                accepted, merge_duplicates=self.watched.merge_duplicates, voices=voices,
                policy=self.watched.data.several_annotators, at_least=self.watched.data.at_least,
            )  # fmt: skip

    def why_not(self, candidate: Candidate, together: DataError) -> str:
        """Why a file cannot be used: what is wrong with it alone, else beside the others."""
        error = together
        try:
            self._check(candidate.frozen)
        except DataError as alone:
            error = alone
        return _about(str(error), candidate.frozen, candidate.landed)

    def _check(self, file: Path) -> None:
        """Hold a file to the contract by itself.

        Raises:
            DataError: it cannot be read, or too many of its rows are bad.
        """
        with tempfile.TemporaryDirectory(prefix="longtail-watch-") as scratch:
            ingested = _ingest(file, self.watched.data, Path(scratch))
            # An export that is plainly of another data set is refused here, not in the run.
            self.store.preview(ingested[0], merge_duplicates=self.watched.merge_duplicates)


def _ingest(path: Path, data: DataSettings, directory: Path) -> tuple[Path, Path]:
    """Accepted annotations and voices of an export.

    Raises:
        DataError: it cannot be used.
    """
    from data_contracts.ingest import ingest  # Great Expectations takes seconds to import

    ingested = ingest(path, data, directory, may_be_empty=True)
    return ingested.accepted, ingested.voices


def _gathered(files: Sequence[Path], directory: Path) -> Path:
    """The files, which may lie in several batches, in one directory."""
    directory.mkdir()
    for file in files:
        (directory / file.name).symlink_to(file.resolve())
    return directory


def _safe(landed: Landed) -> str:
    """The file's name as a file system takes it, its ending kept: it may tell the format."""
    name = "".join(one if one.isalnum() or one in "._- " else "_" for one in landed.name)
    return name.encode()[-120:].decode(errors="ignore").lstrip(".") or "file"  # bytes are limited


def _about(said: str, frozen: Path, landed: Landed) -> str:
    """A sentence about a copy as one about the file that was copied."""
    return said.replace(str(frozen), landed.url)
