"""What a GPU makes of a training, in one run of under ten minutes.

    python benchmarks/gpu.py --data reuters=RUN --data cooking=FILE.parquet --out gpu.json
    python benchmarks/gpu.py --data reuters=RUN --texts 200 --epochs 1 --out cpu.json   # no GPU

RUN is the directory of a finished run, or of a data set that ``longtail compare`` prepared: its
split is taken, so that the figures stand beside those of docs/results.md. FILE has the columns
``text`` and ``labels`` (lists); where a column ``split`` says ``test``, those are the test texts,
else a fifth is. Near-duplicates are not kept together then.

The steps, by worth; ``--steps`` takes those whose names begin with one of the given words:

    arm REUTERS bce, db-soft   all layers, bf16, fused AdamW: micro-F1, macro-F1 and label coverage
                               on the test set at thresholds fitted on validation, texts per second
                               in training and in scoring, peak memory
    resume                     a training is killed with -9 after its first checkpoint, run again,
                               and compared with one that nobody disturbed
    loss                       a loss's forward and backward pass, eager and by torch.compile
    arm COOKING bce, db-soft   as above; any number of data sets
    optimiser                  a step of AdamW, fused and not
    rate REUTERS db-soft       once more at a quarter of the learning rate, which was chosen for
                               a top layer alone

A step that would not end within ``--minutes`` is skipped, and one that fails is told of; the next
one goes on. Everything is in ``--out``, which is written after each step. Exit code 1: a step
failed. Without CUDA the same runs in float32, and says so in its first and last line.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import transformers
from losses import batch, module
from torch.utils.benchmark import Timer

from longtail import storage
from longtail.batching import LabelledTexts, tokenise
from longtail.config import (
    EncoderSettings,
    GroupSettings,
    LossName,
    LossSettings,
    SplitName,
    ThresholdSettings,
    TrainingSettings,
)
from longtail.encoder import Encoder, build_classifier, load_encoder
from longtail.evaluation import TestSet, evaluate
from longtail.labels import LabelSpace, group_labels, support
from longtail.losses import build_loss
from longtail.progress import Progress
from longtail.scoring import score
from longtail.splitting import stratify
from longtail.thresholds import fit_thresholds
from longtail.trainer import uses_bf16
from longtail.training import TrainedArm, train_arm
from tasks.data import SplitData
from tasks.handles import SplitHandle

LOSSES: tuple[LossName, ...] = ("bce", "db-soft")
PARTS: tuple[SplitName, SplitName] = ("train", "validation")
MEASURES = ("micro_f1", "macro_f1", "label_coverage")
MANY_LABELS = 18_211
RESUMED_TEXTS, RESUMED_EPOCHS = 1000, 4
CPU_TEXTS = 256
WARM_UP = 10.0  # seconds after which an estimate of the time left is believed
NO_GPU = "NOT RUN ON A GPU: these figures are of a CPU in float32 and say nothing of one"

Found = dict[str, Any]


class OutOfTime(Exception):  # noqa: N818 - nothing is wrong
    """A training would not end within the budget."""


class Budget:
    """The seconds that are left."""

    def __init__(self, minutes: float) -> None:
        """Start the clock."""
        self.ends = time.monotonic() + 60.0 * minutes

    def left(self) -> float:
        """Seconds; below 0 when it is over."""
        return self.ends - time.monotonic()


@dataclass(frozen=True)
class Step:
    """Something to be measured.

    Attributes:
        name: of the step.
        run: fills what it found into a mapping, and says it in a sentence.
        needs: about how many seconds it will take.
    """

    name: str
    run: Callable[[Found], str]
    needs: Callable[[], float]


@dataclass(frozen=True)
class Data:
    """A data set, divided; texts and truth of the test set stand in the same order."""

    train: LabelledTexts
    validation: LabelledTexts
    test_texts: Sequence[str]
    test: TestSet


@dataclass
class Bench:
    """What the steps share.

    Attributes:
        given: the command line.
        budget: the time that is left.
        texts_per_second: of the last training; None before the first.
    """

    given: argparse.Namespace
    budget: Budget
    texts_per_second: float | None = None
    _data: dict[str, Data] = field(default_factory=dict)

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder."""
        return load_encoder(EncoderSettings(source=self.given.encoder))

    @cached_property
    def settings(self) -> TrainingSettings:
        """All layers; bf16 where there is CUDA."""
        settings = TrainingSettings(trainable_layers="all", max_length=self.given.max_length)
        return changed(settings, epochs=self.given.epochs or settings.epochs)

    def data(self, name: str) -> Data:
        """A data set; it is read once."""
        if name not in self._data:
            self._data[name] = load(self.given.sources[name], self.given)
        return self._data[name]

    def training_seconds(self, name: str) -> float:
        """About how long an arm takes; a little where no training has shown its speed yet."""
        if self.texts_per_second is None:
            return 2 * WARM_UP
        return 1.2 * len(self.data(name).train.texts) * self.settings.epochs / self.texts_per_second

    def watch(self, started: float, progress: Progress) -> None:
        """End a training that would not be done in time.

        Raises:
            OutOfTime: it would not.
        """
        if time.monotonic() - started > WARM_UP and progress.seconds_left > self.budget.left():
            raise OutOfTime(
                f"{progress.seconds_left:.0f} s more were needed in epoch {progress.epoch} of "
                f"{progress.epochs}, {max(0.0, self.budget.left()):.0f} s were left"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    words = list(sys.argv[1:] if argv is None else argv)
    given = arguments(words)
    bench = Bench(given, Budget(given.minutes))
    if given.child:
        train_child(bench, given.child)
        return 0
    result: Found = {"gpu": on_gpu(), "note": None if on_gpu() else NO_GPU,
                     "machine": machine(), "command": shlex.join(words)}  # fmt: skip
    print(result["note"] or f"on {torch.cuda.get_device_name()}", flush=True)
    steps = chosen_steps(bench, words)
    entries = run_steps(steps, bench.budget, partial(save, given.out, result))
    print(as_markdown(entries))
    if result["note"]:
        print(f"\n{result['note']}")
    return int(any(entry["status"] == "failed" for entry in entries))


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--out", type=Path, help="JSON")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--texts", type=int, help="training texts at most; half as many are judged")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--max-length", type=int, default=TrainingSettings().max_length)
    parser.add_argument("--min-support", type=int, default=5, help="of a label of a Parquet file")
    parser.add_argument("--encoder", default=EncoderSettings().source)
    parser.add_argument("--steps", nargs="+", default=[""], metavar="WORD")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    pairs = [entry.partition("=") for entry in given.data]
    if not all(name and path for name, _, path in pairs):
        parser.error("--data takes NAME=PATH")
    given.sources = {name: Path(path) for name, _, path in pairs}
    return given


def chosen_steps(bench: Bench, words: Sequence[str]) -> list[Step]:
    """The steps that were asked for, by worth."""
    first, *others = bench.given.sources
    steps = [arm_step(bench, "arm", first, loss, bench.settings) for loss in LOSSES]
    steps.append(Step("resume", partial(resume, bench, words), lambda: 60.0))
    steps.append(Step("loss", partial(loss_times, bench, first), lambda: 45.0))
    steps += [arm_step(bench, "arm", name, loss, bench.settings)
              for name in others for loss in LOSSES]  # fmt: skip
    steps.append(Step("optimiser", partial(optimiser_times, bench, first), lambda: 15.0))
    slower = changed(bench.settings, learning_rate=bench.settings.learning_rate / 4)
    steps.append(arm_step(bench, "rate", first, "db-soft", slower))
    return [step for step in steps if step.name.startswith(tuple(bench.given.steps))]


def run_steps(
    steps: Sequence[Step], budget: Budget, written: Callable[[list[Found]], None]
) -> list[Found]:
    """Run what the budget allows; whatever happens to one, the next goes on."""
    entries: list[Found] = []
    for step in steps:
        entry: Found = {"step": step.name, "found": {}}
        started = time.monotonic()
        try:
            entry["status"], entry["said"] = run_step(step, budget, entry["found"])
        except OutOfTime as told:
            entry |= {"status": "stopped", "said": str(told)}
        except Exception as error:  # noqa: BLE001 - the next step may work
            entry |= {"status": "failed", "said": f"{type(error).__name__}: {error}",
                      "traceback": traceback.format_exc()}  # fmt: skip
        entry["seconds"] = time.monotonic() - started
        entries.append(entry)
        print(f"{step.name}: {entry['status']} after {entry['seconds']:.1f} s", flush=True)
        written(entries)
    return entries


def run_step(step: Step, budget: Budget, found: Found) -> tuple[str, str]:
    """Status and sentence of a step."""
    needs, left = step.needs(), max(0.0, budget.left())
    if needs > left:
        return "skipped", f"takes about {needs:.0f} s, {left:.0f} s were left"
    return "done", step.run(found)


# --- Arms ---------------------------------------------------------------------------------------


def arm_step(
    bench: Bench, kind: str, name: str, loss: LossName, settings: TrainingSettings
) -> Step:
    """The step that trains an arm."""
    run = partial(train_and_judge, bench, name, loss, settings)
    return Step(f"{kind} {name} {loss}", run, partial(bench.training_seconds, name))


def train_and_judge(
    bench: Bench, name: str, loss: LossName, settings: TrainingSettings, found: Found
) -> str:
    """Train an arm, score and judge it."""
    data, tokenizer = bench.data(name), bench.encoder.tokenizer
    found |= {"bf16": uses_bf16(settings), "settings": settings.model_dump(),
              "texts": [len(data.train.texts), len(data.validation.texts), len(data.test_texts)],
              "labels": len(data.test.labels)}  # fmt: skip
    reset_peak()
    arm = train(bench, data, loss, settings)
    found |= peak_memory()
    tokens = tokenise(tokenizer, data.train.texts, settings.max_length).lengths.mean()
    bench.texts_per_second = settings.epochs * len(data.train.texts) / arm.seconds
    found |= {
        "device": arm.device, "seconds": arm.seconds, "best_epoch": arm.best_epoch,
        "history": arm.history, "trainable_parameters": arm.trainable_parameters,
        "frozen_layers": arm.frozen_layers, "tokens_per_second": arm.tokens_per_second,
        "training_texts_per_second": arm.tokens_per_second / tokens,
        "overall_texts_per_second": bench.texts_per_second,
    }  # fmt: skip
    probabilities = scored(bench, arm, data, found)
    found |= judged(data, *probabilities)
    return (
        f"{' / '.join(f'{100 * found[key]:.1f}' for key in MEASURES)}; "
        f"{found['training_texts_per_second']:,.0f} texts/s in training, "
        f"{found['scoring_texts_per_second']:,.0f} in scoring; "
        f"{found['peak_mib']:,.0f} MiB of {found['memory_of']}"
    )


def train(
    bench: Bench, data: Data, loss: LossName, settings: TrainingSettings, **options: Any
) -> TrainedArm:
    """An arm as a retrain makes it."""
    known = data.train.known
    criterion = build_loss(
        LossSettings(name=loss), support=support(data.train.y), n_texts=len(data.train.texts),
        y=data.train.y, known=known,
    )  # fmt: skip
    return train_arm(
        bench.encoder, data.test.labels, data.train, data.validation, criterion, settings,
        progress=partial(bench.watch, time.monotonic()), **options,
    )  # fmt: skip


def scored(bench: Bench, arm: TrainedArm, data: Data, found: Found) -> list[np.ndarray]:
    """Probabilities of validation and test on the device, and how those of a CPU differ."""
    some = list(data.test_texts[:CPU_TEXTS])
    ask = partial(score, arm.model, bench.encoder.tokenizer, max_length=bench.settings.max_length)
    started = time.monotonic()
    of_cpu = ask(texts=some)  # where train_arm leaves the model
    found["cpu_scoring_texts_per_second"] = len(some) / (time.monotonic() - started)
    arm.model.to(device())
    found["largest_difference_from_cpu"] = float(np.abs(ask(texts=some) - of_cpu).max(initial=0.0))
    started = time.monotonic()
    result = [ask(texts=list(texts)) for texts in (data.validation.texts, data.test_texts)]
    texts = sum(map(len, result))
    found["scoring_texts_per_second"] = texts / (time.monotonic() - started)
    return result


def judged(data: Data, validation: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """The measures on the test set, at the thresholds that validation gives."""
    groups = group_labels(support(data.train.y), GroupSettings())
    cuts = fit_thresholds(
        data.validation.y, validation, groups, ThresholdSettings(), data.validation.known
    )
    overall = evaluate(data.test, "arm", test, cuts.values, groups).overall
    return {key: overall[key] for key in MEASURES}


# --- Resuming -----------------------------------------------------------------------------------


def resume(bench: Bench, words: Sequence[str], found: Found) -> str:
    """Kill a training after its first checkpoint, run it again, and compare.

    Raises:
        RuntimeError: it ended before it could be killed, or did not go on from the checkpoint.
        OutOfTime: the budget is over.
    """
    with tempfile.TemporaryDirectory(prefix="longtail-gpu-") as directory:
        killed, whole = Path(directory, "killed"), Path(directory, "whole")
        with child(words, killed) as process:
            found["killed_at"] = kill_after_checkpoint(process, killed, bench.budget)
        log = finish(words, killed, bench.budget)
        gone_on = re.search(r"training goes on from \S*checkpoint-(\d+)", log)
        if gone_on is None:
            raise RuntimeError("the second run did not go on from the checkpoint")
        found["resumed_at"] = int(gone_on[1])
        finish(words, whole, bench.budget)
        found |= compared(killed, whole)
    same = "the same" if found["identical"] else "not the same"
    return (
        f"went on from step {found['resumed_at']}; {same} history; largest difference of a "
        f"probability {found['largest_difference']:.1e}, of a validation micro-F1 "
        f"{found['largest_micro_f1_difference']:.1e}"
    )


def child(words: Sequence[str], directory: Path) -> subprocess.Popen[str]:
    """This script in a process of its own, training in a directory."""
    directory.mkdir(exist_ok=True)
    command = [sys.executable, str(Path(__file__).resolve()), *words, "--child", str(directory)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def kill_after_checkpoint(process: subprocess.Popen[str], directory: Path, budget: Budget) -> int:
    """Kill a training as soon as it has a whole checkpoint; gives the checkpoint's step."""
    try:
        while process.poll() is None and budget.left() > 0:
            for state in directory.glob("checkpoint-*/trainer_state.json"):
                if (step := step_of(state)) is not None:
                    return step
            time.sleep(0.005)
    finally:
        process.kill()
    if budget.left() <= 0:
        raise OutOfTime("the training had no checkpoint yet at which to be killed")
    said = process.communicate()[1].strip()[-500:]
    raise RuntimeError(f"the training ended before it could be killed: {said}")


def step_of(state: Path) -> int | None:
    """The step of a checkpoint; None while it is being written."""
    try:
        return int(json.loads(state.read_text())["global_step"])
    except (OSError, ValueError):
        return None


def finish(words: Sequence[str], directory: Path, budget: Budget) -> str:
    """Run a training to its end; gives its log."""
    with child(words, directory) as process:
        try:
            log = process.communicate(timeout=max(1.0, budget.left()))[1]
        except subprocess.TimeoutExpired as error:
            raise OutOfTime("a training that was to be compared did not end in time") from error
        finally:
            process.kill()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {log.strip()[-500:]}")
    return log


def train_child(bench: Bench, directory: Path) -> None:
    """What the child does: a short training that resumes, with its history and scores as files."""
    logging.basicConfig(level=logging.INFO)
    bench.given.texts = min(bench.given.texts or RESUMED_TEXTS, RESUMED_TEXTS)
    data = bench.data(next(iter(bench.given.sources)))
    settings = changed(bench.settings, epochs=RESUMED_EPOCHS)
    arm = train(bench, data, "db-soft", settings, work_dir=directory, resume=True)
    found = score(arm.model, bench.encoder.tokenizer, data.validation.texts,
                  max_length=settings.max_length)  # fmt: skip
    np.save(directory / "scores.npy", found)
    history = [{key: value for key, value in entry.items() if key != "seconds"}
               for entry in arm.history]  # fmt: skip
    storage.write_json(directory / "history.json", history)


def compared(one: Path, other: Path) -> Found:
    """How two trainings differ; nothing on a CPU, rounding on a GPU."""
    histories = [storage.read_json(path / "history.json") for path in (one, other)]
    scores = [np.load(path / "scores.npy") for path in (one, other)]
    f1 = [np.array([entry["validation_micro_f1"] for entry in history]) for history in histories]
    return {
        "histories": histories,
        "identical": histories[0] == histories[1],
        "largest_difference": float(np.abs(np.subtract(*scores)).max()),
        "largest_micro_f1_difference": float(np.abs(np.subtract(*f1)).max()),
    }


# --- Times --------------------------------------------------------------------------------------


def loss_times(bench: Bench, name: str, found: Found) -> str:
    """Forward and backward pass of each loss, eager first, so that those times are kept."""
    sizes = [(bench.settings.batch_size, len(bench.data(name).test.labels))]
    sizes += [(64, MANY_LABELS)] if on_gpu() else []
    cases = {f"{loss} {rows} x {labels}": (module(loss, labels), *batch(rows, labels))
             for rows, labels in sizes for loss in LOSSES}  # fmt: skip
    for case, (loss, logits, targets) in cases.items():
        exact = loss.double().mean(logits.double(), targets).item()
        parts = (loss.float().to(device()), *on_device(logits, targets))
        value = parts[0].mean(*parts[1:]).item()
        found[case] = {"eager_ms": pass_ms(parts[0].mean, *parts[1:]),
                       "relative_error": abs(value / exact - 1.0)}  # fmt: skip
    for case, (loss, logits, targets) in cases.items():
        found[case] |= compiled_times(loss, *on_device(logits, targets))
    return "; ".join(
        f"{case} {one['eager_ms']:.3f} ms, compiled {one['compiled_ms']:.3f} ms"
        for case, one in found.items()
    )


def compiled_times(loss: Any, logits: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """The same pass by torch.compile."""
    torch.compiler.reset()
    action = torch.compile(loss.mean, fullgraph=True, dynamic=False)
    started = time.monotonic()
    value = action(logits, targets)
    value.backward()
    compiled = value.item()  # waits for the device
    seconds, eager = time.monotonic() - started, loss.mean(logits, targets).item()
    return {"compile_seconds": seconds, "compiled_ms": pass_ms(action, logits, targets),
            "compiled_relative_difference": abs(compiled / eager - 1.0)}  # fmt: skip


def pass_ms(action: Callable[..., torch.Tensor], logits: torch.Tensor, *rest: Any) -> float:
    """Median milliseconds of a forward and backward pass."""

    def once() -> None:
        logits.grad = None
        action(logits, *rest).backward()

    return milliseconds(once)


def optimiser_times(bench: Bench, name: str, found: Found) -> str:
    """A step of AdamW over all weights, fused as the trainer has it, and not."""
    model = build_classifier(bench.encoder, bench.data(name).test.labels, seed=0).to(device())
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight)
    for kind, fused in (("fused_ms", True), ("unfused_ms", False)):
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=fused)
        found[kind] = milliseconds(optimiser.step)
    return f"fused {found['fused_ms']:.2f} ms, not fused {found['unfused_ms']:.2f} ms"


def milliseconds(action: Callable[[], Any]) -> float:
    """Median of an action; the timer waits for the device."""
    action()
    seconds = 1.0 if on_gpu() else 0.2
    timer = Timer("action()", globals={"action": action}, num_threads=torch.get_num_threads())
    return 1e3 * float(timer.blocked_autorange(min_run_time=seconds).median)


# --- Data ---------------------------------------------------------------------------------------


def load(source: Path, given: argparse.Namespace) -> Data:
    """A run's split, or a Parquet file divided here; at most so many texts of each part."""
    most = [given.texts, given.texts, given.texts]
    if given.texts:
        most[1:] = [max(1, given.texts // 2)] * 2
    if source.is_dir():
        return of_run(SplitData(SplitHandle.of(source)), most)
    return of_file(source, given.min_support, most)


def of_run(data: SplitData, most: Sequence[int | None]) -> Data:
    """The split of a run or a prepared data set."""
    train, validation = (
        some(LabelledTexts(data.texts(part), data.y(part), data.known(part)), size)
        for part, size in zip(PARTS, most, strict=False)
    )
    size = len(data.test.ids) if most[2] is None else most[2]
    texts, left_out = data.texts("test"), data.test.ids[size:]
    return Data(train, validation, texts[:size], data.test.without(left_out))


def of_file(path: Path, minimum: int, most: Sequence[int | None]) -> Data:
    """60 / 20 / 20, or 80 / 20 of what is not the file's own test set."""
    table = storage.read_parquet(path)
    every = LabelSpace.of(table["labels"])
    often = support(every.encode(table["labels"])) >= minimum
    space = LabelSpace(tuple(np.asarray(every.names)[often].tolist()))
    y, texts = space.encode(table["labels"]), table["text"].to_pylist()
    side = sides(table, y)
    parts = [some(LabelledTexts([texts[row] for row in rows], y[rows]), size)
             for rows, size in zip(map(np.flatnonzero, side == np.arange(3)[:, None]), most,
                                   strict=True)]  # fmt: skip
    train, validation, test = parts
    n = len(test.texts)
    truth = TestSet(tuple(map(str, range(n))), np.arange(n), np.zeros(n, np.int64), test.y,
                    space.names)  # fmt: skip
    return Data(train, validation, test.texts, truth)


def sides(table: pa.Table, y: Any) -> np.ndarray:
    """0, 1, 2 for train, validation and test, shape (texts,)."""
    ids = list(map(str, range(len(table))))
    if "split" not in table.column_names:
        return stratify(y, [0.6, 0.2, 0.2], ids=ids).assignment
    result = np.full(len(ids), 2, dtype=np.int8)
    rest = np.flatnonzero(np.asarray(table["split"].to_pylist()) != "test")
    result[rest] = stratify(y[rest], [0.8, 0.2], ids=[ids[row] for row in rest]).assignment
    return result


def some(part: LabelledTexts, size: int | None) -> LabelledTexts:
    """The first texts of a part."""
    known = None if part.known is None else part.known[:size]
    return LabelledTexts(part.texts[:size], part.y[:size], known)


# --- The machine, and what is told of it --------------------------------------------------------


def on_gpu() -> bool:
    """Whether there is CUDA."""
    return bool(torch.cuda.is_available())


def device() -> torch.device:
    """Where it is trained."""
    return torch.device("cuda" if on_gpu() else "cpu")


def on_device(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch there; the logits are a leaf that wants a gradient."""
    return logits.detach().to(device()).requires_grad_(), targets.to(device())


def machine() -> Found:
    """What the figures depend on."""
    about: Found = {"torch": torch.__version__, "transformers": transformers.__version__,
                    "python": sys.version.split()[0], "threads": torch.get_num_threads(),
                    "cuda": torch.version.cuda}  # fmt: skip
    if on_gpu():
        about |= {"device": torch.cuda.get_device_name(),
                  "memory_mib": torch.cuda.get_device_properties(0).total_memory / 2**20,
                  "bf16": torch.cuda.is_bf16_supported()}  # fmt: skip
    return about


def reset_peak() -> None:
    """Forget the largest memory so far."""
    if on_gpu():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> Found:
    """The largest memory: of the device since its reset, else of this process since its start."""
    if on_gpu():
        return {"memory_of": "the GPU", "peak_mib": torch.cuda.max_memory_allocated() / 2**20,
                "peak_reserved_mib": torch.cuda.max_memory_reserved() / 2**20}  # fmt: skip
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return {"memory_of": "the process", "peak_mib": peak}


def changed(settings: TrainingSettings, **values: Any) -> TrainingSettings:
    """Other settings."""
    return TrainingSettings.model_validate(settings.model_dump() | values)


def save(out: Path | None, result: Found, entries: list[Found]) -> None:
    """Write what there is so far."""
    if out is not None:
        storage.write_json(out, result | {"steps": entries})


def as_markdown(entries: Sequence[Found]) -> str:
    """One line for each step."""
    head = (f"\nArms: test {' / '.join(MEASURES)}, in percent.\n\n"
            "| step | status | seconds | found |\n|---|---|--:|---|")  # fmt: skip
    lines = [f"| {entry['step']} | {entry['status']} | {entry['seconds']:.1f} | {entry['said']} |"
             for entry in entries]  # fmt: skip
    return "\n".join([head, *lines])


if __name__ == "__main__":
    sys.exit(main())
