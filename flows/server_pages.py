"""Everything of a kind on a Prefect server, which hands out at most 200 at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_PAGE = 200
Listing = Literal["/deployments/filter", "/automations/filter", "/flow_runs/filter"]


def read_all(client: SyncPrefectClient, listing: Listing, **wanted: Any) -> list[dict[str, Any]]:
    """All that fits, page by page.

    Args:
        client: of the server.
        listing: what is asked for.
        wanted: Prefect's filters.
    """
    found: list[dict[str, Any]] = []
    while True:
        body = {**wanted, "limit": _PAGE, "offset": len(found)}
        page = client.request("POST", listing, json=body).json()
        found += page
        if len(page) < _PAGE:
            return found
