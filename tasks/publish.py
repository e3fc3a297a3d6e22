"""A passing verdict → the check in a fresh process → registered, and live."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from longtail import storage
from longtail.bundle import BundleInfo, finalise_bundle
from longtail.config import PublishSettings
from longtail.errors import StoreError
from longtail.gate import RuleResult, Verdict, with_rule
from longtail.predictions import read_predictions
from longtail.serve_check import ServeCheck, run_serve_check
from tasks.arms import read_thresholds
from tasks.data import SplitData
from tasks.gate import write_verdict
from tasks.handles import ArmHandle, RunHandle, SplitHandle
from tasks.mlflow_store import MlflowStore
from tasks.promotion import StaleChampionError
from tasks.publishing import open_promotions, publish
from tasks.tracking import tracked_run

logger = logging.getLogger(__name__)


@task(name="publish candidate", cache_policy=NO_CACHE)
def publish_candidate(
    run: RunHandle,
    split: SplitHandle,
    candidate: ArmHandle,
    verdict: Verdict,
    settings: PublishSettings,
    *,
    by: str,
) -> Verdict:
    """Make the candidate the champion if the verdict and a fresh process let it.

    ``verdict.json`` is written here and not by the gate: it says what happened, and a run that
    could not publish must not leave a file that says it did.

    Returns:
        The verdict with what was found on the way; it may have become a block.
    """
    if verdict.decision != "promote":
        write_verdict(run, verdict)
        return verdict
    if candidate.bundle is None:
        raise StoreError(f"{candidate.directory}: the candidate has no bundle to publish")
    overall = storage.read_json(run.directory / "metrics.json")["arms"]["candidate"]["overall"]
    info = finalise_bundle(candidate.bundle, metrics=overall)
    verdict = with_rule(
        verdict, thresholds_as_evaluated(info, read_thresholds(candidate.directory))
    )
    serve = _serve_check(split, candidate.bundle, candidate, settings)
    storage.write_json(run.directory / "serve_check.json", dataclasses.asdict(serve))
    verdict = with_rule(verdict, _served(serve, settings.serve_check_tolerance))
    if verdict.decision == "promote":
        verdict = _publish(run, candidate.bundle, verdict, serve, settings, by, overall["micro_f1"])
    write_verdict(run, verdict)
    return verdict


def thresholds_as_evaluated(info: BundleInfo, evaluated: dict[str, float]) -> RuleResult:
    """The check in a fresh process sees probabilities only; labels come from the thresholds."""
    bundled = dict(zip(info.labels, info.thresholds, strict=True))
    names = bundled.keys() | evaluated.keys()
    differing = sorted(name for name in names if bundled.get(name) != evaluated.get(name))
    return RuleResult(
        name="thresholds_as_evaluated",
        passed=not differing,
        severity="block",
        value=len(differing),
        threshold=0,
        detail=f"The bundle gives labels by the {len(bundled):,} thresholds that were evaluated."
        if not differing
        else f"The bundle has other thresholds than were evaluated for {len(differing):,} labels, "
        f"the first is {differing[0]!r}.",
    )


def _serve_check(
    split: SplitHandle, bundle: Path, candidate: ArmHandle, settings: PublishSettings
) -> ServeCheck:
    """Half of the texts are the longest ones: that is where a served model cuts differently."""
    texts = SplitData(split).texts("test")
    predictions = read_predictions(candidate.directory / "test.parquet")
    by_length = np.argsort([-len(text) for text in texts], kind="stable")
    count = min(settings.serve_check_texts, len(texts))
    longest, rest = np.split(by_length, [(count + 1) // 2])
    spread = rest[np.linspace(0, len(rest) - 1, count - len(longest)).astype(int)]
    rows = [*longest.tolist(), *spread.tolist()]
    return run_serve_check(
        bundle,
        [texts[row] for row in rows],
        predictions.probabilities[rows],
        settings.serve_check_tolerance,
    )


def _served(serve: ServeCheck, tolerance: float) -> RuleResult:
    difference = serve.largest_difference
    return RuleResult(
        name="served_as_evaluated",
        passed=serve.passed,
        severity="block",
        value=difference,
        threshold=tolerance,
        detail=f"In a fresh process the bundle gave the probabilities that were evaluated, scored "
        f"by {serve.by}: {serve.n} texts, largest difference {difference:.1e}."
        if serve.passed
        else f"In a fresh process the bundle did not give what was evaluated: {serve.detail}.",
    )


def _publish(
    run: RunHandle,
    bundle: Path,
    verdict: Verdict,
    serve: ServeCheck,
    settings: PublishSettings,
    by: str,
    micro_f1: float | None,
) -> Verdict:
    promotions = open_promotions(settings, run.store, run.name)
    try:
        entry = publish(
            promotions,
            bundle,
            verdict,
            serve,
            by=by,
            micro_f1=micro_f1,
            run_id=tracked_run(MlflowStore.of(settings, run.store), run.name, run.id),
            tags={"longtail.run": run.id},
        )
    except StaleChampionError as error:
        stale = RuleResult(
            name="champion_unchanged",
            passed=False,
            severity="block",
            value=None,
            threshold=None,
            detail=f"The champion changed while this run was under way: {error}.",
        )
        return with_rule(verdict, stale)
    logger.info("%s: version %d is live", run.name, entry.to_version)
    return verdict
