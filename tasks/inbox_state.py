"""What a watch remembers: ``STORE/NAME/watch.json`` and the batches in ``STORE/NAME/inbox``.

    inbox/000001/000001-week48.jsonl   a file as it was when it came, numbered as it came
                /manifest.json         written when the batch is closed
                /.taken.json           written by the run that put the batch into the data set

Whatever is not in ``watch.json`` was never taken: its writing is the commit of every step.
"""

from __future__ import annotations

import fnmatch
import logging
import shutil
import uuid
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from longtail import storage
from longtail.errors import StoreError

logger = logging.getLogger(__name__)

STATE = "watch.json"
INBOX = "inbox"
TAKEN = ".taken.json"
LANDING = ".landing"
_BATCHES = "[0-9]" * 6
_REMEMBERED = 200

Status = Literal["open", "closed", "taken", "superseded"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SeenFile(_Record):
    """A file of the inbox that has been looked at.

    Attributes:
        token: size and date or etag; another one means another content.
        sha256: of the content; None where it was not read.
        refused: why it cannot be used; None where it can.
    """

    token: str
    sha256: str | None = None
    refused: str | None = None


class Event(_Record):
    """An event that is to reach the server.

    Attributes:
        id: the same however often it is sent.
        batch: what it tells of.
        payload: name, path, batch, annotations and files.
        delivered: when the server was found to have it; None: not yet.
    """

    id: uuid.UUID
    batch: str
    payload: dict[str, str | int | list[str]]
    delivered: datetime | None = None


class Batch(_Record):
    """Files that are trained on together.

    Attributes:
        name: of its directory.
        since: when its first file came.
        files: names in the directory, in the order in which they came.
        sources: where they came from.
        annotations: new or changed ones when they were last counted.
        dataset: fingerprint of the data set that they were counted against.
        status: open: files are added; closed: its event is on its way or delivered; taken: it is
            in the data set; superseded: a later batch has its files too. When one is closed, all
            that are closed and not taken are superseded, so at most one is closed at a time.
        closed: when it was closed.
    """

    name: str
    since: datetime
    files: tuple[str, ...]
    sources: tuple[str, ...]
    annotations: int
    dataset: str | None
    status: Status = "open"
    closed: datetime | None = None


class WatchState(_Record):
    """Everything a watch remembers.

    Attributes:
        identity: drawn once, so that the events of another store have other ids.
        files: how many files were ever frozen.
        batches: in the order in which they were opened.
        seen: files of the inbox by URL.
        events: in the order in which they were made.
    """

    identity: uuid.UUID
    files: int = 0
    opened: int = 0
    batches: tuple[Batch, ...] = ()
    seen: dict[str, SeenFile] = {}
    events: tuple[Event, ...] = ()

    @property
    def open(self) -> Batch | None:
        """The batch that files are added to."""
        return next((batch for batch in self.batches if batch.status == "open"), None)

    @property
    def pending(self) -> tuple[Batch, ...]:
        """Batches that are closed and not yet in the data set."""
        return tuple(batch for batch in self.batches if batch.status == "closed")

    @property
    def undelivered(self) -> tuple[Event, ...]:
        """Events that the server does not have yet."""
        return tuple(event for event in self.events if event.delivered is None)

    def with_batch(self, batch: Batch) -> WatchState:
        """The same with a batch replaced or added."""
        known = any(one.name == batch.name for one in self.batches)
        batches = tuple(batch if one.name == batch.name else one for one in self.batches)
        return self.model_copy(update={"batches": batches if known else (*batches, batch)})

    def with_event(self, event: Event) -> WatchState:
        """The same with an event replaced or added."""
        known = any(one.id == event.id for one in self.events)
        events = tuple(event if one.id == event.id else one for one in self.events)
        return self.model_copy(update={"events": events if known else (*events, event)})

    def without_undelivered(self, *batches: str) -> WatchState:
        """The same without the events of these batches that the server does not have."""
        events = tuple(
            one for one in self.events if one.batch not in batches or one.delivered is not None
        )
        return self.model_copy(update={"events": events})


def read_state(model_store: Path) -> WatchState:
    """What is remembered; a new state where nothing is.

    Raises:
        StoreError: the file is damaged.
    """
    path = model_store / STATE
    if not path.exists():
        return WatchState(identity=uuid.uuid4())
    try:
        return WatchState.model_validate(storage.read_json(path))
    except ValidationError as error:
        raise StoreError(f"{path}: not what a watch has written; restore it ({error})") from error


def write_state(model_store: Path, state: WatchState) -> None:
    """Remember, atomically; of what is done with only the last is kept."""
    batches = tuple(
        batch for batch in state.batches
        if batch.status in {"open", "closed"} or directory_of(model_store, batch).is_dir()
    )  # fmt: skip
    done = [event for event in state.events if event.delivered is not None][-_REMEMBERED:]
    events = tuple(one for one in state.events if one.delivered is None or one in done)
    kept = state.model_copy(update={"batches": batches, "events": events})
    storage.write_json(model_store / STATE, kept.model_dump(mode="json"))


def lock_of(model_store: Path) -> Path:
    """What a watch, and a run that takes a batch, hold."""
    return model_store / INBOX / ".lock"


def directory_of(model_store: Path, batch: Batch | str) -> Path:
    """Where a batch's files are."""
    return model_store / INBOX / (batch if isinstance(batch, str) else batch.name)


def mark_taken(model_store: Path, path: str, dataset: str) -> None:
    """Note that what was read is in the data set; does nothing for what is no batch.

    Args:
        model_store: directory of the model.
        path: what the run has read.
        dataset: fingerprint of the data set with it.
    """
    name = _batch_of(model_store, path)
    if name is None:
        return
    with storage.lock(lock_of(model_store)):
        note_taken(model_store, name, dataset)


def note_taken(model_store: Path, name: str, dataset: str | None) -> None:
    """As ``mark_taken``, for a batch by its name, by who holds the lock."""
    directory = directory_of(model_store, name)
    if directory.is_dir():
        storage.write_json(directory / TAKEN, {"dataset": dataset})


def is_taken(model_store: Path, batch: Batch) -> bool:
    """Whether a run has put the batch into the data set."""
    return (directory_of(model_store, batch) / TAKEN).exists()


def was_taken(model_store: Path, path: str) -> bool:
    """Whether what is to be read is a batch whose files a run has put into the data set before.

    Read again, it would put its labels in the place of those that later batches have brought. A
    batch holds the files of all before it that were not taken, so a later one brings them too.

    Args:
        model_store: directory of the model.
        path: what a run is to read.
    """
    name = _batch_of(model_store, path)
    marks = (model_store / INBOX).glob(f"{_BATCHES}/{TAKEN}")
    return name is not None and any(name <= mark.parent.name for mark in marks)


def _batch_of(model_store: Path, path: str) -> str | None:
    """Name of the batch that is read from a path; None for what is no batch."""
    if "://" in path:
        return None
    directory, inbox = Path(path).resolve(), (model_store / INBOX).resolve()
    is_batch = directory.parent == inbox and fnmatch.fnmatchcase(directory.name, _BATCHES)
    return directory.name if is_batch else None


def old_batches(model_store: Path, keep: int = 8) -> tuple[Path, ...]:
    """Directories of batches that may be deleted: nothing in them is needed any more.

    A batch that is not in the data set is never among them, nor one that a later batch has
    superseded before that one is.

    Args:
        model_store: directory of the model.
        keep: how many of the last batches stay in any case.
    """
    state = read_state(model_store)
    done: list[Path] = []
    for place, batch in enumerate(state.batches[: max(len(state.batches) - keep, 0)]):
        later = (one for one in state.batches[place + 1 :] if one.status == "taken")
        directory = directory_of(model_store, batch)
        # Not by the mark in it, which goes with it: the next look has to have seen that.
        taken = batch.status == "taken" or (batch.status == "superseded" and any(later))
        if taken and directory.is_dir():
            done.append(directory)
    return tuple(done)


def without_moved(model_store: Path, state: WatchState) -> WatchState:
    """The state without batches whose directory somebody has moved away; that is warned of."""
    moved = {
        batch.name for batch in state.batches
        if batch.status in {"open", "closed"} and not directory_of(model_store, batch).is_dir()
    }  # fmt: skip
    if not moved:
        return state
    logger.warning(
        "Batch %s was moved out of %s; it is announced no more",
        ", ".join(sorted(moved)), model_store / INBOX,
    )  # fmt: skip
    kept = tuple(batch for batch in state.batches if batch.name not in moved)
    return state.model_copy(update={"batches": kept}).without_undelivered(*moved)


def clear_landing(model_store: Path) -> None:
    """Delete copies that were made and that no batch has."""
    shutil.rmtree(model_store / INBOX / LANDING, ignore_errors=True)


def remove_unfinished(model_store: Path, state: WatchState) -> None:
    """Delete what a watch that was killed has left: it is taken again from the inbox."""
    clear_landing(model_store)
    known = {batch.name: batch for batch in state.batches}
    for directory in (model_store / INBOX).glob(_BATCHES):
        batch = known.get(directory.name)
        if batch is None:
            if int(directory.name) > state.opened:
                shutil.rmtree(directory, ignore_errors=True)
        elif batch.status == "open":
            for file in directory.iterdir():
                if file.name not in batch.files:
                    file.unlink()
