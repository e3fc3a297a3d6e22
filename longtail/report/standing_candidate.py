"""The candidate of a comparison: the ladder, its gains and what the gate says, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longtail.report.standing_tables import (
    GAINS,
    MEASURES,
    certainty,
    gain_cells,
    sides,
    signed,
    spread,
)
from longtail.report.standings import METRICS, CandidateLines, DataSetLines, Opponent, Standings
from longtail.report.table import Cell, Table, table
from longtail.report.words import NOT_COMPUTED, listed

_OPPONENTS = {
    "bce": "BCE by itself",
    "fused_bce": "BCE added up with the linear arm",
    "matched": "the same combination with the BCE encoder",
    "linear": "the linear arm",
}
_JUDGED = ("bce", "fused_bce", "linear")
_THREE = f"all of {listed(list(METRICS.values()))}"


def candidate_tables(candidate: CandidateLines, confidence: float) -> list[Table]:
    """The ladder, the candidate against the others, and the verdicts."""
    return [
        _ladder(candidate, confidence),
        _against(candidate, confidence),
        _verdicts(candidate),
    ]


def _ladder(candidate: CandidateLines, confidence: float) -> Table:
    rows: list[list[str | Cell]] = []
    for line in candidate.ladder:
        gains = [NOT_COMPUTED] * len(GAINS) if line.gain is None else None
        rows.append([
            line.loss,
            *(spread(line, key) for key in METRICS),
            *(gains or gain_cells(line.change, line.gain or {})),
        ])  # fmt: skip
    caption = (
        "From BERT with BCE to the candidate, each row adding to the row above it, in %: mean ± "
        "standard deviation over the seeds, and the gain over the row above in points; "
        f"{_bounds(confidence)}."
    )
    return table(caption, ["step", *MEASURES.values(), *GAINS], rows)


def _against(candidate: CandidateLines, confidence: float) -> Table:
    rows: list[list[str | Cell]] = [
        [
            _OPPONENTS[one.key],
            *(spread(one.line, key) for key in METRICS),
            *gain_cells(one.change, one.gain),
        ]
        for one in candidate.against
    ]
    caption = (
        "What the candidate is held against, in %, and the candidate's gain over it in points; "
        f"{_bounds(confidence)}."
    )
    return table(caption, ["held against", *MEASURES.values(), *GAINS], rows)


def _verdicts(candidate: CandidateLines) -> Table:
    rows: list[list[str | Cell]] = []
    for verdict in candidate.verdicts:
        passed = verdict["decision"] == "promote"
        title = Cell("promoted" if passed else "blocked", "good" if passed else "bad")
        rows.append([str(verdict["seed"]), title, " ".join(_reasons(verdict)) or NOT_COMPUTED])
    caption = "What the gate decides, with its defaults, of the candidate as a first release."
    return table(caption, ["seed", "verdict", "reasons and warnings"], rows, names=3, stacked=True)


def _reasons(verdict: Mapping[str, Any]) -> list[str]:
    return [*verdict["blocked_by"], *(f"Warning: {said}" for said in verdict["warnings"])]


def _bounds(confidence: float) -> str:
    level = f"{100 * confidence:g} %"
    return f"that in micro-F1 with its {level} interval and one-sided {level} lower bound"


def candidate_findings(candidate: CandidateLines, confidence: float) -> list[str]:
    """What the candidate wins and loses against each of those it is held against."""
    sentences = [_stands(one, confidence) for one in candidate.against]
    others = [method for method in candidate.methods if method != "learned"]
    if others:
        sentences.append(
            f"Of {len(candidate.methods)} seeds, {len(others)} did not learn over all cells: "
            f"{listed(sorted(set(others)))}."
        )
    return [*sentences, *candidate.notes]


def _stands(opponent: Opponent, confidence: float) -> str:
    better, worse, level = sides(opponent.change)
    parts = [f"above it in {listed(better)}"] if better else []
    parts += [f"below it in {listed(worse)}"] if worse else []
    parts += [f"level in {listed(level)}"] if level else []
    name = _OPPONENTS[opponent.key]
    return (
        f"Against {name} the candidate is {listed(parts)}. {certainty(opponent.gain, confidence)}"
    )


def candidate_answer(standings: Standings) -> list[str]:
    """Whether the candidate beats the others, what the loss alone brings, and what the gate says.

    Returns:
        Nothing where no data set has a candidate.
    """
    found = {one.name: one.candidate for one in standings.data_sets if one.candidate is not None}
    if not found:
        return []
    several = len(standings.data_sets) > 1
    encoder = f"the encoder trained with {listed(sorted({one.loss for one in found.values()}))}"
    held = "; ".join(_beats(key, found, several=several) for key in _JUDGED)
    return [
        f"The candidate is all evidence combined around {encoder}{_without(standings.data_sets)}.",
        f"On {_THREE} {held}.",
        _loss_alone(found, standings.confidence, several=several),
        _promoted(found, several=several),
    ]


def _without(data_sets: tuple[DataSetLines, ...]) -> str:
    names = [one.name for one in data_sets if one.candidate is None]
    return f" (there is none on {listed(names)})" if names else ""


def _beats(key: str, found: Mapping[str, CandidateLines], *, several: bool) -> str:
    """Where the candidate beats an opponent on all three measures, and where that is sure."""
    against = {name: one.opponent(key) for name, one in found.items()}
    won = [name for name, opponent in against.items() if not _behind(opponent)]
    sure = [name for name in won if against[name].gain["lower"] > 0]
    lost = [(f"on {name} " if several else "") + f"({_behind(opponent)})"
            for name, opponent in against.items() if name not in won]  # fmt: skip
    name = _OPPONENTS[key]
    if not won:
        return f"it does not beat {name} {listed(lost)}"
    where = (f" on {listed(won)}" if lost else " on every data set") if several else ""
    beaten = f"it beats {name}{where} ({_certain(won, sure)})"
    return f"{beaten}, but not {listed(lost)}" if lost else beaten


def _behind(opponent: Opponent) -> str:
    """The measures in which the candidate is not above an opponent, each with its change."""
    changes = {name: signed(opponent.change.get(key)) for key, name in METRICS.items()}
    return listed([f"{name} {change} pt" for name, change in changes.items() if change[0] != "+"])


def _certain(won: list[str], sure: list[str]) -> str:
    """Whether the gains in micro-F1 of the data sets that are won are more than chance."""
    if len(sure) == len(won):
        return "in micro-F1 by more than chance"
    if sure:
        return f"in micro-F1 by more than chance on {listed(sure)}"
    return "in micro-F1 it may be chance"


def _loss_alone(found: Mapping[str, CandidateLines], confidence: float, *, several: bool) -> str:
    parts = []
    for name, one in found.items():
        opponent = one.opponent("matched")
        low, high = opponent.gain["interval"]
        shown = [f"{measure} {signed(opponent.change.get(key))} pt"
                 for key, measure in METRICS.items()]  # fmt: skip
        shown[0] += f" ({100 * confidence:g} % interval {signed(low)} to {signed(high)})"
        parts.append((f"on {name} " if several else "") + listed(shown))
    return (
        f"What the loss alone brings, the rest of the combination being equal: {'; '.join(parts)}."
    )


def _promoted(found: Mapping[str, CandidateLines], *, several: bool) -> str:
    short = [name for name, one in found.items() if len(one.promoted) < len(one.seeds)]
    if not short:
        return "As a first release the gate promotes it in every seed" + (
            " on every data set." if several else "."
        )
    parts = []
    for name in short:
        one = found[name]
        blocked = [str(seed) for seed in one.seeds if seed not in one.promoted]
        counted = f"{len(one.promoted)} of {len(one.seeds)} seeds"
        where = f"on {name} " if several else ""
        parts.append(f"{where}in {counted} (blocked with seed {listed(blocked)})")
    rest = [name for name in found if name not in short]
    everywhere = [f"on {listed(rest)} in every seed"] if rest else []
    return f"As a first release the gate promotes it {'; '.join([*everywhere, *parts])}."


def candidate_meaning() -> list[str]:
    """What the candidate and its ladder are, for who did not make the comparison."""
    return [
        (
            "The candidate is what a retrain builds: both encoders, the linear arm, similar "
            "annotated texts and the labels' names, weighed by a model that learns from the "
            "validation texts, out of fold. The ladder adds one source after the other, so that "
            "what the combination gains is not credited to the loss; matched is the candidate with "
            "the BCE encoder in place of its own."
        ),
        (
            "The verdict is that of the gate with its defaults on one training, where nothing is "
            "live yet; its bound against BCE allows for the noise of training again."
        ),
    ]
