"""The annotations themselves, in the report of a run: what their audit says, and corrections."""

from __future__ import annotations

from longtail.audit import PAGE
from longtail.report.audit_page import summary
from longtail.report.audit_sentences import applied_sentence
from longtail.report.files import RunFiles, part


def audit_link(run: RunFiles) -> str:
    """The audit's page beside the report; empty where there is none."""
    return PAGE if run.audit and not run.audit_failed else ""


def audit_sentences(run: RunFiles) -> list[str]:
    """What the audit found, or why there is none, and what became of accepted corrections."""
    if run.audit_failed:
        said = [f"The annotations could not be audited: {run.audit_failed}"]
    else:
        said = summary(run.audit) if run.audit else []
    applied = applied_sentence(part(run.statistics, "corrections"))
    return [*said, applied] if applied else said
