"""A comparison's configuration as the command that makes it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flows.config import CompareConfig
from longtail.config import LossSettings

_FILES = frozenset({"taxonomy", "corrections"})


def command_of(config: CompareConfig) -> str:
    """The command with every setting that is not the default; of a path only the last part.

    Where it is kept, which shard this was, where it ran and for what it waited are left out: none
    changes a number.
    """
    left_out = {"losses", "seeds", "out", "shard", "shards", "runner", "slot"}
    changed = config.model_dump(mode="json", exclude_defaults=True, exclude=left_out)
    parts = []
    for name, source in changed.pop("data").items():
        export = file_name(source.pop("path", "FILE"))
        parts.append(f"--data {shlex.quote(f'{name}={export}')}")
        changed.setdefault("data", {})[name] = source
    plain = all(loss == LossSettings(name=loss.name) for loss in config.losses)
    if plain:
        parts.append(f"--losses {','.join(loss.name for loss in config.losses)}")
    else:
        changed["losses"] = [loss.model_dump(exclude_defaults=True) | {"name": loss.name}
                             for loss in config.losses]  # fmt: skip
    parts.append(f"--seeds {','.join(map(str, config.seeds))}")
    parts += [f"--set {shlex.quote(f'{key}={value}')}" for key, value in _settings(changed)]
    return " \\\n  ".join(["longtail compare", *parts])


def file_name(path: str) -> str:
    """The last part of a path or URL, without what a URL asks for."""
    return Path(path.partition("?")[0]).name


def _settings(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _settings(value, f"{key}.")
        elif key == "encoder.source" and not value.startswith(("package:", "hub:")):
            yield key, Path(value).name
        elif name in _FILES:
            yield key, file_name(value)
        else:
            yield key, value if isinstance(value, str) else json.dumps(value)
