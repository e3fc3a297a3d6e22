"""The page of a run: one self-contained HTML file that can be forwarded."""

from longtail.report.files import PENDING
from longtail.report.render import render_report

__all__ = ["PENDING", "render_report"]
