"""The contracts at the hand-overs: annotations, splits and predictions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from data_contracts.expectations import Finding, validate
from data_contracts.helpers import annotation_helpers, prediction_helpers, split_helpers
from data_contracts.sentences import reason, warning
from data_contracts.suites import annotations_suite, predictions_suite, splits_suite
from longtail.annotations.merge import label_set
from longtail.annotations.schema import ANNOTATIONS, QUARANTINE
from longtail.config import DataSettings
from longtail.errors import DataError
from longtail.predictions import Predictions

_SHOWN_ROWS = 5


@dataclass(frozen=True)
class Checked:
    """Annotation rows after the contract; every input row is in exactly one of the two tables.

    Attributes:
        accepted: ANNOTATIONS and ``position``; labels sorted, each once.
        quarantined: QUARANTINE, every reason of every row.
        warnings: what is odd but no reason to set a row aside, as sentences.
    """

    accepted: pa.Table
    quarantined: pa.Table
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class HandOver:
    """The outcome of a check between two stages.

    Attributes:
        name: the suite.
        errors: broken critical rules as sentences.
        warnings: broken warning rules as sentences.
    """

    name: str
    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    def require(self) -> None:
        """Raise if a critical rule is broken.

        Raises:
            DataError: naming every broken rule.
        """
        if self.errors:
            raise DataError(f"the {self.name} break their contract: {'; '.join(self.errors)}")


def check_annotations(
    table: pa.Table,
    settings: DataSettings,
    *,
    file: str,
    labels_required: bool = True,
    data_docs: Path | None = None,
    now: dt.datetime | None = None,
) -> Checked:
    """Divide the rows of an export into accepted and quarantined ones.

    Args:
        table: rows of the schema RAW.
        settings: limits.
        file: the export's name, for the quarantine.
        labels_required: False for texts that are to be labelled.
        data_docs: folder for Great Expectations' pages.
        now: what counts as the future begins a day after it; default the clock.
    """
    frame = annotation_helpers(table, labels_required, now or dt.datetime.now(dt.UTC))
    suite = annotations_suite(settings.max_text_characters)
    findings = validate(frame, suite, data_docs)
    critical = [finding for finding in findings if finding.rule.severity == "critical"]
    bad = sorted({row for finding in critical for row in finding.rows})
    quarantined = _quarantine(table, bad, critical, settings, file)
    good = np.setdiff1d(np.arange(table.num_rows), bad)
    accepted = table.select([*ANNOTATIONS.names, "position"]).take(pa.array(good, pa.int64()))
    return Checked(_with_label_sets(accepted), quarantined, _warnings(findings, frame, set(bad)))


def check_splits(
    splits: Mapping[str, pa.Table],
    labels: Sequence[str],
    *,
    leaks_allowed: bool = False,
    data_docs: Path | None = None,
) -> HandOver:
    """Check train, validation and test before anything is trained on them.

    Args:
        splits: ``train``, ``validation`` and ``test``, each with the columns id, text, labels,
            unit and cohort.
        labels: the label space.
        leaks_allowed: a unit both in train and held out is a warning only (the gate blocks).
        data_docs: folder for Great Expectations' pages.
    """
    frame = split_helpers(splits, labels)
    ids = pa.concat_tables([table.select(["id"]) for table in splits.values()])["id"]
    return _hand_over(
        "splits", validate(frame, splits_suite(leaks_allowed=leaks_allowed), data_docs), ids
    )


def check_predictions(
    predictions: Predictions, ids: Sequence[str] | None = None, *, data_docs: Path | None = None
) -> HandOver:
    """Check probabilities before thresholds, metrics or users see them.

    Args:
        predictions: the scored texts.
        ids: the texts that were to be scored, or None for any.
        data_docs: folder for Great Expectations' pages.
    """
    findings = validate(prediction_helpers(predictions, ids), predictions_suite(), data_docs)
    outcome = _hand_over("predictions", findings, pa.array(predictions.ids, pa.string()))
    missing = sorted(set(ids or ()) - set(predictions.ids))
    if not missing:
        return outcome
    sentence = f"{len(missing)} texts were not scored, the first is {missing[0]!r}"
    return HandOver(outcome.name, (*outcome.errors, sentence), outcome.warnings)


def _quarantine(
    table: pa.Table, bad: list[int], critical: list[Finding], settings: DataSettings, file: str
) -> pa.Table:
    reasons: dict[int, list[str]] = {row: [] for row in bad}
    rows = dict(zip(bad, table.take(pa.array(bad, pa.int64())).to_pylist(), strict=True))
    for finding in critical:
        for number in finding.rows:
            reasons[number] += reason(finding.rule.name, rows[number], settings)
    quarantined = [
        {**{name: rows[number][name] for name in ("position", "id", "raw")},
         "file": file, "reasons": reasons[number]}
        for number in bad
    ]  # fmt: skip
    return pa.Table.from_pylist(quarantined, schema=QUARANTINE)


def _with_label_sets(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("labels")
    sets = [label_set(labels) for labels in table["labels"].to_pylist()]
    return table.set_column(place, table.schema.field(place), pa.array(sets, pa.list_(pa.string())))


def _warnings(findings: list[Finding], frame: pd.DataFrame, bad: set[int]) -> tuple[str, ...]:
    sentences = []
    for finding in findings:
        rows = [row for row in finding.rows if row not in bad]
        if finding.rule.severity == "warning" and rows:
            positions = frame["position"].iloc[rows[:_SHOWN_ROWS]].tolist()
            sentences.append(warning(finding.rule.name, len(rows), positions))
    return tuple(sentences)


def _hand_over(name: str, findings: list[Finding], ids: pa.Array | pa.ChunkedArray) -> HandOver:
    by_severity: dict[str, list[str]] = {"critical": [], "warning": []}
    for finding in findings:
        shown = ", ".join(repr(ids[row].as_py()) for row in finding.rows[:_SHOWN_ROWS])
        sentence = (
            f"{finding.rule.description.rstrip('.')}: broken by {len(finding.rows)} rows "
            f"(such as {shown})"
        )
        by_severity[finding.rule.severity].append(sentence)
    return HandOver(name, tuple(by_severity["critical"]), tuple(by_severity["warning"]))
