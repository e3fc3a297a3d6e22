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
    fusion_weight: float | None

    @property
    def seedless(self) -> bool:
        """Whether it is a model that no seed changes."""
        return not self.seeds


@dataclass(frozen=True)
class Opponent:
    """What the candidate is held against.

    Attributes:
        key: ``bce``, ``fused_bce``, ``matched`` or ``linear``.
        line: what it achieves itself.
        change: the candidate's metrics minus its, in the mean of the seeds.
        gain: the change in micro-F1 with its uncertainty.
    """

    key: str
    line: Line
    change: Numbers
    gain: Mapping[str, Any]


@dataclass(frozen=True)
class CandidateLines:
    """The candidate of a data set: all evidence combined, seed by seed.

    Attributes:
        loss: of its encoder.
        policy: of all thresholds.
        seeds: of the trainings.
        methods: how each seed's candidate combines its evidence.
        notes: why it is no more than it is, as sentences.
        ladder: from BCE cut at one half to the candidate; changes and gains are over the row above.
        against: what it is held against.
        verdicts: of each seed ``seed``, ``decision``, ``blocked_by`` and ``warnings``.
    """

    loss: str
    policy: str
    seeds: list[int]
    methods: list[str]
    notes: list[str]
    ladder: tuple[Line, ...]
    against: tuple[Opponent, ...]
    verdicts: list[Mapping[str, Any]]

    def opponent(self, key: str) -> Opponent:
        """One of those it is held against."""
        return next(one for one in self.against if one.key == key)

    @property
    def promoted(self) -> list[int]:
        """The seeds whose candidate the gate lets pass."""
        return [one["seed"] for one in self.verdicts if one["decision"] == "promote"]


@dataclass(frozen=True)
class DataSetLines:
    """A data set and its rows, in the leaderboard's order.

    Attributes:
        about: name, sizes, labels, cut-offs, what was trained.
        lines: all rows.
        candidate: all evidence combined; None where its losses were not among those compared.
    """

    about: Mapping[str, Any]
    lines: tuple[Line, ...]
    candidate: CandidateLines | None = None

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
    try:
        lines = [_line(row) for row in found["rows"]]
        candidates = {name: _candidate(one) for name, one in found["candidates"].items()}
        return Standings(
            command=found["command"],
            baseline=found["baseline"],
            confidence=found["confidence"],
            draws=found["draws"],
            data_sets=tuple(
                DataSetLines(
                    about,
                    tuple(line for line in lines if line.data == about["name"]),
                    candidates.get(about["name"]),
                )
                for about in found["data"]
            ),
        )
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"{path}: not a leaderboard of this version ({error}); run longtail compare again, "
            "what is trained stays"
        ) from error


def _line(row: Mapping[str, Any]) -> Line:
    return Line(**{one.name: row[one.name] for one in fields(Line)})


def _candidate(found: Mapping[str, Any]) -> CandidateLines:
    plain = ("loss", "policy", "seeds", "methods", "notes", "verdicts")
    return CandidateLines(
        **{name: found[name] for name in plain},
        ladder=tuple(_line(row) for row in found["ladder"]),
        against=tuple(
            Opponent(one["key"], _line(one["opponent"]), one["change"], one["gain"])
            for one in found["against"]
        ),
    )
