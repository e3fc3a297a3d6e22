"""The split: sizes, how well the labels are spread, and what was left out as a leak."""

from __future__ import annotations

from typing import Any

from longtail.report.files import RunFiles, number, part
from longtail.report.table import Cell, Table, table
from longtail.report.words import integer, plural

_SPLITS = ("train", "validation", "test")
_LISTED = 20


def split_table(run: RunFiles) -> Table | None:
    """Texts asked for, assigned and used per split."""
    sizes = part(run.quality, "sizes")
    rows = [
        [
            name,
            *(integer(number(part(sizes, name).get(key))) for key in ("asked", "assigned", "used")),
        ]
        for name in _SPLITS
        if name in sizes
    ]
    columns = ["Split", "Texts asked for", "Assigned", "Used in this run"]
    return table("Sizes of the splits.", columns, rows) if rows else None


def split_sentences(run: RunFiles) -> list[str]:
    """What a reader has to know about the split."""
    quality = run.quality
    sentences = [_deviation(quality), _leaks(quality), _ledger(quality), _bridges(quality)]
    return [sentence for sentence in sentences if sentence]


def _deviation(quality: dict[str, Any]) -> str:
    labels = part(quality, "labels")
    mean, most = (number(labels.get(f"{key}_deviation_rows")) for key in ("mean", "largest"))
    if mean is None or most is None:
        return ""
    return (
        f"A label misses its share of a split by {mean:,.1f} texts on average and by {most:,.1f} "
        "at most."
    )


def _leaks(quality: dict[str, Any]) -> str:
    leaks = part(quality, "leaks")
    counts = {name: number(leaks.get(f"{name}_rows")) for name in ("train", "validation")}
    if any(count is None for count in counts.values()):
        return ""
    found = sum(count or 0.0 for count in counts.values())
    pairs = number(part(quality, "near_duplicates").get("pairs"))
    compared = f" among {plural(pairs, 'pair')} of near-duplicates" if pairs else ""
    if not found:
        return f"No training text repeats a text that is held out from it{compared}: no leak."
    kept = "They were kept, so the gate blocks." if leaks.get("policy") == "keep" else (
        f"{plural(number(leaks.get('left_out')) or 0.0, 'text')} left out of this run."
    )  # fmt: skip
    return (
        f"Leaks: {plural(counts['train'] or 0.0, 'training text')} and "
        f"{plural(counts['validation'] or 0.0, 'validation text')} repeat, or belong together "
        f"with, a text held out from them{compared}. {kept}"
    )


def _ledger(quality: dict[str, Any]) -> str:
    ledger = part(quality, "ledger")
    known, new = number(ledger.get("known")), number(ledger.get("new"))
    if known is None or new is None:
        return ""
    sentence = f"{plural(known, 'text')} kept the side of an earlier run; {integer(new)} are new"
    followers = number(ledger.get("followers"))
    if followers:
        sentence += f", {integer(followers)} of them on the side of the texts they belong to"
    conflicts = number(ledger.get("conflicts"))
    if conflicts:
        sentence += (
            f". {plural(conflicts, 'text')} would now be given another side by the data; the "
            "earlier side holds"
        )
    return f"{sentence}."


def _bridges(quality: dict[str, Any]) -> str:
    bridges = quality.get("bridges")
    if not isinstance(bridges, list) or not bridges:
        return ""
    return (
        f"{plural(len(bridges), 'new text')} left out: they belong together with texts of "
        "different splits, so they could stand nowhere without a leak."
    )


def infeasible_table(run: RunFiles) -> Table | None:
    """Labels that do not stand in every split."""
    found = _entries(run.quality.get("infeasible"))
    rows: list[list[str | Cell]] = [
        [
            Cell(str(entry.get("label")), "name"),
            Cell(", ".join(str(name) for name in entry.get("missing_from") or ()), "rule"),
            integer(number(entry.get("texts"))),
            integer(number(entry.get("units"))),
        ]
        for entry in sorted(found, key=lambda entry: -(number(entry.get("texts")) or 0.0))
    ]
    if not rows:
        return None
    listed = f"; here the {_LISTED} most frequent of them" if len(rows) > _LISTED else ""
    caption = (
        f"{plural(len(rows), 'label')}{listed}. A label needs three units, texts that stay "
        "together, to stand in all three splits."
    )
    return table(caption, ["Label", "Missing from", "Texts", "Units"], rows[:_LISTED], names=2)


def deviation_table(run: RunFiles) -> Table | None:
    """The labels furthest from their share."""
    found = _entries(part(run.quality, "labels").get("worst"))[:_LISTED]
    rows: list[list[str | Cell]] = []
    for entry in found:
        counts = entry.get("counts")
        values = [number(value) for value in counts] if isinstance(counts, list) else []
        off = number(entry.get("rows"))
        rows.append([
            Cell(str(entry.get("label")), "name"),
            "–" if off is None else f"{off:,.1f}",
            *(integer(value) for value in [*values, None, None, None][: len(_SPLITS)]),
        ])  # fmt: skip
    columns = ["Label", "Texts off", *(f"In {name}" for name in _SPLITS)]
    return table("The labels furthest from their share.", columns, rows) if rows else None


def _entries(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
