"""The leaderboard of a comparison as a page, as Markdown and as figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longtail import storage
from longtail.plots import Figure, standalone
from longtail.report.page import page
from longtail.report.published import published_for
from longtail.report.reproduce import versions
from longtail.report.standing_candidate import candidate_findings, candidate_tables
from longtail.report.standing_tables import figure_of, published_table, table_of
from longtail.report.standing_words import answer, differences, facts, findings, meaning, trained
from longtail.report.standings import (
    LEADERBOARD,
    LINEAR,
    DataSetLines,
    Standings,
    load_standings,
)
from longtail.report.table import Cell, Table

__all__ = ["LEADERBOARD", "LINEAR", "render_leaderboard"]

PAGE = "leaderboard.html"
MARKDOWN = "results.md"
FIGURES = "results"
_FIGURE_CAPTION = (
    "A point per seed, a tick at their mean (the number on the right); the dashed line is BCE's "
    "mean. The axes do not begin at zero."
)


def render_leaderboard(root: Path) -> Path:
    """Write the page of a comparison, the same as Markdown, and its figures as files.

    The page needs no network and no other file. ``results.md`` shows the figures of ``results/``.
    Nothing of the texts and no label name is in any of them.

    Args:
        root: directory with the comparison's ``leaderboard.json``.

    Returns:
        ``root/leaderboard.html``.

    Raises:
        StoreError: the comparison has not ended, or the file is damaged.
    """
    standings = load_standings(root)
    figures = {one.name: figure_of(one, standings) for one in standings.data_sets}
    for stale in (root / FIGURES).glob("*.svg"):  # of data sets that are no longer compared
        stale.unlink()
    for figure in figures.values():
        storage.write_text(root / FIGURES / f"{_file(figure)}.svg", standalone(figure))
    sections = [_section(one, standings) for one in standings.data_sets]
    storage.write_text(root / MARKDOWN, _markdown(standings, sections, figures))
    target = root / PAGE
    storage.write_text(
        target,
        page(
            "leaderboard.html.j2", standings=standings, figures=figures, sections=sections,
            answer=answer(standings), meaning=meaning(standings), caption=_FIGURE_CAPTION,
            versions=versions(),
        ),
    )  # fmt: skip
    return target


def _section(data: DataSetLines, standings: Standings) -> dict[str, Any]:
    published = published_for(data.name, data.about["labels"])
    return {
        "name": data.name,
        "facts": [facts(data), trained(data)],
        "candidate": []
        if data.candidate is None
        else candidate_tables(data.candidate, standings.confidence),
        "candidate_findings": []
        if data.candidate is None
        else candidate_findings(data.candidate, standings.confidence),
        "tables": [table_of(data, standings, fused=fused) for fused in data.kinds],
        "findings": findings(data, standings),
        "published": None if published is None else published_table(data, published),
        "differences": [] if published is None else differences(data, published),
    }


def _file(figure: Figure) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", figure.name)


def _markdown(
    standings: Standings, sections: Sequence[dict[str, Any]], figures: dict[str, Figure]
) -> str:
    parts = ["# Losses compared", "Made by `longtail compare`; see the end for the command."]
    parts += ["## The answer", _bullets(answer(standings))]
    for section in sections:
        name = section["name"]
        parts += [f"## {_escaped(name)}", *(_escaped(fact) for fact in section["facts"] if fact)]
        if section["candidate"]:
            parts += [f"### {_escaped(name)}: the candidate"]
            for shown in section["candidate"]:
                parts += [_escaped(shown.caption), _markdown_table(shown)]
            parts += [_bullets(section["candidate_findings"])]
            parts += [f"### {_escaped(name)}: the losses"]
        parts += [f"![{_escaped(name)}]({FIGURES}/{_file(figures[name])}.svg)", _FIGURE_CAPTION]
        for shown in section["tables"]:
            parts += [_escaped(shown.caption), _markdown_table(shown)]
        parts += [_bullets(section["findings"])]
        if section["published"] is not None:
            parts += [f"### {_escaped(name)}: beside the published table",
                      _markdown_table(section["published"]), "What differs:",
                      _bullets(section["differences"])]  # fmt: skip
    parts += ["## What the numbers mean", _bullets(meaning(standings))]
    parts += ["## How to get this again", _fenced(standings.command)]
    parts += [_markdown_table(versions())]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(shown: Table) -> str:
    head = [_cell(Cell(name)) for name in shown.columns]
    rule = [" --- " if at < shown.names else " ---: " for at in range(len(head))]
    rows = [[_cell(cell) for cell in row] for row in shown.rows]
    lines = [f"|{'|'.join(f' {cell} ' for cell in row)}|" for row in (head, *rows)]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])


def _cell(cell: Cell) -> str:
    shown = _escaped(cell.text)
    return f"**{shown}**" if cell.css == "best" else shown


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {_escaped(sentence)}" for sentence in sentences)


def _escaped(text: str) -> str:
    """Plain text for Markdown: nothing in it is markup, a cell's end or a line's."""
    return re.sub(r"([\\`*_|<>\[\]#&])", r"\\\1", " ".join(text.split()))


def _fenced(command: str) -> str:
    longest = max((len(run) for run in re.findall("`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{command}\n{fence}"
