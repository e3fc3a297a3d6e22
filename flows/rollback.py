"""The rollback flow: an earlier champion goes live again, and the log says who asked for it."""

from __future__ import annotations

from prefect import flow

from flows.config import store_directory
from flows.predict import only_model
from longtail.config import PublishSettings
from tasks.promotion import Promotion
from tasks.publishing import open_promotions
from tasks.publishing import rollback as roll_back


@flow(name="rollback", validate_parameters=True)
def rollback(
    name: str | None = None,
    store: str | None = None,
    to: int | None = None,
    by: str = "unknown",
    reason: str = "",
) -> Promotion:
    """Make an earlier champion the champion again.

    Args:
        name: the model; the only one in the store by default.
        store: where it persists.
        to: version number; the previous champion by default.
        by: who asks for it.
        reason: why; kept in the promotion log.
    """
    root = store_directory(store)
    chosen = name or only_model(root)
    return roll_back(open_promotions(PublishSettings(), root, chosen), by, reason, to)
