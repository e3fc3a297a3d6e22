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

    def handle(run, arm, loss):
        asked.append(("train", arm, loss))
        return ArmHandle(arm=arm, directory=run.directory / arm, loss=loss, seconds=1.0)

    def tune(_, __, arm, ___):
        asked.append(("tune", arm.arm))
        return arm

    def select(_, __, shortlist, baseline):
        asked.append(("select", [one.arm for one in shortlist], baseline.arm))
        return (*shortlist[1:], shortlist[0].model_copy(update={"arm": "candidate"}))

    def encoder(run, *_, arm, loss, **__):
        return handle(run, arm, loss.name)

    monkeypatch.setattr(flows.retrain, "train_linear", lambda run, *_: handle(run, "linear", "svm"))
    monkeypatch.setattr(flows.retrain, "train_encoder", encoder)
    monkeypatch.setattr(flows.retrain, "tune_thresholds", tune)
    monkeypatch.setattr(flows.retrain, "select_candidate", select)
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
def test_one_loss_is_the_candidate_without_a_choice(tmp_path, done, overrides, loss):
    arms = trained(tmp_path, *overrides)

    assert [(one.arm, one.loss) for one in arms[1:]] == [("bce", "bce"), ("candidate", loss)]
    assert done[:3] == [("train", "linear", "svm"), *(("train", a.arm, a.loss) for a in arms[1:])]
    assert done[3:] == [("tune", "linear"), ("tune", "bce"), ("tune", "candidate")]


def test_a_shortlist_is_tuned_before_the_choice_and_the_chosen_one_comes_last(tmp_path, done):
    arms = trained(tmp_path, "loss.name=auto", "loss.shortlist=[asl]")

    assert [one.arm for one in arms] == ["linear", "bce", "candidate-asl", "candidate"]
    assert [entry[1] for entry in done if entry[0] == "tune"] == [
        "linear", "bce", "candidate-db", "candidate-asl"
    ]  # fmt: skip
    assert done[-1] == ("select", ["candidate-db", "candidate-asl"], "bce")
