"""The rollback flow: an earlier champion goes live again, and the log says who asked for it."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import State, flow
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed
from pydantic import Field, StringConstraints

from flows.config import ModelName
from flows.predict import only_model
from flows.runtime import show_progress
from flows.store import open_store
from longtail.config import PublishSettings
from longtail.mirror_scopes import JOURNALS
from tasks.promotion import Promotion
from tasks.publishing import open_promotions
from tasks.publishing import rollback as roll_back

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=r"\S")]


@flow(name="rollback", validate_parameters=True)
def rollback(
    by: Words,
    reason: Words,
    name: ModelName | None = None,
    store: str | None = None,
    to: Annotated[int, Field(ge=1)] | None = None,
) -> State[Any]:
    """Make an earlier champion the champion again.

    Args:
        by: who asks for it.
        reason: why; kept in the promotion log.
        name: the model; the only one in the store by default.
        store: where it persists.
        to: version number; the previous champion by default.

    Returns:
        A state named ``RolledBack`` whose data is the entry of the promotion log.
    """
    show_progress()
    root = open_store(store, name, PublishSettings(), scopes=[JOURNALS])
    chosen = name or only_model(root)
    entry = roll_back(open_promotions(PublishSettings(), root, chosen), by, reason, to)
    said = (
        f"{chosen}: version {entry.to_version} is live again; version {entry.from_version} is "
        f"kept as the previous one. Asked for by {by}: {reason}"
    )
    _show(chosen, entry, said)
    return Completed(name="RolledBack", message=said, data=entry)


def _show(name: str, entry: Promotion, said: str) -> None:
    rows = "\n".join(
        f"| {key} | {value} |"
        for key, value in entry.model_dump(include={"at", "micro_f1", "run_id", "id"}).items()
    )
    create_markdown_artifact(
        key=f"{name.replace('_', '-')}-rollback",
        markdown=f"{said}\n\n| | |\n| - | - |\n{rows}\n",
        description="Which champion was put back",
    )
