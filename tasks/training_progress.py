"""What the run's page tells of a training that is under way."""

from __future__ import annotations

import logging
import time
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext

from longtail.progress import Progress
from tasks.artifacts import artifact_key, publish_markdown
from tasks.handles import RunHandle
from tasks.training_job import TrainingJob

logger = logging.getLogger(__name__)

_SECONDS = 5.0
_SECONDS_AFTER_FAILURE = 60.0


class ProgressArtifact:
    """A progress artifact of an arm, brought up to date every few seconds.

    Outside of a run nothing is shown. A server that is away for a while costs nothing but the
    progress.

    Args:
        run: that the arm belongs to.
        arm: its name.
    """

    def __init__(self, run: RunHandle, arm: str) -> None:
        self._key = artifact_key(run, f"training-{arm}")
        self._artifact: UUID | None = None
        self._next = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Show where the training stands, unless it was shown just now."""
        now = time.monotonic()
        done = progress.step >= progress.steps
        if not _in_a_run() or (now < self._next and not done):
            return
        self._next = now + _SECONDS
        try:
            self._show(100.0 * progress.share, str(progress))
        except Exception as error:  # noqa: BLE001 - httpx, OS and Prefect's own alike
            self._next = now + _SECONDS_AFTER_FAILURE
            logger.warning("The progress of the training could not be shown: %s", error)

    def _show(self, percent: float, description: str) -> None:
        if self._artifact is None:
            created = create_progress_artifact(percent, self._key, description)
            self._artifact = cast("UUID", created)  # a coroutine only where it is awaited
        else:
            update_progress_artifact(self._artifact, percent, description)


def show_shortages(run: RunHandle, job: TrainingJob) -> None:
    """Say on the run's page that memory ran out on the way, where it did."""
    if not job.shortages or not _in_a_run():
        return
    sizes = ", ".join(str(shortage.batch_size) for shortage in job.shortages)
    publish_markdown(
        artifact_key(run, f"memory-{job.arm}"),
        f"**{job.arm}: out of memory** with {sizes} texts in a forward pass. It was trained with "
        f"`batch_size: {job.training.batch_size}` and `accumulation: {job.training.accumulation}`, "
        "which make the same steps and take longer. Put them into the profile to save the "
        f"attempts.\n\n{job.shortages[-1].said}",
        f"{job.arm}: out of memory, trained in smaller passes",
    )


def _in_a_run() -> bool:
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None
