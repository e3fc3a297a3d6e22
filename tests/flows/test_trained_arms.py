"""Which arms a retrain trains, and in which order they are handed on."""

from __future__ import annotations

import pytest

import flows.retrain
from flows.config import load_config
from tasks.handles import ArmHandle, DatasetHandle, RunHandle, SplitHandle


@pytest.fixture
def done(monkeypatch):
    """What each task was asked for, in order; nothing is trained."""
    asked = []

    def handle_of(run, arm, loss):
        return ArmHandle(arm=arm, directory=run.directory / arm, loss=loss, seconds=1.0)

    def handle(run, arm, loss):
        asked.append(("train", arm, loss))
        return handle_of(run, arm, loss)

    def tune(_, __, arm, ___):
        asked.append(("tune", arm.arm))
        return arm

    def select(_, __, shortlist, baseline):
        asked.append(("select", [one.arm for one in shortlist], baseline.arm))
        return shortlist[-1]

    def combine(run, _, encoder, bce, linear, settings, taxonomy):
        made = [encoder.arm, bce.arm, linear.arm, len(settings.sources), taxonomy]
        asked.append(("combine", *made))
        candidate = handle_of(run, "candidate", encoder.loss)
        alone = settings.sources == ("encoder",)
        return candidate, None if alone else handle_of(run, "matched", "bce")

    def encoder(run, *_, arm, loss, **__):
        return handle(run, arm, loss.name)

    monkeypatch.setattr(flows.retrain, "train_linear", lambda run, *_: handle(run, "linear", "svm"))
    monkeypatch.setattr(flows.retrain, "train_encoder", encoder)
    monkeypatch.setattr(flows.retrain, "tune_thresholds", tune)
    monkeypatch.setattr(flows.retrain, "select_loss", select)
    monkeypatch.setattr(flows.retrain, "combine_evidence", combine)
    return asked


def trained(tmp_path, *overrides):
    run = RunHandle(id="r", name="desk", directory=tmp_path, store=tmp_path, started_at="now")
    dataset = DatasetHandle(
        directory=tmp_path, fingerprint="f" * 64, version=1, n_texts=1, n_labels=1
    )
    config = load_config(None, ["name=desk", *overrides])
    return flows.retrain._trained_arms(run, SplitHandle.of(tmp_path), dataset, config)


@pytest.mark.parametrize(
    ("overrides", "loss"),
    [
        (["loss.name=asl"], "asl"),
        (["loss.name=auto", "loss.shortlist=[db]"], "db"),
        (["loss.article={reweight_func: CB}"], "article"),
    ],
)
def test_one_loss_and_the_baseline_are_trained_tuned_and_combined(tmp_path, done, overrides, loss):
    arms = trained(tmp_path, *overrides)
    encoder = f"candidate-{loss}"

    assert [(one.arm, one.loss) for one in arms[1:]] == [
        ("bce", "bce"), (encoder, loss), ("matched", "bce"), ("candidate", loss)
    ]  # fmt: skip
    assert done == [
        ("train", "linear", "svm"), ("train", "bce", "bce"), ("train", encoder, loss),
        ("tune", "linear"), ("tune", "bce"), ("tune", encoder), ("select", [encoder], "bce"),
        ("combine", encoder, "bce", "linear", 6, None), ("tune", "matched"), ("tune", "candidate"),
    ]  # fmt: skip


def test_of_a_shortlist_the_chosen_encoder_is_combined_and_the_candidate_comes_last(tmp_path, done):
    arms = trained(tmp_path, "loss.name=auto", "loss.shortlist=[asl]")

    assert [one.arm for one in arms] == [
        "linear", "bce", "candidate-db", "candidate-asl", "matched", "candidate"
    ]  # fmt: skip
    assert ("select", ["candidate-db", "candidate-asl"], "bce") in done
    assert ("combine", "candidate-asl", "bce", "linear", 6, None) in done


def test_the_encoder_alone_has_no_matched_arm(tmp_path, done):
    arms = trained(tmp_path, "combination.sources=[encoder]")
    assert [one.arm for one in arms][2:] == ["candidate-db-soft", "candidate"]
