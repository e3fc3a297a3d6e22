"""The data's account: where every row went, and why rows were set aside."""

from __future__ import annotations

from longtail.report.files import RunFiles, number, part
from longtail.report.table import Cell, Table, table
from longtail.report.words import integer, listed, percent, plural

_REASONS_LISTED = 30


def balance(run: RunFiles) -> str:
    """Rows read and where they went, as a sum that can be checked by eye."""
    parts = {
        key: number(run.account.get(key))
        for key in ("rows_read", "accepted", "quarantined", "merged", "skipped")
    }
    if parts["rows_read"] is None:
        return ""
    rest = [key for key in parts if key != "rows_read"]
    total = sum(parts[key] or 0.0 for key in rest)
    sums = " + ".join(f"{integer(parts[key] or 0.0)} {key}" for key in rest)
    sentence = f"{plural(parts['rows_read'], 'row')} read = {sums}."
    if total != parts["rows_read"]:
        sentence += f" The account does not balance: the parts make {integer(total)}."
    return sentence


def account_sentences(run: RunFiles) -> list[str]:
    """What the accepted rows did to the data set, and what was odd about them."""
    found = part(run.account, "dataset")
    counts = {name: number(value) for name, value in found.items()}
    known = [f"{integer(count)} {name}" for name, count in counts.items() if count]
    sentences = [f"In the data set: {listed(known)}."] if known else []
    warnings = run.account.get("warnings")
    return sentences + [f"{w}." for w in warnings] if isinstance(warnings, list) else sentences


def quarantine_table(run: RunFiles) -> Table | None:
    """Reasons with the rows they met and where to find the first of them."""
    found = run.quarantine
    if found is None or not found.rows:
        return None
    rows: list[list[str | Cell]] = [
        [
            Cell(reason, "wide"),
            Cell(_places(found.examples[reason]), "wide"),
            integer(count),
            percent(count / found.rows),
        ]
        for reason, count in list(found.reasons.items())[:_REASONS_LISTED]
    ]
    columns = ["Reason", "For example", "Rows", "Share of the quarantine"]
    caption = "Why rows were set aside; a row may have several reasons."
    return table(caption, columns, rows, names=2, stacked=True)


def skipped_table(run: RunFiles) -> Table | None:
    """What the export itself says of the rows that were not to be used."""
    counts = _skipped_reasons(run)
    if not counts:
        return None
    total = sum(counts.values())
    rows: list[list[str | Cell]] = [
        [Cell(reason, "wide"), integer(count), percent(count / total)]
        for reason, count in list(counts.items())[:_REASONS_LISTED]
    ]
    caption = "Rows that the export marks as not to be used."
    return table(caption, ["What the export says", "Rows", "Share of them"], rows, stacked=True)


def skipped_sentence(run: RunFiles) -> str:
    """Where the skipped rows are kept; empty where there are none."""
    counts = _skipped_reasons(run)
    if not counts:
        return ""
    left = len(counts) - _REASONS_LISTED
    more = f" The {left} rarest reasons are not listed." if left > 0 else ""
    return (
        f"{plural(sum(counts.values()), 'row')} skipped, neither good nor bad: the export itself "
        "marks them as not to be used. They are kept, with what it says of each, in "
        f"skipped.parquet beside this page.{more}"
    )


def _skipped_reasons(run: RunFiles) -> dict[str, float]:
    counts = part(run.account, "skipped_reasons")
    found = {str(reason): number(count) for reason, count in counts.items()}
    return {reason: count for reason, count in found.items() if count}


def _places(examples: list[tuple[str, int]]) -> str:
    by_file: dict[str, list[str]] = {}
    for file, position in examples:
        by_file.setdefault(file, []).append(integer(position))
    return "; ".join(
        f"{file}, row{'s' if len(rows) > 1 else ''} {listed(rows)}"
        for file, rows in by_file.items()
    )


def quarantine_sentence(run: RunFiles) -> str:
    """What the quarantine holds, and what the page leaves out."""
    found = run.quarantine
    if found is None:
        return "This run has no quarantine file."
    if not found.rows:
        return "No row was set aside."
    left = len(found.reasons) - _REASONS_LISTED
    more = f" The {left} rarest reasons are not listed." if left > 0 else ""
    return (
        f"{plural(found.rows, 'row')} set aside, with reasons and content, in quarantine.parquet "
        f"beside this page; their content is not repeated here.{more}"
    )
