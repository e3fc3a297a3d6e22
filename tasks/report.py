"""The run directory → ``report.html``, and links to all that a run has left."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from longtail.report import render_report
from tasks.artifacts import artifact_key, link, publish_markdown
from tasks.handles import RunHandle
from tasks.stages import timed

_PAGES = {
    "Report": "report.html",
    "Audit of the annotations": "audit.html",
    "Data Docs": "data_docs/index.html",
    "Verdict": "verdict.json",
    "Metrics": "metrics.json",
    "Quarantined rows": "quarantine.parquet",
}


@task(name="write report", task_run_name="write report", cache_policy=NO_CACHE)
def write_report(run: RunHandle) -> Path:
    """Render the page people forward."""
    with timed(run, "report"):
        return render_report(run.directory)


def publish_links(run: RunHandle, mlflow: str | None = None) -> None:
    """Show links to the report and whatever else the run has left.

    Args:
        run: the run.
        mlflow: where its run in MLflow is; None where it was not logged.
    """
    pages = {title: run.directory / path for title, path in _PAGES.items()}
    lines = [
        f"- {title}: [{path.relative_to(run.directory)}]({link(run, path)})"
        for title, path in pages.items()
        if path.is_file()
    ]
    if mlflow is not None:
        served = mlflow.startswith(("http://", "https://"))
        lines.append(f"- MLflow: {f'[{mlflow}]({mlflow})' if served else f'`{mlflow}`'}")
    lines.append(f"- Everything of this run: [{run.directory}]({link(run, run.directory)})")
    publish_markdown(artifact_key(run, "report"), "\n".join(lines), "Where to read on")
