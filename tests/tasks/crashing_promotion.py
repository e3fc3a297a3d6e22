"""Dies inside promotions, once per crash point; run by test_registry.py.

MLflow is started up once and each crash happens in a fork, because that start takes seconds.

Usage: crashing_promotion.py ROOT CRASH...   (ROOT/CRASH and ROOT are stores each)
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from longtail import storage
from longtail.config import PublishSettings
from tasks.mlflow_store import MlflowStore
from tasks.promotion import Promotion, Promotions, timestamp
from tasks.registry import Registry


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _bundle(directory: Path, content: str) -> Path:
    with storage.committed_directory(directory) as staging:
        (staging / "model.safetensors").write_text(content)
    return directory


def _promote(promotions: Promotions, registry: Registry, number: int, die: bool) -> None:
    bundle = _bundle(promotions.directory / f"bundle{number}", f"weights {number}")
    version = registry.register(bundle, None, {})
    if die:
        _die()
    against = number - 1 or None
    line = Promotion(
        kind="promote", at=timestamp(), by="test", from_version=against, to_version=number
    )
    promotions.promote(version, line)


def _run(store: Path, crash: str) -> None:
    registry = Registry(MlflowStore.of(PublishSettings(), store), "tickets")
    directory = store / "tickets"
    _promote(Promotions(registry, directory), registry, 1, die=False)
    doomed = Promotions(registry, directory, lambda step: _die() if step == crash else None)
    _promote(doomed, registry, 2, die=crash == "registered")


def main() -> None:
    root, *crashes = sys.argv[1:]
    Registry(MlflowStore.of(PublishSettings(), Path(root)), "tickets").champion()
    for crash in crashes:
        child = os.fork()
        if child == 0:
            _run(Path(root) / crash, crash)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(f"{crash}: {'killed' if killed else 'not killed'}", flush=True)


if __name__ == "__main__":
    main()
