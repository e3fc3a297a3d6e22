"""The audit's files: audit.json, worklist.json, worklist.xml and corrections.csv."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from longtail import storage
from longtail.audit import AUDIT, CORRECTIONS, LABELLING, WORK_LIST
from longtail.audit.audit import Audit
from longtail.audit.conflicts import excerpt
from longtail.audit.corrections import corrections_csv
from longtail.audit.worklist import labelling_config, work_list
from longtail.labels import LabelSpace


def write_audit(
    directory: Path, audit: Audit, table: pa.Table, more: Mapping[str, Any] | None = None
) -> None:
    """Write what was found beside each other.

    Args:
        directory: of the run.
        audit: what was found.
        table: the annotations that were audited, schema ANNOTATIONS.
        more: sections beside those of the audit, such as the agreement of annotators.
    """
    wanted = list(dict.fromkeys(one.id for one in audit.candidates))
    wanted += [one["id"] for one in _worst(audit)]
    rows = table.filter(pc.is_in(table["id"], pa.array(wanted, pa.string())))
    ids = rows["id"].to_pylist()
    texts = dict(zip(ids, rows["text"].to_pylist(), strict=True))
    labels = {
        name: given or [] for name, given in zip(ids, rows["labels"].to_pylist(), strict=True)
    }
    excerpts = {name: excerpt(text) for name, text in texts.items()}
    storage.write_json(directory / AUDIT, {**audit.sections, **(more or {}), "excerpts": excerpts})
    storage.write_json(directory / WORK_LIST, work_list(audit.candidates, texts, labels))
    names = LabelSpace.of(table["labels"]).names
    storage.write_text(directory / LABELLING, labelling_config(names))
    storage.write_text(directory / CORRECTIONS, corrections_csv(audit.candidates, texts))


def _worst(audit: Audit) -> list[dict[str, Any]]:
    errors = audit.sections.get("label_errors")
    return list(errors["worst_texts"]) if errors else []
