"""The store that a flow works on: a directory, or the mirror of one that workers share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from flows.config import AuditConfig, PredictConfig, RetrainConfig, named_store, store_directory
from longtail import mirror
from longtail.config import PublishSettings
from longtail.errors import ConfigError
from longtail.mirror_paths import is_remote
from longtail.mirror_scopes import INBOX, RUNS, SCOPES, Scope
from tasks.mlflow_store import MlflowStore

ConfigT = TypeVar("ConfigT", RetrainConfig, PredictConfig, AuditConfig)


def open_store(
    store: str | None,
    name: str | None,
    publish: PublishSettings | None = None,
    scopes: Iterable[Scope] = SCOPES,
) -> Path:
    """Where a flow finds what persists; of a shared store, as it is now.

    Call it once at the start of a flow. A store of this machine is its directory and nothing more.

    Args:
        store: as configured; a directory or a URL.
        name: of the model; None: all models.
        publish: where MLflow is, for a flow that uses it.
        scopes: the parts of a shared store that the flow reads without holding their locks.

    Raises:
        ConfigError: workers cannot share this store, or not this MLflow.
        StoreError: a shared store cannot be reached or used.
    """
    root, named = store_directory(store), named_store(store)
    if not is_remote(named):
        return root
    mirror.open_mirror(named)
    if publish is not None:
        MlflowStore.of(publish, root)
    mirror.fetch(root if name is None else root / name, scopes)
    return root


def read_by(config: RetrainConfig) -> tuple[Scope, ...]:
    """The parts that a retrain reads: the inbox only where its data lies there."""
    path = config.data.path or ""
    shared = (named_store(config.store).rstrip("/"), str(store_directory(config.store)))
    if path.startswith(tuple(f"{root}/" for root in shared)):
        return SCOPES
    return tuple(scope for scope in SCOPES if scope is not INBOX)


def lies_in_shared_store(config: RetrainConfig | PredictConfig | AuditConfig) -> bool:
    """Whether the data is a part of a shared store, and so no file under the name that it has."""
    named = named_store(config.store).rstrip("/")
    return is_remote(named) and (config.data.path or "").startswith(f"{named}/")


def located(config: ConfigT) -> ConfigT:
    """The configuration with data that lies in the shared store named where the mirror has it."""
    path = config.data.path
    if path is None or not lies_in_shared_store(config):
        return config
    here = mirror.open_mirror(named_store(config.store)).path_of(path)
    return config.model_copy(update={"data": config.data.model_copy(update={"path": str(here)})})


def run_directory(named: str) -> Path:
    """The directory of a run that a person names: a path, or a URL in a shared store.

    Raises:
        ConfigError: the URL is not that of a run.
    """
    if not is_remote(named):
        directory = Path(named).resolve()
        mirror.fetch(directory)
        return directory
    url, *parts = named.rstrip("/").rsplit("/", 3)
    if len(parts) != 3 or parts[1] != RUNS or url.endswith(":/"):
        raise ConfigError(f"{named}: not a run; expected STORE/NAME/{RUNS}/ID")
    directory = mirror.open_mirror(url).root.joinpath(*parts)
    mirror.fetch(directory)
    return directory
