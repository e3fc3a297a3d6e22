"""An arm's own file: what it is, how it was trained, where it cuts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from longtail import storage
from tasks.handles import ArmHandle

ARM_FILE = "arm.json"
LADDER, STEPS = "ladder", "steps.json"
"""Directory in the candidate's with the sums of evidence that lead to it, and their list."""


def write_arm(directory: Path, **values: Any) -> None:
    """Add values to ``arm.json``."""
    path = directory / ARM_FILE
    before = storage.read_json(path) if path.is_file() else {}
    storage.write_json(path, {**before, **values})


def candidate_of(run_directory: Path) -> ArmHandle:
    """The candidate in a run's directory."""
    directory = run_directory / "arms" / "candidate"
    about = storage.read_json(directory / ARM_FILE)
    return ArmHandle(
        arm="candidate",
        directory=directory,
        loss=about["loss"],
        seconds=about["seconds"],
        bundle=directory / "bundle",
    )


def read_thresholds(directory: Path) -> dict[str, float]:
    """Threshold of each label the arm knows; a label is given where probability > threshold."""
    cuts: dict[str, float] = storage.read_json(directory / ARM_FILE)["thresholds"]["labels"]
    return cuts
