"""A bundle: a directory that plain transformers can load, and what Longtail knows beside it.

Where other evidence is combined with the encoder's, plain transformers gives the encoder alone.

    config.json model.safetensors tokenizer.json tokenizer_config.json   transformers' own
    longtail.json         thresholds, label groups, loss, fingerprints, versions
    evidence/             the other sources and what combines them, where there are any
    training_ids.parquet  hashes of the training ids and texts, to find leaks later
    README.md             the model card
    manifest.json         every file with its SHA-256, written last

Without a manifest the directory is unfinished. See ``docs/reference/bundle.md``.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import longtail
from longtail import storage
from longtail.config import Group
from longtail.encoder import WEIGHTS, quiet_transformers
from longtail.errors import StoreError
from longtail.model_card import render_card
from longtail.models.ensemble import PARTS, Ensemble, check_parts, parts_of

INFO = "longtail.json"
TRAINING_IDS = "training_ids.parquet"
CARD = "README.md"
EVIDENCE = "evidence"
_FORMAT = 2
_ALONE = ("encoder",)


def library_versions() -> dict[str, str]:
    """Versions of what a bundle's numbers depend on."""
    names = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
    return {"longtail": longtail.__version__,
            **{name: importlib.metadata.version(name) for name in names}}  # fmt: skip


class BundleInfo(BaseModel):
    """What ``longtail.json`` says.

    All lists over labels are in the model's column order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = _FORMAT
    labels: tuple[str, ...]
    thresholds: tuple[float, ...] = Field(
        description="A label is given where its probability is above its threshold."
    )
    threshold_policy: str
    label_groups: tuple[Group, ...]
    group_cutoffs: tuple[int, int]
    train_support: tuple[int, ...]
    max_length: int = Field(ge=1, description="Tokens per text; longer texts are cut.")
    frozen_layers: int = Field(-1, description="Encoder layers that training left alone.")
    sources: tuple[str, ...] = Field(
        _ALONE, description="Evidence that its probabilities are made of; by default the encoder's."
    )
    loss: str
    data_fingerprint: str
    encoder_fingerprint: str
    encoder_source: str
    settings: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    versions: dict[str, str] = Field(default_factory=library_versions)

    @property
    def combined(self) -> bool:
        """Whether other evidence is combined with the encoder's, so that Longtail serves it."""
        return self.sources != _ALONE

    @model_validator(mode="after")
    def _one_per_label(self) -> BundleInfo:
        for name in ("thresholds", "label_groups", "train_support"):
            found = len(getattr(self, name))
            if found != len(self.labels):
                raise ValueError(f"{name} has {found} entries for {len(self.labels)} labels")
        return self


@dataclass(frozen=True)
class TrainingIds:
    """Hashes of what a model was trained on.

    Attributes:
        ids: uint64 (n,), :func:`longtail.hashing.stable_hash` of the ids.
        texts: uint64 (n,), of the normalised texts.
    """

    ids: NDArray[np.uint64]
    texts: NDArray[np.uint64]


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle.

    Attributes:
        path: its directory.
        model: the classifier, float32, eval mode.
        tokenizer: cuts at the saved maximum when it is asked to truncate.
        info: what ``longtail.json`` says.
        ensemble: encoder, other sources and what combines them, where it is combined.
    """

    path: Path
    model: Any
    tokenizer: Any
    info: BundleInfo
    ensemble: Ensemble | None = None

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """Threshold of each label, (L,)."""
        return np.asarray(self.info.thresholds, dtype=np.float64)


def write_bundle(
    directory: str | Path,
    model: Any,
    tokenizer: Any,
    info: BundleInfo,
    training: TrainingIds,
    *,
    ensemble: Ensemble | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Path:
    """Write a whole bundle; it appears under its name when it is complete, or not at all.

    Args:
        directory: final name; what was there is replaced.
        model: the classifier.
        tokenizer: the encoder's; its copy in the bundle gets ``model_max_length``.
        info: labels, thresholds and where everything comes from.
        training: hashes of the training ids and texts.
        ensemble: what the encoder is combined with; exactly where ``info.combined``.
        metrics: for the model card: overall metrics by name.
    """
    if (ensemble is not None) != info.combined:
        raise ValueError("an ensemble and the names of its sources go together")
    names = tuple(model.config.id2label[column] for column in range(model.config.num_labels))
    if names != info.labels:
        raise ValueError("the labels of the bundle and of the model differ")
    with storage.committed_directory(directory, {"format": _FORMAT}) as staging:
        with quiet_transformers():
            model.save_pretrained(staging)
            # safetensors writes for the owner alone; whoever serves may be another user.
            (staging / WEIGHTS).chmod((staging / "config.json").stat().st_mode)
            _save_tokenizer(tokenizer, staging, info.max_length)
        ids = {"id": pa.array(training.ids, pa.uint64()),
               "text": pa.array(training.texts, pa.uint64())}  # fmt: skip
        storage.write_parquet(staging / TRAINING_IDS, pa.table(ids))
        _write_info(staging, info, metrics)
        if ensemble is not None:
            ensemble.save(staging / EVIDENCE)
            files = storage.write_manifest(staging)
            storage.write_json(staging / EVIDENCE / PARTS, parts_of(files, EVIDENCE))
    return Path(directory)


def finalise_bundle(
    directory: str | Path,
    *,
    thresholds: NDArray[np.float64] | None = None,
    threshold_policy: str | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> BundleInfo:
    """Put thresholds and metrics that were found after training into a bundle, and reseal it.

    The manifest goes first and comes back last: a kill in between leaves an unfinished bundle,
    never one whose thresholds and card disagree.
    """
    root = Path(directory)
    storage.verify_directory(root)
    info = read_info(root)
    changes: dict[str, Any] = {}
    if thresholds is not None:
        changes["thresholds"] = tuple(float(value) for value in thresholds)
    if threshold_policy is not None:
        changes["threshold_policy"] = threshold_policy
    changed = BundleInfo.model_validate({**info.model_dump(), **changes})
    (root / storage.MANIFEST).unlink()
    _write_info(root, changed, metrics)
    storage.write_manifest(root, {"format": _FORMAT})
    return changed


def load_bundle(directory: str | Path) -> Bundle:
    """Verify a bundle against its manifest and load it.

    Raises:
        StoreError: unfinished, damaged, or of another format.
    """
    root = Path(directory)
    manifest = storage.verify_directory(root)
    info = read_info(root)
    if info.combined:
        check_parts(root / EVIDENCE, manifest)
    try:
        with quiet_transformers():
            model = AutoModelForSequenceClassification.from_pretrained(
                root, trust_remote_code=False, use_safetensors=True
            )
            tokenizer = AutoTokenizer.from_pretrained(root, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise StoreError(f"{root}: transformers cannot load the bundle ({error})") from error
    model = model.float().eval()
    ensemble = _load_ensemble(root, model, tokenizer, info) if info.combined else None
    return Bundle(root, model, tokenizer, info, ensemble)


def read_info(directory: str | Path) -> BundleInfo:
    """What ``longtail.json`` says, without loading the model.

    Raises:
        StoreError: the file is missing, damaged, or of another format.
    """
    path = Path(directory) / INFO
    if not path.is_file():
        raise StoreError(f"{path}: missing, so this is not a bundle of Longtail's")
    content = storage.read_json(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise StoreError(f"{path}: format {found}, this version of Longtail reads {_FORMAT}")
    try:
        return BundleInfo.model_validate(content)
    except ValidationError as error:
        raise StoreError(f"{path}: damaged ({error})") from error


def read_training_ids(directory: str | Path) -> TrainingIds:
    """Hashes of the ids and texts that the bundle's model was trained on."""
    table = storage.read_parquet(Path(directory) / TRAINING_IDS)
    return TrainingIds(table["id"].to_numpy(), table["text"].to_numpy())


def _load_ensemble(root: Path, model: Any, tokenizer: Any, info: BundleInfo) -> Ensemble:
    found = Ensemble.load(
        root / EVIDENCE, model, tokenizer, max_length=info.max_length,
        frozen_layers=info.frozen_layers,
    )  # fmt: skip
    if found.combination.sources != info.sources:
        raise StoreError(
            f"{root / EVIDENCE}: combines {', '.join(found.combination.sources)}, {INFO} says "
            f"{', '.join(info.sources)}: these parts do not belong together"
        )
    return found


def _save_tokenizer(tokenizer: Any, directory: Path, max_length: int) -> None:
    """Save the tokenizer with the maximum length that the model was trained at."""
    kept = tokenizer.model_max_length
    tokenizer.model_max_length = max_length
    try:
        tokenizer.save_pretrained(directory)
    finally:
        tokenizer.model_max_length = kept


def _write_info(root: Path, info: BundleInfo, metrics: Mapping[str, Any] | None) -> None:
    storage.write_json(root / INFO, info.model_dump(mode="json"))
    size = (root / WEIGHTS).stat().st_size
    storage.write_text(root / CARD, render_card(info, metrics, weights_bytes=size))
