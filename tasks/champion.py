"""The champion, and the best one of the last twelve months, on today's test set."""

from __future__ import annotations

import logging
import time

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from longtail.activations import ActivationCache
from longtail.bundle import read_info
from longtail.config import PublishSettings
from longtail.errors import LongtailError
from longtail.predictions import Predictions, write_predictions
from longtail.scoring import score_bundle
from tasks.arms import write_arm
from tasks.data import SplitData
from tasks.handles import ArmHandle, ArmName, ChampionHandle, RunHandle, SplitHandle
from tasks.promotion import ModelRegistry
from tasks.publishing import open_promotions
from tasks.registry import Version
from tasks.stages import timed

logger = logging.getLogger(__name__)


@task(name="repair registry", task_run_name="repair registry", cache_policy=NO_CACHE)
def repair_registry(run: RunHandle, settings: PublishSettings) -> None:
    """Finish or discard what a promotion that was killed half-way left behind."""
    open_promotions(settings, run.store, run.name).repair()


@task(name="score champion", task_run_name="score champion", cache_policy=NO_CACHE)
def score_champion(run: RunHandle, split: SplitHandle, settings: PublishSettings) -> ChampionHandle:
    """Score the champion and the year's best, as they serve, on the test rows of this run.

    Whatever goes wrong is not an error here but a finding: the gate blocks on it.
    """
    with timed(run, "score-champion"):
        return _scored(run, split, settings)


def _scored(run: RunHandle, split: SplitHandle, settings: PublishSettings) -> ChampionHandle:
    version = None
    try:
        promotions = open_promotions(settings, run.store, run.name)
        version = promotions.champion()
        if version is None:
            return ChampionHandle(state="none")
        arms = [_score(run, split, promotions.registry, version, "champion")]
        best = promotions.best()
    except Exception as error:  # noqa: BLE001 - a champion that will not load must block
        message = _said(version, error)
        logger.warning("The champion cannot be scored: %s", message)
        number = None if version is None else version.number
        return ChampionHandle(state="unreadable", error=message, version=number)
    best_error = None
    if best is not None and best.number != version.number:
        try:
            arms.append(_score(run, split, promotions.registry, best, "best_champion"))
        except Exception as error:  # noqa: BLE001 - as above
            best_error = _said(best, error)
            logger.warning("The year's best champion cannot be scored: %s", best_error)
    return ChampionHandle(
        state="scored", version=version.number, arms=tuple(arms), best_error=best_error
    )


def _said(version: Version | None, error: Exception) -> str:
    message = str(error) if isinstance(error, LongtailError) else repr(error)
    return message if version is None else f"version {version.number}, {message}"


def _score(
    run: RunHandle, split: SplitHandle, registry: ModelRegistry, version: Version, arm: ArmName
) -> ArmHandle:
    started = time.monotonic()
    data = SplitData(split)
    kept = run.model_store / "bundles" / f"version-{version.number}"
    bundle = registry.download(version, kept)
    info = read_info(bundle)
    scores = score_bundle(bundle, data.texts("test"), cache=ActivationCache(run.cache))
    directory = run.directory / "arms" / arm
    directory.mkdir(parents=True, exist_ok=True)
    predictions = Predictions(tuple(data.ids("test")), info.labels, scores)
    write_predictions(directory / "test.parquet", predictions)
    seconds = time.monotonic() - started
    cuts = dict(zip(info.labels, info.thresholds, strict=True))
    write_arm(
        directory,
        arm=arm,
        loss=info.loss,
        seconds=seconds,
        version=version.number,
        combination={"sources": info.sources} if info.combined else None,
        thresholds={
            "policy": info.threshold_policy,
            "by_group": _by_group(info.label_groups, np.array(info.thresholds)),
            "fallbacks": {},
            "labels": cuts,
        },
    )
    logger.info("%s: version %d scored in %.0f s", arm, version.number, seconds)
    return ArmHandle(
        arm=arm,
        directory=directory,
        loss=info.loss,
        seconds=seconds,
        bundle=bundle,
        version=version.number,
    )


def _by_group(groups: tuple[str, ...], cuts: np.ndarray) -> dict[str, float]:
    """A group's cut where the group has one and the same for all its labels."""
    names = np.array(groups)
    found = {name: np.unique(cuts[names == name]) for name in dict.fromkeys(groups)}
    return {name: float(values[0]) for name, values in found.items() if len(values) == 1}
