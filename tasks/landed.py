"""The event ``annotations.landed``: sent so that a failure is noticed, and never lost.

Prefect's own ``emit_event`` hands an event to a thread and forgets it when the server is down.
Here the server is asked whether it has the event: before it is sent, so that what a killed watch
has sent is not sent twice, and after, so that what the server has not kept is sent again.
"""

from __future__ import annotations

import ssl
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from longtail.errors import LongtailError
from tasks.inbox_state import Event

LANDED = "annotations.landed"
RESOURCE = "longtail.inbox"
_TIMEOUT = 10.0
_PATIENCE = 20.0

Send = Callable[[Event], None]


class NotDeliveredError(LongtailError):
    """The server does not have an event; it is sent again by the next watch."""


def event_id(identity: uuid.UUID, what: str) -> uuid.UUID:
    """The same id for the same batch of the same store, whoever makes it how often."""
    return uuid.uuid5(identity, what)


def send_event(event: Event, patience: float = _PATIENCE) -> None:
    """Hand an event to the server that ``PREFECT_API_URL`` names, and see that it has it.

    Args:
        event: the event.
        patience: seconds that the server may take to write it down.

    Raises:
        NotDeliveredError: no server is named, none answers, it refuses, or it has not kept it.
    """
    import httpx

    with _client() as client:
        try:
            if _has(client, event):
                return
            client.post("/events", json=[_body(event)]).raise_for_status()
            deadline = time.monotonic() + patience
            while not _has(client, event):
                if time.monotonic() > deadline:
                    raise NotDeliveredError(
                        f"Prefect's server took the event of batch {event.batch}, but has not "
                        f"written it down within {patience:g} s; it is sent again at the next look"
                    )
                time.sleep(0.25)
        except httpx.HTTPStatusError as error:
            raise NotDeliveredError(
                f"Prefect's server answered {error.response.status_code} to the event of batch "
                f"{event.batch}; it is sent again at the next look"
            ) from error
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise NotDeliveredError(
                f"Prefect's server does not answer ({why}), so the event of batch {event.batch} "
                "waits; it is sent again at the next look"
            ) from error


def _client() -> Any:
    """A plain client: Prefect's own repeats what failed for minutes.

    Raises:
        NotDeliveredError: no server is named.
    """
    import httpx
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_KEY,
        PREFECT_API_URL,
        get_current_settings,
    )

    url, key, basic = PREFECT_API_URL.value(), PREFECT_API_KEY.value(), PREFECT_API_AUTH_STRING
    if not url:
        raise NotDeliveredError(
            "No Prefect server is named, so nobody can hear of the annotations; set PREFECT_API_URL"
        )
    headers = dict(get_current_settings().client.custom_headers)
    certificates = _certificates()
    if key is not None:
        headers["Authorization"] = f"Bearer {key.get_secret_value()}"
    elif (secret := basic.value()) is not None:
        user, _, password = secret.get_secret_value().partition(":")
        return httpx.Client(
            base_url=url, timeout=_TIMEOUT, headers=headers, auth=(user, password),
            verify=certificates,
        )  # fmt: skip
    return httpx.Client(base_url=url, timeout=_TIMEOUT, headers=headers, verify=certificates)


def _certificates() -> ssl.SSLContext | bool:
    """Which servers are trusted, as Prefect's own client does."""
    from prefect.settings import PREFECT_API_SSL_CERT_FILE, PREFECT_API_TLS_INSECURE_SKIP_VERIFY

    if PREFECT_API_TLS_INSECURE_SKIP_VERIFY.value():
        return False
    if (file := PREFECT_API_SSL_CERT_FILE.value()) is not None:
        return ssl.create_default_context(cafile=file)
    return True


def _has(client: Any, event: Event) -> bool:
    wanted = {"filter": {"id": {"id": [str(event.id)]}}, "limit": 1}
    answer = client.post("/events/filter", json=wanted)
    answer.raise_for_status()
    return bool(answer.json()["events"])


def _body(event: Event) -> dict[str, Any]:
    return {
        "id": str(event.id),
        "occurred": datetime.now(UTC).isoformat(),
        "event": LANDED,
        "resource": {
            "prefect.resource.id": f"{RESOURCE}.{event.payload['name']}",
            "prefect.resource.name": str(event.payload["name"]),
        },
        "related": [],
        "payload": event.payload,
    }
