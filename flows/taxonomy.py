"""``longtail taxonomy check`` and ``init``: what an export would change of the labels."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.cli import EXIT_ATTENTION, EXIT_PROMOTED
from flows.command import file_name
from flows.config import RetrainConfig
from flows.store import open_store
from longtail import storage
from longtail.annotations.readers import read_annotations
from longtail.dataset import DatasetStore
from longtail.errors import ConfigError
from longtail.mirror_scopes import DATASET
from longtail.taxonomy import load_taxonomy
from longtail.taxonomy_check import TaxonomyCheck, check_export
from longtail.taxonomy_draft import draft, write_draft
from longtail.taxonomy_scan import scan

_SHOWN = 200


def run_taxonomy_check(config: RetrainConfig, json: str | None) -> int:
    """Say what an export would change of the labels; nothing is stored.

    Returns:
        0 where nothing needs attention, else 3.

    Raises:
        ConfigError: no data, or a taxonomy that does not hang together.
        DataError: the export cannot be read.
    """
    data = config.data
    batches = _export(config)
    taxonomy = None if data.taxonomy is None else load_taxonomy(data.taxonomy)
    stored = _stored(config)
    found = check_export(
        batches, stored=stored, taxonomy=taxonomy, as_of=data.as_of or datetime.now(UTC),
        full=data.export == "full", quarantines=data.unknown_labels == "quarantine",
        add_parents=data.add_parents,
    )  # fmt: skip
    if json is not None:
        storage.write_json(Path(json), {"file": file_name(str(data.path)), **found.to_json()})
    _print(found, _compared_with(config, stored is not None), full=data.export == "full")
    return EXIT_ATTENTION if found.attention else EXIT_PROMOTED


def run_taxonomy_init(config: RetrainConfig, out: str) -> int:
    """Write a first taxonomy from the labels of an export.

    Raises:
        ConfigError: no data, no label, or there is such a file.
        DataError: the export cannot be read.
    """
    found = scan(_export(config), None, None)
    path = Path(out)
    write_draft(path, draft(found.texts, file_name(str(config.data.path))))
    Console().print(
        f"{path}: {len(found.texts):,} labels of {found.rows:,} rows. Describe them, and retrain "
        f"with --set data.taxonomy={path}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    return EXIT_PROMOTED


def _export(config: RetrainConfig) -> Iterator[pa.Table]:
    if config.data.path is None:
        raise ConfigError("No data: name an export with --data FILE.")
    return iter(read_annotations(config.data.path, config.data))


def _stored(config: RetrainConfig) -> pa.Table | None:
    """Ids and labels of the data set; None where there is none yet.

    Raises:
        ConfigError: a data set was named that there is not.
    """
    root = open_store(config.store, config.model_name, scopes=[DATASET])
    store = DatasetStore(root / config.model_name / "dataset")
    if store.current() is None:
        if config.name is not None:
            raise ConfigError(
                f"{config.store_directory}: no data set of the name {config.name!r}; check --name "
                "and --store, or leave --name out to compare with the taxonomy alone"
            )
        return None
    return store.read().select(["id", "labels"])


def _compared_with(config: RetrainConfig, has_stored: bool) -> str:
    parts = [f"the data set {config.model_name}"] if has_stored else []
    if config.data.taxonomy is not None:
        parts.append(str(config.data.taxonomy))
    return " and ".join(parts)


def _print(found: TaxonomyCheck, compared_with: str, *, full: bool) -> None:
    console = Console()
    if found.findings:
        console.print(_table(found))
    if len(found.findings) > _SHOWN:
        console.print(f"and {len(found.findings) - _SHOWN:,} more; --json FILE writes them all")
    said = [f"{found.rows:,} rows with {found.labels:,} labels"]
    if found.unusable:
        said.append(f"{found.unusable:,} rows skipped or unreadable")
    if found.absent and not full:
        said.append(
            f"{found.absent:,} stored labels do not occur, of which a delta export says nothing"
        )
    if compared_with:
        said.append(f"compared with {compared_with}")
    else:
        said.append("compared with nothing: there is no data set yet and no taxonomy")
    said.append(f"needing attention: {found.attention:,}" if found.attention
                else "nothing needs attention")  # fmt: skip
    console.print("; ".join(said) + ".", markup=False, soft_wrap=True)


def _table(found: TaxonomyCheck) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("", "finding", "label", "rows", "what"):
        table.add_column(title, justify="right" if title == "rows" else "left")
    for finding in found.findings[:_SHOWN]:
        where = f" (first in row {', '.join(map(str, finding.first))})" if finding.first else ""
        table.add_row(
            "!" if finding.attention else "", finding.kind, escape(_shown(finding.label)),
            f"{finding.rows:,}", escape(finding.detail + where),
            style="bold" if finding.attention else None,
        )  # fmt: skip
    return table


def _shown(label: str) -> str:
    """A name that cannot steer a terminal."""
    return label if label.isprintable() else repr(label)
