"""Training in a process of its own: how it ends, goes on, and what it tells."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from longtail import memory, storage
from longtail.config import EncoderSettings, LossSettings, TrainingSettings
from longtail.errors import ConfigError, OutOfMemoryError, TrainingError
from longtail.labels import LabelGroups, LabelSpace
from longtail.progress import Progress
from tasks.data import write_label_space
from tasks.encoder_arm import run_job
from tasks.handles import RunHandle, SplitHandle
from tasks.training_job import TINY, TrainingJob
from tasks.training_process import (
    CHILD,
    RESTARTS,
    TrainingProcessError,
    train_in_process,
)
from tasks.training_progress import ProgressArtifact, show_shortages

pytestmark = pytest.mark.slow  # every child loads torch

ACCIDENTS = Path(__file__).with_name("training_case.py")
TOPICS = ("tent", "boot", "stove")
FILLER = ("please", "help", "today", "again", "since", "broken", "my", "the")
SIZES = {"train": 90, "validation": 40, "test": 20}
SETTINGS = TrainingSettings(
    epochs=3, batch_size=8, max_length=16, trainable_layers="all", learning_rate=0.005,
    head_learning_rate=0.01,
)  # fmt: skip
STEPS = 12  # of an epoch


def rows(part, count):
    rng = np.random.default_rng(len(part))
    labels = [sorted(rng.choice(TOPICS, rng.integers(1, 3), replace=False)) for _ in range(count)]
    texts = [" ".join([*rng.choice(FILLER, 6), *given]) for given in labels]
    return {"id": [f"{part}{n}" for n in range(count)], "text": texts, "labels": labels}


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    root = tmp_path_factory.mktemp("split")
    for part, count in SIZES.items():
        storage.write_parquet(root / "splits" / f"{part}.parquet", pa.table(rows(part, count)))
    groups = LabelGroups(("HEAD", "MEDIUM", "TAIL"), (50, 45, 40), (42, 48))
    write_label_space(root / "label_space.json", LabelSpace(TOPICS), groups)
    return SplitHandle.of(root)


def job_in(directory, split, **training):
    (directory / "arm").mkdir(parents=True, exist_ok=True)
    return TrainingJob(
        arm="bce", directory=directory / "arm", split=split, dataset="f" * 64,
        encoder=EncoderSettings(source=TINY), training=SETTINGS.model_copy(update=training),
        loss=LossSettings(name="bce"), activations=directory / "activations",
        encoders=split.directory.parent / "encoders", checkpoints=directory / "checkpoints",
    )  # fmt: skip


@pytest.fixture
def job(tmp_path, split):
    return job_in(tmp_path, split)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, split):
    job = job_in(tmp_path_factory.mktemp("undisturbed"), split)
    run_job(job)
    return job.directory


@pytest.fixture
def accident(tmp_path, monkeypatch):
    """Gives the command of a child that has an accident, and the file that it notes it in."""
    file = tmp_path / "accident"
    monkeypatch.setenv("ACCIDENT_FILE", str(file))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return lambda name: ((sys.executable, str(ACCIDENTS), name), file)


def same_arm(directory, expected):
    for part in ("validation.parquet", "test.parquet"):
        assert storage.read_parquet(directory / part).equals(storage.read_parquet(expected / part))
    return True


def processes_of(file):
    return [int(number) for number in file.read_text().split()]


def test_a_child_gives_the_arm_of_this_process_its_log_and_its_progress(job, undisturbed, caplog):
    told = []
    with caplog.at_level(logging.INFO):
        assert train_in_process(job, progress=told.append) == job

    assert same_arm(job.directory, undisturbed)
    assert "bce: training with the loss bce on 90 texts" in caplog.messages
    assert caplog.records[0].name == "tasks.encoder_arm"
    last = told[-1]
    history = storage.read_json(job.directory / "arm.json")["history"]
    assert (last.epoch, last.step, last.steps) == (3, 3 * STEPS, 3 * STEPS)
    assert last.validation_micro_f1 == history[-2]["validation_micro_f1"]
    assert "validation micro-F1" in str(last)


def test_a_killed_child_goes_on_from_its_checkpoint(job, undisturbed, accident, caplog):
    command, file = accident("killed-once")
    with caplog.at_level(logging.INFO):
        train_in_process(job, command=command)

    assert len(processes_of(file)) == 1
    said = "\n".join(caplog.messages)
    assert "bce: the training process was killed by signal 9; it goes on" in said
    assert "(restart 1 of 2)" in said
    assert f"checkpoint-{STEPS}" in said
    assert same_arm(job.directory, undisturbed)


def test_a_child_that_is_always_killed_is_given_up(job, accident):
    command, file = accident("killed-always")
    with pytest.raises(TrainingError, match="killed by signal 9, for the 3th time"):
        train_in_process(job, command=command)
    assert len(processes_of(file)) == 3


def test_out_of_memory_halves_the_batch_and_keeps_the_steps(tmp_path, split, accident, caplog):
    command, _ = accident("cpu")
    job = job_in(tmp_path, split, epochs=1)
    with caplog.at_level(logging.INFO):
        done = train_in_process(job, command=command)

    assert (done.training.batch_size, done.training.accumulation) == (4, 2)
    assert "bce: out of memory; it goes on with batch_size 4 and accumulation 2" in caplog.text
    about = storage.read_json(job.directory / "arm.json")["out_of_memory"]
    assert (about["batch_size"], about["accumulation"]) == (4, 2)
    (shortage,) = about["shortages"]
    assert shortage["batch_size"] == 8
    assert "DefaultCPUAllocator" in shortage["said"]


def test_one_text_at_a_time_that_is_too_much_is_an_error_that_says_what_to_do(
    tmp_path, split, accident
):
    command, _ = accident("always")
    with pytest.raises(OutOfMemoryError, match=r"bce: .*fewer are not possible.*max_length"):
        train_in_process(job_in(tmp_path, split, batch_size=2), command=command)


@pytest.mark.parametrize(
    ("batch", "accumulation", "processes", "expected"),
    [
        (16, 1, 1, (8, 2)),
        (5, 1, 1, (1, 5)),
        (6, 2, 1, (3, 4)),
        (6, 2, 3, (3, 4)),
        (9, 1, 1, (3, 3)),
    ],
)
def test_smaller_passes_make_the_same_steps(job, batch, accumulation, processes, expected):
    given = {"batch_size": batch, "accumulation": accumulation, "processes": processes}
    asked = job.model_copy(update={"training": SETTINGS.model_copy(update=given)})
    smaller = asked.in_smaller_passes("said").training
    assert (smaller.batch_size, smaller.accumulation) == expected
    assert smaller.batch_size * smaller.accumulation == batch * accumulation


def test_in_smaller_passes_it_goes_on_from_the_checkpoint(job, accident, caplog):
    command, _ = accident("cuda-later")
    with caplog.at_level(logging.INFO):
        train_in_process(job, command=command)

    assert f"training goes on from {job.checkpoints}/checkpoint-{STEPS}" in caplog.text
    assert len(storage.read_json(job.directory / "arm.json")["history"]) == 3


def test_an_error_for_the_user_comes_back_as_what_it_is(tmp_path, split, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lost = job_in(tmp_path, split).model_copy(
        update={"encoder": EncoderSettings(source=str(tmp_path / "nowhere"))}
    )
    with pytest.raises(ConfigError, match=r"nowhere.*no such directory"):
        train_in_process(lost)


def test_a_defect_comes_with_its_traceback(job, accident):
    command, _ = accident("defect")
    with pytest.raises(TrainingProcessError, match=r"(?s)training_case\.py.*ZeroDivisionError"):
        train_in_process(job, command=command)


def test_a_child_that_cannot_start_says_why(job):
    with pytest.raises(TrainingError, match=r"(?s)ended with status 1.*no_such_module"):
        train_in_process(job, command=(sys.executable, "-c", "import no_such_module"))


class Ended(BaseException):
    """As Prefect raises it in the main thread when a run is cancelled."""


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, Ended])
def test_what_ends_the_call_ends_the_child(job, accident, interruption):
    command, file = accident("hanging")

    def raise_it(*_):
        raise interruption

    before = signal.signal(signal.SIGUSR1, raise_it)
    thread = threading.Thread(
        target=lambda: (wait_for(file.is_file), os.kill(os.getpid(), signal.SIGUSR1))
    )
    try:
        thread.start()
        with pytest.raises(interruption):
            train_in_process(job, command=command)
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    (child,) = processes_of(file)
    assert not psutil.pid_exists(child)


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def start_parent(job, command):
    """A process of its own that trains."""
    code = (
        "import sys, json; from tasks.training_job import TrainingJob;"
        "from tasks.training_process import train_in_process;"
        "train_in_process(TrainingJob.model_validate_json(sys.argv[1]),"
        " command=json.loads(sys.argv[2]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, job.model_dump_json(), json.dumps(command)],
        start_new_session=True,
    )


def test_a_parent_that_is_killed_takes_the_child_along_and_the_next_run_goes_on(
    job, undisturbed, accident, caplog
):
    command, file = accident("hanging")
    parent = start_parent(job, command)
    wait_for(file.is_file)
    (child,) = processes_of(file)
    assert psutil.pid_exists(child)
    parent.kill()
    parent.wait()
    wait_for(lambda: not psutil.pid_exists(child), seconds=10)

    with caplog.at_level(logging.INFO):
        train_in_process(job)
    assert f"checkpoint-{STEPS}" in caplog.text
    assert same_arm(job.directory, undisturbed)


def test_processes_that_share_a_training_end_with_the_parent_too(tmp_path, split):
    job = job_in(tmp_path, split, processes=2, epochs=5000)
    parent = start_parent(job, CHILD)
    started = psutil.Process(parent.pid)
    wait_for(job.checkpoints.is_dir)
    family = started.children(recursive=True)
    parent.kill()
    parent.wait()

    assert len(family) >= 4, "the child, torchrun and its two processes"
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive


def test_a_shortage_is_shown_on_the_runs_page(tmp_path, job, monkeypatch):
    shown = []
    monkeypatch.setattr("tasks.training_progress.publish_markdown", lambda *a: shown.append(a))
    monkeypatch.setattr("tasks.training_progress._in_a_run", lambda: True)
    run = RunHandle(id="r", name="a_desk", directory=tmp_path, store=tmp_path, started_at="now")
    show_shortages(run, job)
    assert not shown
    show_shortages(run, job.in_smaller_passes("CUDA out of memory"))
    ((key, text, _),) = shown
    assert key == "a-desk-memory-bce"
    assert "`batch_size: 4` and `accumulation: 2`" in text


def test_progress_is_shown_every_few_seconds_and_a_lost_server_stops_nothing(tmp_path, monkeypatch):
    shown, clock = [], [0.0]
    run = RunHandle(id="r", name="desk", directory=tmp_path, store=tmp_path, started_at="now")
    monkeypatch.setattr("tasks.training_progress._in_a_run", lambda: True)
    monkeypatch.setattr("tasks.training_progress.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(
        "tasks.training_progress.create_progress_artifact",
        lambda *given: shown.append(given) or "id",
    )

    def update(number, percent, said):
        shown.append((number, percent, said))
        raise ConnectionError

    monkeypatch.setattr("tasks.training_progress.update_progress_artifact", update)
    artifact = ProgressArtifact(run, "bce")
    for step, seconds in enumerate([0, 1, 4, 6, 12, 65, 67]):
        clock[0] = float(seconds)
        artifact(Progress(1, 2, step, 10, 0.5, 10.0, 100.0, 60.0))

    assert [entry[:2] for entry in shown] == [
        (0.0, "desk-training-bce"), ("id", 30.0), ("id", 60.0)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("said"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory lane"), False),
    ],
)
def test_out_of_memory_is_recognised(error, expected):
    assert memory.is_out_of_memory(error) == expected


def test_a_kill_by_the_system_is_told_from_one_by_a_person(job, accident, monkeypatch, tmp_path):
    counter = tmp_path / "vmstat"
    counter.write_text("nr_free_pages 1\noom_kill 4\n")
    monkeypatch.setattr("longtail.memory._counters", lambda: [counter])
    kills = iter([4, 5])
    assert memory.oom_kills() == 4
    monkeypatch.setattr("tasks.training_process.oom_kills", lambda: next(kills, 5))
    command, _ = accident("killed-once")
    done = train_in_process(job, command=command)

    assert done.training.batch_size == 4
    assert "killed by the system" in done.shortages[0].said


def test_a_process_that_hangs_is_killed_and_told_of(job, monkeypatch, caplog):
    monkeypatch.setattr("tasks.training_process._SILENT_SECONDS", 1.0)
    hanging = (sys.executable, "-c", "import time; time.sleep(600)")
    with caplog.at_level(logging.WARNING), pytest.raises(TrainingError, match="signal 9"):
        train_in_process(job, command=hanging)
    assert caplog.text.count("has said nothing for 1 s and is killed") == 1 + RESTARTS
