"""From a passing verdict and a passed serve check to a live champion, and back again."""

from __future__ import annotations

import datetime as dt
import math
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from longtail import storage
from longtail.config import PublishSettings
from longtail.errors import LongtailError, StoreError
from longtail.gate.verdict import Verdict
from tasks.mlflow_store import MlflowStore
from tasks.promotion import ModelRegistry, Promotion, Promotions, timestamp
from tasks.registry import MICRO_F1_TAG, Registry, Version

if TYPE_CHECKING:
    from longtail.serve_check import ServeCheck


class NotPublishableError(LongtailError):
    """Publishing was asked for without what it takes: verdict, serve check, known champion."""


def open_promotions(settings: PublishSettings, store: Path, name: str) -> Promotions:
    """The champion of a model and how it changes, as the settings say where.

    Args:
        settings: which MLflow.
        store: directory of everything that persists.
        name: of the model.
    """
    return Promotions(Registry(MlflowStore.of(settings, store), name), store / name)


def publish(
    promotions: Promotions,
    bundle: Path,
    verdict: Verdict,
    serve: ServeCheck,
    *,
    by: str,
    micro_f1: float | None,
    run_id: str | None = None,
    tags: Mapping[str, Any] | None = None,
    at: dt.datetime | None = None,
) -> Promotion:
    """Register a bundle and make it the champion.

    Args:
        promotions: of the model; its registry gets the bundle.
        bundle: the candidate's bundle, a committed directory.
        verdict: says promote; checked again here.
        serve: of this bundle in a fresh process; must have passed, whoever overrode the verdict.
        by: who or what publishes, such as the flow run's name.
        micro_f1: of the candidate on the test set, in [0, 1].
        run_id: the MLflow run that the retrain was logged to.
        tags: more tags for the version.
        at: when; now by default.

    Returns:
        The entry of the promotion log.

    Raises:
        NotPublishableError: the verdict does not promote, or the serve check did not pass.
        StaleChampionError: the champion is no longer the one the verdict is about.
        StoreError: the registry cannot be used.
    """
    _check_verdict(verdict)
    _check_serve(serve)
    against = judged_against(verdict)
    version = promotions.registry.register(
        bundle,
        run_id,
        {
            **(tags or {}),
            MICRO_F1_TAG: micro_f1,
            "longtail.decision": verdict.decision,
            "longtail.against": "none" if against is None else against,
            "longtail.rules_sha256": rules_fingerprint(verdict),
            "longtail.override_by": verdict.override.by if verdict.override else None,
        },
    )
    entry = Promotion(
        kind="promote",
        at=timestamp(at),
        by=by,
        from_version=against,
        to_version=version.number,
        run_id=version.run_id,
        micro_f1=micro_f1,
        decision=verdict.decision,
        reasons=verdict.reasons,
        rules=rules_fingerprint(verdict),
        override=verdict.override.model_dump(mode="json") if verdict.override else None,
        approval=verdict.approval.model_dump(mode="json") if verdict.approval else None,
    )
    return promotions.promote(version, entry)


def rollback(
    promotions: Promotions,
    by: str,
    reason: str,
    to: int | None = None,
    at: dt.datetime | None = None,
) -> Promotion:
    """Make an earlier champion the champion again, after its bundle has scored a text.

    Args:
        promotions: of the model.
        by: who asks for it.
        reason: why; both stay in the log.
        to: version number; the previous champion by default.
        at: when; now by default.

    Returns:
        The entry of the promotion log.

    Raises:
        StoreError: there is nothing to go back to, or its bundle cannot be served; the champion
            is what it was.
    """
    check = partial(check_serves, promotions.registry)
    return promotions.rollback(by, reason, to, check=check, at=at)


def check_serves(registry: ModelRegistry, version: Version) -> None:
    """Fetch a version's bundle, load it with today's libraries and score a text with it.

    Raises:
        StoreError: it cannot be fetched or loaded, or its probabilities are none.
    """
    from longtail.scoring import score_bundle

    with tempfile.TemporaryDirectory(prefix="longtail-serves-") as folder:
        bundle = registry.download(version, Path(folder) / "bundle")
        probabilities = score_bundle(bundle, ["Does it serve?"])
    if not ((probabilities >= 0.0) & (probabilities <= 1.0)).all():
        raise StoreError(
            f"{version.name} version {version.number}: its probabilities are not numbers in [0, 1]"
        )


def judged_against(verdict: Verdict) -> int | None:
    """The version of the champion that the verdict is about, None at a first release.

    Raises:
        NotPublishableError: the verdict knows of a champion, but not which.
    """
    if verdict.first_release:
        return None
    try:
        return int(verdict.arms["champion"])
    except (KeyError, ValueError) as error:
        raise NotPublishableError(
            "The verdict does not say which version the champion was, so nobody can tell whether "
            "it still is; retrain when the registry can be read"
        ) from error


def rules_fingerprint(verdict: Verdict) -> str:
    """SHA-256 over the verdict's policy and rules with all their numbers."""
    return storage.fingerprint(
        [rule.model_dump(mode="json") for rule in verdict.rules], verdict.policy
    )


def _check_verdict(verdict: Verdict) -> None:
    try:
        # Built anew: a copy with other values is not validated by pydantic.
        checked = Verdict.model_validate(verdict.model_dump(mode="json"))
    except ValidationError as error:
        raise NotPublishableError(f"The verdict contradicts itself: {error}") from error
    if checked.decision != "promote":
        why = "; ".join(checked.reasons) or "no reason given"
        raise NotPublishableError(f"The verdict is {checked.decision}, not promote: {why}")


def _check_serve(serve: ServeCheck) -> None:
    difference = serve.largest_difference
    if (
        serve.passed is not True
        or serve.n < 1
        or difference is None
        or not math.isfinite(difference)
    ):
        raise NotPublishableError(
            f"The bundle failed the check in a fresh process, {serve.n} texts: "
            f"{serve.detail or f'largest difference of a probability {difference}'}"
        )
