"""Texts + the champion → decided labels and probabilities, part by part.

The parts lie beside the output until it is written. They are named after what they are made of,
so that a run that was killed goes on with those that are there.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from prefect import task

from data_contracts.contract import check_predictions
from data_contracts.ingest import QuarantineError, ingest
from longtail import storage
from longtail.bundle import load_bundle, read_info
from longtail.code_fingerprint import code_fingerprint
from longtail.config import DataSettings, PublishSettings, Settings
from longtail.errors import StoreError
from longtail.models.explanation import EXPLANATIONS, as_column, score_and_explain
from longtail.predictions import Predictions, read_predictions, write_predictions
from longtail.scoring import score_bundle
from longtail.thresholds import decide
from tasks.prediction_files import writer
from tasks.publishing import open_promotions

logger = logging.getLogger(__name__)


class PredictionHandle(Settings):
    """Predictions on disk."""

    path: Path
    quarantine: Path | None
    texts: int
    quarantined: int
    version: int


class PredictionParts(Settings):
    """The texts of a file, checked and cut into parts that are labelled one by one.

    Attributes:
        directory: of the parts; every worker has to reach it, and the bundle, under these paths.
        bundle: the champion's.
        count: number of parts.
        explain: whether the labels are explained.
    """

    out: Path
    quarantine: Path | None
    quarantined: int
    version: int
    directory: Path
    bundle: Path
    count: int
    explain: bool = False

    def texts(self, part: int) -> Path:
        """The file with ids and texts of a part."""
        return self.directory / f"{part:05d}.texts.parquet"

    def scores(self, part: int) -> Path:
        """The file with the probabilities of a part."""
        return self.directory / f"{part:05d}.scores.parquet"

    def explanations(self, part: int) -> Path:
        """The file with the explanations of a part's labels."""
        return self.directory / f"{part:05d}.explanations.parquet"

    def missing(self) -> list[int]:
        """The parts that are not labelled yet."""
        return [part for part in range(self.count) if not self._done(part)]

    def _done(self, part: int) -> bool:
        return _readable(self.scores(part), read_predictions) and (
            not self.explain or _readable(self.explanations(part), _read_explanations)
        )


@task(name="check texts", task_run_name="check texts")
def prepare_predictions(
    name: str,
    store: Path,
    path: str,
    reading: DataSettings,
    out: Path,
    settings: PublishSettings,
    part_texts: int,
    *,
    explain: bool = False,
) -> PredictionParts:
    """Check the contract of every row, fetch the champion and cut the texts into parts.

    Args:
        name: of the model.
        store: where its champion is found.
        path: the texts' file or URL.
        reading: how it is read.
        out: what will be written.
        settings: of the registry.
        part_texts: texts in a part.
        explain: whether the labels are to be explained.

    Raises:
        ConfigError: ``out`` has an extension that is not known.
        StoreError: there is no champion, or its bundle is damaged.
    """
    writer(out)
    promotions = open_promotions(settings, store, name)
    version = promotions.champion()
    if version is None:
        raise StoreError(
            f"{store}: no champion of the name {name!r} to predict with; train one first"
        )
    table, quarantine, quarantined = _read(path, reading, out)
    bundle = promotions.registry.download(
        version, store / name / "bundles" / f"version-{version.number}"
    )
    starts = range(0, table.num_rows, part_texts) or range(1)
    parts = PredictionParts(
        out=out.resolve(), quarantine=quarantine, quarantined=quarantined, version=version.number,
        directory=_directory(out.resolve(), table, bundle, part_texts, explain=explain),
        bundle=bundle.resolve(), count=len(starts), explain=explain,
    )  # fmt: skip
    for part, start in enumerate(starts):
        storage.write_parquet(parts.texts(part), table.slice(start, part_texts))
    done = parts.count - len(parts.missing())
    if done:
        logger.info("going on: %d of %d parts are labelled already", done, parts.count)
    return parts


@task(name="label texts", task_run_name="label part {part}")
def score_part(parts: PredictionParts, part: int) -> None:
    """Label one part; its file appears when it is whole."""
    table = storage.read_parquet(parts.texts(part))
    texts = table["text"].to_pylist()
    if parts.explain:
        scores, found = score_and_explain(load_bundle(parts.bundle), texts)
        explained = pa.table({"explanations": as_column(found)})
        storage.write_parquet(parts.explanations(part), explained)
    else:
        scores = score_bundle(parts.bundle, texts)
    ids = tuple(table["id"].to_pylist())
    write_predictions(
        parts.scores(part), Predictions(ids, read_info(parts.bundle).labels, scores)
    )  # fmt: skip
    logger.info("part %d of %d: %d texts", part + 1, parts.count, len(ids))


@task(name="write predictions", task_run_name="write predictions")
def write_parts(parts: PredictionParts) -> PredictionHandle:
    """Put the parts together in the texts' order, write the output and remove the parts."""
    info = read_info(parts.bundle)
    done = [read_predictions(parts.scores(part)) for part in range(parts.count)]
    ids = tuple(name for one in done for name in one.ids)
    scores = np.concatenate([one.probabilities for one in done])
    asked = [
        name
        for part in range(parts.count)
        for name in storage.read_parquet(parts.texts(part), ["id"])["id"].to_pylist()
    ]
    check_predictions(Predictions(ids, info.labels, scores), asked).require()
    decided = decide(scores, np.array(info.thresholds))
    writer(parts.out)(parts.out, ids, scores, decided, info, _explanations(parts))
    for left in parts.out.parent.iterdir():
        if left.name.startswith(_prefix(parts.out)):
            shutil.rmtree(left, ignore_errors=True)
    logger.info("%d texts labelled by version %d → %s", len(ids), parts.version, parts.out)
    return PredictionHandle(
        path=parts.out,
        quarantine=parts.quarantine,
        texts=len(ids),
        quarantined=parts.quarantined,
        version=parts.version,
    )


def _read(path: str, reading: DataSettings, out: Path) -> tuple[pa.Table, Path | None, int]:
    """Ids and texts; the quarantine beside the output, if a row is in it, and its rows."""
    target = out.with_name(f"{out.stem}.quarantine.parquet")
    with TemporaryDirectory(prefix="longtail-predict-") as folder:
        try:
            ingested = ingest(path, reading, Path(folder), labels_required=False)
        except QuarantineError as error:
            storage.write_bytes(target, error.quarantine.read_bytes())
            raise
        table = storage.read_parquet(ingested.accepted, ["id", "text"])
        quarantined = ingested.account.quarantined
        if quarantined:
            storage.write_bytes(target, ingested.quarantine.read_bytes())
    return table, target if quarantined else None, quarantined


def _explanations(parts: PredictionParts) -> pa.ChunkedArray | None:
    if not parts.explain:
        return None
    done = [_read_explanations(parts.explanations(part)) for part in range(parts.count)]
    return pa.chunked_array([chunk for column in done for chunk in column.chunks], EXPLANATIONS)


def _read_explanations(path: Path) -> pa.ChunkedArray:
    return storage.read_parquet(path, ["explanations"])["explanations"]


def _directory(out: Path, table: pa.Table, bundle: Path, part_texts: int, *, explain: bool) -> Path:
    """Named after all that the parts depend on: texts, model, code, size, and what is asked."""
    made_of: list[Any] = [table["id"].to_pylist(), table["text"].to_pylist()]
    made_of += [storage.read_json(bundle / storage.MANIFEST)["files"], part_texts]
    code = "longtail.models.explanation" if explain else "longtail.scoring"
    key = storage.fingerprint(*made_of, explain, code_fingerprint(code))
    return out.with_name(f"{_prefix(out)}{key[:12]}")


def _prefix(out: Path) -> str:
    return f".{out.name}.parts-"


def _readable(path: Path, read: Callable[[Path], object]) -> bool:
    if not path.is_file():
        return False
    try:
        read(path)
    except StoreError as error:
        logger.warning("%s; this part is labelled again", error)
        return False
    return True
