"""From the files of an audit to ``audit.html``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail import storage
from longtail.audit import AUDIT, PAGE
from longtail.errors import StoreError
from longtail.report import audit_people, audit_sentences, audit_tables, reproduce
from longtail.report.files import number, part
from longtail.report.page import page
from longtail.report.words import integer, plural


@dataclass(frozen=True)
class Tile:
    """A number of the page's head."""

    name: str
    value: str
    beside: str


def render_audit(directory: Path) -> Path:
    """Write the page of an audit.

    It needs no network and no other file. Unlike a run's report it quotes the beginnings of texts,
    and says so.

    Args:
        directory: with ``audit.json``; ``run.json`` and ``account.json`` where they are.

    Returns:
        ``directory/audit.html``.

    Raises:
        StoreError: there is no audit, or a file is damaged.
    """
    if not (directory / AUDIT).is_file():
        raise StoreError(f"{directory / AUDIT}: not found, so nothing was audited here")
    audit = storage.read_json(directory / AUDIT)
    run = _optional(directory / "run.json")
    target = directory / PAGE
    storage.write_text(target, page("audit.html.j2", **_context(audit, run, directory)))
    return target


def summary(audit: Mapping[str, Any]) -> list[str]:
    """The findings, one sentence each, worst first: for the page's head and for the artifact."""
    duplicates, near = part(audit, "duplicates"), part(audit, "near_duplicates")
    errors, implied = part(audit, "label_errors"), part(audit, "implied")
    rare = part(audit, "rare_labels")
    said = [
        audit_sentences.duplicates_sentence(duplicates),
        audit_sentences.near_sentence(near),
        audit_sentences.errors_sentence(errors),
        audit_sentences.implied_sentence(implied),
        audit_sentences.rare_sentence(rare),
        audit_people.people_sentence(audit),
    ]
    return [sentence for sentence in said if sentence]


def _context(audit: dict[str, Any], run: dict[str, Any], directory: Path) -> dict[str, Any]:
    date = run.get("started_at") or dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    cells = part(audit, "candidates")
    return {
        "name": str(run.get("name") or directory.resolve().name),
        "date": dt.datetime.fromisoformat(str(date)).astimezone(dt.UTC),
        "lead": (
            f"{plural(number(audit.get('texts')) or 0, 'text')}, "
            f"{plural(number(audit.get('labels')) or 0, 'label')}: "
            f"{plural(number(cells.get('cells')) or 0, 'label')} to look at in "
            f"{plural(number(cells.get('texts')) or 0, 'text')}."
        ),
        "tiles": _tiles(audit),
        "summary": summary(audit),
        "applied": audit_sentences.applied_sentence(part(audit, "corrections")),
        "candidates": audit_tables.candidates_table(cells),
        "conflicts": audit_tables.conflicts_table(part(audit, "duplicates")),
        "near_sides": audit_sentences.sides_sentence(part(audit, "near_duplicates")),
        "near": audit_tables.near_table(part(audit, "near_duplicates")),
        "searched": audit_sentences.searched_sentences(audit),
        "missing": audit_tables.suspects_table(audit, "add"),
        "wrong": audit_tables.suspects_table(audit, "remove"),
        "per_label": audit_tables.per_label_table(part(audit, "label_errors")),
        "worst_texts": audit_tables.worst_texts_table(audit),
        "implied": audit_tables.implied_table(part(audit, "implied")),
        "rare": audit_tables.rare_table(part(audit, "rare_labels")),
        "rare_advice": audit_sentences.rare_advice(part(audit, "rare_labels")),
        "people": audit_people.people(audit),
        "settings": audit_tables.settings_table(audit),
        "versions": reproduce.versions(),
    }


def _tiles(audit: dict[str, Any]) -> list[Tile]:
    duplicates, near = part(audit, "duplicates"), part(audit, "near_duplicates")
    errors, implied = part(audit, "label_errors"), part(audit, "implied")
    tiles = [
        _tile("Texts that stand again", duplicates, "beyond_first", "beyond the first"),
        _tile("Texts labelled in conflict", duplicates, "conflicting_sets", "that stand again"),
        _tile("Near-duplicate pairs", near, "pairs", "of different texts"),
        _tile("Labels likely missing", errors, "missing", "by a model that has not seen the text"),
        _tile("Labels likely wrong", errors, "wrong", "by a model that has not seen the text"),
        _tile("Implied labels missing", implied, "missing", "where another label implies them"),
        _tile("Labels too rare", part(audit, "rare_labels"), "labels", "to judge"),
    ]
    in_train = number(duplicates.get("test_in_train"))
    if in_train is not None:
        tiles.insert(2, Tile("Test texts also in train", integer(in_train), "by the data's split"))
    return [tile for tile in tiles if tile.value != "–"]


def _tile(name: str, section: dict[str, Any], key: str, beside: str) -> Tile:
    return Tile(name, integer(number(section.get(key))), beside)


def _optional(path: Path) -> dict[str, Any]:
    found = storage.read_json(path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}
