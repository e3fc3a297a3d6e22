"""Where MLflow keeps runs, artifacts and models: SQLite in the store, or a tracking server.

MLflow is imported when a client is opened, not before.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from longtail import storage
from longtail.config import PublishSettings
from longtail.errors import ConfigError, StoreError
from longtail.mirror import find_mirror

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
_SQLITE = "sqlite:///"
_SERVED = ("http://", "https://", "databricks", "uc:")
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # Its migrations are reported at INFO, line by line, on standard error.
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # The default of 7, with growing pauses, keeps a run waiting for minutes on a dead server.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
}


@dataclass(frozen=True)
class MlflowStore:
    """An MLflow back end.

    Attributes:
        uri: tracking and registry URI.
        artifact_root: where artifacts go; None lets the tracking server decide.
    """

    uri: str
    artifact_root: Path | None

    @classmethod
    def of(cls, settings: PublishSettings, store: Path) -> MlflowStore:
        """The back end that the settings, else MLFLOW_TRACKING_URI, else the store name.

        Raises:
            ConfigError: the store's path cannot stand in a database URI, or the store is shared
                and MLflow's is not.
        """
        uri = settings.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        root = store.resolve()
        served = uri is not None and uri.startswith(_SERVED)
        if not served and (shared := find_mirror(root)) is not None:
            raise ConfigError(
                f"{shared.url}: a store that workers share needs an MLflow tracking server, whose "
                f"artifacts they share too, found {uri or 'none'}; set publish.tracking_uri or "
                "MLFLOW_TRACKING_URI to http://HOST:PORT"
            )
        if uri is None:
            if {"?", "%"} & set(str(root)):
                raise ConfigError(
                    f"{root}: MLflow's database cannot be kept under a path with '?' or '%'; "
                    "choose another directory for the store, or set publish.tracking_uri"
                )
            return cls(f"{_SQLITE}{root / DATABASE}", root / ARTIFACTS)
        # A tracking server knows where artifacts go; a bare database does not, and MLflow would
        # put them under the current directory.
        return cls(uri, None if served else root / ARTIFACTS)

    @property
    def database(self) -> Path | None:
        """The SQLite file, where there is one."""
        path = self.uri.removeprefix(_SQLITE).partition("?")[0]
        return Path(path) if self.uri.startswith(_SQLITE) else None

    @property
    def created(self) -> bool:
        """Whether there can be anything in it; False only for a SQLite file that is not there.

        Raises:
            StoreError: the file cannot be looked for.
        """
        if self.database is None:
            return True
        try:
            self.database.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"{self.database}: cannot be looked for ({error.strerror})") from error
        return True

    def client(self) -> MlflowClient:
        """Open the back end; creates the SQLite file, which takes seconds, on first use.

        Raises:
            StoreError: it cannot be opened.
        """
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        with self.reading("opened"):
            from mlflow import MlflowClient

            self._create_database()
            return MlflowClient(self.uri, self.uri)

    @contextlib.contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Turn any failure of the back end into a :class:`StoreError` that names it.

        Args:
            what: past participle that completes "MLflow at ... cannot be".
        """
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            cause = str(error).strip().partition("\n")[0] or type(error).__name__
            raise StoreError(
                f"MLflow at {self.uri}: cannot be {what} ({cause}); check that it is up, "
                "and the setting publish.tracking_uri"
            ) from error

    def experiment(self, client: MlflowClient, name: str) -> str:
        """The id of the experiment of a model, created when missing."""
        location = str(self.artifact_root) if self.artifact_root is not None else None
        with self.reading(f"asked for the experiment {name}"):
            found = client.get_experiment_by_name(name)
            if found is not None and location not in {None, found.artifact_location}:
                # The store has moved; MLflow would go on writing to where it was.
                name = f"{name} {storage.fingerprint(location)[:8]}"
                found = client.get_experiment_by_name(name)
            if found is None:
                return str(client.create_experiment(name, artifact_location=location))
            return str(found.experiment_id)

    def address(self, run: str) -> str:
        """Where people find a run: its page on a tracking server, else the back end and the id.

        Raises:
            StoreError: there is no such run, or the back end cannot be read.
        """
        if not self.uri.startswith(("http://", "https://")):
            return f"{self.database or self.uri}, run {run}"
        client = self.client()
        with self.reading(f"asked for the run {run}"):
            experiment = client.get_run(run).info.experiment_id
        return f"{self.uri.rstrip('/')}/#/experiments/{experiment}/runs/{run}"

    def _create_database(self) -> None:
        """Make the SQLite file under another name, so that it appears when it is whole.

        MLflow can neither go on with nor repeat migrations that were interrupted, and two
        processes that migrate one new file at the same time spoil it.
        """
        from mlflow import MlflowClient

        database = self.database
        if database is None or self.created:
            return
        with storage.lock(database.with_name(f".{database.name}.lock")):
            if self.created:
                return
            for torn in database.parent.glob(f".{database.name}.*.new*"):
                torn.unlink()
            # Not one name for all: MLflow believes a database it has opened once to be there.
            staging = database.with_name(f".{database.name}.{uuid.uuid4().hex}.new")
            MlflowClient(f"{_SQLITE}{staging}").search_experiments(max_results=1)
            os.replace(staging, database)
