"""How often the gate promotes what is no better than BCE, and what is one point better.

    python benchmarks/gate.py POOL [POOL …] [--out TABLES.md]

POOL is what benchmarks/out_of_fold.py writes: probabilities of every text by several recipes and
seeds. Test sets are drawn from one fold of a pool, whole units, one trained model per arm, and the
gate's own rules are asked. Printed are six tables.

- The arms, how much training again with another seed changes micro-F1 by itself, and how much it
  changes the gain of every recipe over BCE alone and over BCE fused, which is what
  ``gate.training_deviation`` stands for.
- A/A: two trainings of one recipe that differ in the seed, in random order. Test sets are drawn
  without replacement: a part of a sample is a sample. A fold smaller than the asked size is drawn
  from with replacement; then the chance differences of the fold count as real ones, and the share
  found is too high rather than too low.
- Power: a candidate that is 1 point of micro-F1 better on the whole fold. It is made of real arms.
  Of two trainings of one recipe either the candidate takes the decisions of a better arm, or the
  baseline those of a worse one, on as many units, drawn at random, as make the gain 1 point. Other
  arms are other losses, the mean of two seeds, the linear arm and the fusion with it. Test sets are
  drawn with replacement, so that the fold is the whole world and the gain there is the true one.
- Weekly looks: the chance of at least one promotion of an equal arm when each week's new pair is
  judged on the same growing test set.
- Refresh: how often an equal candidate, and one that is 1 point worse, may replace a champion.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from gate_pool import Arm, Population, mixed, read_pool

from longtail.config import GROUPS, GatePolicy
from longtail.gate.comparisons import Comparison
from longtail.gate.rules import beats, covers_more, group_holds, holds, keeps
from longtail.metrics import f1
from longtail.significance import Gain, gain_of, resample

SIZES = (300, 1000, 3000, 10_000, 30_000)
WEEKS = (4, 12, 52)
MARGINS = (0.005, 0.01)
GROUP_MARGINS = (0.03, 0.05)
BASELINES = ("bce", "fused bce", "linear-half")
KINDS_AT = 3000


@dataclass(frozen=True)
class Trial:
    """Two arms on one drawn test set.

    Attributes:
        comparison: what the gate's rules against BCE look at.
        documents: the gain with the uncertainty of the texts alone, as the champion's rules use it.
        expected: labels that each side recognises on average when the test set is drawn again; a
            label that one lucky text carries counts 0.63, one that three carry 0.95.
    """

    comparison: Comparison
    documents: Gain
    expected: tuple[float, float]


Rule = Callable[[Trial], bool]


def rules(policy: GatePolicy) -> dict[str, Rule]:
    """The rules against the baseline, alone and together, and what could stand in their place."""
    no_deviation = policy.model_copy(update={"training_deviation": 0.0})

    def texts_only(trial: Trial) -> bool:
        return beats(replace(trial.comparison, overall=trial.documents), no_deviation).passed

    def bound(trial: Trial) -> bool:
        return beats(trial.comparison, policy).passed

    def coverage(trial: Trial) -> bool:
        return covers_more(trial.comparison).passed

    return {
        "bound of the texts alone": texts_only,
        "`bce_micro_f1`": bound,
        "`bce_label_coverage`": coverage,
        "more labels on average": lambda trial: trial.expected[0] > trial.expected[1],
        "gate with the texts alone": lambda trial: texts_only(trial) and coverage(trial),
        "the gate": lambda trial: bound(trial) and coverage(trial),
    }


def champion_rules(policy: GatePolicy) -> dict[str, Rule]:
    """The rules against a champion as they are, and with other margins."""

    def above(margin: float) -> Rule:
        other = policy.model_copy(update={"refresh_margin": margin})
        return lambda trial: holds(replace(trial.comparison, overall=trial.documents), other).passed

    def groups_above(margin: float) -> Rule:
        other = policy.model_copy(update={"group_margin": margin})
        return lambda trial: all(
            group_holds(trial.comparison, part, other).passed for part in trial.comparison.groups
        )

    def keeps_all(trial: Trial) -> bool:
        ours, theirs = trial.comparison.recognised
        return ours >= theirs

    def not_shown_to_lose(trial: Trial) -> bool:
        return keeps(trial.comparison).passed

    bounds = {f"bound above -{100 * margin:g} pt": above(margin) for margin in MARGINS}
    groups = {f"groups above -{100 * m:g} pt": groups_above(m) for m in GROUP_MARGINS}
    as_it_is = (above(policy.refresh_margin), groups_above(policy.group_margin), not_shown_to_lose)
    narrower = (above(MARGINS[0]), groups_above(GROUP_MARGINS[0]), keeps_all)
    return {
        **bounds,
        **groups,
        "no fewer labels": keeps_all,
        "not shown to lose labels": not_shown_to_lose,
        "the gate": lambda trial: all(rule(trial) for rule in as_it_is),
        "with the narrower of each": lambda trial: all(rule(trial) for rule in narrower),
    }


def draw(
    population: Population, texts: int, generator: np.random.Generator, *, again: bool
) -> np.ndarray:
    """Units of a test set of about ``texts`` texts; ``again``: with replacement."""
    count = len(population.sizes)
    units = generator.integers(0, count, texts) if again else generator.permutation(count)
    whole = int(np.searchsorted(population.sizes[units].cumsum(), texts, side="right"))
    return units[: max(1, whole)]


def trial(
    population: Population,
    pair: tuple[Arm, Arm],
    units: np.ndarray,
    policy: GatePolicy,
    generator: np.random.Generator,
) -> Trial:
    """Compare two arms on a drawn test set as the gate does."""
    counts = [arm.counts[units] for arm in pair]
    flat = np.concatenate([side.reshape(len(units), -1) for side in counts], axis=1)
    sums = resample(flat, policy.draws, int(generator.integers(1 << 60)))
    drawn = sums.reshape(len(sums), 2, 1 + len(GROUPS), 3)
    total = [side.sum(axis=0) for side in counts]

    def gain(at: int, deviation: float) -> Gain:
        return gain_of(
            total[0][at], total[1][at], drawn[:, 0, at], drawn[:, 1, at],
            policy.confidence, deviation,
        )  # fmt: skip

    found = [arm.hits[units] for arm in pair]
    hits = [side.sum(axis=0) for side in found]
    won, lost = (np.flatnonzero((hits[a] > 0) & (hits[1 - a] == 0)) for a in (0, 1))
    labels = population.positives.shape[1]
    comparison = Comparison(
        opponent="bce",
        overall=gain(0, policy.deviation),
        groups={
            name: gain(at, 0.0)
            for at, name in enumerate(GROUPS, start=1)
            if total[0][at, [0, 2]].sum() >= policy.min_group_positives
        },
        labels=labels,
        shared=labels,
        with_positives=int(np.count_nonzero(population.positives[units].sum(axis=0))),
        recognised=(int((hits[0] > 0).sum()), int((hits[1] > 0).sum())),
        recognised_twice=(int((hits[0] > 1).sum()), int((hits[1] > 1).sum())),
        won=tuple(map(str, won)),
        lost=tuple(map(str, lost)),
    )
    expected = [expected_recognised(side, len(units), len(units)) for side in found]
    return Trial(comparison, gain(0, 0.0), (expected[0], expected[1]))


@dataclass(frozen=True)
class Contest:
    """Two arms of one population; ``again`` says how test sets are drawn."""

    population: Population
    candidate: Arm
    baseline: Arm
    again: bool = False

    def run(self, texts: int, policy: GatePolicy, generator: np.random.Generator) -> Trial:
        """One drawn test set."""
        again = self.again or texts > self.population.texts
        units = draw(self.population, texts, generator, again=again)
        return trial(self.population, (self.candidate, self.baseline), units, policy, generator)


def exchangeable(populations: Iterable[Population]) -> list[Contest]:
    """All ordered pairs of arms that differ in nothing but the seed."""
    return [
        Contest(population, *pair)
        for population in populations
        for pair in itertools.permutations(population.arms, 2)
        if pair[0].recipe == pair[1].recipe and not pair[0].seeds & pair[1].seeds
    ]


def better(
    equal: Iterable[Contest], gain: float, generator: np.random.Generator
) -> dict[str, list[Contest]]:
    """Candidates that are ``gain`` better than a baseline on the population, by what they are.

    Of two exchangeable arms either the candidate is mixed with a better arm, or the baseline with
    a worse one, until the gain is what it shall be.
    """
    found: dict[str, list[Contest]] = {}
    for contest in equal:
        ours, theirs, population = contest.candidate, contest.baseline, contest.population
        for other in population.arms if theirs.recipe in BASELINES else ():
            if other.recipe == ours.recipe:
                continue
            kind = f"{other.recipe} over {theirs.recipe}"
            mixture = None
            if not other.seeds & theirs.seeds or other.recipe.startswith("linear"):
                mixture = mixed(ours, other, theirs.micro_f1 + gain, generator)
            made = replace(contest, candidate=mixture or ours, again=True)
            if mixture is None and other.micro_f1 < ours.micro_f1 - gain:
                kind = f"{ours.recipe} over {theirs.recipe} weakened by {other.recipe}"
                mixture = mixed(theirs, other, ours.micro_f1 - gain, generator)
                made = replace(contest, baseline=mixture or theirs, again=True)
            if mixture is not None:
                found.setdefault(f"{kind}, {population.pool}", []).append(made)
    return found


def shares(
    contests: Sequence[Contest],
    texts: int,
    asked: dict[str, Rule],
    options: argparse.Namespace,
    policy: GatePolicy,
) -> list[float]:
    """How often each rule passes over random contests and test sets."""
    generator = np.random.default_rng([options.seed, texts])
    passed = np.zeros(len(asked))
    for _ in range(options.repeats):
        contest = contests[generator.integers(len(contests))]
        found = contest.run(texts, policy, generator)
        passed += [rule(found) for rule in asked.values()]
    return (passed / options.repeats).tolist()


def main() -> None:
    """Measure and print the tables."""
    options = arguments()
    policy = GatePolicy(draws=options.draws)
    if options.training_deviation is not None:
        policy = policy.model_copy(update={"training_deviation": options.training_deviation})
    populations = [found for pool in options.pools for found in read_pool(pool)]
    out = Writer(options.out)
    describe(populations, out)
    describe_gains(populations, out)
    equal = exchangeable(populations)
    if not equal:
        raise SystemExit(
            "no recipe has two seeds, so that there is nothing exchangeable to compare"
        )
    promoted_equal(equal, options, policy, out)
    strong = better(equal, options.gain, np.random.default_rng(options.seed))
    if strong:
        promoted_better(strong, options, policy, out)
    weekly(equal, options, policy, out)
    refresh(equal, strong, options, policy, out)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pools", type=Path, nargs="+", metavar="POOL")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="texts per test set")
    parser.add_argument("--repeats", type=int, default=400, help="test sets per line")
    parser.add_argument("--sequences", type=int, default=100, help="years of weekly looks")
    parser.add_argument("--draws", type=int, default=400, help="bootstrap draws; the gate: 10,000")
    parser.add_argument(
        "--gain", type=float, default=0.01, help="true gain of the better candidate"
    )
    parser.add_argument("--training-deviation", type=float, help="try another than the policy's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the tables here, too")
    return parser.parse_args()


class Writer:
    """Prints lines, and keeps a copy in a file."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is not None:
            path.write_text("", encoding="utf-8")

    def line(self, text: str = "") -> None:
        """Print one line."""
        print(text, flush=True)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text + "\n")

    def row(self, cells: Iterable[object]) -> None:
        """Print one row of a table."""
        self.line("| " + " | ".join(str(cell) for cell in cells) + " |")

    def head(self, title: str, columns: Sequence[str]) -> None:
        """Print a title and the head of a table."""
        self.line(f"\n### {title}\n")
        self.row(columns)
        self.row("-" for _ in columns)


def describe(populations: Sequence[Population], out: Writer) -> None:
    """The arms, and the deviation of the gain that training again brings with it."""
    out.head("The arms", ("population", "texts", "units", "recipe", "arms", "micro-F1",
                          "labels recognised", "deviation of the gain"))  # fmt: skip
    for population in populations:
        for recipe in dict.fromkeys(arm.recipe for arm in population.arms):
            arms = [arm for arm in population.arms if arm.recipe == recipe]
            scores = [arm.micro_f1 for arm in arms]
            spread = training_deviation(arms)
            out.row((
                population.name, f"{population.texts:,}", f"{len(population.sizes):,}", recipe,
                len(arms), " ".join(f"{100 * score:.2f}" for score in scores),
                " ".join(str(arm.recognised) for arm in arms),
                "–" if spread is None else f"{100 * spread[0]:.2f} pt, "
                f"of that the texts {100 * spread[1]:.2f}",
            ))  # fmt: skip


def training_deviation(arms: Sequence[Arm]) -> tuple[float, float] | None:
    """Root mean square gain between arms, and the part of it that the choice of texts explains."""
    pairs = [pair for pair in itertools.combinations(arms, 2) if not pair[0].seeds & pair[1].seeds]
    if not pairs:
        return None
    seen, texts = [], []
    for a, b in pairs:
        sums = resample(np.concatenate([a.counts[:, 0], b.counts[:, 0]], axis=1), 400, 0)
        texts.append(float((f1(sums[:, :3]) - f1(sums[:, 3:])).var()))
        seen.append((a.micro_f1 - b.micro_f1) ** 2)
    return float(np.sqrt(np.mean(seen))), float(np.sqrt(np.mean(texts)))


def describe_gains(populations: Sequence[Population], out: Writer) -> None:
    """What training both again changes in the gain of every recipe over a baseline."""
    columns = ("population", "recipe", "over", "gain of each seed", "standard deviation")
    out.head("The gain over a baseline when both are trained again", columns)
    for population in populations:
        recipes = dict.fromkeys(arm.recipe for arm in population.arms)
        for baseline, recipe in itertools.product(BASELINES[:2], recipes):
            gains = gains_by_seed(population, recipe, baseline)
            if recipe != baseline and len(gains) > 1:
                shown = " ".join(f"{100 * gain:+.2f}" for gain in gains)
                spread = f"{100 * np.std(gains, ddof=1):.2f} pt"
                out.row((population.name, recipe, baseline, shown, spread))


def gains_by_seed(population: Population, recipe: str, baseline: str) -> list[float]:
    """Micro-F1 gains of a recipe over the baseline of the same seed.

    The only arm of its recipe, such as the linear one, stands against every seed.
    """
    theirs = {arm.seeds: arm for arm in population.arms if arm.recipe == baseline}
    ours = [arm for arm in population.arms if arm.recipe == recipe]
    if len(ours) == 1:
        return [ours[0].micro_f1 - arm.micro_f1 for arm in theirs.values()]
    return [arm.micro_f1 - theirs[arm.seeds].micro_f1 for arm in ours if arm.seeds in theirs]


def promoted_equal(
    contests: Sequence[Contest], options: argparse.Namespace, policy: GatePolicy, out: Writer
) -> None:
    """The A/A table."""
    asked = rules(policy)
    out.head("A/A: promoted although nothing but the seed differs", ("recipe", "texts", *asked))
    for recipe, own in by_recipe(contests).items():
        for texts in options.sizes:
            found = shares(own, texts, asked, options, policy)
            out.row((recipe, f"{texts:,}", *(f"{share:.1%}" for share in found)))


def by_recipe(contests: Iterable[Contest]) -> dict[str, list[Contest]]:
    """Contests by the recipe of the baseline."""
    found: dict[str, list[Contest]] = {}
    for contest in contests:
        found.setdefault(contest.baseline.recipe, []).append(contest)
    return found


def promoted_better(
    kinds: dict[str, list[Contest]], options: argparse.Namespace, policy: GatePolicy, out: Writer
) -> None:
    """The power tables: by size, and by kind of candidate at one size.

    A candidate that truly recognises fewer labels must be blocked, whatever its micro-F1, so the
    two kinds are counted apart.
    """
    asked = rules(policy)
    columns = ("candidates", "true change of labels recognised", *asked)
    title = f"Power: promoted when truly {100 * options.gain:g} pt better"
    every = [contest for contests in kinds.values() for contest in contests]
    for name, sign in (("truly more labels", 1.0), ("truly fewer labels", -1.0)):
        out.head(f"{title}, and {name}", ("texts", *columns))
        for texts in options.sizes:
            chosen = [one for one in every if sign * coverage_gain(one, texts) > 0]
            if chosen:
                out.row((f"{texts:,}", *power(chosen, texts, asked, options, policy)))
    out.head(f"{title}, and truly more labels, {KINDS_AT:,} texts", ("candidate", *columns))
    for kind, contests in kinds.items():
        chosen = [one for one in contests if coverage_gain(one, KINDS_AT) > 0]
        if chosen:
            out.row((kind, *power(chosen, KINDS_AT, asked, options, policy)))


def power(
    contests: Sequence[Contest],
    texts: int,
    asked: dict[str, Rule],
    options: argparse.Namespace,
    policy: GatePolicy,
) -> list[str]:
    """The cells of one line of a power table."""
    moved = [coverage_gain(contest, texts) for contest in contests]
    found = shares(contests, texts, asked, options, policy)
    span = f"{np.mean(moved):+.1f} ({min(moved):+.1f} to {max(moved):+.1f})"
    return [str(len(contests)), span, *(f"{share:.0%}" for share in found)]


def coverage_gain(contest: Contest, texts: int) -> float:
    """Labels that the candidate recognises more, on average over test sets of this size."""
    population = contest.population
    units = round(texts * len(population.sizes) / population.texts)
    ours, theirs = (
        expected_recognised(arm.hits, len(population.sizes), units)
        for arm in (contest.candidate, contest.baseline)
    )
    return ours - theirs


def expected_recognised(hits: sp.csr_array, units: int, drawn: int) -> float:
    """Labels recognised on average in ``drawn`` units out of ``units``, with replacement."""
    carried = (hits > 0).sum(axis=0) / units
    return float((1.0 - (1.0 - carried) ** drawn).sum())


def weekly(
    contests: Sequence[Contest], options: argparse.Namespace, policy: GatePolicy, out: Writer
) -> None:
    """The table of looks at one growing test set."""
    asked = rules(policy)
    columns = ("recipe", "weekly looks", "texts, first and last", *asked)
    out.head("Weekly looks: at least one promotion of an equal arm", columns)
    for recipe, own in by_recipe(contests).items():
        generator = np.random.default_rng([options.seed, max(WEEKS)])
        passed = np.array([year(own, asked, policy, generator) for _ in range(options.sequences)])
        texts = np.mean([contest.population.texts for contest in own])
        for weeks in WEEKS:
            ever = passed[:, :weeks].any(axis=1).mean(axis=0)
            last = 0.5 + 0.5 * (weeks - 1) / (max(WEEKS) - 1)
            span = f"{texts / 2:,.0f} to {last * texts:,.0f}"
            out.row((recipe, weeks, span, *(f"{share:.0%}" for share in ever)))


def year(
    contests: Sequence[Contest],
    asked: dict[str, Rule],
    policy: GatePolicy,
    generator: np.random.Generator,
) -> list[list[bool]]:
    """Which rules passed week by week; the test set grows from half of a population to all."""
    population = contests[generator.integers(len(contests))].population
    own = [contest for contest in contests if contest.population is population]
    order = generator.permutation(len(population.sizes))
    passed = []
    for size in np.linspace(len(order) / 2, len(order), max(WEEKS)).astype(int):
        contest = own[generator.integers(len(own))]
        pair = (contest.candidate, contest.baseline)
        found = trial(population, pair, order[:size], policy, generator)
        passed.append([rule(found) for rule in asked.values()])
    return passed


def refresh(
    equal: Sequence[Contest],
    kinds: dict[str, list[Contest]],
    options: argparse.Namespace,
    policy: GatePolicy,
    out: Writer,
) -> None:
    """The table of a refresh: the candidate is as good as the champion, or 1 point worse."""
    asked = champion_rules(policy)
    out.head("Refresh: may replace the champion", ("candidate", "texts", *asked))
    worse = [
        replace(contest, candidate=contest.baseline, baseline=contest.candidate)
        for contests in kinds.values()
        for contest in contests
    ]
    lines = {f"equal, {recipe}": own for recipe, own in by_recipe(equal).items()}
    lines[f"{100 * options.gain:g} pt worse"] = worse
    for name, contests in lines.items():
        for texts in options.sizes if contests else ():
            found = shares(contests, texts, asked, options, policy)
            out.row((name, f"{texts:,}", *(f"{share:.0%}" for share in found)))


if __name__ == "__main__":
    main()
