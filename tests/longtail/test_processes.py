"""Several processes: the steps of one, one that dies is named, and its training goes on."""

import os
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from steps_case import CASES, TEXTS, Deadly, steps
from test_training import Exploding
from tiny_case import SPACE, encoder_directory, labelled, loss_of, settings, tiny_encoder, weights

from longtail import launch, storage
from longtail.activations import ActivationCache
from longtail.batching import LengthGroupedOrder, SharedBatches
from longtail.checkpoints import _last_whole
from longtail.config import EncoderSettings
from longtail.encoder import load_encoder
from longtail.errors import ConfigError, TrainingError
from longtail.processes import ALONE, Processes, join_processes, number_of_processes
from longtail.trainer import ArmTrainer
from longtail.training import train_arm

# Starting Python with torch several times over takes minutes on a machine that has other work.
pytestmark = pytest.mark.timeout(600)

TRAIN, VALIDATION = labelled(64, 1), labelled(25, 2)


@pytest.fixture
def importable(monkeypatch):
    """Lets processes import what the tests define."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    target = tmp_path_factory.mktemp("steps") / "steps.pt"
    script = Path(__file__).with_name("steps_case.py")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1",
        "--nproc-per-node", "2", str(script), str(target),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return torch.load(target)


@pytest.mark.parametrize(("loss", "unknown"), CASES)
def test_however_a_step_is_divided_it_is_the_same_step(of_two_processes, loss, unknown):
    part = labelled(TEXTS, 3, unknown=unknown)
    whole = steps(32, 1, part, loss=loss)
    assert len(whole["losses"]) == len(whole["gradients"]) == 3
    assert max(float(value.abs().max()) for value in whole["gradients"][0].values()) > 1e-4
    for divided in (steps(8, 4, part, loss=loss), of_two_processes[loss, unknown]):
        assert divided["losses"] == pytest.approx(whole["losses"], rel=1e-4)
        # Later gradients are those of weights that Adam has moved by its own rounding.
        for step, tolerance in enumerate((1e-3, 1e-2, 1e-2)):
            for name, value in whole["gradients"][step].items():
                scale = float(value.abs().max())
                torch.testing.assert_close(
                    divided["gradients"][step][name], value, rtol=tolerance,
                    atol=max(1e-7, tolerance * scale), msg=f"{name} in step {step}",
                )  # fmt: skip


@pytest.fixture
def steady_encoder(tmp_path):
    """Without dropout, one process and two train the same model."""
    target = tmp_path / "steady"
    target.mkdir()
    for file in encoder_directory().iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    config = storage.read_json(target / "config.json")
    changes = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    storage.write_json(target / "config.json", {**config, **changes})
    return load_encoder(EncoderSettings(source=str(target)))


@pytest.mark.usefixtures("importable")
def test_a_killed_process_is_named_and_its_training_ends_where_one_process_does(
    tmp_path, steady_encoder, caplog
):
    caplog.set_level("INFO")
    loss = Deadly(loss_of("db", TRAIN), tmp_path / "was killed")
    told = []

    def train(processes, **options):
        chosen = settings(epochs=3, processes=processes)
        return train_arm(steady_encoder, SPACE.names, TRAIN, VALIDATION, loss, chosen,
                         progress=told.append, **options)  # fmt: skip

    options = {"work_dir": tmp_path / "work", "cache": ActivationCache(tmp_path / "cache")}
    with pytest.raises(TrainingError, match="training process 1 of 0 to 1 was killed") as caught:
        train(2, **options)
    # Its last lines, and in them: the first process computes, the second finds everything.
    assert "frozen layers: 0 of 89 texts computed" in str(caught.value)
    assert "frozen layers: 89 of 89 texts computed" in caplog.text
    told.clear()
    resumed = train(2, resume=True, **options)
    assert "training goes on from" in caplog.text
    assert {now.epoch for now in told} <= {2, 3}
    assert told[-1].step == told[-1].steps == 24
    whole = train(1, cache=options["cache"])
    assert resumed.best_epoch == whole.best_epoch
    for one, two in zip(resumed.history, whole.history, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
        assert one["validation_micro_f1"] == pytest.approx(two["validation_micro_f1"], abs=1e-6)
    expected = weights(whole.model)
    for name, value in weights(resumed.model).items():
        if "key.bias" not in name:  # softmax does not feel it: Adam blows its rounding up
            torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4, msg=name)
    assert not resumed.model.training


def job(directory, loss, **changes):
    call = {
        "encoder": tiny_encoder(), "labels": list(SPACE.names), "train": TRAIN,
        "validation": VALIDATION, "loss": loss, "settings": settings(epochs=1, **changes),
    }  # fmt: skip
    (directory / launch._CALL).write_bytes(pickle.dumps(call))


def test_a_process_gives_the_arm_through_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(launch, "_leave_with_parent", lambda: None)
    job(tmp_path, loss_of("bce", TRAIN))
    launch.main(tmp_path)
    found = launch._read_arm(tmp_path, tiny_encoder(), SPACE.names, settings())
    expected = train_arm(tiny_encoder(), SPACE.names, TRAIN, VALIDATION, loss_of("bce", TRAIN),
                         settings(epochs=1))  # fmt: skip
    for name, value in weights(expected.model).items():
        assert torch.equal(weights(found.model)[name], value)
    assert found.trainable_parameters == expected.trainable_parameters
    told = []
    for line in capsys.readouterr().out.splitlines():
        launch._pass_on(line, {"progress": launch._as_progress(told.append), "cache": None})
    assert told[-1].step == told[-1].steps == 8


def test_what_a_process_raises_for_the_user_is_raised_here(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "_leave_with_parent", lambda: None)
    job(tmp_path, Exploding())
    with pytest.raises(SystemExit):
        launch.main(tmp_path)
    error = launch._error(tmp_path, 2, "")
    assert type(error) is ConfigError
    assert "the loss became nan" in str(error)


class InterruptedRunError(Exception):
    pass


def test_when_the_caller_is_interrupted_the_processes_end(tmp_path, monkeypatch):
    script = tmp_path / "python"
    script.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/pid\n"
        """echo '[default0]:{"told": "cache", "values": [3, 9]}'\nexec sleep 100\n"""
    )
    script.chmod(0o755)
    monkeypatch.setattr(launch.sys, "executable", str(script))

    def interrupt(done, total):
        assert (done, total) == (3, 9)
        raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        launch._torchrun(tmp_path, 2, {"progress": None, "cache": interrupt})
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_log_keeps_its_levels(caplog):
    caplog.set_level("INFO")
    for line in ("INFO epoch 1", "WARNING take care", "Traceback of something"):
        launch._pass_on(line, {})
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "epoch 1"), ("WARNING", "take care"), ("INFO", "Traceback of something"),
    ]  # fmt: skip


def test_one_that_was_killed_is_named_before_those_that_lost_it(tmp_path):
    said = "".join(
        f"  rank      : {rank} (local_rank: {rank})\n  exitcode  : {status} (pid: 7) \n"
        for rank, status in ((1, -15), (2, -9), (0, 1))
    )
    assert "training process 2 of 0 to 2 was killed by signal 9" in str(
        launch._error(tmp_path, 3, said)
    )
    ended = said.replace("-9", "-15")
    assert "training process 0 of 0 to 2 ended with status 1" in str(
        launch._error(tmp_path, 3, ended)
    )


def test_when_torchrun_itself_fails_its_words_are_shown(tmp_path):
    error = launch._error(tmp_path, 2, "no such option\n")
    assert re.search(r"could not train in 2 processes:\nno such option", str(error))


def test_a_process_leaves_with_its_parent(monkeypatch):
    left = []
    monkeypatch.setattr(launch.os, "_exit", left.append)
    inner, outer = os.pipe()
    thread = threading.Thread(target=launch._leave_with_parent, args=(inner,))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    os.close(outer)
    thread.join(10)
    os.close(inner)
    assert left == [1]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_shares_are_what_one_process_holds(count):
    lengths = torch.arange(1, 44).numpy()
    whole = list(SharedBatches(LengthGroupedOrder(lengths, 16, 0), 8, ALONE))
    shares = [list(SharedBatches(LengthGroupedOrder(lengths, 16, 0), 8, Processes(rank, count)))
              for rank in range(count)]  # fmt: skip
    assert {len(share) for share in shares} == {len(whole)}
    for number, batch in enumerate(whole):
        assert sorted(row for share in shares for row in share[number]) == sorted(batch)
        sizes = [len(share[number]) for share in shares]
        assert max(sizes) - min(sizes) <= 1


def test_a_process_alone_sets_nothing_up(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_processes() is ALONE
    assert ALONE.gathered(3) == [3]
    assert ALONE.told_by_first("a") == "a"
    assert not torch.distributed.is_initialized()


def test_auto_is_one_process_per_cuda_device(monkeypatch):
    for devices, expected in ((0, 1), (1, 1), (4, 4)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda found=devices: found)
        assert number_of_processes(settings(processes="auto")) == expected
    assert number_of_processes(settings(processes=3)) == 3


def test_a_checkpoint_without_all_random_states_is_not_whole(tmp_path):
    for step, states in ((8, 2), (16, 1)):
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "trainer_state.json").write_text("{}")
        for rank in range(states):
            (checkpoint / f"rng_state_{rank}.pth").touch()
    assert _last_whole(tmp_path, 2) == str(tmp_path / "checkpoint-8")
    assert not (tmp_path / "checkpoint-16").exists()


def test_more_processes_than_texts_in_a_batch():
    with pytest.raises(ConfigError, match="batch_size 1 cannot be shared by 2 processes"):
        ArmTrainer(
            None, None, collator=None, head=set(), settings=settings(batch_size=1), loss=None,
            validate=None, reporter=None, processes=Processes(0, 2),
        )  # fmt: skip
