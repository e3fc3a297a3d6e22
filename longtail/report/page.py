"""A page in one file: no network, no font, no script but its own few lines."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from longtail.plots import inline
from longtail.plots.theme import DARK, FIGURE_CSS, FONT, LIGHT, variables
from longtail.report import words


def page(template: str, **context: Any) -> str:
    """Fill a template of this package; everything in the context is escaped.

    Args:
        template: file name, such as ``report.html.j2``. It is given style and script, the latter
            with the digest for the page's content security policy, and ``panel`` and ``integer``.
        context: what else the template names.
    """
    script = _resource("table.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("longtail.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["panel"] = lambda drawn: Markup(inline(drawn))  # noqa: S704 - escaped there
    environment.globals["integer"] = words.integer
    return environment.get_template(template).render(
        script=Markup(script),  # noqa: S704 - a file of this package
        script_hash=digest,
        css=Markup(_style()),  # noqa: S704 - a file of this package
        **context,
    )


def _style() -> str:
    light, dark = variables(LIGHT), variables(DARK)
    return (
        f":root{{color-scheme:light dark;{light}--font:{FONT}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        f"{FIGURE_CSS}{_resource('style.css')}"
    )


def _resource(name: str) -> str:
    return resources.files("longtail.report").joinpath(name).read_text(encoding="utf-8")
