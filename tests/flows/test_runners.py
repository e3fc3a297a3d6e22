"""Threads, dask and ray give the same, and what was labelled before a kill is kept."""

from __future__ import annotations

import contextlib
import importlib.util
import json

import pyarrow.parquet as pq
import pytest
from prefect import flow, task

import flows.predict
from flows.config import CompareConfig, PredictConfig, RunnerSettings
from flows.predict import predict
from flows.runners import build_runner, run_each
from longtail.errors import ConfigError

TEXTS = [
    "I want my money back for the tent that I returned last month.",
    "Where is my parcel? The tracking has not moved since Tuesday.",
    "Your app crashes after the start screen; please call me on Thursday.",
    "The zip of the jacket is stuck, can it be repaired?",
    "Please send the invoice again, the amount is wrong.",
]
CLUSTERS = ["dask", "ray"]


@task
def half(number):
    if number % 2:
        raise ConfigError(f"{number} is odd")
    return number // 2


@flow
def halves(settings, numbers):
    return [str(one) for one in run_each(settings, half, [(number,) for number in numbers])]


@pytest.mark.parametrize("workers", [1, 3])
def test_outcomes_are_in_the_calls_order_and_a_refusal_is_one(prefect_harness, workers):
    found = halves(RunnerSettings(workers=workers), [8, 3, 4, 2])
    assert found == ["4", "3 is odd", "2", "1"]


def test_without_calls_nothing_is_started(monkeypatch):
    monkeypatch.setattr("flows.runners.build_runner", lambda _: pytest.fail("was started"))
    assert run_each(RunnerSettings(kind="dask"), half, []) == []


@pytest.mark.parametrize("kind", CLUSTERS)
def test_a_package_that_is_not_there_is_named_with_its_remedy(kind, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=rf"pip install 'longtail\[{kind}\]'"):
        build_runner(RunnerSettings(kind=kind))


@pytest.mark.parametrize("kind", CLUSTERS)
def test_an_address_is_that_of_a_cluster_and_nothing_is_started(kind):
    runner = build_runner(RunnerSettings(kind=kind, address="host:8786", workers=4))
    assert runner.address == "host:8786"
    assert not getattr(runner, "cluster_kwargs", None)
    assert "num_cpus" not in getattr(runner, "init_kwargs", {})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"address": "host:8786"}, "an address is that of a cluster"),
        ({"kind": "dask", "gpus": 1}, "gpus are asked of ray"),
        ({"workers": 0}, "greater than or equal to 1"),
        ({"kind": "processes"}, "'threads', 'dask' or 'ray'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        RunnerSettings.model_validate(settings)


def test_threads_do_not_train_side_by_side():
    given = {"data": {"desk": {"path": "desk.csv"}}, "runner": {"workers": 2}}
    with pytest.raises(ValueError, match=r"take runner\.kind=dask, or --shard"):
        CompareConfig.model_validate(given)


# ── predict ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("runners") / "new.jsonl"
    lines = [json.dumps({"id": f"N{row}", "text": text}) for row, text in enumerate(TEXTS)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def settings_for(week, texts, out, **more):
    return PredictConfig.model_validate({
        "store": str(week.snapshot), "data": {"path": str(texts)}, "out": str(out),
        "part_texts": 2, **more,
    })  # fmt: skip


@pytest.fixture(scope="module")
def expected(week_one, texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("threads") / "labelled.parquet"
    handle = predict(settings_for(week_one, texts, out))
    assert handle.texts == len(TEXTS)
    assert [path.name for path in out.parent.iterdir()] == ["labelled.parquet"]
    return pq.read_table(out)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["threads", *CLUSTERS])
def test_every_runner_labels_alike(kind, expected, week_one, texts, tmp_path):
    out = tmp_path / "labelled.parquet"
    predict(settings_for(week_one, texts, out, runner={"kind": kind, "workers": 2}))

    assert pq.read_table(out).equals(expected, check_metadata=True)
    assert expected["id"].to_pylist() == [f"N{row}" for row in range(len(TEXTS))]


@pytest.fixture
def labelled(monkeypatch):
    """The parts that are labelled, as it goes; it is killed before part ``labelled.until``."""

    class Counted:
        fn = flows.predict.score_part.fn
        until = 1
        done: list[int]

        def __init__(self):
            self.done = []
            self.work = flows.predict.score_part

        def __call__(self, parts, part):
            if part == self.until:
                raise KeyboardInterrupt
            self.work(parts, part)
            self.done.append(part)

    counted = Counted()
    monkeypatch.setattr(flows.predict, "score_part", counted)
    return counted


def killed(config):
    with contextlib.suppress(KeyboardInterrupt):
        predict(config, return_state=True)


@pytest.mark.slow
def test_what_was_labelled_before_a_kill_is_not_labelled_again(
    labelled, expected, week_one, texts, tmp_path
):
    out = tmp_path / "labelled.parquet"
    config = settings_for(week_one, texts, out)
    killed(config)
    assert (labelled.done, out.exists()) == ([0], False)

    labelled.until = -1
    predict(config)
    assert labelled.done == [0, 1, 2]
    assert pq.read_table(out).equals(expected)
    assert [path.name for path in tmp_path.iterdir()] == ["labelled.parquet"]


@pytest.mark.slow
def test_a_damaged_part_and_other_texts_are_labelled_anew(
    labelled, expected, week_one, texts, tmp_path
):
    out = tmp_path / "labelled.parquet"
    killed(settings_for(week_one, texts, out))
    (part,) = tmp_path.glob(".labelled.parquet.parts-*/*.scores.parquet")
    part.write_bytes(part.read_bytes()[:100])

    labelled.until = -1
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"id": "N0", "text": TEXTS[1]}) + "\n", encoding="utf-8")
    predict(settings_for(week_one, other, tmp_path / "other.parquet"))
    assert labelled.done == [0, 0]

    predict(settings_for(week_one, texts, out))
    assert labelled.done == [0, 0, 0, 1, 2]
    assert pq.read_table(out).equals(expected)
