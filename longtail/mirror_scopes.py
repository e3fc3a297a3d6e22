"""What workers share of a store, and in which parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from longtail import storage

RUNS = "runs"
_PRIVATE = frozenset({"cache", "mlartifacts", "bundles"})  # each machine has its own
# That a batch is in the data set: hidden from whoever reads the batch as an export.
_SHARED_HIDDEN = frozenset({".taken.json"})


@dataclass(frozen=True)
class Scope:
    """A part of what persists of one model.

    Attributes:
        name: of the part.
        directories: what belongs to it, below STORE/NAME.
        files: files directly in STORE/NAME that belong to it.
        locks: lock files directly in STORE/NAME that guard it.
        reads: parts that its holder reads, too.
    """

    name: str
    directories: tuple[str, ...]
    files: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()


DATASET = Scope("dataset", ("dataset",))
# The ledger is extended by what the data set holds at that moment, whoever brought it.
LEDGER = Scope("ledger", ("ledger",), locks=(".split.lock",), reads=("dataset",))
INBOX = Scope(
    "inbox", ("inbox",), files=("watch.json",), locks=(".watch.lock", ".inbox.lock", "watch.lock")
)
JOURNALS = Scope("journals", ("waiting",))
"""And every file directly in STORE/NAME that is nobody else's."""
SCOPES = (DATASET, LEDGER, INBOX, JOURNALS)


def scope_of(parts: tuple[str, ...]) -> tuple[str, Scope] | None:
    """The model and the part that a path below a store belongs to; None for what is not shared."""
    if len(parts) < 2 or parts[0] in _PRIVATE or parts[0].startswith("."):
        return None
    name, first, *more = parts
    if first in _PRIVATE or (first == RUNS and more):
        return None
    for scope in SCOPES:
        if first in (scope.directories if more else (*scope.directories, *scope.files,
                                                     *scope.locks)):  # fmt: skip
            return name, scope
    return None if more else (name, JOURNALS)


def scope_paths(base: Path, scope: Scope) -> Iterator[Path]:
    """The local files of a part of a model, whose directory is ``base``."""
    for directory in scope.directories:
        yield from _visible(base / directory)
    if scope is not JOURNALS:
        yield from (path for name in scope.files if (path := base / name).is_file())
        return
    others = {name for other in SCOPES for name in other.files}
    for path in _visible(base, deep=False):
        if path.name not in others:
            yield path


def run_paths(directory: Path) -> Iterator[Path]:
    """Everything but bundles; the candidate's too, where a person may still let it go live."""
    verdict = directory / "verdict.json"
    live = verdict.is_file() and storage.read_json(verdict).get("decision") == "promote"
    for path in _visible(directory):
        arm, *inside = path.relative_to(directory).parts[1:-1] or ("",)
        if "bundle" in inside[:1] and (live or arm != "candidate"):
            continue
        yield path


def _visible(directory: Path, *, deep: bool = True) -> Iterator[Path]:
    """Files without locks, staging directories and most other hidden things."""
    if not directory.is_dir():
        return
    for path in sorted(directory.iterdir()):
        hidden = path.name.startswith(".") and path.name not in _SHARED_HIDDEN
        if hidden or path.is_symlink():
            continue
        if path.is_file():
            yield path
        elif deep:
            yield from _visible(path)
