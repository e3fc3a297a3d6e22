"""Cells that nobody knows, through every stage of a run: whatever stands there changes nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp

import tasks.gate
import tasks.select
import tasks.split
from longtail import storage
from longtail.annotations.schema import ANNOTATIONS
from longtail.config import (
    CombinationSettings,
    DataSettings,
    EncoderSettings,
    GatePolicy,
    GroupSettings,
    LinearSettings,
    LossSettings,
    SplitSettings,
    ThresholdSettings,
    TrainingSettings,
)
from longtail.dataset import DatasetStore
from longtail.predictions import Predictions, read_predictions, write_predictions
from longtail.report.leaderboard import LEADERBOARD
from longtail.tiny import write_tiny_encoder
from tasks.arms import LADDER, write_arm
from tasks.cells import CELL, cell_directory, train_cell
from tasks.combine import combine_evidence
from tasks.combined import combine_cells
from tasks.data import SplitData
from tasks.gate import judge
from tasks.handles import ArmHandle, ChampionHandle, DatasetHandle, RunHandle, SplitHandle
from tasks.leaderboard import Cell, DataSet, combinations, write_leaderboard
from tasks.select import select_loss
from tasks.split import split_dataset
from tasks.train import TINY, train_encoder, train_linear
from tasks.tune import tune_thresholds

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
COUNT = 180
OLD = ("boot", "stove", "tent")
FILLER = ("please", "help", "today", "again", "broken", "my", "the", "still")
BUDGET = TrainingSettings(epochs=1, batch_size=16, max_length=16, trainable_layers="all")
POLICY = GatePolicy(draws=200, min_test_texts=10, min_group_positives=1)
COMBINATION = CombinationSettings(folds=3, min_texts=20, neighbours=10)
DATA = DatasetHandle(directory="d", fingerprint="f" * 64, version=1, n_texts=COUNT, n_labels=4)


def annotations():
    """Texts of a year; only from March on could anybody say "lamp", which many are about."""
    rng = np.random.default_rng(5)
    rows = []
    for number in range(COUNT):
        topics = [word for word in (*OLD, "lamp") if rng.random() < 0.4]
        at = SINCE + timedelta(days=int(rng.integers(-150, 150)))
        given = [word for word in topics if word != "lamp" or at >= SINCE]
        words = [*rng.choice(FILLER, 4), *topics, f"n{number}", f"m{number}", f"k{number}"]
        rows.append({
            "id": f"t{number:03}", "text": " ".join(words), "labels": given,
            "annotated_at": None if number % 29 == 0 else at,
        })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=ANNOTATIONS)


@pytest.fixture(autouse=True)
def _no_artifacts(monkeypatch):
    for module in (tasks.split, tasks.select, tasks.gate):
        monkeypatch.setattr(module, "publish_table", lambda *_: None)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A run's directory up to its split, made once."""
    root = tmp_path_factory.mktemp("prepared")
    run = run_in(root)
    (root / "taxonomy.yaml").write_text(f"labels: {{lamp: {{since: {SINCE:%Y-%m-%d}}}}}")
    version = DatasetStore(run.model_store / "dataset").upsert(
        annotations(), merge_duplicates=False
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks.split, "publish_table", lambda *_: None)
        split_dataset.fn(
            run, DATA.model_copy(update={"version": version.version.version}),
            DataSettings(taxonomy=str(root / "taxonomy.yaml")), SplitSettings(), GroupSettings(),
        )  # fmt: skip
    return root


def run_in(root):
    return RunHandle(
        id="r", name="desk", directory=root / "run", store=root / "store", started_at="now"
    )


@pytest.fixture
def spoil(monkeypatch):
    """Puts the opposite into every unknown cell, wherever a stage looks."""

    def flip(y, known):
        return y if known is None else sp.csr_array(np.where(known, y.toarray(), ~y.toarray()))

    def apply():
        plain_y, plain_test = SplitData.y, SplitData.test.func
        monkeypatch.setattr(
            SplitData, "y", lambda self, part: flip(plain_y(self, part), self.known(part))
        )
        spoilt = property(lambda self: _flipped(plain_test(self), flip))
        monkeypatch.setattr(SplitData, "test", spoilt)

    return apply


def _flipped(test, flip):
    return replace(test, y=flip(test.y, test.known))


def champion_of(run, data):
    """A release from before the label: it knows three of the four, and not at all badly."""
    directory = run.directory / "arms" / "champion"
    test = data.test
    columns = [test.labels.index(label) for label in OLD]
    truth = test.positives.toarray()[:, columns]
    hits = np.random.default_rng(3).random(truth.shape) < 0.9
    scores = np.where(truth & hits, 0.9, 0.1).astype(np.float32)
    directory.mkdir()
    write_predictions(directory / "test.parquet", Predictions(test.ids, OLD, scores))
    cuts = dict.fromkeys(OLD, 0.5)
    write_arm(directory, learned_from=["train"], thresholds={
        "policy": "group", "by_group": {}, "fallbacks": {}, "labels": cuts
    })  # fmt: skip
    arm = ArmHandle(arm="champion", directory=directory, loss="db", seconds=1.0, version=1)
    return ChampionHandle(state="scored", version=1, arms=(arm,))


def whole_run(prepared, root):
    """Every stage after the split; everything that it wrote, without times and paths."""
    shutil.copytree(prepared, root)
    run, split = run_in(root), SplitHandle.of(root / "run")
    linear = train_linear.fn(run, split, LinearSettings())
    names = {"bce": "bce", "candidate-db": "db", "candidate-asl": "asl"}
    arms = [linear] + [
        train_encoder.fn(
            run, split, DATA, EncoderSettings(source=TINY), BUDGET, arm=arm,
            loss=LossSettings(name=loss),
        )
        for arm, loss in names.items()
    ]  # fmt: skip
    settings = ThresholdSettings(policy="label")
    linear, bce, *shortlist = (tune_thresholds.fn(run, split, arm, settings) for arm in arms)
    encoder = select_loss.fn(run, split, tuple(shortlist), bce)
    made = combine_evidence.fn(run, split, encoder, bce, linear, COMBINATION)
    combined = (tune_thresholds.fn(run, split, arm, settings) for arm in made[::-1])
    arms = (linear, bce, *shortlist, *combined)
    champion = champion_of(run, SplitData(split))
    verdict = judge.fn(run, split, arms, champion, POLICY, settings)
    written = {name: timeless(storage.read_json(run.directory / name))
               for name in ("metrics.json", "selection.json")}  # fmt: skip
    for arm in arms:
        written[arm.arm] = timeless(storage.read_json(arm.directory / "arm.json"))
        for part in ("validation", "test"):
            found = read_predictions(arm.directory / f"{part}.parquet").probabilities
            written[arm.arm, part] = found.tobytes()
    for path in sorted((run.directory / "arms" / "candidate").glob(f"{LADDER}/*/*.parquet")):
        step = path.relative_to(run.directory).as_posix()
        written[step] = read_predictions(path).probabilities.tobytes()
    return verdict, written


def timeless(value):
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items()
                if "seconds" not in k and k != "tokens_per_second"}  # fmt: skip
    return [timeless(one) for one in value] if isinstance(value, list) else value


def test_the_split_says_which_cells_nobody_knows(prepared):
    data = SplitData(SplitHandle.of(prepared / "run"))
    assert data.since == (None, SINCE, None, None)
    assert data.space.names == ("boot", "lamp", "stove", "tent")
    for part in ("train", "validation", "test"):
        known, y = data.known(part), data.y(part).toarray()
        dates = data.table(part, ["annotated_at"])["annotated_at"].to_pylist()
        later = np.array([at is not None and at >= SINCE for at in dates])
        np.testing.assert_array_equal(known[:, 1], later | y[:, 1])
        assert known[:, [0, 2, 3]].all()
        assert 0 < known[:, 1].sum() < len(known)
    np.testing.assert_array_equal(data.test.known, data.known("test"))


@pytest.fixture(scope="module")
def clean(prepared, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for module in (tasks.select, tasks.gate):
            patch.setattr(module, "publish_table", lambda *_: None)
        return whole_run(prepared, tmp_path_factory.mktemp("clean") / "root")


def test_no_stage_of_a_run_looks_at_them(prepared, clean, spoil, tmp_path):
    spoil()
    verdict, written = whole_run(prepared, tmp_path / "root")
    assert written == clean[1]
    assert verdict == clean[0]
    found = written["candidate"]["combination"]
    assert {"learned", "encoder", "bce", "linear", "neighbours"} <= set(
        found["validation_micro_f1"]
    )
    assert sum(LADDER in str(name) for name in written) == 8


def test_a_champion_from_before_the_label_is_judged_on_what_both_know(prepared, clean):
    verdict, written = clean
    (rule,) = [rule for rule in verdict.rules if rule.name == "champion_micro_f1"]
    assert "3 of 4 labels" in rule.detail
    test = SplitData(SplitHandle.of(prepared / "run")).test
    assert written["metrics.json"]["test"]["unknown_cells"] == int((~test.known).sum()) > 0
    per_label = written["metrics.json"]["arms"]["champion"]["per_label"]
    assert per_label["true_positives"][1] == per_label["false_positives"][1] == 0


def test_an_arm_that_finds_the_label_in_older_texts_is_not_punished(prepared, clean):
    """Its text says "lamp", and so does the linear arm, where nobody could."""
    data = SplitData(SplitHandle.of(prepared / "run"))
    test, cuts = data.test, clean[1]["linear"]["thresholds"]["labels"]
    scores = np.frombuffer(clean[1]["linear", "test"], np.float32).reshape(test.y.shape)
    given = scores[:, 1] > cuts["lamp"]
    assert (given & ~test.known[:, 1]).sum() > 0
    wrong = given & test.known[:, 1] & ~test.y.toarray()[:, 1]
    arm = clean[1]["metrics.json"]["arms"]["linear"]
    assert arm["per_label"]["false_positives"][1] == int(wrong.sum())


def test_a_comparison_neither(prepared, spoil, tmp_path):
    encoder = write_tiny_encoder(
        tmp_path / "encoder", SplitData(SplitHandle.of(prepared / "run")).texts("train")
    )
    found = []
    for name in ("clean", "spoilt"):
        if name == "spoilt":
            spoil()
        found.append(comparison(prepared, tmp_path / name, EncoderSettings(source=str(encoder))))
    assert found[0] == found[1]


def comparison(prepared, root, encoder):
    """Cells of two losses and their leaderboard; everything that was written, without times."""
    shutil.copytree(prepared, root)
    run, split = run_in(root), SplitHandle.of(root / "run")
    train_linear.fn(run, split, LinearSettings())
    data = DataSet(name="desk", directory=run.directory, split=split, export="x", sha256="0")
    cells, written = [], []
    for loss in (LossSettings(name="bce"), LossSettings()):
        cell = cell_directory(root, split, "e", BUDGET, loss, {})
        train_cell.fn(cell, split, encoder, BUDGET, loss, {}, root / "cache")
        written.append(timeless(storage.read_json(cell / CELL)))
        cells.append(Cell(data="desk", split=split, loss=loss, seed=0, directory=cell))
    combined = combinations(root / "combined", data, cells)
    for one in combined:
        linear = run.directory / "arms" / "linear"
        combine_cells.fn(one.directory, split, linear, one.own.directory, one.bce.directory)
    write_leaderboard.fn(root, [data], cells, combined, ["label"], [True], "command")
    return [*written, timeless(storage.read_json(root / LEADERBOARD))]
