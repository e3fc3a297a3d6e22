"""The run directory → ``report.html``."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from longtail.report import render_report
from tasks.artifacts import publish_markdown
from tasks.handles import RunHandle


@task(name="write report")
def write_report(run: RunHandle) -> Path:
    """Render the page people forward."""
    page = render_report(run.directory)
    publish_markdown("report", f"[{page}]({page.as_uri()})", "The report of this run")
    return page
