"""The GPU's benchmark on a CPU, at a size of seconds."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longtail.tiny import write_tiny_encoder

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LABELS = {"paper": "the printer has no paper", "login": "nobody can log in", "slow": "it is slow"}


@pytest.fixture(scope="module")
def gpu():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("gpu")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    directory = tmp_path_factory.mktemp("gpu")
    random = np.random.default_rng(0)
    labels = [sorted(random.choice(list(LABELS), size=1 + row % 2, replace=False).tolist())
              for row in range(150)]  # fmt: skip
    texts = [" and ".join(LABELS[name] for name in row) + f" {n}" for n, row in enumerate(labels)]
    sides = ["train"] * 110 + ["test"] * 40
    table = pa.table({"text": texts, "labels": labels, "split": sides})
    pq.write_table(table, directory / "known.parquet")
    pq.write_table(table.drop_columns("split"), directory / "free.parquet")
    encoder = write_tiny_encoder(directory / "encoder", texts, hidden_size=16)
    return ["--data", f"known={directory / 'known.parquet'}",
            "--data", f"free={directory / 'free.parquet'}", "--encoder", str(encoder),
            "--epochs", "1", "--max-length", "16"]  # fmt: skip


def run(gpu, words, out, capsys):
    code = gpu.main([*words, "--out", str(out)])
    result = json.loads(out.read_text())
    return code, result, {entry["step"]: entry for entry in result["steps"]}, capsys.readouterr()


def test_arms_are_measured_and_said_not_to_be_of_a_gpu(gpu, command, tmp_path, capsys):
    words = [*command, "--texts", "60", "--steps", "arm", "optimiser", "rate"]
    code, result, steps, said = run(gpu, words, tmp_path / "out.json", capsys)
    assert code == 0
    assert list(steps) == ["arm known bce", "arm known db-soft", "arm free bce",
                           "arm free db-soft", "optimiser", "rate known db-soft"]  # fmt: skip
    assert {entry["status"] for entry in result["steps"]} == {"done"}
    assert (result["gpu"], result["note"]) == (False, gpu.NO_GPU)
    lines = said.out.strip().splitlines()
    assert lines[0] == lines[-1] == gpu.NO_GPU
    assert sum(line.startswith("| ") for line in lines) == 1 + len(steps)
    found = steps["arm known db-soft"]["found"]
    assert (found["device"], found["bf16"], found["frozen_layers"]) == ("cpu", False, -1)
    assert found["texts"] == [60, 22, 30]
    assert 0 <= found["micro_f1"] <= 1
    assert found["training_texts_per_second"] > 0
    assert found["scoring_texts_per_second"] > 0
    assert found["peak_mib"] > 0
    assert steps["rate known db-soft"]["found"]["settings"]["learning_rate"] == 5e-5
    assert steps["optimiser"]["found"]["fused_ms"] > 0


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_the_same(gpu, command, tmp_path, capsys):
    words = [*command, "--steps", "resume"]
    code, _, steps, _ = run(gpu, words, tmp_path / "out.json", capsys)
    assert code == 0, steps
    found = steps["resume"]["found"]
    assert found["resumed_at"] >= found["killed_at"] > 0
    assert found["identical"]
    assert found["largest_difference"] == 0.0
    assert len(found["histories"][0]) == gpu.RESUMED_EPOCHS


def test_a_loss_is_timed_eager_even_where_it_cannot_be_compiled(
    gpu, command, tmp_path, capsys, monkeypatch
):
    def none(*_):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(gpu, "compiled_times", none)
    words = [*command, "--steps", "loss"]
    code, _, steps, _ = run(gpu, words, tmp_path / "out.json", capsys)
    assert code == 1
    entry = steps["loss"]
    assert (entry["status"], entry["said"]) == ("failed", "RuntimeError: no compiler")
    assert list(entry["found"]) == ["bce 16 x 3", "db-soft 16 x 3"]
    for case in entry["found"].values():
        assert case["eager_ms"] > 0
        assert case["relative_error"] < 1e-5


def test_what_does_not_fit_the_budget_is_skipped_and_said(gpu, command, tmp_path, capsys):
    words = [*command, "--minutes", "0.1", "--steps", "arm", "loss"]
    code, _, steps, said = run(gpu, words, tmp_path / "out.json", capsys)
    assert code == 0
    assert {entry["status"] for entry in steps.values()} == {"skipped"}
    assert "takes about 20 s, 6 s were left" in said.out


def test_a_failing_step_and_one_that_was_stopped_do_not_end_the_others(gpu):
    def fails(found):
        found["so far"] = 1
        raise ValueError("no such file")

    def stops(_):
        raise gpu.OutOfTime("30 s more were needed")

    steps = [gpu.Step(action.__name__, action, float) for action in (fails, stops)]
    steps.append(gpu.Step("works", lambda _: "well", float))
    written = []
    entries = gpu.run_steps(steps, gpu.Budget(1.0), lambda so_far: written.append(len(so_far)))
    assert [entry["status"] for entry in entries] == ["failed", "stopped", "done"]
    assert entries[0]["found"] == {"so far": 1}
    assert entries[0]["said"] == "ValueError: no such file"
    assert written == [1, 2, 3]


def test_a_training_that_would_not_be_done_in_time_ends_early(gpu):
    bench = gpu.Bench(None, gpu.Budget(1.0))
    progress = gpu.Progress(1, 8, 10, 800, 0.1, 5.0, 200.0, seconds_left=90.0)
    long_ago = bench.budget.ends - 60.0 - gpu.WARM_UP - 1.0
    bench.watch(bench.budget.ends - 60.0, progress)  # too early to tell
    with pytest.raises(gpu.OutOfTime, match=r"90 s more were needed in epoch 1 of 8, \d+ s were"):
        bench.watch(long_ago, progress)
