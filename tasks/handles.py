"""What passes between tasks: small frozen handles of paths, fingerprints and counts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from longtail.config import Settings, StageSettings

ArmName = Annotated[
    str, Field(pattern=r"^(linear|bce|matched|candidate(-[a-z0-9-]+)?|(best_)?champion)$")
]


class RunHandle(Settings):
    """One run and where it writes."""

    id: str
    name: str
    directory: Path
    store: Path
    started_at: str
    stages: StageSettings = StageSettings()

    @property
    def model_store(self) -> Path:
        """What persists of this model between runs."""
        return self.store / self.name

    @property
    def cache(self) -> Path:
        """Activations of frozen layers, shared by all runs and models."""
        return self.store / "cache" / "activations"


class DatasetHandle(Settings):
    """One version of the data set."""

    directory: Path
    fingerprint: str
    version: int
    n_texts: int
    n_labels: int


class SplitHandle(Settings):
    """The run's split and label space on disk."""

    directory: Path
    label_space: Path
    fingerprint: str | None = None

    @classmethod
    def of(cls, run_directory: Path) -> SplitHandle:
        """The split in a run's directory."""
        return cls(
            directory=run_directory / "splits", label_space=run_directory / "label_space.json"
        )


class ArmHandle(Settings):
    """One scored arm on disk: ``arm.json``, validation and test probabilities, a bundle."""

    arm: ArmName
    directory: Path
    loss: str
    seconds: float
    bundle: Path | None = None
    version: int | None = None
    key: str | None = None


class ChampionHandle(Settings):
    """What the registry said of the champion, and the arms that were re-scored from it."""

    state: Literal["none", "scored", "unreadable"]
    version: int | None = None
    error: str | None = None
    arms: tuple[ArmHandle, ...] = ()
    best_error: str | None = None
