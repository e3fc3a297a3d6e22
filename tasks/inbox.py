"""New annotations: found in an inbox, frozen, counted, and announced once they are worth it.

Every step is committed by writing ``watch.json`` (:mod:`tasks.inbox_state`). A watch may be killed
anywhere: what it had frozen without saying so is thrown away and frozen again, and what it had
announced without noting it is not announced twice.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from longtail import storage
from longtail.annotations.schema import ANNOTATIONS
from longtail.config import DataSettings, WatchSettings
from longtail.dataset import DatasetStore, Preview
from longtail.errors import ConfigError, DataError, StoreError
from tasks import inbox_state as states
from tasks.inbox_files import Landed, copy_file, is_of, landed_files
from tasks.inbox_state import Batch, Event, SeenFile, WatchState
from tasks.landed import NotDeliveredError, Send, event_id

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)
_MOST_FILES = 500  # of an event: Prefect refuses one of more than 1.5 MB


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
class Look:
    """What one look at an inbox has found and done.

    Attributes:
        found: new files that bring something.
        known: new files that say nothing new.
        settling: files that may still grow.
        refused: by URL, why a file cannot be used; those told now for the first time.
        still_refused: how many have been told before.
        waiting: the open batch.
        due: when it will be announced at the latest.
        delivered: events that the server has since this look.
        undelivered: events that it does not have, and why not.
        overdue: batches that no run has taken and that are announced once more.
        failures: files that the system did not let be copied.
    """

    found: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    settling: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    still_refused: int = 0
    waiting: Batch | None = None
    due: datetime | None = None
    delivered: tuple[Event, ...] = ()
    undelivered: tuple[Event, ...] = ()
    why_undelivered: str | None = None
    overdue: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Candidate:
    landed: Landed
    frozen: Path
    sha256: str


def look(watched: Watched, now: datetime, send: Send) -> Look:
    """Look at the inbox once: freeze what is new, and announce a batch that is worth it.

    Args:
        watched: what is watched.
        now: the present moment, with its time zone.
        send: hands an event to the server; raises NotDeliveredError where it cannot.

    Raises:
        ConfigError: the inbox lies in the model's own directory.
        StoreError: the inbox cannot be listed, a file of it cannot be copied, or the store is
            damaged or in use; what could be done is done.
    """
    inbox = watched.settings.inbox
    if "://" not in inbox and Path(inbox).resolve().is_relative_to(watched.model_store.resolve()):
        raise ConfigError(
            f"{inbox}: lies in {watched.model_store}, where a watch keeps its own copies; set "
            "watch.inbox to a directory outside of the store"
        )
    with storage.lock(states.lock_of(watched.model_store)):
        seen = _Looker(watched, now, send).look()
    if seen.failures:  # only now: what an error leaves behind in a shared store is undone
        raise StoreError("; ".join(seen.failures))
    return seen


class _Looker:
    """One look; holds the state between its steps, each of which writes it."""

    def __init__(self, watched: Watched, now: datetime, send: Send) -> None:
        self.watched, self.now, self.send = watched, now, send
        self.root = watched.model_store
        self.state = states.read_state(self.root)
        self.store = DatasetStore(self.root / "dataset")

    def look(self) -> Look:
        states.remove_unfinished(self.root, self.state)
        self._mend_times()
        self._note_taken()
        files = landed_files(self.watched.settings.inbox, self.watched.settings.pattern)
        self._forget_gone(files)
        settling, fresh = self._changed(files)
        candidates, refused, failures = self._freeze(fresh)
        told_before = sum(one.refused is not None for one in self.state.seen.values())
        found, known = self._take_all(candidates, refused)
        self._remember_refused(fresh, refused)
        overdue = self._gather_overdue()
        self._close_if_due()
        delivered, why = self._deliver()
        waiting = self.state.open
        return Look(
            found, known, settling, refused, told_before, waiting,
            None if waiting is None else waiting.since + self._patience, delivered,
            self.state.undelivered, why, overdue, tuple(failures),
        )  # fmt: skip

    @property
    def _patience(self) -> timedelta:
        return timedelta(hours=self.watched.settings.max_wait_hours)

    def _save(self, state: WatchState) -> None:
        states.write_state(self.root, state)
        self.state = state

    def _mend_times(self) -> None:
        """After the clock was set back a batch would wait for a moment that is far away."""
        state = self.state
        for batch in state.batches:
            late = {
                name: self.now for name in ("since", "closed")
                if (at := getattr(batch, name)) is not None and at > self.now
            }  # fmt: skip
            if late and batch.status in {"open", "closed"}:
                state = state.with_batch(batch.model_copy(update=late))
        if state is not self.state:
            self._save(state)

    def _note_taken(self) -> None:
        state = self.state
        for batch in state.batches:
            if batch.status == "closed" and states.is_taken(self.root, batch):
                state = state.with_batch(batch.model_copy(update={"status": "taken"}))
        if state is not self.state:
            self._save(state)

    def _forget_gone(self, files: Sequence[Landed]) -> None:
        urls, inbox = {one.url for one in files}, self.watched.settings.inbox
        gone = {url for url in self.state.seen if url not in urls and is_of(url, inbox)}
        seen = {url: one for url, one in self.state.seen.items() if url not in gone}
        self.state = self.state.model_copy(update={"seen": seen})

    def _changed(self, files: Sequence[Landed]) -> tuple[tuple[str, ...], list[Landed]]:
        """Files that may still grow, and those that are new or another than they were."""
        settle = timedelta(seconds=self.watched.settings.settle_seconds)
        settling: list[str] = []
        fresh: list[Landed] = []
        for landed in files:
            before = self.state.seen.get(landed.url)
            if before is not None and before.token == landed.token:
                continue
            # A date far ahead of the clock says nothing; waiting for it would be for ever.
            young = landed.modified is not None and abs(self.now - landed.modified) < settle
            if settle and young:
                settling.append(landed.url)
            else:
                fresh.append(landed)
        return tuple(settling), fresh

    def _freeze(
        self, fresh: Sequence[Landed]
    ) -> tuple[list[_Candidate], dict[str, str], list[str]]:
        """Copies of files that can be read, why others cannot, and what the system refused."""
        candidates: list[_Candidate] = []
        refused: dict[str, str] = {}
        failures: list[str] = []
        number = self.state.files
        most = int(self.watched.settings.max_file_gigabytes * 1e9)
        for landed in fresh:
            number += 1
            frozen = self.root / states.INBOX / states.LANDING / f"{number:06d}-{_safe(landed)}"
            try:
                sha256 = copy_file(landed, frozen, most)
                candidates.append(_Candidate(landed, frozen, sha256))
            except FileNotFoundError:
                continue  # taken away meanwhile
            except DataError as error:
                refused[landed.url] = _about(str(error), frozen, landed)
                frozen.unlink(missing_ok=True)
            except OSError as error:
                frozen.unlink(missing_ok=True)
                failures.append(f"{landed.url}: cannot be copied ({error.strerror or error})")
        return candidates, refused, failures

    def _check(self, file: Path) -> None:
        """Hold a file to the contract by itself.

        Raises:
            DataError: it cannot be read, or too many of its rows are bad.
        """
        with tempfile.TemporaryDirectory(prefix="longtail-watch-") as scratch:
            ingested = _ingest(file, self.watched.data, Path(scratch))
            # An export that is plainly of another data set is refused here, not in the run.
            self.store.preview(ingested[0], merge_duplicates=self.watched.merge_duplicates)

    def _take_all(
        self, candidates: Sequence[_Candidate], refused: dict[str, str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """As ``_take``; where files cannot be read together, each is tried by itself."""
        try:
            return self._take(candidates)
        except DataError as error:
            if len(candidates) == 1:
                (one,) = candidates
                refused[one.landed.url] = self._why_not(one, error)
                one.frozen.unlink(missing_ok=True)
                return (), ()
        parts = [self._take_all([one], refused) for one in candidates]
        return (
            tuple(url for found, _ in parts for url in found),
            tuple(url for _, known in parts for url in known),
        )

    def _why_not(self, candidate: _Candidate, together: DataError) -> str:
        """Why a file cannot be used: what is wrong with it alone, else beside the others."""
        error = together
        try:
            self._check(candidate.frozen)
        except DataError as alone:
            error = alone
        return _about(str(error), candidate.frozen, candidate.landed)

    def _take(self, candidates: Sequence[_Candidate]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Put files that say something new into the open batch; returns those, and the others."""
        changed = [one for one in candidates if not self._same_as_seen(one)]
        pending = self._frozen(self.state.pending)
        opened = self._frozen(batch for batch in [self.state.open] if batch is not None)
        before = self._preview([*pending, *opened])
        after = self._preview([*pending, *opened, *(one.frozen for one in changed)])
        urls = tuple(one.landed.url for one in candidates)
        if not changed or before.news == after.news:
            self._save(self.state.model_copy(update={"seen": self._seen_with(candidates)}))
            return (), urls
        counted = self._preview(pending) if opened else before
        annotations = max(after.added + after.changed - counted.added - counted.changed, 0)
        self._add_to_batch(changed, candidates, annotations)
        found = tuple(one.landed.url for one in changed)
        return found, tuple(url for url in urls if url not in found)

    def _same_as_seen(self, candidate: _Candidate) -> bool:
        """Whether a file was written again with what it held; it has been taken then."""
        before = self.state.seen.get(candidate.landed.url)
        return before is not None and before.sha256 == candidate.sha256

    def _add_to_batch(
        self, changed: Sequence[_Candidate], candidates: Sequence[_Candidate], annotations: int
    ) -> None:
        state, batch = self.state, self.state.open
        if batch is None:
            state = state.model_copy(update={"opened": state.opened + 1})
            batch = Batch(
                name=f"{state.opened:06d}", since=self.now, files=(), sources=(),
                annotations=0, dataset=None,
            )  # fmt: skip
        directory = states.directory_of(self.root, batch)
        directory.mkdir(parents=True, exist_ok=True)
        for one in changed:
            os.replace(one.frozen, directory / one.frozen.name)
        batch = batch.model_copy(
            update={
                "files": (*batch.files, *(one.frozen.name for one in changed)),
                "sources": (*batch.sources, *(one.landed.url for one in changed)),
                "annotations": annotations,
                "dataset": self._dataset,
            }
        )
        last = max(int(one.frozen.name.partition("-")[0]) for one in candidates)
        state = state.model_copy(update={"files": last, "seen": self._seen_with(candidates)})
        self._save(state.with_batch(batch))

    @property
    def _dataset(self) -> str | None:
        current = self.store.current()
        return None if current is None else current.fingerprint

    def _seen_with(self, candidates: Sequence[_Candidate]) -> dict[str, SeenFile]:
        came = {
            one.landed.url: SeenFile(token=one.landed.token, sha256=one.sha256)
            for one in candidates
        }
        return {**self.state.seen, **came}

    def _remember_refused(self, fresh: Sequence[Landed], refused: dict[str, str]) -> None:
        if not refused:
            return
        tokens = {one.url: one.token for one in fresh}
        told = {url: SeenFile(token=tokens[url], refused=why) for url, why in refused.items()}
        self._save(self.state.model_copy(update={"seen": {**self.state.seen, **told}}))
        for why in refused.values():
            logger.warning("Refused: %s", why)

    def _frozen(self, batches: Iterable[Batch]) -> list[Path]:
        return [states.directory_of(self.root, one) / name for one in batches for name in one.files]

    def _preview(self, files: Sequence[Path]) -> Preview:
        """What the files, read as one export, would do to the data set.

        Raises:
            DataError: together they cannot be read, though each of them can.
        """
        if not files:
            nothing = ANNOTATIONS.empty_table()
            return self.store.preview(nothing, merge_duplicates=self.watched.merge_duplicates)
        with (
            tempfile.TemporaryDirectory(prefix="longtail-watch-") as scratch,
            _gathered(files, Path(scratch) / "files") as directory,
        ):
            accepted, voices = _ingest(directory, self.watched.data, Path(scratch) / "read")
            return self.store.preview(
                accepted, merge_duplicates=self.watched.merge_duplicates, voices=voices,
                policy=self.watched.data.several_annotators, at_least=self.watched.data.at_least,
            )  # fmt: skip

    def _gather_overdue(self) -> tuple[str, ...]:
        """Put the files of batches that no run has taken in time into the open batch."""
        overdue = [
            batch for batch in self.state.pending
            if batch.closed is not None and self.now - batch.closed >= max(
                self._patience, timedelta(hours=1)
            ) and not self._is_undelivered(batch)
        ]  # fmt: skip
        for batch in overdue:
            if not self._preview(self._frozen([batch])).is_new:  # brought by other means
                taken = batch.model_copy(update={"status": "taken"})
                self._save(self.state.with_batch(taken))
                continue
            self._supersede(batch)
        return tuple(
            batch.name for batch in self.state.batches
            if batch.status == "superseded" and batch.name in {one.name for one in overdue}
        )  # fmt: skip

    def _is_undelivered(self, batch: Batch) -> bool:
        return any(event.batch == batch.name for event in self.state.undelivered)

    def _supersede(self, batch: Batch) -> None:
        state, later = self.state, self.state.open
        if later is None:
            state = state.model_copy(update={"opened": state.opened + 1})
            later = Batch(
                name=f"{state.opened:06d}", since=batch.since, files=(), sources=(),
                annotations=0, dataset=None,
            )  # fmt: skip
        directory = states.directory_of(self.root, later)
        directory.mkdir(parents=True, exist_ok=True)
        for file in batch.files:
            target = directory / file
            target.unlink(missing_ok=True)
            os.link(states.directory_of(self.root, batch) / file, target)
        later = later.model_copy(
            update={
                "since": min(batch.since, later.since),
                "files": (*batch.files, *later.files),
                "sources": (*batch.sources, *later.sources),
                "annotations": batch.annotations + later.annotations,
            }
        )
        gone = batch.model_copy(update={"status": "superseded"})
        self._save(state.with_batch(gone).with_batch(later))
        logger.warning(
            "No run has taken batch %s since it was announced; it is announced again as %s",
            batch.name, later.name,
        )  # fmt: skip

    def _close_if_due(self) -> None:
        batch = self.state.open
        if batch is None:
            return
        if batch.dataset != self._dataset:
            batch = self._recounted(batch)
        enough = batch.annotations >= self.watched.settings.min_annotations
        if batch.status != "open" or not (enough or self.now - batch.since >= self._patience):
            return
        directory = states.directory_of(self.root, batch)
        storage.write_manifest(directory, {"batch": batch.name, "sources": list(batch.sources)})
        closed = batch.model_copy(update={"status": "closed", "closed": self.now})
        event = Event(
            id=event_id(self.state.identity, batch.name),
            batch=batch.name,
            payload={
                "name": self.watched.name,
                "path": self.watched.announced(directory),
                "batch": batch.name,
                "annotations": batch.annotations,
                "files": list(batch.sources[:_MOST_FILES]),
            },
        )
        self._save(self.state.with_batch(closed).with_event(event))

    def _recounted(self, batch: Batch) -> Batch:
        """The batch against the data set as it is now; taken, where all of it is there."""
        pending = self._preview(self._frozen(self.state.pending))
        both = self._preview(self._frozen([*self.state.pending, batch]))
        annotations = both.added + both.changed - pending.added - pending.changed
        status = "open" if both.news != pending.news else "taken"
        batch = batch.model_copy(
            update={
                "annotations": max(annotations, 0), "dataset": self._dataset, "status": status,
            }
        )  # fmt: skip
        self._save(self.state.with_batch(batch))
        return batch

    def _deliver(self) -> tuple[tuple[Event, ...], str | None]:
        delivered: list[Event] = []
        if self.state.undelivered:
            # The run that hears of it may begin on another machine before this look is over.
            storage.flush(states.lock_of(self.watched.model_store))
        for event in self.state.undelivered:
            try:
                self.send(event)
            except NotDeliveredError as error:
                logger.warning("%s", error)
                return tuple(delivered), str(error)
            done = event.model_copy(update={"delivered": self.now})
            self._save(self.state.with_event(done))
            delivered.append(done)
        return tuple(delivered), None


def _ingest(path: Path, data: DataSettings, directory: Path) -> tuple[Path, Path]:
    """Accepted annotations and voices of an export.

    Raises:
        DataError: it cannot be used.
    """
    from data_contracts.ingest import ingest  # Great Expectations takes seconds to import

    ingested = ingest(path, data, directory, may_be_empty=True)
    return ingested.accepted, ingested.voices


@contextmanager
def _gathered(files: Sequence[Path], directory: Path) -> Iterator[Path]:
    """The files, which may lie in several batches, in one directory."""
    directory.mkdir()
    for file in files:
        (directory / file.name).symlink_to(file.resolve())
    yield directory


def _safe(landed: Landed) -> str:
    """The file's name as a file system takes it, its ending kept: it may tell the format."""
    name = "".join(one if one.isalnum() or one in "._- " else "_" for one in landed.name)
    return name.encode()[-120:].decode(errors="ignore").lstrip(".") or "file"  # bytes are limited


def _about(said: str, frozen: Path, landed: Landed) -> str:
    """A sentence about a copy as one about the file that was copied."""
    return said.replace(str(frozen), landed.url)
