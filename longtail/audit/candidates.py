"""A proposed correction of one cell, whatever found it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Action = Literal["add", "remove"]
Kind = Literal["conflict", "label error", "implied", "taxonomy"]


@dataclass(frozen=True)
class Candidate:
    """One label of one text that is perhaps wrong or missing.

    Attributes:
        id: of the text.
        label: of the label space.
        action: what would mend it.
        kind: what found it.
        score: in [0, 1]; the higher, the surer. 0.5 says that it could as well be the other way.
        evidence: why, as a sentence for a person.
    """

    id: str
    label: str
    action: Action
    kind: Kind
    score: float
    evidence: str

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "score": round(self.score, 4)}


def likeliest_first(candidates: list[Candidate]) -> list[Candidate]:
    """By score, ties by id and label; of one cell's candidates for one action the surest stays."""
    ordered = sorted(candidates, key=lambda one: (-one.score, one.id, one.label, one.kind))
    first: dict[tuple[str, str, str], Candidate] = {}
    for one in ordered:
        first.setdefault((one.id, one.label, one.action), one)
    return list(first.values())
