"""Test probabilities + thresholds → metrics of every arm → the verdict."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from longtail import storage
from longtail.calibration import reliability_by_group
from longtail.config import CONTENDER, GROUPS, GatePolicy, ThresholdSettings
from longtail.cuts import NOTHING
from longtail.evaluation import ArmEvaluation, TestSet, evaluate
from longtail.gate import Estimate, GateInputs, Verdict, decide
from longtail.predictions import read_predictions
from longtail.thresholds import fit_thresholds, threshold_curve
from tasks.arms import ARM_FILE, LADDER, STEPS, read_thresholds
from tasks.artifacts import artifact_key, percent, publish_markdown, publish_table
from tasks.data import SplitData
from tasks.handles import ArmHandle, ChampionHandle, RunHandle, SplitHandle
from tasks.journal import record_look
from tasks.leaks import check_leaks, untainted_test
from tasks.select import SELECTION
from tasks.stages import timed

logger = logging.getLogger(__name__)
VERDICT = "verdict.json"
VERDICT_PAGE = "verdict.md"
_CURVE_POINTS = 99


@task(name="evaluate and gate", task_run_name="judge candidate", cache_policy=NO_CACHE)
def judge(
    run: RunHandle,
    split: SplitHandle,
    arms: tuple[ArmHandle, ...],
    champion: ChampionHandle,
    policy: GatePolicy,
    thresholds: ThresholdSettings,
) -> Verdict:
    """Score every arm on the test set, write ``metrics.json`` and decide.

    Args:
        run: where the files go.
        split: the test set.
        arms: tuned; the candidate, what it is held against, and others for the page.
        champion: what is live, scored on the same texts.
        policy: the gate's rules.
        thresholds: how the steps of the ladder are cut, as the arms were.
    """
    with timed(run, "judge"):
        return _judge(run, split, arms, champion, policy, thresholds)


def _judge(
    run: RunHandle,
    split: SplitHandle,
    arms: tuple[ArmHandle, ...],
    champion: ChampionHandle,
    policy: GatePolicy,
    thresholds: ThresholdSettings,
) -> Verdict:
    data = SplitData(split)
    every = (*arms, *champion.arms)
    judged = [arm for arm in arms if not arm.arm.startswith(CONTENDER)]
    test = untainted_test(data, champion.arms, policy.min_test_texts)
    evaluations: dict[str, ArmEvaluation] = {arm.arm: _evaluate(data, test, arm) for arm in every}
    looks = record_look(run.model_store, run.id, test.fingerprint)
    metrics = _metrics(run, data, test, every, evaluations, looks)
    storage.write_json(run.directory / "metrics.json", metrics)
    references: dict[str, ArmEvaluation | None] = {
        arm.arm: evaluations[arm.arm] for arm in champion.arms
    }
    if champion.best_error is not None:
        references["best_champion"] = None
    elif champion.state == "scored" and "best_champion" not in references:
        references["best_champion"] = references["champion"]
    inputs = GateInputs(
        test=test,
        groups=data.groups,
        arms={arm.arm: evaluations[arm.arm] for arm in judged},
        leaks=check_leaks(data, test, (*judged, *champion.arms)),
        champion_state=champion.state,
        champion_error=champion.error,
        best_champion_error=champion.best_error,
        references=references,
        looks=looks,
        versions={} if champion.version is None else {"champion": str(champion.version)},
        ladder=_ladder(run, data, test, evaluations, thresholds),
        run=str(run.directory),
    )
    verdict = decide(inputs, policy)
    _show(run, metrics)
    return verdict


def write_verdict(run: RunHandle, verdict: Verdict) -> None:
    """Write ``verdict.json`` and ``verdict.md``, and show the verdict on the run's page."""
    storage.write_json(run.directory / VERDICT, verdict.model_dump(mode="json"))
    title = "PROMOTED" if verdict.decision == "promote" else "BLOCKED"
    logger.info("%s: %s", title, " ".join(verdict.reasons))
    show_verdict(run, verdict, title)


def show_verdict(run: RunHandle, verdict: Verdict, title: str) -> None:
    """The same verdict in Markdown: as ``verdict.md`` and on the run's page."""
    page = verdict_markdown(verdict, f"{run.name}: {title}")
    storage.write_text(run.directory / VERDICT_PAGE, page)
    publish_markdown(artifact_key(run, "verdict"), page, title)


def verdict_markdown(verdict: Verdict, title: str, *more: str) -> str:
    """A verdict for people: reasons, every rule with its number, the failed first, the ladder.

    Args:
        verdict: what was decided.
        title: heading of the page.
        more: paragraphs below the heading.
    """
    lines = [
        f"# {title}",
        "",
        *(line for paragraph in more for line in (paragraph, "")),
        *(f"- {reason}" for reason in verdict.reasons),
        "",
        "| rule | passed | severity | value | threshold | |",
        "| - | - | - | - | - | - |",
    ]
    for rule in sorted(verdict.rules, key=lambda rule: rule.passed):
        cells = (
            rule.name,
            "yes" if rule.passed else "**no**",
            rule.severity,
            _cell(rule.value),
            _cell(rule.threshold),
            _escaped(rule.detail),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, *_ladder_lines(verdict)]) + "\n"


def _ladder_lines(verdict: Verdict) -> list[str]:
    """Where the gain comes from, as a table."""
    if not verdict.ladder:
        return []
    return [
        "",
        "## Where the gain comes from",
        "",
        "Each gain is over the row above; in brackets the interval.",
        "",
        "| step | micro-F1 | macro-F1 | label coverage | gain in micro-F1 |",
        "| - | - | - | - | - |",
        *(
            f"| {_escaped(step.name)} | {_estimate(step.micro_f1)} | {_estimate(step.macro_f1)} "
            f"| {_estimate(step.label_coverage)} | {_gain(step.gain_micro_f1)} |"
            for step in verdict.ladder
        ),
    ]


def _estimate(found: Estimate) -> str:
    return f"{100 * found.value:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"


def _gain(found: Estimate | None) -> str:
    if found is None:
        return "–"
    return f"{100 * found.value:+.2f} pt ({100 * found.low:+.2f} to {100 * found.high:+.2f})"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _ladder(
    run: RunHandle,
    data: SplitData,
    test: TestSet,
    evaluations: dict[str, ArmEvaluation],
    settings: ThresholdSettings,
) -> list[tuple[str, str, ArmEvaluation]]:
    """From BERT with BCE, cut at one half, to the candidate: what each step adds."""
    arms, labels = run.directory / "arms", data.space.names
    about = storage.read_json(arms / "candidate" / ARM_FILE)
    encoder = CONTENDER + str(about["loss"])
    if "bce" not in evaluations or encoder not in evaluations:
        return []
    half = read_predictions(arms / "bce" / "test.parquet").aligned(test.ids, labels)
    plain = evaluate(test, "bce_half", half, np.full(len(labels), 0.5), data.groups)
    steps = [
        ("bce_half", "BERT + BCE, cut at 0.5", plain),
        ("bce", "tuned thresholds", evaluations["bce"]),
        ("encoder", f"the loss {about['loss']}", evaluations[encoder]),
    ]
    listed = arms / "candidate" / LADDER / STEPS
    for step in storage.read_json(listed) if listed.is_file() else []:
        validated, tested = (
            read_predictions(listed.parent / step["key"] / f"{part}.parquet")
            for part in ("validation", "test")
        )
        cuts = fit_thresholds(
            data.y("validation"), validated.aligned(data.ids("validation"), labels), data.groups,
            settings, data.known("validation"),
        )  # fmt: skip
        scores = tested.aligned(test.ids, labels)
        found = evaluate(test, step["key"], scores, cuts.values, data.groups)
        steps.append((step["key"], step["name"], found))
    how = about["combination"]["method"]
    if how != "one source":
        name = "learning over all cells" if how == "learned" else "the sum of them all"
        steps.append(("candidate", name, evaluations["candidate"]))
    return steps


def _evaluate(data: SplitData, test: TestSet, arm: ArmHandle) -> ArmEvaluation:
    predictions = read_predictions(arm.directory / "test.parquet")
    thresholds = read_thresholds(arm.directory)
    labels = data.space.names
    return evaluate(
        test,
        arm.arm,
        predictions.aligned(test.ids, labels),
        np.array([thresholds.get(label, NOTHING) for label in labels]),
        data.groups,
        scored_labels=predictions.labels,
    )


def _metrics(
    run: RunHandle,
    data: SplitData,
    test: TestSet,
    arms: tuple[ArmHandle, ...],
    evaluations: dict[str, ArmEvaluation],
    looks: int,
) -> dict[str, Any]:
    groups = data.groups
    test_support = np.bincount(test.positives.indices, minlength=len(test.labels))
    candidate = next(arm for arm in arms if arm.arm == "candidate")
    policy = storage.read_json(candidate.directory / ARM_FILE)["thresholds"]["policy"]
    return {
        "name": run.name,
        "run": run.id,
        "started_at": run.started_at,
        "candidate_loss": candidate.loss,
        "threshold_policy": policy,
        "selection": _selection(run),
        "test": {
            "texts": len(test.ids),
            "labels": len(test.labels),
            "positives": int(test_support.sum()),
            "unknown_cells": len(test.ids) * len(test.labels) - test.known_cells,
            "fingerprint": test.fingerprint,
            "original_cohort_texts": int((test.cohort == 0).sum()),
            "looks": looks,
            "left_out": len(data.test.ids) - len(test.ids),
        },
        "labels": [
            {"name": name, "group": group, "train_support": train, "test_support": int(in_test)}
            for name, group, train, in_test in zip(
                test.labels, groups.of_label, groups.support, test_support, strict=True
            )
        ],
        "groups": {"cutoffs": groups.cutoffs, **_group_summaries(data, test_support)},
        "arms": {arm.arm: _arm_entry(data, arm, evaluations[arm.arm]) for arm in arms},
    }


def _selection(run: RunHandle) -> Any:
    path = run.directory / SELECTION
    return storage.read_json(path) if path.is_file() else None


def _group_summaries(data: SplitData, test_support: Any) -> dict[str, dict[str, int]]:
    train = np.asarray(data.groups.support)
    summaries: dict[str, dict[str, int]] = {}
    for group in GROUPS:
        columns = data.groups.columns(group)
        inside = train[columns]
        summaries[group] = {
            "labels": len(columns),
            "train_positives": int(inside.sum()),
            "test_positives": int(test_support[columns].sum()),
            "min_support": int(inside.min()) if len(inside) else 0,
            "max_support": int(inside.max(initial=0)),
        }
    return summaries


def _arm_entry(data: SplitData, arm: ArmHandle, evaluation: ArmEvaluation) -> dict[str, Any]:
    about = storage.read_json(arm.directory / ARM_FILE)
    thresholds = {key: about["thresholds"][key] for key in ("policy", "by_group", "fallbacks")}
    entry = {
        "loss": arm.loss,
        "seconds": arm.seconds,
        "version": arm.version,
        "thresholds": thresholds,
        "combination": about.get("combination"),
        "history": about.get("history", []),
        **evaluation.to_json(),
        "calibration": _calibration(data, arm),
    }
    validation = arm.directory / "validation.parquet"
    if validation.is_file():
        predictions = read_predictions(validation)
        scores = predictions.aligned(data.ids("validation"), data.space.names)
        entry["curve"] = threshold_curve(
            data.y("validation"), scores, points=_CURVE_POINTS, known=data.known("validation")
        )
    return entry


def _calibration(data: SplitData, arm: ArmHandle) -> dict[str, Any]:
    scores = read_predictions(arm.directory / "test.parquet").aligned(
        data.ids("test"), data.space.names
    )
    truth = data.y("test").toarray().astype(bool)
    found = reliability_by_group(truth, scores, data.groups, data.known("test"))
    return {name: one.to_json() for name, one in found.items()}


def _show(run: RunHandle, metrics: dict[str, Any]) -> None:
    arms = metrics["arms"]
    publish_table(
        artifact_key(run, "arms"),
        [
            {
                "arm": arm,
                "loss": entry["loss"],
                "micro-F1": percent(entry["overall"]["micro_f1"]),
                "macro-F1": percent(entry["overall"]["macro_f1"]),
                "label coverage": percent(entry["overall"]["label_coverage"]),
            }
            for arm, entry in arms.items()
        ],
        "Every arm on the test set",
    )
    publish_table(
        artifact_key(run, "groups"),
        [
            {"arm": arm, **{group: percent(entry["groups"][group]["micro_f1"]) for group in GROUPS}}
            for arm, entry in arms.items()
        ],
        "Micro-F1 within each label group",
    )


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
