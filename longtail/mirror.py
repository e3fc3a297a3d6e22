"""A store in an object store, worked on through a directory of this machine.

Everything works on local files. A lock on a file of the mirror is a lease on its part of the
shared store: what others committed comes first, and what the block wrote is committed after it.
"""

from __future__ import annotations

import contextlib
import contextvars
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from longtail import lease, storage
from longtail.bucket import Bucket, Listed, OutrunError
from longtail.errors import StoreError
from longtail.mirror_paths import directory_of, normal_url
from longtail.mirror_scopes import RUNS, SCOPES, Scope, run_paths, scope_of, scope_paths
from longtail.mirror_sync import OBJECTS, Committed, Part

MARKER = ".mirror.json"
_NOTES = ".mirror"
_DAY = 24 * 3600.0


_HELD: contextvars.ContextVar[tuple[Session, ...]] = contextvars.ContextVar("held", default=())


@dataclass
class Session:
    """A part that this thread holds: its lease, and what it has committed so far."""

    part: Part
    lease: lease.Lease
    committed: Committed

    def push(self) -> None:
        """Commit what the local files are by now."""
        self.committed = self.part.push(self.committed, self.lease.check)


@dataclass(frozen=True)
class Mirror:
    """A directory of this machine that stands for a store elsewhere.

    Attributes:
        root: the directory.
        url: of the store.
    """

    root: Path
    url: str

    @cached_property
    def bucket(self) -> Bucket:
        """The object store."""
        return Bucket(self.url)

    def part(self, name: str, scope: Scope) -> Part:
        """One part of a model's store."""
        base = self.root / name
        return self._part(f"{name}/{scope.name}", base, lambda: scope_paths(base, scope))

    def run(self, directory: Path) -> Part:
        """A run, without the bundles that are in the registry or that nobody asks for again."""
        key = directory.relative_to(self.root).as_posix()
        return self._part(key, directory, lambda: run_paths(directory))

    def path_of(self, url: str) -> Path:
        """Where the mirror has what is under a URL of the store."""
        return self.root / url.removeprefix(self.url).strip("/")

    def names(self) -> list[str]:
        """The models in the store."""
        return [name for name in self.bucket.folders() if name != OBJECTS]

    def is_due(self, name: str) -> bool:
        """Whether it is this worker that tidies up after a model today."""
        key = f"{name}/tidied"
        found = self.bucket.read(key)
        if found is not None and found.age < _DAY:
            return False
        try:
            nonce = uuid.uuid4().hex.encode()
            self.bucket.write(key, nonce, None if found is None else found.etag)
        except OutrunError:
            return False
        return True

    def runs(self, name: str) -> dict[Path, frozenset[str]]:
        """The runs of a model that are shared, the oldest first, and the files of each."""
        runs = {}
        for one in self.bucket.list(f"{name}/{RUNS}/"):
            if one.key.endswith(f"/{storage.MANIFEST}"):
                directory = self.path_of(f"{self.url}/{one.key}").parent
                runs[directory] = frozenset(self.run(directory).head().files or {})
        return dict(sorted(runs.items()))

    def collect(self) -> int:
        """Delete the objects that no manifest names, but not those of the last day.

        Returns:
            How many.
        """
        old = [one.key for one in self.bucket.list(f"{OBJECTS}/") if one.age > _DAY]
        named: set[str] = set()
        for one in self._listed():
            part = self._part(one.key.removesuffix(f"/{storage.MANIFEST}"), self.root, lambda: ())
            named.update(entry["object"] for entry in (part.head().files or {}).values())
        gone = [key for key in old if key.removeprefix(f"{OBJECTS}/") not in named]
        self.bucket.delete(gone)
        return len(gone)

    @contextlib.contextmanager
    def held(self, name: str, scope: Scope, timeout: float) -> Iterator[None]:
        """Hold a part of the store: pull it, run the block, and commit what it has written.

        If the block raises, nothing is committed, and the next pull undoes what it did here.
        """
        part = self.part(name, scope)
        if _session(part) is not None:
            yield
            return
        # A worker that died keeps its lease for so long.
        patience = timeout + 2 * lease.SECONDS
        key, seconds = f"{part.key}/lease.json", lease.SECONDS
        with (
            storage.file_lock(self._lock_of(part), patience),
            lease.Lease(self.bucket, key, timeout=patience, seconds=seconds) as held,
        ):
            session = Session(part, held, part.pull())
            for other in SCOPES:
                if other.name in scope.reads:
                    self.pull(self.part(name, other), timeout)
            token = _HELD.set((*_HELD.get(), session))
            try:
                yield
            finally:
                _HELD.reset(token)
            session.push()

    def pull(self, part: Part, timeout: float = 600.0) -> None:
        """Bring a part up to date, unless this thread holds it and so has it."""
        if _session(part) is not None:
            return
        with storage.file_lock(self._lock_of(part), timeout):
            part.pull()

    def push(self, part: Part, timeout: float = 600.0) -> None:
        """Commit a part without a lease, if nobody has since it was last brought up to date."""
        with storage.file_lock(self._lock_of(part), timeout):
            part.push(part.last_seen())

    def _listed(self) -> Iterator[Listed]:
        for name in self.names():
            for one in self.bucket.list(f"{name}/"):
                if one.key.endswith(f"/{storage.MANIFEST}"):
                    yield one

    def _part(self, key: str, base: Path, paths: Callable[[], Iterable[Path]]) -> Part:
        return Part(self.bucket, key, base, self.root / _NOTES, paths)

    def _lock_of(self, part: Part) -> Path:
        return self.root / _NOTES / f"{part.key.replace('/', '--')}.lock"


def open_mirror(url: str) -> Mirror:
    """The mirror of a store, made when it is not there.

    The first time on a machine, the object store is asked to prove that it can be shared.

    Raises:
        ConfigError: workers cannot share a store under this URL.
        StoreError: the store cannot be reached or used; the message says why.
    """
    mirror = Mirror(directory_of(url), normal_url(url))
    marker = mirror.root / MARKER
    bucket = mirror.bucket
    if not marker.is_file():
        bucket.check()
        storage.write_json(marker, {"url": mirror.url})
    return mirror


def find_mirror(path: Path) -> Mirror | None:
    """The mirror that a path is in, None for a path of this machine alone."""
    for folder in (path, *path.parents):
        if (folder / MARKER).is_file():
            return Mirror(folder, str(storage.read_json(folder / MARKER)["url"]))
    return None


def guard(path: Path, timeout: float) -> contextlib.AbstractContextManager[None]:
    """What a lock on this path takes beside the file: the lease of its part, if it has one."""
    mirror = find_mirror(path)
    found = None if mirror is None else scope_of(path.relative_to(mirror.root).parts)
    if mirror is None or found is None:
        return contextlib.nullcontext()
    return mirror.held(*found, timeout)


def flush(path: Path) -> None:
    """Commit now what was written so far to the part of a path that is held.

    Raises:
        StoreError: the lease is lost, or the store cannot be reached; nothing was committed.
    """
    mirror = find_mirror(path)
    found = None if mirror is None else scope_of(path.relative_to(mirror.root).parts)
    if mirror is None or found is None:
        return
    session = _session(mirror.part(*found))
    if session is None:
        raise StoreError(f"{path}: nobody holds its lock, so nothing may be written there")
    session.push()


def fetch(path: Path, scopes: Iterable[Scope] = SCOPES) -> None:
    """Bring up to date what a path of a mirror stands for; nothing for another path.

    Args:
        path: a store: of all its models; a model's directory; or the directory of a run.
        scopes: which parts of the models.
    """
    mirror = find_mirror(path)
    if mirror is None:
        return
    parts = path.relative_to(mirror.root).parts
    if len(parts) >= 3 and parts[1] == RUNS:
        run = mirror.run(mirror.root.joinpath(*parts[:3]))
        if run.committed():
            mirror.pull(run)
        return
    for name in parts[:1] or mirror.names():
        for scope in scopes:
            mirror.pull(mirror.part(name, scope))


def share(directory: Path) -> None:
    """Commit a run's directory to the store; nothing for one that is not in a mirror."""
    mirror = find_mirror(directory)
    if mirror is None:
        return
    parts = directory.relative_to(mirror.root).parts
    if len(parts) != 3 or parts[1] != RUNS:
        raise StoreError(f"{directory}: not the directory of a run, so it is not shared")
    mirror.push(mirror.run(directory))


def _session(part: Part) -> Session | None:
    """What this thread holds of a part."""
    for session in _HELD.get():
        if (session.part.notes, session.part.key) == (part.notes, part.key):
            return session
    return None
