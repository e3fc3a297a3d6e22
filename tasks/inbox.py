"""New annotations: found in an inbox, frozen, counted, and announced once they are worth it.

Every step is committed by writing ``watch.json`` (:mod:`tasks.inbox_state`). A watch may be killed
anywhere: what it had frozen without saying so is thrown away and frozen again, and what it had
announced without noting it is not announced twice.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from longtail import storage
from longtail.dataset import Preview
from longtail.errors import ConfigError, DataError, StoreError
from tasks import inbox_state as states
from tasks.inbox_files import Landed, is_of, landed_files
from tasks.inbox_reading import Candidate, Reader, Watched
from tasks.inbox_state import Batch, Event, SeenFile, WatchState
from tasks.landed import NotDeliveredError, Send, event_id

logger = logging.getLogger(__name__)
_MOST_FILES = 500  # of an event: Prefect refuses one of more than 1.5 MB
_LEAST_PATIENCE = timedelta(hours=1)


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
        self.reader = Reader(watched)

    def look(self) -> Look:
        states.remove_unfinished(self.root, self.state)
        self._mend_times()
        self._note_taken()
        files = landed_files(self.watched.settings.inbox, self.watched.settings.pattern)
        self._forget_gone(files)
        settling, fresh = self._changed(files)
        frozen = self.reader.freeze(fresh, self.state.files)
        refused = dict(frozen.refused)
        seen = [self.state.seen[one.url] for one in files if one.url in self.state.seen]
        told_before = sum(one.refused is not None for one in seen)
        found, known = self._take_all(frozen.candidates, refused)
        states.clear_landing(self.root)
        self._remember_refused(fresh, refused)
        overdue = self._close_if_due()
        delivered, why = self._deliver()
        waiting = self.state.open
        return Look(
            found, known, settling, refused, told_before, waiting,
            None if waiting is None else waiting.since + self._patience, delivered,
            self.state.undelivered, why, overdue, frozen.failures,
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
        state = states.without_moved(self.root, self.state)
        for batch in state.pending:
            if states.is_taken(self.root, batch):
                state = state.with_batch(batch.model_copy(update={"status": "taken"}))
        if state is not self.state:
            self._save(state)

    def _forget_gone(self, files: Sequence[Landed]) -> None:
        urls, settings = {one.url for one in files}, self.watched.settings
        seen = {
            url: one for url, one in self.state.seen.items()
            if url in urls or not is_of(url, settings.inbox, settings.pattern)
        }  # fmt: skip
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

    def _take_all(
        self, candidates: Sequence[Candidate], refused: dict[str, str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """As ``_take``; where files cannot be read together, each is tried by itself."""
        try:
            return self._take(candidates)
        except DataError as error:
            if len(candidates) == 1:
                (one,) = candidates
                refused[one.landed.url] = self.reader.why_not(one, error)
                return (), ()
        parts = [self._take_all([one], refused) for one in candidates]
        return (
            tuple(url for found, _ in parts for url in found),
            tuple(url for _, known in parts for url in known),
        )

    def _take(self, candidates: Sequence[Candidate]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Put files that say something new into the open batch; returns those, and the others."""
        changed = [one for one in candidates if not self._same_as_seen(one)]
        pending = self.state.pending
        opened = [batch for batch in [self.state.open] if batch is not None]
        fresh = [one.frozen for one in changed]
        before = self._waiting([*pending, *opened])
        after = self.reader.preview([*self._frozen([*pending, *opened]), *fresh])
        urls = tuple(one.landed.url for one in candidates)
        if not changed or before.news == after.news:
            self._save(self.state.model_copy(update={"seen": self._seen_with(candidates)}))
            return (), urls
        counted = self._waiting(pending) if opened else before
        if pending:  # once these are in the data set, the others are read without them
            self.reader.preview([*self._frozen(opened), *fresh])
        annotations = max(after.added + after.changed - counted.added - counted.changed, 0)
        self._add_to_batch(changed, candidates, annotations)
        found = tuple(one.landed.url for one in changed)
        return found, tuple(url for url in urls if url not in found)

    def _same_as_seen(self, candidate: Candidate) -> bool:
        """Whether a file was written again with what it held; it has been taken then."""
        before = self.state.seen.get(candidate.landed.url)
        return before is not None and before.sha256 == candidate.sha256

    def _add_to_batch(
        self, changed: Sequence[Candidate], candidates: Sequence[Candidate], annotations: int
    ) -> None:
        state, batch = self._opened(self.now)
        directory = states.directory_of(self.root, batch)
        for one in changed:
            os.replace(one.frozen, directory / one.frozen.name)
        batch = batch.model_copy(
            update={
                "files": (*batch.files, *(one.frozen.name for one in changed)),
                "sources": (*batch.sources, *(one.landed.url for one in changed)),
                "annotations": annotations,
                "dataset": self.reader.dataset,
            }
        )
        last = max(int(one.frozen.name.partition("-")[0]) for one in candidates)
        state = state.model_copy(update={"files": last, "seen": self._seen_with(candidates)})
        self._save(state.with_batch(batch))

    def _opened(self, since: datetime) -> tuple[WatchState, Batch]:
        """The open batch, or a new one whose directory is there and that no state names yet."""
        state, batch = self.state, self.state.open
        if batch is None:
            state = state.model_copy(update={"opened": state.opened + 1})
            batch = Batch(
                name=f"{state.opened:06d}", since=since, files=(), sources=(),
                annotations=0, dataset=self.reader.dataset,
            )  # fmt: skip
        states.directory_of(self.root, batch).mkdir(parents=True, exist_ok=True)
        return state, batch

    def _seen_with(self, candidates: Sequence[Candidate]) -> dict[str, SeenFile]:
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

    def _waiting(self, batches: Sequence[Batch]) -> Preview:
        """What files that were taken before would do to the data set as it is now.

        Raises:
            StoreError: they can be read no more, as after a change of settings.
        """
        try:
            return self.reader.preview(self._frozen(batches))
        except DataError as error:
            names = ", ".join(str(states.directory_of(self.root, one)) for one in batches)
            raise StoreError(
                f"{names}: waits for a run and can be read no more ({error}); restore the settings "
                "with which it was collected, or move the directory away and put its files into "
                "the inbox again"
            ) from error

    def _frozen(self, batches: Iterable[Batch]) -> list[Path]:
        return [states.directory_of(self.root, one) / name for one in batches for name in one.files]

    def _close_if_due(self) -> tuple[str, ...]:
        """Close a batch that is worth a run; returns those that are announced again with it."""
        overdue = self._overdue()
        batch = self.state.open
        if batch is not None and batch.dataset != self.reader.dataset:
            batch = self._recounted(batch)
        if not overdue and (batch is None or not self._is_due(batch)):
            return ()
        state, batch = self._opened(self.now)
        # Labels keep the order in which they came, whichever batch's run begins first.
        for earlier in reversed(state.pending):
            state, batch = self._folded(state, earlier, batch)
        self._close(state, batch)
        for one in overdue:
            logger.warning(
                "No run has taken batch %s since it was announced; it is announced again as %s",
                one.name, batch.name,
            )  # fmt: skip
        return tuple(one.name for one in overdue)

    def _overdue(self) -> list[Batch]:
        """Batches that no run has taken in time, and that nothing else has brought."""
        overdue: list[Batch] = []
        patience = max(self._patience, _LEAST_PATIENCE)
        undelivered = {event.batch for event in self.state.undelivered}
        for batch in self.state.pending:
            early = batch.closed is None or self.now - batch.closed < patience
            if early or batch.name in undelivered:
                continue
            if self._waiting([batch]).is_new:
                overdue.append(batch)
            else:
                states.note_taken(self.root, batch.name, self.reader.dataset)
                taken = batch.model_copy(update={"status": "taken"})
                self._save(self.state.with_batch(taken))
        return overdue

    def _is_due(self, batch: Batch) -> bool:
        enough = batch.annotations >= self.watched.settings.min_annotations
        return batch.status == "open" and (enough or self.now - batch.since >= self._patience)

    def _folded(self, state: WatchState, earlier: Batch, later: Batch) -> tuple[WatchState, Batch]:
        """The later batch with the files of an earlier one, whose event is no longer needed."""
        directory = states.directory_of(self.root, later)
        for file in earlier.files:
            target = directory / file
            target.unlink(missing_ok=True)
            storage.link_or_copy(states.directory_of(self.root, earlier) / file, target)
        later = later.model_copy(
            update={
                "since": min(earlier.since, later.since),
                "files": (*earlier.files, *later.files),
                "sources": (*earlier.sources, *later.sources),
                "annotations": earlier.annotations + later.annotations,
            }
        )
        gone = earlier.model_copy(update={"status": "superseded", "files": (), "sources": ()})
        return state.with_batch(gone).without_undelivered(earlier.name), later

    def _close(self, state: WatchState, batch: Batch) -> None:
        directory = states.directory_of(self.root, batch)
        storage.write_manifest(directory, {"batch": batch.name, "sources": list(batch.sources)})
        closed = batch.model_copy(update={"status": "closed", "closed": self.now})
        event = Event(
            id=event_id(state.identity, batch.name),
            batch=batch.name,
            payload={
                "name": self.watched.name,
                "path": self.watched.announced(directory),
                "batch": batch.name,
                "annotations": batch.annotations,
                "files": list(batch.sources[:_MOST_FILES]),
            },
        )
        self._save(state.with_batch(closed).with_event(event))

    def _recounted(self, batch: Batch) -> Batch:
        """The batch against the data set as it is now; taken, where all of it is there."""
        pending = self._waiting(self.state.pending)
        both = self._waiting([*self.state.pending, batch])
        annotations = both.added + both.changed - pending.added - pending.changed
        status = "open" if both.news != pending.news else "taken"
        batch = batch.model_copy(
            update={
                "annotations": max(annotations, 0), "dataset": self.reader.dataset,
                "status": status,
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
