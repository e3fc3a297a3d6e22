"""From probabilities and thresholds on disk to metrics, the verdict, and what it leads to."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pytest

import tasks.gate
import tasks.publish
from longtail import storage
from longtail.bundle import TRAINING_IDS
from longtail.config import GatePolicy, PublishSettings, ThresholdSettings
from longtail.errors import StoreError
from longtail.gate import Verdict
from longtail.labels import LabelGroups, LabelSpace
from longtail.leaks import training_hashes
from longtail.partition import SCHEMA
from longtail.predictions import Predictions, write_predictions
from longtail.serve_check import ServeCheck
from tasks.arms import LADDER, STEPS, write_arm
from tasks.data import LEFT_OUT, write_label_space
from tasks.gate import judge
from tasks.handles import ArmHandle, ChampionHandle, RunHandle, SplitHandle
from tasks.publish import publish_candidate

LABELS = ("a", "b", "c")
POLICY = GatePolicy(draws=200, min_test_texts=10, min_group_positives=1)
TUNED = ThresholdSettings()
QUALITY = {"linear": 0.5, "bce": 0.4, "candidate": 0.95, "champion": 0.6}
COUNT = 60
START = {"train": 0, "validation": COUNT, "test": 2 * COUNT}


def rows(split, count):
    """Texts of their own words; label c is rarer."""
    return [
        {"id": f"{split}{n}", "text": f"{split} word{n} thing{n * 3}", "unit": START[split] + n,
         "labels": [LABELS[n % 2], *(["c"] if n % 3 == 0 else [])], "cohort": 0}
        for n in range(count)
    ]  # fmt: skip


@pytest.fixture
def shown(monkeypatch):
    """What the run's page would show."""
    artifacts = {}

    def keep(key, content, _):
        artifacts[key] = content

    monkeypatch.setattr(tasks.gate, "publish_table", keep)
    monkeypatch.setattr(tasks.gate, "publish_markdown", keep)
    return artifacts


@pytest.fixture
def run(tmp_path, shown):
    return RunHandle(
        id="r1", name="desk", directory=tmp_path / "run", store=tmp_path / "store", started_at="now"
    )


@pytest.fixture
def split(run):
    directory = run.directory / "splits"
    for name in START:
        table = pa.Table.from_pylist(rows(name, COUNT), schema=SCHEMA)
        storage.write_parquet(directory / f"{name}.parquet", table)
    storage.write_parquet(
        directory / LEFT_OUT,
        pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string()),
                  "unit": pa.array([], pa.int64())}),
    )  # fmt: skip
    groups = LabelGroups(("HEAD", "HEAD", "TAIL"), (30, 30, 20), (25, 28))
    write_label_space(run.directory / "label_space.json", LabelSpace(LABELS), groups)
    return SplitHandle.of(run.directory)


@pytest.fixture
def arm(run, split):
    """Makes an arm that finds as many positives as its quality says."""

    def make(name, *, labels=LABELS, trained_on=None, quality=None):
        directory = run.directory / "arms" / name
        directory.mkdir(parents=True)
        rng = np.random.default_rng(len(name))
        for part in ("validation", "test"):
            given = rows(part, COUNT)
            truth = np.array([[label in one["labels"] for label in labels] for one in given])
            found = rng.random(truth.shape) < (quality or QUALITY[name])
            scores = np.where(truth & found, 0.9, 0.1).astype(np.float32)
            ids = tuple(one["id"] for one in given)
            write_predictions(directory / f"{part}.parquet", Predictions(ids, labels, scores))
        cuts = dict.fromkeys(labels, 0.5)
        write_arm(directory, thresholds={"policy": "group", "by_group": {"HEAD": 0.5, "TAIL": 0.5},
                                         "fallbacks": {}, "labels": cuts},
                  learned_from=["train"], loss="db",
                  combination={"method": "learned"} if name == "candidate" else None)  # fmt: skip
        if trained_on is not None:
            hashes = training_hashes([r["id"] for r in trained_on], [r["text"] for r in trained_on])
            table = pa.table(dict(zip(("id", "text"), hashes, strict=True)))
            storage.write_parquet(directory / TRAINING_IDS, table)
        return ArmHandle(
            arm=name, directory=directory, loss="db", seconds=1.0,
            bundle=None if trained_on is None else directory,
            version=1 if name == "champion" else None,
        )  # fmt: skip

    return make


@pytest.fixture
def arms(arm):
    learned = rows("train", COUNT)
    return (
        arm("linear"), arm("bce", trained_on=learned), arm("candidate", trained_on=learned)
    )  # fmt: skip


NONE = ChampionHandle(state="none")


def failed(verdict):
    return {rule.name for rule in verdict.failed}


def test_a_better_candidate_is_let_through_and_the_metrics_say_why(run, split, arms, shown):
    verdict = judge.fn(run, split, arms, NONE, POLICY, TUNED)

    assert verdict.decision == "promote", verdict.reasons
    metrics = storage.read_json(run.directory / "metrics.json")
    assert list(metrics["arms"]) == ["linear", "bce", "candidate"]
    found = {name: arm["overall"]["micro_f1"] for name, arm in metrics["arms"].items()}
    assert found["candidate"] > found["linear"] > found["bce"]
    assert metrics["test"]["texts"] == COUNT
    assert metrics["groups"]["TAIL"] == {
        "labels": 1, "train_positives": 20, "test_positives": 20,
        "min_support": 20, "max_support": 20,
    }  # fmt: skip
    assert {row["arm"] for row in shown[f"{run.name}-arms"]} == set(metrics["arms"])


def test_the_gate_itself_says_nothing_was_done(run, split, arms):
    judge.fn(run, split, arms, NONE, POLICY, TUNED)

    assert not (run.directory / "verdict.json").exists()


def test_the_champion_is_judged_on_the_labels_it_knows(run, split, arms, arm):
    champion = arm("champion", labels=("a", "b"), trained_on=rows("train", COUNT))
    handle = ChampionHandle(state="scored", version=1, arms=(champion,))
    verdict = judge.fn(run, split, arms, handle, POLICY, TUNED)

    metrics = storage.read_json(run.directory / "metrics.json")
    assert metrics["arms"]["champion"]["per_label"]["f1"][2] == 0.0
    assert verdict.arms["champion"] == "1"
    (rule,) = [rule for rule in verdict.rules if rule.name == "champion_micro_f1"]
    assert "2 of 3 labels" in rule.detail


def test_a_champion_that_cannot_be_read_blocks_with_its_reason(run, split, arms):
    handle = ChampionHandle(state="unreadable", version=3, error="weights.bin: torn")
    verdict = judge.fn(run, split, arms, handle, POLICY, TUNED)

    assert verdict.decision == "block"
    assert "champion_known" in failed(verdict)
    assert "weights.bin: torn" in " ".join(verdict.reasons)


def test_a_candidate_that_has_seen_a_test_text_blocks(run, split, arm):
    leaky = [*rows("train", COUNT), rows("test", COUNT)[7]]
    arms = (
        arm("linear"), arm("bce", trained_on=rows("train", COUNT)),
        arm("candidate", trained_on=leaky),
    )  # fmt: skip
    verdict = judge.fn(run, split, arms, NONE, POLICY, TUNED)

    assert verdict.decision == "block"
    assert failed(verdict) == {"no_leaks"}


def test_an_arm_that_does_not_say_what_it_learned_from_blocks(run, split, arms):
    (arms[2].directory / TRAINING_IDS).write_bytes(b"torn")
    verdict = judge.fn(run, split, arms, NONE, POLICY, TUNED)

    assert failed(verdict) == {"no_leaks"}


def test_what_was_not_chosen_is_measured_and_has_no_part_in_the_verdict(run, split, arms, arm):
    """It is better than the candidate, and has learned from the test set."""
    other = arm("candidate-asl", quality=1.0, trained_on=rows("test", COUNT))
    without = judge.fn(run, split, arms, NONE, POLICY, TUNED)
    verdict = judge.fn(run, split, (*arms[:2], other, arms[2]), NONE, POLICY, TUNED)

    assert verdict == without
    assert verdict.decision == "promote", verdict.reasons
    metrics = storage.read_json(run.directory / "metrics.json")
    assert list(metrics["arms"]) == ["linear", "bce", "candidate-asl", "candidate"]
    assert metrics["arms"]["candidate-asl"]["overall"]["micro_f1"] == 1.0


def test_the_ladder_leads_from_plain_bce_over_the_sums_to_the_candidate(run, split, arms, arm):
    encoder = arm("candidate-db", quality=0.6)
    assert judge.fn(run, split, arms, NONE, POLICY, TUNED).ladder == ()
    steps = arms[-1].directory / LADDER
    for name in ("linear", "names"):
        (steps / name).mkdir(parents=True)
        for part in ("validation", "test"):
            shutil.copy(encoder.directory / f"{part}.parquet", steps / name / f"{part}.parquet")
    listed = [{"key": name, "name": name, "sources": []} for name in ("linear", "names")]
    storage.write_json(steps / STEPS, listed)
    verdict = judge.fn(run, split, (*arms[:2], encoder, arms[2]), NONE, POLICY, TUNED)

    assert [step.key for step in verdict.ladder] == [
        "bce_half", "bce", "encoder", "linear", "names", "candidate"
    ]  # fmt: skip
    assert verdict.ladder[-1].name == "learning over all cells"


@pytest.mark.parametrize("said", [None, []])
def test_a_linear_arm_that_does_not_say_what_it_learned_from_blocks(run, split, arms, said):
    write_arm(arms[0].directory, learned_from=said)
    assert failed(judge.fn(run, split, arms, NONE, POLICY, TUNED)) == {"no_leaks"}


def test_a_repeated_task_is_one_look_and_another_run_is_two(run, split, arms):
    looks = [
        judge.fn(handle, split, arms, NONE, POLICY, TUNED).looks
        for handle in (run, run, run.model_copy(update={"id": "r2"}))
    ]

    assert looks == [1, 1, 2]


# ── what follows from the verdict ────────────────────────────────────────────────────────────


@pytest.fixture
def publishing(monkeypatch):
    """Publishing with its surroundings replaced; says what was asked for."""
    asked = {}
    served = {"check": ServeCheck(passed=True, largest_difference=1e-7, n=8)}
    monkeypatch.setattr(tasks.publish, "finalise_bundle", lambda *_, **__: Info)
    monkeypatch.setattr(tasks.publish, "run_serve_check", lambda *given: asked.update(
        texts=given[1], expected=given[2]) or served["check"])  # fmt: skip
    monkeypatch.setattr(tasks.publish, "tracked_run", lambda *_: "run-in-mlflow")

    def publish(*given, **more):
        asked.update(published=more)
        if "refuse" in served:
            raise served["refuse"]
        return type("Entry", (), {"to_version": 4})

    monkeypatch.setattr(tasks.publish, "publish", publish)
    return asked, served


class Info:
    labels = LABELS
    thresholds = (0.5, 0.5, 0.5)


def carry_out(run, split, arms, verdict):
    settings = PublishSettings(serve_check_texts=8)
    return publish_candidate.fn(run, split, arms[2], verdict, settings, by="test")


def test_a_promotion_is_checked_in_a_fresh_process_first(run, split, arms, publishing):
    asked, _ = publishing
    verdict = carry_out(run, split, arms, judge.fn(run, split, arms, NONE, POLICY, TUNED))

    assert verdict.decision == "promote"
    assert asked["published"]["by"] == "test"
    assert asked["published"]["run_id"] == "run-in-mlflow"
    assert len(asked["texts"]) == len(asked["expected"]) == 8
    assert len(set(asked["texts"])) == 8
    written = storage.read_json(run.directory / "verdict.json")
    assert Verdict.model_validate(written) == verdict
    assert "served_as_evaluated" in {rule["name"] for rule in written["rules"]}


def test_the_longest_texts_are_among_those_served(run, split, arms, publishing):
    asked, _ = publishing
    carry_out(run, split, arms, judge.fn(run, split, arms, NONE, POLICY, TUNED))
    every = sorted((one["text"] for one in rows("test", COUNT)), key=len, reverse=True)

    assert {len(text) for text in asked["texts"][:4]} == {len(every[0])}


def test_a_bundle_that_serves_something_else_stays_out(run, split, arms, publishing):
    asked, served = publishing
    served["check"] = ServeCheck(passed=False, largest_difference=0.3, n=8, detail="0.3 apart")
    verdict = carry_out(run, split, arms, judge.fn(run, split, arms, NONE, POLICY, TUNED))

    assert verdict.decision == "block"
    assert "0.3 apart" in verdict.reasons[0]
    assert "published" not in asked
    assert storage.read_json(run.directory / "verdict.json")["decision"] == "block"


def test_other_thresholds_than_were_evaluated_stay_out(run, split, arms, publishing, monkeypatch):
    asked, _ = publishing
    monkeypatch.setattr(Info, "thresholds", (0.5, 0.5, 0.4))
    verdict = carry_out(run, split, arms, judge.fn(run, split, arms, NONE, POLICY, TUNED))

    assert failed(verdict) == {"thresholds_as_evaluated"}
    assert "published" not in asked


def test_a_champion_that_changed_meanwhile_makes_it_a_block(run, split, arms, publishing):
    _, served = publishing
    served["refuse"] = tasks.publish.StaleChampionError("the champion is now version 9")
    verdict = carry_out(run, split, arms, judge.fn(run, split, arms, NONE, POLICY, TUNED))

    assert failed(verdict) == {"champion_unchanged"}
    assert "version 9" in storage.read_json(run.directory / "verdict.json")["reasons"][0]


def test_a_run_that_could_not_publish_leaves_no_verdict_that_says_it_did(
    run, split, arms, publishing
):
    _, served = publishing
    served["refuse"] = StoreError("the registry is down")
    passing = judge.fn(run, split, arms, NONE, POLICY, TUNED)

    with pytest.raises(StoreError, match="down"):
        carry_out(run, split, arms, passing)
    assert not (run.directory / "verdict.json").exists()


def test_a_block_is_written_down_and_nothing_else_happens(run, split, arms, publishing, shown):
    asked, _ = publishing
    policy = POLICY.model_copy(update={"floors": {"micro_f1": 0.999}})
    verdict = carry_out(run, split, arms, judge.fn(run, split, arms, NONE, policy, TUNED))

    assert verdict.decision == "block"
    assert asked == {}
    assert storage.read_json(run.directory / "verdict.json")["decision"] == "block"
    assert shown[f"{run.name}-verdict"].startswith(f"# {run.name}: BLOCKED")
    assert "| **no** |" in shown[f"{run.name}-verdict"]


def test_a_candidate_without_a_bundle_cannot_be_published(run, split, arms, publishing):
    passing = judge.fn(run, split, arms, NONE, POLICY, TUNED)
    bare = (*arms[:2], arms[2].model_copy(update={"bundle": None}))

    with pytest.raises(StoreError, match="no bundle"):
        carry_out(run, split, bare, passing)


def test_the_linear_arm_is_checked_against_all_that_it_learned_from(run, split, arms):
    write_arm(arms[0].directory, learned_from=["train", "test"])
    verdict = judge.fn(run, split, arms, NONE, POLICY, TUNED)

    leaking = [rule for rule in verdict.failed if "leak" in rule.name or "test_" in rule.name]
    assert leaking
    assert all("linear" in rule.name or "linear" in rule.detail for rule in leaking)
