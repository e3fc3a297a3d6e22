"""Texts + the champion → decided labels and probabilities."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from prefect import task

from data_contracts.contract import check_predictions
from data_contracts.ingest import QuarantineError, ingest
from longtail import storage
from longtail.bundle import BundleInfo, read_info
from longtail.config import DataSettings, PublishSettings, Settings
from longtail.errors import ConfigError, StoreError
from longtail.labels import LabelSpace
from longtail.predictions import Predictions
from longtail.scoring import score_bundle
from longtail.spreadsheet import csv_text, json_cell
from longtail.thresholds import decide
from tasks.publishing import open_promotions

logger = logging.getLogger(__name__)

_CSV_BEST = 5


class PredictionHandle(Settings):
    """Predictions on disk."""

    path: Path
    quarantine: Path | None
    texts: int
    quarantined: int
    version: int


@task(name="predict")
def predict_file(
    name: str, store: Path, path: str, reading: DataSettings, out: Path, settings: PublishSettings
) -> PredictionHandle:
    """Label every text of a file with the champion.

    Raises:
        ConfigError: ``out`` has an extension that is not known.
        StoreError: there is no champion, or its bundle is damaged.
    """
    write = _writer(out)
    promotions = open_promotions(settings, store, name)
    version = promotions.champion()
    if version is None:
        raise StoreError(
            f"{store}: no champion of the name {name!r} to predict with; train one first"
        )
    ids, texts, set_aside, quarantined = _read(path, reading, out)
    bundle = promotions.registry.download(
        version, store / name / "bundles" / f"version-{version.number}"
    )
    info = read_info(bundle)
    scores = score_bundle(bundle, texts)
    check_predictions(Predictions(ids, info.labels, scores), ids).require()
    write(out, ids, scores, decide(scores, np.array(info.thresholds)), info)
    logger.info("%d texts labelled by version %d → %s", len(ids), version.number, out)
    return PredictionHandle(
        path=out,
        quarantine=set_aside,
        texts=len(ids),
        quarantined=quarantined,
        version=version.number,
    )


def _read(
    path: str, reading: DataSettings, out: Path
) -> tuple[tuple[str, ...], list[str], Path | None, int]:
    """Ids and texts; the quarantine beside the output, if a row is in it, and its rows."""
    target = out.with_name(f"{out.stem}.quarantine.parquet")
    with TemporaryDirectory(prefix="longtail-predict-") as folder:
        try:
            ingested = ingest(path, reading, Path(folder), labels_required=False)
        except QuarantineError as error:
            storage.write_bytes(target, error.quarantine.read_bytes())
            raise
        texts = storage.read_parquet(ingested.accepted, ["id", "text"])
        quarantined = ingested.account.quarantined
        if quarantined:
            storage.write_bytes(target, ingested.quarantine.read_bytes())
    ids = tuple(texts["id"].to_pylist())
    return ids, texts["text"].to_pylist(), target if quarantined else None, quarantined


_Write = Callable[[Path, Sequence[str], NDArray[np.float32], NDArray[np.bool_], BundleInfo], None]


def _writer(out: Path) -> _Write:
    writers: dict[str, _Write] = {
        ".parquet": _write_parquet, ".csv": _write_csv, ".jsonl": _write_jsonl
    }  # fmt: skip
    if out.suffix not in writers:
        raise ConfigError(
            f"{out}: predictions are written as {', '.join(writers)}, found {out.suffix or 'none'}"
        )
    return writers[out.suffix]


def _write_parquet(
    out: Path,
    ids: Sequence[str],
    scores: NDArray[np.float32],
    decided: NDArray[np.bool_],
    info: BundleInfo,
) -> None:
    """Columns id, labels, and probabilities in the order of the schema's metadata ``labels``."""
    labels = LabelSpace(info.labels).decode(decided)
    flat = pa.array(np.ascontiguousarray(scores).reshape(-1))
    table = pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "labels": pa.array(labels, pa.list_(pa.string())),
            "probabilities": pa.FixedSizeListArray.from_arrays(flat, len(info.labels)),
        }
    )
    metadata = {"labels": json.dumps(info.labels, ensure_ascii=False)}
    storage.write_parquet(out, table.replace_schema_metadata(metadata))


def _write_jsonl(
    out: Path,
    ids: Sequence[str],
    scores: NDArray[np.float32],
    decided: NDArray[np.bool_],
    info: BundleInfo,
) -> None:
    """One object per text: id, labels, probabilities by label."""
    lines = (
        json.dumps({"id": row_id, "labels": labels, "probabilities": _named(info.labels, row)},
                   ensure_ascii=False)
        for row_id, labels, row in zip(
            ids, LabelSpace(info.labels).decode(decided), scores, strict=True)
    )  # fmt: skip
    storage.write_text(out, "".join(f"{line}\n" for line in lines))


def _write_csv(
    out: Path,
    ids: Sequence[str],
    scores: NDArray[np.float32],
    decided: NDArray[np.bool_],
    info: BundleInfo,
) -> None:
    """id, labels as a JSON list, and the probabilities of the five likeliest labels as JSON."""
    rows = []
    for row_id, labels, row in zip(
        ids, LabelSpace(info.labels).decode(decided), scores, strict=True
    ):
        best = np.argsort(-row, kind="stable")[: max(_CSV_BEST, len(labels))]
        named = _named([info.labels[j] for j in best], row[best])
        rows.append((row_id, json_cell(labels), json_cell(named)))
    storage.write_text(out, csv_text(("id", "labels", "probabilities"), rows))


def _named(labels: Sequence[str], row: NDArray[np.float32]) -> dict[str, Any]:
    return {label: round(float(p), 6) for label, p in zip(labels, row, strict=True)}
