"""What a run came to, without what may differ between two runs of the same: times and names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail import storage

_ARMS = ("linear", "bce", "candidate-db", "matched", "candidate")
_SPLITS = ("validation", "test")
_OF_METRICS = ("overall", "groups", "per_label")


@dataclass(frozen=True)
class Result:
    """A run that came to its end.

    Attributes:
        decision: of its verdict.
        arms: per arm, digests of its predictions, its thresholds and its metrics.
    """

    decision: str
    arms: dict[str, Any]

    def differences(self, other: Result, *, decision: bool = True) -> list[str]:
        """What is not the same, in words."""
        found = []
        if decision and self.decision != other.decision:
            found.append(f"decided {self.decision}, undisturbed {other.decision}")
        for arm, about in self.arms.items():
            found += [f"{arm}: {what} differ" for what, value in about.items()
                      if value != other.arms[arm][what]]  # fmt: skip
        return found


def result_of(directory: Path) -> Result:
    """Read a run's directory."""
    metrics = storage.read_json(directory / "metrics.json")["arms"]
    arms = {}
    for arm in _ARMS:
        where = directory / "arms" / arm
        arms[arm] = {
            **{f"{part} predictions": storage.sha256_file(where / f"{part}.parquet")
               for part in _SPLITS},
            "thresholds": storage.read_json(where / "arm.json")["thresholds"],
            "metrics": {name: metrics[arm][name] for name in _OF_METRICS},
        }  # fmt: skip
    return Result(storage.read_json(directory / "verdict.json")["decision"], arms)


def decision_of(directory: Path) -> str | None:
    """What a run decided; None where it did not come so far."""
    path = directory / "verdict.json"
    return str(storage.read_json(path)["decision"]) if path.is_file() else None
