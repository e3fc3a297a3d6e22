"""An invented run directory, long-tailed and complete, for the tests of the report.

``python tests/longtail/report_run.py DIRECTORY [labels] [promote|block]`` writes one to look at.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail import storage
from longtail.config import GROUPS, GatePolicy, GroupSettings, SplitSettings
from longtail.evaluation import ArmEvaluation, TestSet, evaluate
from longtail.gate import GateInputs, Verdict, decide
from longtail.hashing import wide_hash
from longtail.labels import LabelGroups, LabelSpace, group_labels
from longtail.ledger import LedgerEntries
from longtail.near_duplicates import Units
from longtail.partition import partition
from longtail.statistics import describe

ARMS = ("linear", "bce", "matched", "candidate", "champion", "best_champion")
SECRET = "a secret text that nobody may forward"
_TOPICS = ("billing", "login", "delivery", "refund", "mobile-app", "api", "printing", "privacy")
_LOSSES = {"linear": "hinge", "bce": "bce", "matched": "bce", "candidate": "db"}
_SKILL = {  # separation of positives on common labels, and how much of it the rare ones keep
    "linear": (5.1, 0.5),
    "bce": (5.6, 0.30),
    "matched": (5.9, 0.6),
    "candidate": (6.0, 0.72),
    "champion": (5.0, 0.48),
    "best_champion": (5.1, 0.5),
}
_CUTS = (0.41, 0.5, 0.55)
_STEPS = {
    "the DB loss": (5.65, 0.42),
    "the linear arm": (5.75, 0.5),
    "nearest neighbours": (5.8, 0.58),
    "label names": (5.85, 0.66),
}


def write_run(
    directory: Path,
    *,
    decision: str = "promote",
    n_labels: int = 60,
    n_texts: int = 900,
    arms: tuple[str, ...] = ARMS,
    seed: int = 0,
) -> Path:
    """Write a run directory; a blocked one has a candidate that loses to BCE."""
    rng = np.random.default_rng(seed)
    names = tuple(f"{_TOPICS[i % len(_TOPICS)]}::topic-{i:03d}" for i in range(n_labels))
    share = np.minimum(0.4, 0.5 / np.arange(1, n_labels + 1) ** 1.05)[rng.permutation(n_labels)]
    train = np.maximum(rng.poisson(share * n_texts * 3), 1)
    y = rng.random((n_texts, n_labels)) < share
    groups = group_labels(train, GroupSettings())
    test = TestSet(
        ids=tuple(f"t{i}" for i in range(n_texts)),
        units=np.arange(n_texts),
        cohort=(np.arange(n_texts) >= n_texts * 0.8).astype(np.int64),
        y=sp.csr_array(y),
        labels=names,
    )
    evaluations, entries = {}, {}
    for arm in sorted(arms, key=lambda name: name == "matched"):  # drawn last, it changes no other
        losing = decision == "block" and arm == "candidate"
        evaluations[arm], entries[arm] = _arm(test, arm, groups, rng, losing=losing)
    verdict = _verdict(test, groups, evaluations, _ladder(test, groups, evaluations))
    if verdict.decision != decision:
        raise AssertionError(f"the invented run came out as {verdict.decision}: {verdict.reasons}")
    storage.write_json(directory / "metrics.json", _metrics(test, groups, entries))
    storage.write_json(directory / "verdict.json", verdict.model_dump(mode="json"))
    _write_data(directory, names, y)
    return directory


def _arm(
    test: TestSet, arm: str, groups: LabelGroups, rng: np.random.Generator, *, losing: bool
) -> tuple[ArmEvaluation, dict[str, Any]]:
    y = test.y.toarray()
    probabilities = _probabilities(y, groups, rng, (4.0, 0.2) if losing else _SKILL[arm])
    cuts = (0.44, 0.47, 0.52) if arm == "candidate" else _CUTS
    by_group = dict(zip(GROUPS, cuts, strict=True))
    thresholds = np.array([by_group[group] for group in groups.of_label])
    evaluation = evaluate(test, arm, probabilities, thresholds, groups)
    entry = evaluation.to_json()
    return evaluation, {
        **entry,
        "loss": _LOSSES.get(arm, "db"),
        "seconds": 14.2 if arm == "linear" else 0.0 if "champion" in arm else 231.0,
        "thresholds": {"policy": "group", "by_group": by_group},
        "curve": _curve(y, probabilities),
        "history": _history(arm, entry["overall"]["micro_f1"]),
    }


def _probabilities(
    y: NDArray[np.bool_], groups: LabelGroups, rng: np.random.Generator, skill: tuple[float, float]
) -> NDArray[np.float32]:
    separation, kept = skill
    support = np.asarray(groups.support)
    rarity = 1 - np.log1p(support) / np.log1p(support.max())
    strength = separation * (kept + (1 - kept) * (1 - rarity))
    logits = strength * (y - 0.5) + rng.normal(0, 1.25, y.shape) - 2.2
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def _curve(y: NDArray[np.bool_], probabilities: NDArray[np.float32]) -> dict[str, list[float]]:
    at = np.linspace(0.01, 0.99, 99)
    given = np.array([(probabilities > t).sum() for t in at])
    hits = np.array([(y & (probabilities > t)).sum() for t in at])
    precision = hits / np.maximum(given, 1)
    recall = hits / max(int(y.sum()), 1)
    f1 = 2 * hits / (given + y.sum())
    return {
        "threshold": at.tolist(),
        "micro_precision": precision.tolist(),
        "micro_recall": recall.tolist(),
        "micro_f1": f1.tolist(),
    }


def _history(arm: str, reached: float) -> list[dict[str, Any]]:
    if arm not in {"bce", "candidate"}:
        return []
    scale = 0.21 if arm == "bce" else 0.034
    return [
        {
            "epoch": epoch,
            "loss": scale * (0.35 + 0.65 * 0.45**epoch),
            "validation_micro_f1": reached * (1 - 0.5 * 0.4**epoch),
            "threshold": 0.3 + 0.03 * epoch,
            "seconds": 57.5,
        }
        for epoch in range(1, 5)
    ]


def _metrics(
    test: TestSet, groups: LabelGroups, entries: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    positives = test.y.sum(axis=0)
    about: dict[str, Any] = {"cutoffs": list(groups.cutoffs)}
    for group in GROUPS:
        at = groups.columns(group)
        support = [groups.support[j] for j in at] or [0]
        about[group] = {
            "labels": len(at),
            "train_positives": sum(support),
            "test_positives": int(positives[at].sum()),
            "min_support": min(support),
            "max_support": max(support),
        }
    return {
        "name": "tickets",
        "run": "20260301T093000Z-1a2b",
        "started_at": "2026-03-01T09:30:00+00:00",
        "candidate_loss": "db",
        "threshold_policy": "group",
        "test": {
            "texts": len(test.ids),
            "labels": len(test.labels),
            "positives": int(positives.sum()),
            "fingerprint": test.fingerprint,
            "original_cohort_texts": int((test.cohort == 0).sum()),
            "looks": 7,
        },
        "labels": [
            {
                "name": name,
                "group": groups.of_label[j],
                "train_support": groups.support[j],
                "test_support": int(positives[j]),
            }
            for j, name in enumerate(test.labels)
        ],
        "groups": about,
        "arms": entries,
    }


def _ladder(
    test: TestSet, groups: LabelGroups, arms: dict[str, ArmEvaluation]
) -> list[tuple[str, str, ArmEvaluation]]:
    """From the plainest arm to the candidate; the steps between are invented, too."""
    if not {"bce", "candidate"} <= arms.keys():
        return []
    rng = np.random.default_rng(7)
    between = [
        (f"step-{at}", name, _step(test, groups, rng, skill))
        for at, (name, skill) in enumerate(_STEPS.items())
    ]
    half = ("half", "BERT + BCE, cut at 0.5", _step(test, groups, rng, _SKILL["bce"], (0.62,) * 3))
    bce = ("bce", "tuned thresholds", arms["bce"])
    return [half, bce, *between, ("candidate", "the learned combination", arms["candidate"])]


def _step(
    test: TestSet,
    groups: LabelGroups,
    rng: np.random.Generator,
    skill: tuple[float, float],
    cuts: tuple[float, ...] = _CUTS,
) -> ArmEvaluation:
    probabilities = _probabilities(test.y.toarray(), groups, rng, skill)
    by_group = dict(zip(GROUPS, cuts, strict=True))
    thresholds = np.array([by_group[group] for group in groups.of_label])
    return evaluate(test, "step", probabilities, thresholds, groups)


def _verdict(
    test: TestSet,
    groups: LabelGroups,
    arms: dict[str, ArmEvaluation],
    ladder: list[tuple[str, str, ArmEvaluation]],
) -> Verdict:
    known = "champion" in arms
    inputs = GateInputs(
        test=test,
        groups=groups,
        arms={arm: arms.get(arm) for arm in ("linear", "bce", "matched", "candidate")},
        leaks=dict.fromkeys(arms, _NoLeaks()),
        champion_state="scored" if known else "none",
        references={arm: arms[arm] for arm in arms if "champion" in arm},
        looks=7,
        versions={"champion": "3"} if known else {},
        ladder=ladder,
        run="store/tickets/runs/20260301T093000Z-1a2b",
    )
    return decide(inputs, GatePolicy(draws=200, min_group_positives=20))


@dataclass(frozen=True)
class _NoLeaks:
    test_ids: int = 0
    test_units: int = 0
    test_texts: int = 0


def _write_data(directory: Path, names: tuple[str, ...], y: NDArray[np.bool_]) -> None:
    storage.write_json(
        directory / "account.json",
        {
            "file": "exports/tickets.csv",
            "rows_read": 3107,
            "accepted": 3000,
            "quarantined": 44,
            "merged": 61,
            "skipped": 2,
            "skipped_reasons": {"cancelled: the annotator skipped the task": 2},
            "warnings": ["A text has no labels: 2 rows (17, 80)"],
            "dataset": {"added": 600, "changed": 12, "unchanged": 2388, "merged": 0},
        },
    )
    storage.write_json(
        directory / "config.json",
        {
            "name": "tickets",
            "data": {"path": "exports/tickets.csv", "label_separator": "|"},
            "loss": {"name": "db"},
            "publish": {"tracking_uri": "https://me:hunter2@tracking.example.org"},
        },
    )
    reasons = [["text is empty"]] * 30 + [[f"labels: {SECRET!r} is not a list"]] * 9
    reasons += [["id occurs twice with different labels", "text is empty"]] * 5
    storage.write_parquet(
        directory / "quarantine.parquet",
        pa.table(
            {
                "file": ["exports/tickets.csv"] * 44,
                "position": np.arange(44) * 7 + 3,
                "id": [f"q{i}" for i in range(44)],
                "reasons": reasons,
                "raw": [SECRET] * 44,
            }
        ),
    )
    _write_statistics(directory, names, y)


def _write_statistics(directory: Path, names: tuple[str, ...], y: NDArray[np.bool_]) -> None:
    space = LabelSpace(names)
    ids = [f"t{row:05d}" for row in range(len(y))]
    texts = [f"{SECRET} number {row % (len(y) - 5)}" for row in range(len(y))]
    table = pa.table(
        {
            "id": ids,
            "text": texts,
            "labels": pa.array(space.decode(y), pa.list_(pa.string())),
            "group": pa.nulls(len(y), pa.string()),
        }
    )
    about = {"dropped_labels": ["too-rare"], "texts_left_out_with_them": 1}
    storage.write_json(directory / "statistics.json", {**describe(table, space), **about})
    units = Units(units=np.arange(len(y)) % (len(y) - 5), pairs=(), n_pairs=0)
    keys = wide_hash(ids[:300])
    order, sides = np.lexsort(keys.T[::-1]), np.arange(300) % 3
    entries = LedgerEntries(
        keys[order],
        sides[order].astype(np.int8),
        np.zeros(300, np.int32),
        np.zeros(300, bool),
        ("",),
    )
    found = partition(table, space, SplitSettings(), entries, units)
    storage.write_json(
        directory / "splits" / "quality.json", {**found.quality, "bridges": ["t1", "t2"]}
    )


if __name__ == "__main__":
    where = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    write_run(where, n_labels=count, decision=(sys.argv[3:] or ["promote"])[0])
