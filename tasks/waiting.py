"""Waiting for something that another run holds, and saying so."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

_TELL_SECONDS = 60.0


def wait(who: str, attempt: Callable[[float], bool], held_by: Callable[[], str]) -> None:
    """Attempt until it succeeds; say what is waited for at once, and then once a minute.

    Args:
        who: waits.
        attempt: tries for so many seconds; gives whether it succeeded.
        held_by: says who is in the way.
    """
    if attempt(0.0):
        return
    started = time.monotonic()
    logger.info("%s; %s waits", held_by(), who)
    while not attempt(_TELL_SECONDS):
        logger.info("%s; %s has waited for %.0f s", held_by(), who, time.monotonic() - started)
    logger.info("%s goes on after a wait of %.0f s", who, time.monotonic() - started)
