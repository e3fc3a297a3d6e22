"""The end of a retrain that has nothing new to judge: the verdict before it stands."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail import storage
from longtail.code_fingerprint import code_fingerprint
from longtail.config import EncoderSettings, PublishSettings
from longtail.errors import LongtailError
from longtail.gate import Verdict
from longtail.mirror import fetch
from tasks.artifacts import location
from tasks.gate import VERDICT
from tasks.handles import DatasetHandle, RunHandle, SplitHandle
from tasks.publishing import open_promotions
from tasks.run import RUN
from tasks.tracking import RUN_TAG
from tasks.train import device_kind, encoder_identity

logger = logging.getLogger(__name__)

LAST_JUDGED = "last-judged.json"
JUDGED_BY = "judged_by.json"
UNCHANGED = "unchanged.json"
REPORT = "report.html"

_CODE = (
    "tasks.split", "tasks.audit", "tasks.train", "tasks.linear_arm", "tasks.encoder_arm",
    "tasks.combine", "tasks.tune", "tasks.select", "tasks.champion", "tasks.gate", "tasks.publish",
    "tasks.report",
)  # fmt: skip
_MAY_PASS_NEXT_TIME = frozenset(
    {
        "champion_known", "best_champion_known", "champion_unchanged", "served_as_evaluated",
        "thresholds_as_evaluated",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Standing:
    """A verdict that stands.

    Attributes:
        directory: of its run, or the copy of it that was asked for.
        run: that run's id.
        verdict: as it is today, a person may have overridden it.
        sentence: what the flow run ends with.
    """

    directory: Path
    run: str
    verdict: Verdict
    sentence: str


def judged_by(
    run: RunHandle,
    dataset: DatasetHandle,
    split: SplitHandle,
    encoder: EncoderSettings,
    settings: Mapping[str, Any],
) -> str:
    """Fingerprint of all that a verdict depends on, but for the champion; kept with the run.

    Args:
        run: after its split.
        dataset: what was split.
        split: what arms learn from.
        encoder: where they begin; its weights count, and not its name.
        settings: the configuration, without what changes no result.
    """
    made_of = (
        dataset.fingerprint,
        split.fingerprint,
        storage.sha256_file(run.directory / "statistics.json"),  # what the view has changed
        encoder_identity(encoder),
        device_kind(),
        settings,
        code_fingerprint(*_CODE),
    )
    key = storage.fingerprint(*made_of)
    storage.write_json(run.directory / JUDGED_BY, {"key": key})
    return key


def standing_verdict(
    run: RunHandle, key: str, settings: PublishSettings, out: str | None
) -> Standing | None:
    """The verdict of the last judged run, if there is nothing new to judge.

    Args:
        run: this run; with ``stages.force`` everything is new.
        key: see :func:`judged_by`.
        settings: the registry that says who the champion is.
        out: where the results were asked for; the judged run's are copied there.
    """
    last = run.model_store / LAST_JUDGED
    if run.stages.force or not last.is_file():
        return None
    about = storage.read_json(last)
    directory = run.model_store / about["directory"]
    if about["key"] != key:
        return None
    fetch(directory)  # another machine may have judged
    if not (directory / VERDICT).is_file():
        return None
    verdict = Verdict.model_validate(storage.read_json(directory / VERDICT))
    if not _champion_stands(run, settings, about, verdict):
        return None
    storage.write_json(run.directory / UNCHANGED, about)
    if out is not None:
        _copy_missing(directory, run.directory)
        directory = run.directory
    return Standing(
        directory, about["run"], verdict, _sentence(run, about["run"], verdict, directory)
    )


def note_judged(run: RunHandle, settings: PublishSettings) -> None:
    """Remember a run whose verdict was carried out and told of.

    Not one that was blocked by what may be otherwise the next time, such as a champion that could
    not be loaded.
    """
    path = run.directory / JUDGED_BY
    if not path.is_file():
        return
    verdict = Verdict.model_validate(storage.read_json(run.directory / VERDICT))
    if any(rule.name in _MAY_PASS_NEXT_TIME for rule in verdict.failed):
        return
    try:
        champions = _champions(run, settings)
    except LongtailError as error:
        logger.warning("The next run judges again, whatever is new: %s", error)
        return
    try:
        directory = str(run.directory.relative_to(run.model_store))
    except ValueError:
        directory = str(run.directory)
    about = {
        "key": storage.read_json(path)["key"], "run": run.id, "directory": directory,
        "champions": champions,
    }  # fmt: skip
    with storage.lock(run.model_store / ".judged.lock"):
        storage.write_json(run.model_store / LAST_JUDGED, about)


def _champion_stands(
    run: RunHandle, settings: PublishSettings, about: Mapping[str, Any], verdict: Verdict
) -> bool:
    """Whether the champion is as the run left it, or is its own candidate by now.

    Once promoted it must be the latter: an override may have gone live without having been noted
    here, and have been rolled back to the champion that the run was blocked by.
    """
    try:
        champion = open_promotions(settings, run.store, run.name).champion()
        own = champion is not None and champion.tags.get(RUN_TAG) == about["run"]
        blocked = verdict.decision != "promote"
        return own or (blocked and bool(_champions(run, settings) == about["champions"]))
    except LongtailError as error:
        logger.warning("Whether the last verdict stands cannot be told: %s", error)
        return False


def _champions(run: RunHandle, settings: PublishSettings) -> list[int | None]:
    """Whom a candidate is judged against: the champion, and the best of the last twelve months."""
    promotions = open_promotions(settings, run.store, run.name)
    found = (promotions.champion(), promotions.best())
    return [None if version is None else version.number for version in found]


def _copy_missing(source: Path, target: Path) -> None:
    """What this run has made itself stays: its account of its export, above all."""
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_file() and (not copy.exists() or copy == target / RUN):
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.unlink(missing_ok=True)
            shutil.copy2(path, copy)


def _sentence(run: RunHandle, judged: str, verdict: Verdict, directory: Path) -> str:
    stands = "promoted" if verdict.decision == "promote" else "blocked"
    reason = " ".join(verdict.reasons[:2])
    return (
        f"{run.name}: nothing has changed since run {judged}, whose verdict stands: {stands}. "
        f"{reason} Report: {location(run, directory / REPORT)}"
    )
