"""The model registry: versions of a model, the aliases ``champion`` and ``previous``."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from longtail import storage
from longtail.errors import StoreError
from tasks.mlflow_store import MlflowStore

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

Alias = Literal["champion", "previous"]
BUNDLE = "bundle"
BUNDLE_TAG = "longtail.bundle_sha256"
MICRO_F1_TAG = "longtail.micro_f1"
_PAGE = 1000
PRUNED_TAG = "longtail.bundle_removed"


@dataclass(frozen=True)
class Version:
    """One registered version of a model.

    Attributes:
        name: the model.
        number: the version, from 1.
        run_id: the MLflow run that produced it.
        source: URI of its bundle.
        tags: what was said of it when it was registered.
    """

    name: str
    number: int
    run_id: str | None
    source: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def bundle_sha256(self) -> str | None:
        """SHA-256 of the bundle's manifest, which lists every file with its own."""
        return self.tags.get(BUNDLE_TAG)

    @property
    def micro_f1(self) -> float | None:
        """Test micro-F1 as recorded when it was registered, in [0, 1]."""
        value = self.tags.get(MICRO_F1_TAG)
        return None if value is None else float(value)

    @property
    def pruned(self) -> str | None:
        """When its bundle was removed because it is old, ISO 8601; None while it is there."""
        return self.tags.get(PRUNED_TAG)


@dataclass(frozen=True)
class Registry:
    """The versions of one model in MLflow's registry.

    Attributes:
        store: the MLflow back end.
        name: of the registered model; also of its experiment.
    """

    store: MlflowStore
    name: str

    def champion(self) -> Version | None:
        """The live version, None where no model was ever promoted.

        Raises:
            StoreError: the registry cannot be read; that is never reported as None.
        """
        return self.aliased("champion")

    def aliased(self, alias: Alias) -> Version | None:
        """The version that an alias points to, None where nobody has set the alias.

        Raises:
            StoreError: the registry cannot be read.
        """
        if not self.store.created:
            return None
        with self.store.reading(f"asked for the alias {alias} of {self.name}"):
            model = self._model()
            number = None if model is None else model.aliases.get(alias)
        return None if number is None else self.version(int(number))

    def find(self, number: int) -> Version | None:
        """A version by its number, None where there is none.

        Raises:
            StoreError: the registry cannot be read.
        """
        if not self.store.created:
            return None
        with self.store.reading(f"asked for version {number} of {self.name}"):
            with _absent_is_fine():
                found = self.store.client().get_model_version(self.name, str(number))
                return _version(found)
            return None

    def version(self, number: int) -> Version:
        """A version by its number.

        Raises:
            StoreError: there is none, or the registry cannot be read.
        """
        found = self.find(number)
        if found is None:
            raise StoreError(f"{self.name}: there is no version {number} in {self.store.uri}")
        return found

    def register(self, bundle: Path, run_id: str | None, tags: Mapping[str, Any]) -> Version:
        """Upload a bundle to its MLflow run and make a version of it.

        Registering the same bundle of the same run again gives the version there is, so that a
        run which was killed halfway can be repeated.

        Args:
            bundle: committed directory (with a manifest).
            run_id: the MLflow run; None makes one.
            tags: what to remember of the version; None values are left out.

        Raises:
            StoreError: the bundle does not match its manifest, or MLflow refuses.
        """
        storage.verify_directory(bundle)
        digest = storage.sha256_file(bundle / storage.MANIFEST)
        client = self.store.client()
        with self.store.reading(f"given a version of {self.name}"):
            self._create_model()
            if run_id is None:
                experiment = self.store.experiment(client, self.name)
                run_id = str(client.create_run(experiment).info.run_id)
                client.set_terminated(run_id)
            for old in client.search_model_versions(f"name='{self.name}' and run_id='{run_id}'"):
                if (known := _version(old)).bundle_sha256 == digest and known.pruned is None:
                    return known
            client.log_artifacts(run_id, str(bundle), BUNDLE)
            source = f"{client.get_run(run_id).info.artifact_uri}/{BUNDLE}"
            every = {**_texts(tags), BUNDLE_TAG: digest}
            return _version(client.create_model_version(self.name, source, run_id, tags=every))

    def move_alias(self, alias: Alias, number: int) -> None:
        """Point an alias to a version: one transaction of the registry's database.

        Raises:
            StoreError: MLflow refuses.
        """
        client = self.store.client()
        with self.store.reading(f"told to move the alias {alias} of {self.name}"):
            client.set_registered_model_alias(self.name, alias, str(number))

    def download(self, version: Version, to: Path) -> Path:
        """Fetch a version's bundle and check it, file by file, against what was registered.

        Args:
            version: the version.
            to: directory for the bundle; if it holds this very bundle, nothing is fetched.

        Returns:
            ``to``.

        Raises:
            StoreError: the bundle is gone, incomplete or altered.
        """
        if _is_bundle_of(to, version):
            return to
        # Runs of one machine share what they have fetched, and one of them may be fetching it.
        with storage.file_lock(to.with_name(f".{to.name}.lock")):
            if not _is_bundle_of(to, version):
                self._download(version, to)
        return to

    def verify(self, version: Version) -> None:
        """Check that what the registry would hand out is what was registered, byte by byte.

        Raises:
            StoreError: the bundle is gone, incomplete or altered.
        """
        _refuse_pruned(version)
        local = self._local_source(version)
        if local is not None:
            check_bundle(local, version)
            return
        with tempfile.TemporaryDirectory(prefix="longtail-verify-") as folder:
            self.download(version, Path(folder) / BUNDLE)

    def versions(self) -> list[Version]:
        """Every version of the model, the oldest first.

        Raises:
            StoreError: the registry cannot be read.
        """
        return [version for version in self.versions_of_all() if version.name == self.name]

    def versions_of_all(self) -> list[Version]:
        """Every version of every model in the registry, the oldest first.

        Raises:
            StoreError: the registry cannot be read.
        """
        if not self.store.created:
            return []
        versions: list[Version] = []
        page = None
        with self.store.reading("asked for its versions"):
            client = self.store.client()
            while page != "":
                found = client.search_model_versions(max_results=_PAGE, page_token=page)
                versions += map(_version, found)
                page = found.token or ""
        return sorted(versions, key=lambda version: version.number)

    def prune(self, version: Version, at: str, *, shared: bool = False) -> None:
        """Remove a version's bundle; the version itself stays and says since when it has none.

        Args:
            version: that nobody may need again.
            at: when, ISO 8601.
            shared: whether another version has the same bundle; then only the version is marked.

        Raises:
            StoreError: MLflow refuses.
        """
        client = self.store.client()
        with self.store.reading(f"told to remove the bundle of {self.name} {version.number}"):
            # First, so that nobody takes a half removed bundle for a damaged one.
            if version.pruned is None:
                client.set_model_version_tag(self.name, str(version.number), PRUNED_TAG, at)
            # Looked at again where that costs nothing: a kill may have come between.
            if not shared and (version.pruned is None or self.store.artifact_root is not None):
                self._remove_source(version)

    def _remove_source(self, version: Version) -> None:
        try:
            local = self._local_source(version)
        except StoreError:  # gone already
            return
        if local is not None:
            shutil.rmtree(local, ignore_errors=True)
            return
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        get_artifact_repository(version.source, self.store.uri).delete_artifacts()  # type: ignore[no-untyped-call]

    def _download(self, version: Version, to: Path) -> None:
        staging = to.with_name(f".{to.name}.{uuid.uuid4().hex}.download")
        try:
            fetched = self._fetch(version, staging)
            check_bundle(fetched, version)
            shutil.rmtree(to, ignore_errors=True)
            os.replace(fetched, to)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _fetch(self, version: Version, staging: Path) -> Path:
        _refuse_pruned(version)
        staging.mkdir(parents=True)
        local = self._local_source(version)
        if local is not None:
            shutil.copytree(local, staging / BUNDLE)
            return staging / BUNDLE
        self.store.client()
        with self.store.reading(f"asked for the bundle of {self.name} {version.number}"):
            from mlflow.artifacts import download_artifacts

            return Path(
                download_artifacts(
                    artifact_uri=version.source,
                    dst_path=str(staging),
                    tracking_uri=self.store.uri,
                )
            )

    def _local_source(self, version: Version) -> Path | None:
        """The bundle's directory, where the artifacts are on this machine."""
        root = self.store.artifact_root
        if root is None or ("://" in version.source and not version.source.startswith("file://")):
            return None
        # The store may have been moved, or be mounted elsewhere, since the version was registered.
        candidates = [Path(version.source.removeprefix("file://"))]
        if version.run_id is not None:
            candidates.append(root / version.run_id / "artifacts" / BUNDLE)
        for candidate in candidates:
            if candidate.is_dir():
                return candidate
        raise StoreError(
            f"{candidates[0]}: the bundle of {self.name} version {version.number} is missing; "
            "restore it, or roll back to a version whose bundle is there"
        )

    def _model(self) -> RegisteredModel | None:
        client = self.store.client()
        with _absent_is_fine():
            return client.get_registered_model(self.name)
        return None

    def _create_model(self) -> None:
        from mlflow.exceptions import MlflowException

        if self._model() is not None:
            return
        try:
            self.store.client().create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another run was first
                raise


def check_bundle(directory: Path, version: Version) -> None:
    """Check a bundle against its manifest, and the manifest against the registered version.

    Raises:
        StoreError: they differ.
    """
    storage.verify_directory(directory)
    found = storage.sha256_file(directory / storage.MANIFEST)
    if version.bundle_sha256 is None:
        raise StoreError(
            f"{version.name} version {version.number}: registered without the tag {BUNDLE_TAG}, "
            "so its bundle cannot be verified; promote with `longtail retrain`"
        )
    if found != version.bundle_sha256:
        raise StoreError(
            f"{directory}: not the bundle that was registered as {version.name} version "
            f"{version.number} (manifest {found[:12]}, expected {version.bundle_sha256[:12]})"
        )


def _refuse_pruned(version: Version) -> None:
    if version.pruned is not None:
        raise StoreError(
            f"{version.name} version {version.number}: its bundle was removed on "
            f"{version.pruned.partition('T')[0]}, because it is older than the last ones that "
            "retention.versions keeps; choose a later version"
        )


def _is_bundle_of(directory: Path, version: Version) -> bool:
    try:
        check_bundle(directory, version)
    except StoreError:
        return False
    return True


@contextlib.contextmanager
def _absent_is_fine() -> Iterator[None]:
    """Swallow MLflow's "does not exist", and only that."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _version(found: ModelVersion) -> Version:
    return Version(
        name=str(found.name),
        number=int(found.version),
        run_id=found.run_id or None,
        source=str(found.source),
        tags=dict(found.tags),
    )


def _texts(tags: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in tags.items() if value is not None}
