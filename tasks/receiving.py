"""What a receiver owes: calls that were taken, kept on the disk until their export is fetched."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from longtail import storage
from longtail.config import Settings
from longtail.errors import StoreError
from tasks.webhooks import TOLERANCE, Fetch, SourceSettings, fetch_export

logger = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 3600.0
_MOST_DEBOUNCES = 10
_ADDRESS = re.compile(r"(https?://)(?:[^\s/?#]*@)?([^\s?#'\"]*)(?:[?#][^\s'\"]*)?")


class ReceiverConfig(Settings):
    """A receiver: which tools may call, and where their exports go."""

    inbox: str = Field("inbox", description="Directory or fsspec URL that a watch looks at.")
    state: str = Field(
        "receiver", description="Directory of what is still to be fetched; it outlives restarts."
    )
    debounce_seconds: float = Field(
        30.0,
        ge=0.0,
        allow_inf_nan=False,
        description="An export is fetched when a source was quiet for so long, or after ten times "
        "as long.",
    )
    max_body_bytes: int = Field(1 << 20, ge=1, description="Longer calls are refused.")
    max_export_gigabytes: float = Field(10.0, gt=0.0, allow_inf_nan=False)
    sources: dict[str, SourceSettings] = Field(
        min_length=1, description="By the last part of the address, /webhooks/NAME."
    )


class Owed(BaseModel):
    """That a source has called and its export is not fetched yet.

    Attributes:
        first: when it called first since the last fetch, seconds since 1970.
        attempts: fetches that failed.
        not_before: when the next is due.
        error: of the last of them.
    """

    model_config = ConfigDict(frozen=True)

    first: float
    attempts: int = 0
    not_before: float = 0.0
    error: str | None = None


class Source:
    """One source: its calls, and the thread that fetches for it.

    Args:
        name: of the source.
        settings: who calls, and where the export is.
        config: the receiver's.
        fetch: fetches the export.

    Raises:
        ConfigError: a secret is missing.
        StoreError: what was owed cannot be read.
    """

    def __init__(
        self,
        name: str,
        settings: SourceSettings,
        config: ReceiverConfig,
        fetch: Fetch = fetch_export,
    ) -> None:
        self.name, self.settings, self.config = name, settings, config
        self.secret, self._token = settings.secret_value(), settings.token_value()
        self._fetch, self._lock = fetch, threading.Lock()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._path = Path(config.state) / f"{name}.json"
        self._called = 0.0
        self._calls = 0
        self._fetched: float | None = None
        self._seen: dict[str, float] = {}
        self._owed = self._read()

    def _read(self) -> Owed | None:
        if not self._path.exists():
            return None
        try:
            return Owed.model_validate(storage.read_json(self._path))
        except ValueError as error:
            raise StoreError(f"{self._path}: not what a receiver has written; remove it") from error

    def take(self, call: str | None = None) -> bool:
        """Note a call; on the disk when this returns.

        Args:
            call: its id, where it has one that was signed.

        Returns:
            Whether it is a new one; an id is remembered as long as its signature counts.
        """
        with self._lock:
            now = time.time()
            self._seen = {one: at for one, at in self._seen.items() if now - at < 2 * TOLERANCE}
            if call in self._seen:
                return False
            self._calls += 1
            self._called = now
            if self._owed is None:
                self._keep(Owed(first=now))
            if call is not None:  # now only: what could not be written down is sent again
                self._seen[call] = now
        self._wake.set()
        return True

    def _keep(self, owed: Owed | None) -> None:
        if owed is None:
            self._path.unlink(missing_ok=True)
        else:
            storage.write_json(self._path, owed.model_dump())
        self._owed = owed

    def wait(self, now: float) -> float | None:
        """Seconds until the export is to be fetched; None: nothing is owed."""
        with self._lock:
            owed, quiet = self._owed, self.config.debounce_seconds
            if owed is None:
                return None
            if owed.first > now or owed.not_before > now + _LONGEST_PAUSE:
                return 0.0  # the clock was set back
            settled = min(self._called + quiet, owed.first + _MOST_DEBOUNCES * quiet)
            return max(settled, owed.not_before) - now

    def fetch(self) -> bool:
        """Fetch the export now; returns whether it is in the inbox."""
        with self._lock:
            calls, owed = self._calls, self._owed
        if owed is None:
            return True
        most = int(self.config.max_export_gigabytes * 1e9)
        try:
            size = self._fetch(self.name, self.settings, self._token, self.config.inbox, most)
        except Exception as error:  # noqa: BLE001 - whatever it was, the calls are owed still
            self._failed(owed, error)
            return False
        with self._lock:
            self._fetched = time.time()
            # A call that came during the fetch may tell of what it did not see.
            self._keep(None if self._calls == calls else Owed(first=self._called))
        logger.info("%s: an export of %d bytes is in the inbox", self.name, size)
        return True

    def _failed(self, owed: Owed, error: Exception) -> None:
        said = str(error).partition("\n")[0] or type(error).__name__
        said = _ADDRESS.sub(r"\1\2", said)  # a token may stand in it, and /health is open
        pause = min(_FIRST_PAUSE * 2**owed.attempts, _LONGEST_PAUSE)
        with self._lock:
            self._keep(
                Owed(
                    first=owed.first, attempts=min(owed.attempts + 1, 60),
                    not_before=time.time() + pause, error=said,
                )
            )  # fmt: skip
        logger.warning("%s: not fetched (%s); again in %.0f s", self.name, said, pause)

    def run(self) -> None:
        """Fetch whenever something is owed, until stopped."""
        while not self._stop.is_set():
            left = self.wait(time.time())
            if left is not None and left <= 0:
                try:
                    self.fetch()
                except OSError:  # of the state's own directory; the calls are kept in memory
                    logger.exception("%s: what is owed cannot be written down", self.name)
                    self._stop.wait(_FIRST_PAUSE)
                continue
            self._wake.wait(left)
            self._wake.clear()
            if left is not None:  # a burst of calls need not be counted one by one
                self._stop.wait(min(max(left, 0.0), 0.05))

    def stop(self) -> None:
        """End :meth:`run` after what it is doing."""
        self._stop.set()
        self._wake.set()

    def health(self) -> dict[str, object]:
        """What waits, and what failed."""
        with self._lock:
            owed = self._owed
            return {
                "waits": owed is not None,
                "since": None if owed is None else owed.first,
                "attempts": 0 if owed is None else owed.attempts,
                "error": None if owed is None else owed.error,
                "fetched": self._fetched,
            }


class Receiver:
    """All sources of a receiver.

    Raises:
        ConfigError: a secret is missing.
    """

    def __init__(self, config: ReceiverConfig, fetch: Fetch = fetch_export) -> None:
        self.config = config
        self.sources: Mapping[str, Source] = {
            name: Source(name, settings, config, fetch) for name, settings in config.sources.items()
        }
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to fetch, first of all what was owed when the last receiver ended."""
        for source in self.sources.values():
            thread = threading.Thread(target=source.run, name=f"fetch-{source.name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, patience: float = 10.0) -> None:
        """Stop fetching; what is owed stays on the disk."""
        for source in self.sources.values():
            source.stop()
        for thread in self._threads:
            thread.join(patience)
