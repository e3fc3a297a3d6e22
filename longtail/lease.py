"""A lease on a part of a shared store: one worker at a time, and none for ever.

A lease is one object that is only ever written over the state that was read. Its holder renews
it; a holder that died does not, and after a while another worker takes it over. Ages are told by
the object store's clock alone, so that the clocks of the workers do not matter.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import random
import socket
import threading
import time
import uuid
from types import TracebackType
from typing import Any, Self

from longtail.bucket import Bucket, Found, OutrunError
from longtail.errors import StoreError

logger = logging.getLogger(__name__)

SECONDS = 60.0
_RENEWALS = 3  # within the time that it lasts
_LONGEST_PAUSE = 2.0
_CLOCK_STEP = 1.0  # an object store tells times to the second


class Lease:
    """Held while the block runs, and renewed by a thread.

    Args:
        bucket: where the store is.
        key: of the lease's object.
        timeout: seconds to wait for another holder.
        seconds: how long it lasts after its last renewal.

    Raises:
        StoreError: another worker held it all the time, or the store cannot be reached.
    """

    def __init__(
        self, bucket: Bucket, key: str, *, timeout: float, seconds: float = SECONDS
    ) -> None:
        self._bucket = bucket
        self._key = key
        self._timeout = timeout
        self._seconds = seconds
        self._about: dict[str, Any] = {
            "holder": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "seconds": seconds,
        }
        self._renewed = 0
        self._etag: str | None = None
        self._last = 0.0
        self._lost = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease {key}", daemon=True)

    def __enter__(self) -> Self:
        self._acquire()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._lost:
            return
        try:
            self._write({"holder": None, "released": uuid.uuid4().hex})
        except StoreError as failed:  # it ends by itself
            logger.warning("The lease could not be given back, and runs out: %s", failed)

    def check(self) -> None:
        """Make sure that it is still ours.

        Raises:
            StoreError: it was not renewed in time, or another worker has taken it.
        """
        if self._lost or time.monotonic() - self._last > self._seconds:
            raise StoreError(
                f"{self._bucket.url}/{self._key}: this worker could not renew its lease in time, "
                "and another one may hold it by now; nothing was written to the store, start again"
            )

    def _acquire(self) -> None:
        deadline = time.monotonic() + self._timeout
        pause = 0.05
        while True:
            found = self._bucket.read(self._key)
            held = None if found is None else _holder(found)
            if held is None or self._expired(found, held):
                self._etag = None if found is None else found.etag
                try:
                    self._write(self._about)
                except OutrunError:
                    held = {"host": "another worker"}
                else:
                    return
            if time.monotonic() > deadline:
                raise StoreError(
                    f"{self._bucket.url}/{self._key}: held by {_spell(held)} for more than "
                    f"{self._timeout:g} s; wait for it to end"
                )
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - not for secrets
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _expired(self, found: Found | None, held: dict[str, Any]) -> bool:
        if found is None or found.age <= float(held["seconds"]) + _CLOCK_STEP:
            return False
        logger.warning(
            "%s/%s: taken over from %s, which has not renewed it for %.0f s",
            self._bucket.url,
            self._key,
            _spell(held),
            found.age,
        )
        return True

    def _renew(self) -> None:
        while not self._over.wait(self._seconds / _RENEWALS):
            self._renewed += 1
            try:
                self._write({**self._about, "renewed": self._renewed})
            except OutrunError:
                self._lost = True
                return
            except StoreError as error:
                logger.warning("The lease could not be renewed: %s", error)

    def _write(self, content: dict[str, Any]) -> None:
        started = time.monotonic()
        self._etag = self._bucket.write(self._key, json.dumps(content).encode(), self._etag)
        self._last = started


def _holder(found: Found) -> dict[str, Any] | None:
    """Who holds it; None where nobody does, or where nobody can read who."""
    try:
        content = json.loads(found.data)
    except ValueError:
        return None
    held = isinstance(content, dict) and content.get("holder") and "seconds" in content
    return content if held else None


def _spell(held: dict[str, Any] | None) -> str:
    held = held or {}
    process = f" (process {held['pid']}, since {held['since']})" if "pid" in held else ""
    return f"{held.get('host', 'another worker')}{process}"
