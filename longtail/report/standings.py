"""What ``leaderboard.json`` holds, as the page and the Markdown read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from longtail import storage
from longtail.errors import StoreError

LEADERBOARD = "leaderboard.json"
LINEAR = "linear"
METRICS = {"micro_f1": "micro-F1", "macro_f1": "macro-F1", "label_coverage": "label coverage"}

Numbers = Mapping[str, float | None]


@dataclass(frozen=True)
class Line:
    """One row of the leaderboard; the fields of :class:`longtail.comparison.Row`, null for NaN."""

    data: str
    loss: str
    policy: str
    fused: bool
    seeds: list[int]
    values: Mapping[str, list[float | None]]
    mean: Numbers
    deviation: Numbers
    change: Numbers
    gain: Mapping[str, Any] | None
    seconds: float
    fusion_weight: float

    @property
    def seedless(self) -> bool:
        """Whether it is a model that no seed changes."""
        return not self.seeds


@dataclass(frozen=True)
class DataSetLines:
    """A data set and its rows, in the leaderboard's order.

    Attributes:
        about: name, sizes, labels, cut-offs, what was trained.
        lines: all rows.
    """

    about: Mapping[str, Any]
    lines: tuple[Line, ...]

    @property
    def name(self) -> str:
        """Name of the data set."""
        return str(self.about["name"])

    @property
    def policies(self) -> list[str]:
        """Threshold policies in the order asked for."""
        return list(dict.fromkeys(line.policy for line in self.lines))

    @property
    def kinds(self) -> list[bool]:
        """Of False (the encoder alone) and True (fused), those that were evaluated."""
        return list(dict.fromkeys(line.fused for line in self.lines))

    def of(self, *, fused: bool, policy: str | None = None) -> list[Line]:
        """Rows of one kind, of one policy or of all."""
        return [
            line for line in self.lines if line.fused == fused and policy in (None, line.policy)
        ]


@dataclass(frozen=True)
class Standings:
    """A whole comparison.

    Attributes:
        command: what makes it again.
        baseline: the loss that the others are compared with.
        confidence: of the bounds.
        draws: bootstrap draws behind them.
        data_sets: in the order given.
    """

    command: str
    baseline: str
    confidence: float
    draws: int
    data_sets: tuple[DataSetLines, ...]

    @property
    def has_baseline(self) -> bool:
        """Whether the baseline was trained at all."""
        return any(line.loss == self.baseline for one in self.data_sets for line in one.lines)


def load_standings(root: Path) -> Standings:
    """Read a comparison's ``leaderboard.json``.

    Raises:
        StoreError: it is not there, or not what a comparison writes.
    """
    path = root / LEADERBOARD
    if not path.is_file():
        raise StoreError(f"{path}: missing; the comparison in this directory has not ended yet")
    found = storage.read_json(path)
    names = [one.name for one in fields(Line)]
    try:
        lines = [Line(**{name: row[name] for name in names}) for row in found["rows"]]
        return Standings(
            command=found["command"],
            baseline=found["baseline"],
            confidence=found["confidence"],
            draws=found["draws"],
            data_sets=tuple(
                DataSetLines(about, tuple(line for line in lines if line.data == about["name"]))
                for about in found["data"]
            ),
        )
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"{path}: not a leaderboard of this version ({error}); run longtail compare again, "
            "what is trained stays"
        ) from error
