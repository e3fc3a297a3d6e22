"""Numbers, names and durations as the page prints them."""

from __future__ import annotations

from longtail.config import CONTENDER
from longtail.report.files import RunFiles, part

NARROW = "\N{NARROW NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
NOT_COMPUTED = "–"

LOSSES = {
    "bce": "binary cross-entropy",
    "focal": "focal loss",
    "cb-focal": "class-balanced focal loss",
    "r-focal": "rebalanced focal loss",
    "ntr-focal": "negative-tolerant focal loss",
    "db-0focal": "distribution-balanced loss without focal",
    "cb-ntr": "class-balanced, negative-tolerant loss",
    "db": "distribution-balanced loss",
    "db-soft": "softened distribution-balanced loss",
    "asl": "asymmetric loss",
    "zlpr": "zero-bounded log-sum-exp loss",
    "la": "logit-adjusted cross-entropy",
    "two-way": "two-way loss",
    "article": "loss of the article's arguments",
}
_ARMS = {
    "linear": "Linear",
    "bce": "BCE",
    "matched": "Combined with BCE",
    "candidate": "Candidate",
    "champion": "Champion",
    "best_champion": "Best champion",
}
_ABOUT_ARMS = {
    "linear": "a linear model over TF-IDF, no neural network",
    "bce": "the encoder trained with binary cross-entropy, by itself",
    "matched": "the candidate's combination with the BCE encoder: what it is without its loss",
    "champion": "the model that was live before this run, scored again on today's test texts",
    "best_champion": "the best champion of the last twelve months, scored again",
}


_SOURCES = {
    "encoder": "the encoder",
    "bce": "the encoder trained with bce",
    "linear": "the linear model over words",
    "neighbours": "similar annotated texts",
    "names": "what the labels' names mean",
    "name_words": "the words of the labels' names",
}
_METHODS = {"learned": "learned from", "weighted sum": "the weighted sum of"}


def arm_name(arm: str) -> str:
    """Short name of an arm."""
    if arm.startswith(CONTENDER):
        return f"{arm.removeprefix(CONTENDER)} alone"
    return _ARMS.get(arm, arm)


def candidate_loss(run: RunFiles) -> str:
    """The candidate's loss as configured, such as ``db``; empty where nobody says."""
    for value in (
        run.metrics.get("candidate_loss"),
        part(run.metrics, "arms", "candidate").get("loss"),
        part(run.config, "loss").get("name"),
    ):
        if isinstance(value, str) and value:
            return value
    return ""


def loss_name(loss: str) -> str:
    """A loss in words, such as ``distribution-balanced loss (db)``."""
    return f"{LOSSES[loss]} ({loss})" if loss in LOSSES else loss or "its configured loss"


def about_arm(run: RunFiles, arm: str) -> str:
    """One line on what an arm is."""
    if arm == "candidate":
        return _about_candidate(run)
    if arm.startswith(CONTENDER):
        loss = arm.removeprefix(CONTENDER)
        chosen = "the candidate is made with it" if loss == candidate_loss(run) else "not chosen"
        return f"the same encoder and budget trained with {loss_name(loss)}, by itself; {chosen}"
    about = _ABOUT_ARMS.get(arm, "")
    return f"{about}; the baseline to beat" if arm == baseline(run) else about


def combined(run: RunFiles, arm: str) -> str:
    """How an arm combines its sources, such as ``learned from 6 sources``; empty where it does not.

    A champion's bundle tells its sources alone.
    """
    about = part(run.metrics, "arms", arm, "combination")
    sources = about.get("sources")
    if not isinstance(sources, list) or not sources:
        return ""
    method = about.get("method")
    if method == "one source":
        return f"no: {source_name(run, str(sources[0]))} alone"
    of = plural(len(sources), "source")
    return f"{_METHODS[method]} {of}" if method in _METHODS else of


def source_name(run: RunFiles, source: str) -> str:
    """What a source of evidence is."""
    if source == "encoder" and candidate_loss(run):
        return f"the encoder trained with {candidate_loss(run)}"
    return _SOURCES.get(source, source)


def _about_candidate(run: RunFiles) -> str:
    loss = f"the same encoder, data and budget trained with {loss_name(candidate_loss(run))}"
    about = part(run.metrics, "arms", "candidate", "combination")
    sources = about.get("sources")
    if not isinstance(sources, list) or not sources or sources == ["encoder"]:
        return loss
    if about.get("method") == "one source":
        return f"{source_name(run, str(sources[0]))} alone; no combination was better on validation"
    names = listed([source_name(run, str(source)) for source in sources])
    return f"{combined(run, 'candidate')} of evidence: {names}"


def baseline(run: RunFiles) -> str:
    """The arm that the verdict's policy holds the candidate against."""
    found = part(run.verdict, "policy").get("baseline")
    return found if isinstance(found, str) and found else "bce"


def percent(value: float | None, decimals: int = 1) -> str:
    """A share in [0, 1] as a percentage."""
    return NOT_COMPUTED if value is None else f"{100 * value:.{decimals}f}{NARROW}%"


def points(change: float | None, decimals: int = 1) -> str:
    """A difference of shares in points, signed; ± where it rounds to nothing."""
    if change is None:
        return NOT_COMPUTED
    shown = f"{abs(100 * change):.{decimals}f}"
    sign = "±" if float(shown) == 0 else "+" if change > 0 else MINUS
    return f"{sign}{shown}{NARROW}pt"


def integer(value: float | None) -> str:
    """A count with thousands separators."""
    return NOT_COMPUTED if value is None else f"{value:,.0f}"


def decimal(value: float | None, digits: int = 3) -> str:
    """A plain number with a fixed number of decimals."""
    return NOT_COMPUTED if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def duration(seconds: float | None) -> str:
    """A time span in the two units that matter."""
    if seconds is None:
        return NOT_COMPUTED
    if seconds < 60:
        return f"{seconds:.1f}{NARROW}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NARROW}min {rest}{NARROW}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{NARROW}h {minutes}{NARROW}min"


def plural(count: float, one: str, several: str | None = None) -> str:
    """A count with its noun."""
    noun = one if count == 1 else several or f"{one}s"
    return f"{integer(count)} {noun}"


def listed(items: list[str]) -> str:
    """Items as an English list."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"
