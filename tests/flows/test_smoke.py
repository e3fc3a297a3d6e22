"""The whole product once, every stage real: what three weekly retrains leave behind."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from longtail import storage
from longtail.config import GROUPS, PublishSettings
from longtail.dataset import DatasetStore
from longtail.ledger import SplitLedger
from longtail.predictions import read_predictions
from tasks.journal import LOOKS, Journal
from tasks.mlflow_store import MlflowStore
from tasks.publishing import open_promotions

pytestmark = pytest.mark.slow

NAME = "smoke"
SPLITS = ("train", "validation", "test")
ARMS = ["linear", "bce", "candidate-db", "matched", "candidate"]
FIGURES = {"support", "labels-per-text", "distribution", "arms", "thresholds", "calibration",
           "groups", "label-changes", "training"}  # fmt: skip


def rows_of(week, split):
    return pq.read_table(week.directory / "splits" / f"{split}.parquet").to_pylist()


def ids_of(week, split):
    return {row["id"] for row in rows_of(week, split)}


# ── week one: the first release ──────────────────────────────────────────────────────────────


def test_a_first_release_is_promoted_and_says_that_it_is_one(week_one):
    verdict = week_one.read("verdict.json")

    assert (week_one.code, week_one.champion) == (0, 1)
    assert (verdict["decision"], verdict["first_release"]) == ("promote", True)
    assert any(reason.startswith("First release") for reason in verdict["reasons"])
    assert "PROMOTED" in week_one.said
    assert str(week_one.directory / "report.html") in week_one.said.replace("\n", "")


def test_every_rule_of_the_verdict_is_written_with_its_number(week_one):
    verdict = week_one.read("verdict.json")

    assert set(verdict) >= {"decision", "rules", "reasons", "first_release", "champion_mode",
                            "looks", "labels_won", "labels_lost", "override", "policy"}  # fmt: skip
    for rule in verdict["rules"]:
        assert {"name", "passed", "severity", "value", "threshold", "detail"} <= set(rule)
        assert rule["detail"].endswith(".")
    assert {"bce_micro_f1", "bce_label_coverage", "linear_micro_f1", "served_as_evaluated"} <= set(
        week_one.rules
    )
    assert all(rule["passed"] for rule in verdict["rules"] if rule["severity"] == "block")


def test_the_verdict_follows_from_the_metrics(week_one):
    arms = week_one.read("metrics.json")["arms"]
    rules = week_one.rules

    gain = arms["candidate"]["overall"]["micro_f1"] - arms["bce"]["overall"]["micro_f1"]
    assert gain > 0
    assert 0 < rules["bce_micro_f1"]["value"] < gain
    assert rules["bce_label_coverage"]["value"] == arms["candidate"]["overall"]["recognised_labels"]


def test_the_metrics_have_every_arm_overall_and_by_group(week_one):
    metrics = week_one.read("metrics.json")

    assert list(metrics["arms"]) == ARMS
    assert metrics["candidate_loss"] == "db"
    for arm in metrics["arms"].values():
        assert {"micro_f1", "macro_f1", "micro_precision", "micro_recall", "hamming_loss",
                "label_coverage", "micro_average_precision"} <= set(arm["overall"])  # fmt: skip
        assert list(arm["groups"]) == list(GROUPS)
        assert list(arm["table2"]) == [*GROUPS, "ZERO"]
        assert len(arm["per_label"]["f1"]) == len(metrics["labels"]) == 20
        assert len(arm["curve"]["threshold"]) == len(arm["curve"]["micro_f1"])
    assert [epoch["epoch"] for epoch in metrics["arms"]["bce"]["history"]] == [1, 2, 3, 4]


def test_the_metrics_are_those_of_the_probabilities_and_thresholds_on_disk(week_one):
    test = rows_of(week_one, "test")
    for arm in ARMS:
        directory = week_one.directory / "arms" / arm
        scored = read_predictions(directory / "test.parquet")
        cuts = storage.read_json(directory / "arm.json")["thresholds"]["labels"]
        given = scored.probabilities > np.array([cuts[label] for label in scored.labels])
        truth = np.array([[label in row["labels"] for label in scored.labels] for row in test])
        hits = (given & truth).sum()

        assert scored.ids == tuple(row["id"] for row in test)
        overall = week_one.read("metrics.json")["arms"][arm]["overall"]
        assert overall["micro_f1"] == pytest.approx(2 * hits / (given.sum() + truth.sum()))
        assert overall["hamming_loss"] == pytest.approx((given != truth).mean())


def test_every_row_of_the_export_is_accounted_for(week_one):
    account = week_one.read("account.json")

    assert (account["rows_read"], account["accepted"], account["quarantined"]) == (403, 400, 3)
    parts = ("accepted", "quarantined", "merged", "skipped")
    assert account["rows_read"] == sum(account[part] for part in parts)
    assert account["dataset"]["added"] == 400
    stored = DatasetStore(week_one.snapshot / NAME / "dataset").current()
    assert stored is not None
    assert (stored.version, stored.n_texts, stored.n_labels) == (1, 400, 20)


def test_bad_rows_are_set_aside_with_file_position_reason_and_content(week_one, export):
    quarantined = pq.read_table(week_one.directory / "quarantine.parquet").to_pylist()

    assert [row["position"] for row in quarantined] == [401, 402, 403]
    for row, line in zip(quarantined, export.read_text().splitlines()[400:], strict=True):
        assert Path(row["file"]).name == export.name
        assert row["raw"] == line
        assert row["reasons"]


def test_the_splits_are_disjoint_and_whole(week_one):
    parts = {split: ids_of(week_one, split) for split in SPLITS}

    assert {split: len(ids) for split, ids in parts.items()} == {
        "train": 240, "validation": 80, "test": 80
    }  # fmt: skip
    union = set.union(*parts.values())
    assert len(union) == sum(map(len, parts.values())) == 400
    assert storage.read_parquet(week_one.directory / "splits" / "left_out.parquet").num_rows == 0


def test_no_thread_is_divided_and_every_label_stands_in_every_split(week_one):
    parts = {split: rows_of(week_one, split) for split in SPLITS}
    threads = [{row["group"] for row in rows} for rows in parts.values()]
    labels = [{label for row in rows for label in row["labels"]} for rows in parts.values()]

    assert len(set.union(*threads)) == sum(map(len, threads))
    assert [len(found) for found in labels] == [20, 20, 20]
    assert set(map(tuple, week_one.read("splits/quality.json")["missing_labels"].values())) == {()}


def test_the_statistics_are_those_of_the_accepted_texts(week_one, tickets):
    rows = [json.loads(line) for line in tickets.read_text().splitlines()]
    statistics = week_one.read("statistics.json")

    assert statistics["n_texts"] == 400
    assert statistics["n_labels"] == 20
    assert statistics["cardinality"] == pytest.approx(sum(len(r["labels"]) for r in rows) / 400)


@pytest.mark.parametrize("arm", ["bce", "candidate-db", "candidate"])
def test_a_bert_arm_leaves_a_bundle_that_was_never_touched_again(week_one, arm):
    manifest = storage.verify_directory(week_one.directory / "arms" / arm / "bundle")

    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(manifest["files"])


def test_the_bundle_carries_the_thresholds_that_were_tuned(week_one):
    arm = week_one.directory / "arms" / "candidate"
    info = storage.read_json(arm / "bundle" / "longtail.json")
    cuts = storage.read_json(arm / "arm.json")["thresholds"]["labels"]

    assert dict(zip(info["labels"], info["thresholds"], strict=True)) == pytest.approx(cuts)


def test_the_candidate_says_what_it_is_combined_of(week_one):
    about = week_one.read("metrics.json")["arms"]["candidate"]["combination"]
    info = storage.read_json(week_one.directory / "arms" / "candidate" / "bundle" / "longtail.json")

    assert info["sources"] == about["sources"]
    assert set(about["validation_micro_f1"]) >= {"encoder", "bce", "linear", "neighbours"}
    page = (week_one.directory / "report.html").read_text(encoding="utf-8")
    assert "What the candidate combines" in page
    # All layers of the tiny encoder are trained, so that nothing tells what a name means.
    assert any(note.startswith("The source names is left out") for note in about["notes"])


def test_the_configuration_is_kept_as_it_was_used(week_one):
    config = week_one.read("config.json")

    assert config["training"]["epochs"] == 4
    assert config["gate"]["min_test_texts"] == 50
    assert config["loss"]["name"] == "db"


class _Page(HTMLParser):
    """What a page would fetch, and the words it shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        wanted = {"src", "srcset", "poster", "data"} | ({"href"} if tag == "link" else set())
        self.fetched += [value or "" for name, value in attributes if name in wanted]

    def handle_data(self, data):
        self.words += data


def test_the_report_is_one_page_that_fetches_nothing(week_one):
    text = (week_one.directory / "report.html").read_text(encoding="utf-8")
    page = _Page(text)

    assert [value for value in page.fetched if not value.startswith("data:")] == []
    assert re.findall(r"@import|url\((?!['\"]?(?:data:|#))", text) == []
    assert page.tags.count("svg") >= 6
    for reason in week_one.read("verdict.json")["reasons"]:
        assert " ".join(reason.split()) in " ".join(page.words.split())


def test_the_figures_stand_beside_the_report(week_one):
    figures = {path.stem for path in (week_one.directory / "figures").glob("*.svg")}

    assert figures == FIGURES - {"label-changes"} or figures == FIGURES


def test_data_docs_are_written(week_one):
    assert (week_one.directory / "data_docs" / "index.html").is_file()


def test_prefect_shows_the_run_as_promoted_with_its_artifacts(week_one):
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        runs = {run.id: run for run in client.read_flow_runs()}
        artifacts = client.read_artifacts()
        logged = [one for one in artifacts if str(week_one.directory) in str(one.data)]
        assert sorted(one.key for one in logged) == ["smoke-audit", "smoke-report"]
        run = runs[logged[0].flow_run_id]
        mine = {one.key for one in artifacts if one.flow_run_id == run.id}

    assert run.name == f"retrain-{NAME}"
    assert (run.state_name, str(run.state_type.value)) == ("Promoted", "COMPLETED")
    told = {"data-account", "splits", "audit", "training-bce", "training-candidate-db", "arms",
            "groups", "verdict", "report"}  # fmt: skip
    assert mine == {f"smoke-{what}" for what in told}


def test_mlflow_has_the_run_with_its_numbers_and_files(week_one):
    store = MlflowStore.of(PublishSettings(), week_one.store)
    client = store.client()
    experiment = client.get_experiment_by_name(NAME)
    metrics = week_one.read("metrics.json")
    (run,) = [
        run
        for run in client.search_runs([experiment.experiment_id])
        if run.info.run_name == metrics["run"]
    ]

    logged = run.data.metrics["candidate/micro_f1"]
    assert logged == pytest.approx(metrics["arms"]["candidate"]["overall"]["micro_f1"])
    assert run.data.params["training.epochs"] == "4"
    assert run.data.tags["longtail.decision"] == "promote"
    assert len(client.get_metric_history(run.info.run_id, "bce/epoch/loss")) == 4
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"verdict.json", "metrics.json", "report.html", "figures", "bundle"} <= files


def test_the_registered_bundle_is_the_one_that_was_judged(week_one):
    promotions = open_promotions(PublishSettings(), week_one.store, NAME)
    version = promotions.registry.find(1)
    manifest = week_one.directory / "arms" / "candidate" / "bundle" / storage.MANIFEST

    assert version is not None
    assert version.bundle_sha256 == storage.sha256_file(manifest)
    (entry, *_) = promotions.log()
    assert (entry.kind, entry.from_version, entry.to_version) == ("promote", None, 1)
    assert entry.decision == "promote"


# ── week two: an addition, judged against week one's champion ────────────────────────────────


def test_a_better_model_takes_over_from_the_champion(week_two):
    verdict = week_two.read("verdict.json")

    assert (week_two.code, week_two.champion) == (0, 2)
    assert (verdict["first_release"], verdict["champion_mode"]) == (False, "refresh")
    assert verdict["arms"]["champion"] == "1"
    assert {"champion_micro_f1", "champion_label_coverage"} <= set(week_two.rules)
    previous = open_promotions(PublishSettings(), week_two.snapshot, NAME).registry.aliased(
        "previous"
    )
    assert previous is not None
    assert previous.number == 1


def test_old_texts_keep_their_split_and_new_ones_are_a_cohort_of_their_own(week_one, week_two):
    for split in SPLITS:
        before, now = ids_of(week_one, split), ids_of(week_two, split)
        cohorts = {row["id"]: row["cohort"] for row in rows_of(week_two, split)}

        assert before < now
        assert {cohorts[name] for name in before} == {0}
        assert {cohorts[name] for name in now - before} == {1}
    entries = SplitLedger(week_two.snapshot / NAME / "ledger").read()
    assert (len(entries), entries.generations) == (460, 2)


def test_both_models_are_judged_on_the_same_test_rows(week_two):
    metrics = week_two.read("metrics.json")
    arms = week_two.directory / "arms"
    scored = {arm: read_predictions(arms / arm / "test.parquet") for arm in (*ARMS, "champion")}

    assert list(metrics["arms"]) == [*ARMS, "champion"]
    assert len({predictions.ids for predictions in scored.values()}) == 1
    assert set(scored["champion"].ids) == ids_of(week_two, "test")
    assert metrics["arms"]["champion"]["version"] == 1
    assert metrics["test"]["original_cohort_texts"] == 80 < metrics["test"]["texts"]


def test_the_champion_scores_old_test_texts_as_it_did_when_it_was_promoted(week_one, week_two):
    then = read_predictions(week_one.directory / "arms" / "candidate" / "test.parquet")
    now = read_predictions(week_two.directory / "arms" / "champion" / "test.parquet")

    assert now.labels == then.labels
    assert now.aligned(then.ids, then.labels) == pytest.approx(then.probabilities, abs=1e-5)
    cuts = [
        storage.read_json(week.directory / "arms" / arm / "arm.json")["thresholds"]["labels"]
        for week, arm in ((week_one, "candidate"), (week_two, "champion"))
    ]
    assert cuts[0] == pytest.approx(cuts[1])


def test_a_label_that_the_champion_does_not_know_counts_as_never_given(week_two):
    metrics = week_two.read("metrics.json")
    names = [label["name"] for label in metrics["labels"]]
    row = names.index("packaging")

    assert len(names) == 21
    assert (
        "packaging"
        not in read_predictions(week_two.directory / "arms" / "champion" / "test.parquet").labels
    )
    assert metrics["arms"]["champion"]["per_label"]["f1"][row] == 0.0
    assert "20 of 21 labels" in week_two.rules["champion_micro_f1"]["detail"]


def test_changed_tickets_bring_their_new_labels(week_two, tickets_week2):
    account = week_two.read("account.json")
    changed = {
        row["id"]: row["labels"] for row in map(json.loads, tickets_week2.read_text().splitlines())
    }
    stored = {
        row["id"]: row["labels"] for split in SPLITS for row in rows_of(week_two, split)
    }  # fmt: skip

    assert account["dataset"] == {
        "added": 60, "changed": 8, "unchanged": 4, "merged": 0, "outdated": 0,
        "deleted": 0,
    }  # fmt: skip
    assert {name: sorted(stored[name]) for name in changed} == {
        name: sorted(labels) for name, labels in changed.items()
    }


def test_the_looks_at_the_test_set_are_counted(week_one, week_two, week_three):
    looks = [week.read("verdict.json")["looks"] for week in (week_one, week_two, week_three)]

    assert looks == [1, 2, 3]
    journal = Journal(week_three.snapshot / NAME / LOOKS).entries()
    assert [entry["run_id"] for entry in journal] == [
        week.read("metrics.json")["run"] for week in (week_one, week_two, week_three)
    ]


# ── week three: blocked ──────────────────────────────────────────────────────────────────────


def test_a_block_exits_with_three_and_leaves_the_champion(week_three):
    verdict = week_three.read("verdict.json")

    assert (week_three.code, week_three.champion) == (3, 2)
    assert verdict["decision"] == "block"
    assert "BLOCKED" in week_three.said
    failed = [rule for rule in verdict["rules"] if not rule["passed"]]
    assert "floor" in " ".join(rule["name"] for rule in failed)
    log = open_promotions(PublishSettings(), week_three.snapshot, NAME).log()
    assert [entry.to_version for entry in log] == [1, 2]


def test_a_block_registers_nothing(week_three):
    promotions = open_promotions(PublishSettings(), week_three.snapshot, NAME)

    assert promotions.registry.find(3) is None
    assert not (week_three.directory / "serve_check.json").exists()


def test_a_block_still_has_its_report_and_its_run_in_mlflow(week_three):
    page = _Page((week_three.directory / "report.html").read_text(encoding="utf-8"))
    client = MlflowStore.of(PublishSettings(), week_three.store).client()
    experiment = client.get_experiment_by_name(NAME)
    decisions = [
        run.data.tags["longtail.decision"]
        for run in client.search_runs([experiment.experiment_id])
        if run.info.run_name == week_three.read("metrics.json")["run"]
    ]

    assert "0.999" in page.words
    assert decisions == ["block"]


def test_prefect_shows_a_block_as_a_state_of_its_own(week_three):
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs()
    blocked = [run for run in runs if run.state_name == "Blocked"]
    (mine,) = [run for run in blocked if str(week_three.directory) in run.state.message]

    assert mine.state_type.value == "FAILED"
    first, *others = week_three.blocking
    assert mine.state.message.startswith(f"smoke: the candidate does not go live. {first}")
    assert ("failed too" in mine.state.message) is bool(others)


def test_without_new_data_the_stored_texts_stay_as_they_are(week_two, week_three):
    assert not (week_three.directory / "account.json").exists()
    for split in SPLITS:
        assert rows_of(week_three, split) == rows_of(week_two, split)
    fingerprints = [
        week.read("metrics.json")["test"]["fingerprint"] for week in (week_two, week_three)
    ]
    assert fingerprints[0] == fingerprints[1]
