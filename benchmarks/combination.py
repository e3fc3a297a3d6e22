"""What each source of evidence is worth, and how to combine them: over a run or a comparison.

    python benchmarks/combination.py RUN [RUN …] [--activations STORE/cache/activations]
    python benchmarks/combination.py COMPARISON [--seeds 0 1 2]

Of a run's directory the trained encoders read the texts once more; of a comparison's directory the
evidence of the cells is read, of the losses bce and db-soft. Printed are single sources, weighted
sums of ever more sources, what is learned over all cells with and without co-occurrence and
without each source, then weighted sum and learned model fitted on fewer validation texts; with
seconds, and kilobytes on disk. Choose by the figures on validation, which are out of fold; those on
the test set are for the tables. Thresholds are one per label group.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from longtail import storage
from longtail.activations import ActivationCache
from longtail.bundle import load_bundle
from longtail.config import CombinationSettings, LossSettings, ThresholdSettings
from longtail.evaluation import evaluate
from longtail.models.combination import CrossFitted, Fitting
from longtail.models.evidence import BaselineLogits, EncoderLogits, Scores, Source
from longtail.models.held_out import held_out_evidence
from longtail.models.label_names import LabelNames, NameWords, in_words
from longtail.models.ladder import BCE, LINEAR, Stacking, probabilities_of, sums
from longtail.models.neighbours import Neighbours
from longtail.models.reading import EncoderReader
from longtail.selection import on_validation
from longtail.thresholds import fit_thresholds
from tasks.arms import ARM_FILE
from tasks.cells import CELL, PARTS, read_evidence
from tasks.combined import linear_decisions
from tasks.data import SplitData
from tasks.evidence import annotated_splits, stacking_of
from tasks.handles import SplitHandle

SIZES = (100, 200, 400, 800)
REPEATS = 3
SETTINGS = CombinationSettings()
POLICY = ThresholdSettings(policy="group")
COLUMNS = (
    "validation micro-F1", "validation macro-F1", "test micro-F1", "test macro-F1",
    "test coverage", "seconds", "kB",
)  # fmt: skip

Evidence = Mapping[str, Scores]


@dataclass(frozen=True)
class Case:
    """A data set with the evidence of one pair of trainings.

    Attributes:
        name: for the tables.
        data: the split.
        stacking: the validation texts.
        validation: evidence of each source for them.
        test: and for the test texts.
    """

    name: str
    data: SplitData
    stacking: Stacking
    validation: Evidence
    test: Evidence


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIRECTORY")
    parser.add_argument("--activations", type=Path, help="of the store that the runs belong to")
    parser.add_argument("--seeds", nargs="*", type=int, help="of a comparison; default: all")
    given = parser.parse_args()
    cases = [case for directory in given.directories for case in cases_of(directory, given)]
    for title, measure in (("sources", sources_table), ("validation texts", sizes_table)):
        print(f"\n| data | {title} | {' | '.join(COLUMNS)} |")
        print("|" + " - |" * (2 + len(COLUMNS)))
        for case in cases:
            for name, numbers in measure(case):
                print(f"| {case.name} | {name} | {' | '.join(numbers)} |", flush=True)


def cases_of(directory: Path, given: argparse.Namespace) -> Iterator[Case]:
    """What a run's or a comparison's directory holds."""
    if (directory / "arms").is_dir():
        yield case_of_run(directory, given.activations)
        return
    if not (directory / "data").is_dir():
        raise SystemExit(f"{directory}: neither a finished run nor a comparison")
    for prepared in sorted(directory.glob("data/*/*/prepared.json")):
        yield from cases_of_cells(prepared.parent, given.seeds)


def cases_of_cells(prepared: Path, seeds: list[int] | None) -> Iterator[Case]:
    """One case per seed whose two encoders are trained on this preparation of a data set."""
    data = SplitData(SplitHandle.of(prepared))
    linear = linear_decisions(prepared / "arms" / "linear", data)
    own, bce = (cells_of(prepared.parent / "cells", loss, data.ids("test"))
                for loss in (LossSettings().name, BCE))  # fmt: skip
    for seed in sorted(own.keys() & bce.keys()):
        if seeds is not None and seed not in seeds:
            continue
        validation, test = (
            in_order({
                **read_evidence(own[seed], data, part),
                BCE: read_evidence(bce[seed], data, part, EncoderLogits.name)[EncoderLogits.name],
                LINEAR: linear[part],
            })
            for part in PARTS
        )  # fmt: skip
        name = f"{prepared.parent.name}, seed {seed}"
        yield Case(name, data, stacking_of(data, SETTINGS), validation, test)


def cells_of(cells: Path, loss: str, test_ids: list[str]) -> dict[int, Path]:
    """The newest cell of each seed that is of these texts."""
    found: dict[int, Path] = {}
    for about in sorted(cells.glob(f"{loss}-seed*/{CELL}"), key=lambda path: path.stat().st_mtime):
        seed = int(about.parent.name.rpartition("-")[0].rpartition("-seed")[2])
        table = storage.read_parquet(about.parent / "test_encoder.parquet", ["id"])
        if table["id"].to_pylist() == test_ids:
            found[seed] = about.parent
    return found


def case_of_run(run: Path, activations: Path | None) -> Case:
    """The evidence of a run, asked of its trained encoders once more."""
    data = SplitData(SplitHandle.of(run))
    loss = storage.read_json(run / "arms" / "candidate" / ARM_FILE)["loss"]
    encoders = {EncoderLogits.name: f"candidate-{loss}", BCE: "bce"}
    bundles = {name: load_bundle(run / "arms" / arm / "bundle") for name, arm in encoders.items()}
    info = bundles[BCE].info
    reader = EncoderReader(
        {name: bundle.model for name, bundle in bundles.items()}, bundles[BCE].tokenizer,
        max_length=info.max_length, frozen_layers=info.frozen_layers,
    )  # fmt: skip
    words = [in_words(name) for name in data.space.names]

    def sources() -> list[Source]:
        near = Neighbours(SETTINGS.neighbours)
        names = LabelNames(words, reader.read)
        return [EncoderLogits(), BaselineLogits(), near, names, NameWords(words)]

    cache = None if activations is None else ActivationCache(activations)
    splits = annotated_splits(data, reader, cache)
    found = held_out_evidence(
        sources, splits["train"], splits["validation"], splits["test"].reading
    )
    linear = linear_decisions(run / "arms" / "linear", data)
    validation = in_order({**found.validation, LINEAR: linear["validation"]})
    test = in_order({**found.test, LINEAR: linear["test"]})
    return Case(run.name, data, stacking_of(data, SETTINGS), validation, test)


def in_order(evidence: Evidence) -> dict[str, Scores]:
    """Sources in the order of a retrain."""
    names: tuple[str, ...] = SETTINGS.sources
    return {name: evidence[name] for name in names if name in evidence}


def sources_table(case: Case) -> Iterator[tuple[str, list[str]]]:
    """Single sources, sums, and learned models."""
    for name in case.validation:
        yield f"{name} alone", measured(case, [name], "weighted sum")
    for step in sums(case.stacking, case.validation, case.test):
        name = f"sum of {', '.join(step.sources)}"
        yield name, [*judged(case, step.out_of_fold, step.test), "", ""]
    every = list(case.validation)
    yield "learned", measured(case, every, "learned")
    without = replace(case, stacking=replace(case.stacking, pairs=None))
    yield "learned, without co-occurrence", measured(without, every, "learned")
    for name in every:
        rest = [source for source in every if source != name]
        yield f"learned, without {name}", measured(case, rest, "learned")


def sizes_table(case: Case) -> Iterator[tuple[str, list[str]]]:
    """The weighted sum against the learned model, fitted on some of the validation texts."""
    every, whole = list(case.validation), len(case.stacking.units)
    methods: tuple[Fitting, ...] = ("weighted sum", "learned")
    for size in (*(size for size in SIZES if size < whole), whole):
        parts = [subsample(case, size, seed) for seed in range(REPEATS if size < whole else 1)]
        for method in methods:
            cells = [measured(part, every, method) for part in parts]
            means = np.array(cells, dtype=np.float64).mean(axis=0)
            yield f"{size}, {method}", [f"{value:.2f}" for value in means]


def subsample(case: Case, size: int, seed: int) -> Case:
    """About as many validation texts, whole units of them."""
    stacking = case.stacking
    units, sizes = np.unique(stacking.units, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(units))
    taken = order[: int(np.searchsorted(np.cumsum(sizes[order]), size)) + 1]
    rows = np.isin(stacking.units, units[taken])
    known = None if stacking.known is None else stacking.known[rows]
    fewer = replace(stacking, y=stacking.y[rows], units=stacking.units[rows], known=known)
    validation = {name: scores[rows] for name, scores in case.validation.items()}
    return replace(case, stacking=fewer, validation=validation)


def measured(case: Case, names: list[str], method: Fitting) -> list[str]:
    """Figures of one combination of some sources."""
    started = time.monotonic()
    fitted = case.stacking.fit({name: case.validation[name] for name in names}, method)
    scores = probabilities_of(fitted, case.test)
    seconds = time.monotonic() - started
    found = judged(case, fitted.out_of_fold, scores)
    return [*found, f"{seconds:.1f}", f"{kilobytes(fitted):.0f}"]


def judged(case: Case, validation: Scores, test: Scores) -> list[str]:
    """What probabilities achieve at thresholds fitted on validation, in per cent."""
    groups, stacking = case.data.groups, case.stacking
    cuts = fit_thresholds(stacking.y, validation, groups, POLICY, stacking.known).values
    inside = on_validation(stacking.y, validation, cuts, stacking.known)
    found = evaluate(case.data.test, "combination", test, cuts, groups).overall
    values = [inside.micro_f1, inside.macro_f1]
    values += [found[name] for name in ("micro_f1", "macro_f1", "label_coverage")]
    return [f"{100 * value:.2f}" for value in values]


def kilobytes(fitted: CrossFitted) -> float:
    """Size of the combination on disk, without its sources."""
    with tempfile.TemporaryDirectory() as directory:
        fitted.combination.save(Path(directory))
        return storage.size_of(Path(directory)) / 1e3


if __name__ == "__main__":
    main()
