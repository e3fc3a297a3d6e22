"""A passing verdict → the check in a fresh process → registered, and live."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

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
from tasks.publishing import judged_against, open_promotions, publish
from tasks.stages import timed
from tasks.tracking import RUN_TAG, tracked_run

logger = logging.getLogger(__name__)


@task(name="check candidate", task_run_name="check candidate", cache_policy=NO_CACHE)
def check_candidate(
    run: RunHandle,
    split: SplitHandle,
    candidate: ArmHandle,
    verdict: Verdict,
    settings: PublishSettings,
) -> Verdict:
    """Add to the verdict whether the candidate serves what was evaluated.

    For a verdict that a person will be asked about: nobody should be asked about a model that
    cannot be served. It is checked again when it is published, which may be days later.
    """
    with timed(run, "serve-check"):
        verdict, _ = _check(run, split, candidate, verdict, settings)
    return verdict


@task(name="publish candidate", task_run_name="publish candidate", cache_policy=NO_CACHE)
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
    if verdict.decision == "promote" and (stale := _stale(run, verdict, settings)) is not None:
        verdict = with_rule(verdict, stale)
    if verdict.decision != "promote":
        write_verdict(run, verdict)
        return verdict
    with timed(run, "serve-check"):
        verdict, serve = _check(run, split, candidate, verdict, settings)
    if verdict.decision == "promote":
        with timed(run, "publish"):
            verdict = _publish(run, candidate, verdict, serve, settings, by)
    write_verdict(run, verdict)
    return verdict


def _stale(run: RunHandle, verdict: Verdict, settings: PublishSettings) -> RuleResult | None:
    """Told early, so that nothing is loaded or registered in vain; publishing checks it again."""
    promotions = open_promotions(settings, run.store, run.name)
    champion = promotions.champion()
    if champion is not None and champion.tags.get(RUN_TAG) == run.id:
        return None  # this run was killed after its promotion: publishing finds it and goes on
    try:
        promotions.check_champion(judged_against(verdict))
    except StaleChampionError as error:
        return _champion_changed(verdict, error)
    return None


def _champion_changed(verdict: Verdict, error: StaleChampionError) -> RuleResult:
    waited = verdict.approval is not None or verdict.override is not None
    when = "this waited for a decision" if waited else "this run was under way"
    return RuleResult(
        name="champion_unchanged",
        passed=False,
        severity="block",
        value=None,
        threshold=None,
        detail=f"The champion changed while {when}: {error}.",
    )


def _check(
    run: RunHandle,
    split: SplitHandle,
    candidate: ArmHandle,
    verdict: Verdict,
    settings: PublishSettings,
) -> tuple[Verdict, ServeCheck]:
    if candidate.bundle is None:
        raise StoreError(f"{candidate.directory}: the candidate has no bundle to publish")
    info = finalise_bundle(candidate.bundle, metrics=_overall(run))
    verdict = with_rule(
        verdict, thresholds_as_evaluated(info, read_thresholds(candidate.directory))
    )
    serve = _serve_check(split, candidate.bundle, candidate, settings)
    storage.write_json(run.directory / "serve_check.json", dataclasses.asdict(serve))
    return with_rule(verdict, _served(serve, settings.serve_check_tolerance)), serve


def _overall(run: RunHandle) -> dict[str, Any]:
    metrics = storage.read_json(run.directory / "metrics.json")
    return dict(metrics["arms"]["candidate"]["overall"])


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
    candidate: ArmHandle,
    verdict: Verdict,
    serve: ServeCheck,
    settings: PublishSettings,
    by: str,
) -> Verdict:
    if candidate.bundle is None:
        raise StoreError(f"{candidate.directory}: the candidate has no bundle to publish")
    promotions = open_promotions(settings, run.store, run.name)
    try:
        entry = publish(
            promotions,
            candidate.bundle,
            verdict,
            serve,
            by=by,
            micro_f1=_overall(run)["micro_f1"],
            run_id=tracked_run(MlflowStore.of(settings, run.store), run.name, run.id),
            tags={RUN_TAG: run.id},
        )
    except StaleChampionError as error:
        return with_rule(verdict, _champion_changed(verdict, error))
    logger.info("%s: version %d is live", run.name, entry.to_version)
    return verdict
