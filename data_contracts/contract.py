"""The contracts at the hand-overs: annotations, splits and predictions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_contracts.expectations import Finding, Validation, validate
from data_contracts.helpers import annotation_helpers, prediction_helpers, split_helpers
from data_contracts.sentences import OUTSIDE, reason, warning
from data_contracts.suites import annotations_suite, predictions_suite, splits_suite
from longtail.annotations.directory import MAX_POSITION, row_name
from longtail.annotations.schema import ANNOTATIONS, QUARANTINE
from longtail.config import DataSettings, SplitName
from longtail.errors import DataError
from longtail.labels import label_sets
from longtail.predictions import Predictions
from longtail.taxonomy import load_taxonomy

_SHOWN_ROWS = 5


@dataclass(frozen=True)
class Checked:
    """Annotation rows after the contract; every input row is in exactly one of the two tables.

    Attributes:
        accepted: ANNOTATIONS and ``position``; labels sorted, each once.
        quarantined: QUARANTINE, every reason of every row; ``raw`` is null where RAW's was.
    """

    accepted: pa.Table
    quarantined: pa.Table


@dataclass
class _Odd:
    count: int = 0
    positions: list[int] = field(default_factory=list)


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


class AnnotationContract:
    """The contract of an export's rows, which may come part by part.

    Args:
        settings: limits, taxonomy, and the present moment (default the clock): what counts as the
            future begins a day after it.
        file: the export's name, for the quarantine.
        labels_required: False for texts that are to be labelled.

    Raises:
        ConfigError: the taxonomy cannot be read.
    """

    def __init__(self, settings: DataSettings, *, file: str, labels_required: bool = True) -> None:
        self._settings = settings
        self._file = file
        self._labels_required = labels_required
        self._now = present_moment(settings)
        self._validation = Validation(annotations_suite(settings.max_text_characters))
        self._odd: dict[str, _Odd] = {}
        outsiders = settings.taxonomy is not None and settings.unknown_labels == "quarantine"
        self._taxonomy = load_taxonomy(str(settings.taxonomy)) if outsiders else None

    def check(self, table: pa.Table) -> Checked:
        """Divide rows into accepted and quarantined ones.

        Args:
            table: rows of the schema RAW.
        """
        outside = None
        if self._taxonomy is not None:
            outside = dict(self._taxonomy.rows_with_unknown(table["labels"]))
        frame = annotation_helpers(table, self._labels_required, self._now, outside)
        findings = self._validation.check(frame, _rows_named(table["position"]))
        critical = [finding for finding in findings if finding.rule.severity == "critical"]
        bad = sorted({row for finding in critical for row in finding.rows})
        good = np.ones(table.num_rows, dtype=bool)
        good[bad] = False
        self._note(findings, table["position"].to_numpy(), good)
        accepted = table.select([*ANNOTATIONS.names, "position"])
        if not bad:
            return Checked(_with_label_sets(accepted), QUARANTINE.empty_table())
        # Not take(): of a column in chunks it would copy all to fetch a few.
        rows = dict(zip(bad, table.filter(pa.array(~good)).to_pylist(), strict=True))
        return Checked(
            _with_label_sets(accepted.filter(pa.array(good))),
            self._quarantine(rows, critical, outside or {}),
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about the rows so far, but no reason to set them aside, as sentences."""
        rules = (rule.name for rule in self._validation.suite.rules)
        odd = [(name, self._odd[name]) for name in rules if name in self._odd]
        return tuple(warning(name, one.count, one.positions) for name, one in odd)

    def write_pages(self, folder: Path) -> None:
        """Write Great Expectations' pages; one for each part."""
        self._validation.write_pages(folder)

    def _quarantine(
        self,
        rows: Mapping[int, Mapping[str, Any]],
        critical: list[Finding],
        outside: Mapping[int, Sequence[str]],
    ) -> pa.Table:
        reasons: dict[int, list[str]] = {number: [] for number in rows}
        for finding in critical:
            for number in finding.rows:
                row = {**rows[number], OUTSIDE: outside.get(number, ())}
                reasons[number] += reason(finding.rule.name, row, self._settings)
        quarantined = [
            {**{name: rows[number][name] for name in ("position", "id", "raw")},
             "file": self._file, "reasons": reasons[number]}
            for number in rows
        ]  # fmt: skip
        return pa.Table.from_pylist(quarantined, schema=QUARANTINE)

    def _note(
        self, findings: list[Finding], positions: NDArray[np.int64], good: NDArray[np.bool_]
    ) -> None:
        for finding in findings:
            rows = np.array(finding.rows)
            rows = rows[good[rows]]
            if finding.rule.severity == "warning" and len(rows):
                odd = self._odd.setdefault(finding.rule.name, _Odd())
                odd.count += len(rows)
                odd.positions += positions[rows[: _SHOWN_ROWS - len(odd.positions)]].tolist()


def check_splits(
    splits: Mapping[SplitName, pa.Table],
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


def present_moment(settings: DataSettings) -> dt.datetime:
    """What a run takes for now; without a time zone it is taken for UTC."""
    moment = settings.as_of or dt.datetime.now(dt.UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _with_label_sets(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("labels")
    return table.set_column(place, table.schema.field(place), label_sets(table["labels"]))


def _rows_named(positions: pa.ChunkedArray) -> str:
    if len(positions) == 0:
        return "no rows"
    first, last = positions[0].as_py(), positions[-1].as_py()
    if max(first, last) > MAX_POSITION:  # of several files
        return f"rows {row_name(first)} to {row_name(last)}"
    return f"rows {first:,} to {last:,}"


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
