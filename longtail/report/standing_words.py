"""What the leaderboard says, in sentences made from its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from longtail.report.published import Published
from longtail.report.standing_candidate import candidate_answer, candidate_meaning
from longtail.report.standing_tables import KINDS, certainty, loss_name, sides
from longtail.report.standings import LINEAR, METRICS, DataSetLines, Line, Standings
from longtail.report.words import integer, listed, percent, plural

_WITHOUT_BASELINE = (
    "{baseline} was not among the losses, so there is nothing to compare them with and no gain is "
    "shown: add it to the losses and start again, what is trained stays."
)


def answer(standings: Standings) -> list[str]:
    """The candidate first, then which losses beat the baseline on everything."""
    if not standings.has_baseline:
        return [_WITHOUT_BASELINE.format(baseline=loss_name(standings.baseline))]
    return [*candidate_answer(standings), *_losses(standings)]


def _losses(standings: Standings) -> list[str]:
    """Which losses beat the baseline on everything, on every data set and on each."""
    several = len({policy for one in standings.data_sets for policy in one.policies}) > 1
    sentences = []
    first = standings.data_sets[0]
    for policy in first.policies:
        for fused in first.kinds:
            where = _where(policy if several else None, fused)
            winners = [_winners(one, fused, policy) for one in standings.data_sets]
            sentences.append(_overall(standings, where, winners))
    return sentences


def _overall(standings: Standings, where: str, winners: Sequence[list[str]]) -> str:
    baseline = loss_name(standings.baseline)
    three = f"all of {listed(list(METRICS.values()))}"
    everywhere = [loss for loss in winners[0] if all(loss in one for one in winners)]
    said = f"{listed(everywhere)} {_beat(everywhere)}" if everywhere else "no loss beats"
    if len(standings.data_sets) == 1:
        return f"{where}: {said} {baseline} on {three}."
    besides = [
        f"on {one.name} {'also ' if everywhere else ''}{listed(more)}"
        for one, won in zip(standings.data_sets, winners, strict=True)
        if (more := [loss for loss in won if loss not in everywhere])
    ]
    said = f"{where}: {said} {baseline} on {three} on every data set"
    return f"{'; '.join([said, *besides])}."


def _beat(losses: Sequence[str]) -> str:
    return "beats" if len(losses) == 1 else "beat"


def _where(policy: str | None, fused: bool) -> str:
    return KINDS[fused] + (f", thresholds {policy}" if policy else "")


def _winners(data: DataSetLines, fused: bool, policy: str) -> list[str]:
    return [line.loss for line in _rivals(data, fused, policy) if len(sides(line.change)[0]) == 3]


def _rivals(data: DataSetLines, fused: bool, policy: str) -> list[Line]:
    """The losses that are compared with the baseline."""
    lines = data.of(fused=fused, policy=policy)
    return [line for line in lines if line.change and line.loss != LINEAR]


def findings(data: DataSetLines, standings: Standings) -> list[str]:
    """A sentence for every loss: where it beats the baseline, where not, and by how much.

    They are on the first threshold policy; the tables have all of them.
    """
    sentences = []
    policy = data.policies[0]
    for fused in data.kinds:
        where = _where(policy if len(data.policies) > 1 else None, fused)
        said = [_against(line, standings) for line in _rivals(data, fused, policy)]
        said += [_linear(line, data) for line in data.of(fused=fused, policy=policy)
                 if line.loss == LINEAR]  # fmt: skip
        sentences += [f"{where}: {sentence}" for sentence in said]
    return sentences


def _against(line: Line, standings: Standings) -> str:
    better, worse, level = sides(line.change)
    baseline, mean = loss_name(standings.baseline), _in_the_mean(line)
    if len(better) == len(METRICS):
        said = f"beats {baseline} on all three{mean}: {listed(better)}."
    elif better:
        rest = [f"loses on {listed(worse)}"] if worse else []
        rest += [f"is level on {listed(level)}"] if level else []
        said = f"beats {baseline}{mean} on {listed(better)}, but {listed(rest)}."
    else:
        rest = [f"on {listed(worse)}"] if worse else []
        rest += [f"level on {listed(level)}"] if level else []
        verb = "loses to" if worse else "is no better than"
        said = f"{verb} {baseline}{mean}: {', '.join(rest)}."
    return f"{line.loss} {said} {_certainty(line, standings)}".rstrip()


def _in_the_mean(line: Line) -> str:
    count = len(line.seeds)
    return f" in the mean of {count} seeds" if count > 1 else " with its one seed"


def _certainty(line: Line, standings: Standings) -> str:
    return "" if line.gain is None else certainty(line.gain, standings.confidence)


def _linear(line: Line, data: DataSetLines) -> str:
    lines = data.of(fused=line.fused, policy=line.policy)
    parts = []
    for key, name in METRICS.items():
        mine = line.mean.get(key)
        others = [one for one in lines if one.loss != LINEAR]
        above = sum((one.mean.get(key) or 0.0) > (mine or 0.0) for one in others)
        parts.append(f"{name} {percent(mine, 2)} ({above} of {len(others)} losses above it)")
    return f"the linear arm by itself has {listed(parts)}."


def facts(data: DataSetLines) -> str:
    """Sizes, labels and groups of a data set."""
    about = data.about
    medium, head = about["cutoffs"]
    return (
        f"{integer(about['train'])} texts to train on, {integer(about['validation'])} for "
        f"validation, {integer(about['test'])} test texts; {plural(about['labels'], 'label')} with "
        f"{plural(about['test_positives'], 'positive')} in the test set. By training support, HEAD "
        f"begins at {plural(head, 'text')} and MEDIUM at {integer(medium)}. Export: "
        f"{about['export']}, SHA-256 {about['sha256'][:12]}…"
    )


def trained(data: DataSetLines) -> str:
    """What was trained, as far as all cells agree."""
    about = data.about
    parts = []
    if about.get("parameters"):
        parts.append(f"an encoder of {_millions(about['parameters'])} weights")
    if about.get("trainable_layers") is not None:
        layers = plural(about["trainable_layers"], "layer")
        weights = about.get("trainable_parameters")
        size = f" ({_millions(weights)} weights)" if weights else ""
        parts.append(f"{layers} of it trained{size}")
    if about.get("device"):
        parts.append(f"on {about['device']}")
    sentences = [f"Trained: {', '.join(parts)}."] if parts else []
    if about.get("linear_learned_from"):
        texts = listed(list(about["linear_learned_from"]))
        sentences.append(f"The linear arm that serves has learned from: {texts}.")
    return " ".join(sentences)


def _millions(count: float) -> str:
    return f"{count / 1e6:.1f} million"


def differences(data: DataSetLines, published: Published) -> list[str]:
    """What a reader must know before comparing our figures with published ones."""
    about, seeds = data.about, max((len(line.seeds) for line in data.lines), default=0)
    ours = f"{_millions(about['parameters'])} weights" if about.get("parameters") else "another"
    layers = about.get("trainable_layers")
    encoder = f"{published.encoder} with about {_millions(published.parameters)} weights there, "
    encoder += ours + " here" + ("" if layers is None else f", {plural(layers, 'layer')} trained")
    runs = f"the mean of {plural(seeds, 'seed')}" if seeds > 1 else "one seed"
    return [
        f"Published: {published.source}.",
        f"The encoder: {encoder}.",
        f"Single runs there, {runs} here.",
        (
            f"Thresholds: here fitted on the {integer(about['validation'])} validation texts, "
            f"which no encoder is trained on (policy {data.policies[0]}); there as the paper says."
        ),
        (
            "The linear model: an SVM there; here one linear classifier per label over TF-IDF, "
            "with thresholds fitted as for the losses. Nothing published is fused with it."
        ),
    ]


def meaning(standings: Standings) -> list[str]:
    """What the numbers mean, for who did not make the comparison."""
    draws = integer(standings.draws)
    sentences = [
        (
            "Micro-F1 counts every given label alike, macro-F1 every label alike; label coverage "
            "is the share of the labels with test positives that are right at least once. HEAD, "
            "MEDIUM and TAIL are micro-F1 within the labels of that group."
        ),
        (
            "All losses of a data set share the split, the encoder, the budget and, seed by seed, "
            "the order of the texts; thresholds, and the weights of encoder and linear arm where "
            "both are added up, are fitted on validation by the same rule for each of them."
        ),
    ]
    if any(line.loss.startswith("auto ") for data in standings.data_sets for line in data.lines):
        sentences.append(
            "auto is what a run reaches that trains the losses in its brackets and takes, seed by "
            "seed, the one that validation prefers; its training time is that of all of them."
        )
    if any(data.candidate for data in standings.data_sets):
        sentences += candidate_meaning()
    if standings.has_baseline:
        baseline = loss_name(standings.baseline)
        sentences += [
            (
                f"A gain is the mean, over the seeds, of a loss minus {baseline} of the same seed, "
                "alone against alone and fused against fused. Its interval and its one-sided lower "
                f"bound come from {draws} draws in which test units and seeds are resampled "
                "together; a lower bound above 0 says that the gain is more than chance. With few "
                "seeds their part of the uncertainty is known only roughly."
            ),
            f"The linear arm has no seed: its gain is over every seed of {baseline}.",
        ]
    return sentences
