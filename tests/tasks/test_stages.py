"""Stages that are not run again: what makes them run, and what a hit leaves in the run."""

from __future__ import annotations

import datetime as dt
import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import tasks.audit
import tasks.ingest
import tasks.split
import tasks.tune
from data_contracts.contract import AnnotationContract
from data_contracts.ingest import QuarantineError
from longtail import storage
from longtail.annotations.schema import ANNOTATIONS
from longtail.config import (
    AuditSettings,
    DataSettings,
    GroupSettings,
    SplitSettings,
    StageSettings,
    ThresholdSettings,
)
from longtail.dataset import DatasetStore
from longtail.ledger import SplitLedger
from longtail.predictions import Predictions, write_predictions
from tasks.arms import read_thresholds
from tasks.audit import audit_dataset, audit_export
from tasks.data import SplitData
from tasks.handles import ArmHandle, RunHandle
from tasks.ingest import current_dataset, ingest_export, update_dataset
from tasks.split import split_dataset
from tasks.stages import NOTHING_KEPT, run_stage, stage_cache, stage_key, timed
from tasks.tune import tune_thresholds

WORDS = ("tent", "boot", "stove", "rope", "lamp", "map", "bag", "axe", "ski", "pole")
NOTHING_NEW = "nothing has changed"


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    """The artifacts that the tasks would show."""
    found = {}
    for module, name in (("ingest", "table"), ("split", "table"), ("audit", "markdown")):
        monkeypatch.setattr(
            getattr(tasks, module),
            f"publish_{name}",
            lambda key, value, _: found.update({key: value}),
        )
    return found


@pytest.fixture(autouse=True)
def _quick_pages(monkeypatch):
    """Great Expectations takes seconds for its pages."""

    def write(_, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "index.html").write_text("pages")

    monkeypatch.setattr(AnnotationContract, "write_pages", write)


@pytest.fixture
def new_run(tmp_path):
    """Makes runs of one store."""
    number = iter(range(100))

    def make(**stages) -> RunHandle:
        at = next(number)
        directory = tmp_path / f"run{at}"
        directory.mkdir()
        return RunHandle(
            id=f"r{at}", name="desk", directory=directory, store=tmp_path / "store",
            started_at="2024-01-01T00:00:00+00:00", stages=StageSettings(**stages),
        )  # fmt: skip

    return make


def noted(run: RunHandle) -> dict[str, dict]:
    lines = (run.directory / "stages.jsonl").read_text().splitlines()
    return {entry["stage"]: entry for entry in map(json.loads, lines)}


def cached(run: RunHandle, stage: str) -> bool:
    return noted(run)[stage]["cached"]


def row(number: int, *labels: str, **more) -> dict:
    words = " ".join(f"{WORDS[(number * 7 + i * i) % 10]}{number}x{i}" for i in range(8))
    return {"id": f"t{number:03}", "text": f"{words} please", "labels": list(labels), **more}


def rows(start: int, stop: int) -> list[dict]:
    return [
        row(n, "a" if n % 2 else "b", *(["c"] if n % 5 == 0 else [])) for n in range(start, stop)
    ]


def write_export(path: Path, given: list[dict]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in given), encoding="utf-8")
    return str(path)


# ── any stage ────────────────────────────────────────────────────────────────────────────────


def test_a_stage_is_made_once_for_all_runs(new_run, caplog):
    caplog.set_level(logging.INFO)
    made = []

    def make(into: Path) -> None:
        made.append(into)
        (into / "result.txt").write_text("made")

    runs = [new_run(), new_run(), new_run(force=True), new_run()]
    came = [run_stage(run, "stage", "k", run.directory / "stage", make) for run in runs]

    assert came == [False, True, False, True]
    assert [cached(run, "stage") for run in runs] == came
    assert made == [runs[0].directory / "stage", runs[2].directory / "stage"]
    assert all((run.directory / "stage" / "result.txt").read_text() == "made" for run in runs)
    assert "since run r0" in caplog.text
    assert "since run r2" in caplog.text  # what was forced is what is kept


def test_a_stage_that_fails_keeps_nothing(new_run):
    def make(into: Path) -> None:
        (into / "half.txt").write_text("half")
        raise RuntimeError("no more memory")

    run = new_run()
    with pytest.raises(RuntimeError, match="no more memory"):
        run_stage(run, "stage", "k", run.directory, make)

    assert stage_cache(run).entries() == []
    assert not (run.directory / "stages.jsonl").exists()


def test_what_does_not_hold_is_neither_kept_nor_taken_over(new_run):
    def make(into: Path) -> None:
        (into / "result.txt").write_text("made")

    def run_with(holds: bool) -> bool:
        run = new_run()
        return run_stage(run, "stage", "k", run.directory, make, holds=lambda _: holds,
                         files=["result.txt"])  # fmt: skip

    assert run_with(holds=False) is False
    assert run_with(holds=True) is False
    assert run_with(holds=False) is False
    assert run_with(holds=True) is True


def test_what_is_made_anew_is_not_written_into_the_files_of_an_earlier_run(new_run):
    """What was taken over and does not hold are links; libraries write into files they find."""
    first, second = new_run(), new_run()

    def run_with(run: RunHandle, text: str, holds: bool) -> None:
        def make(into: Path) -> None:
            (into / "pages").mkdir(exist_ok=True)
            for name in ("result.txt", "pages/index.html"):
                (into / name).write_text(text)

        run_stage(run, "stage", "k", run.directory, make, holds=lambda _: holds,
                  files=["result.txt", "pages"])  # fmt: skip

    run_with(first, "of the first", holds=True)
    run_with(second, "of the second", holds=False)

    for name in ("result.txt", "pages/index.html"):
        assert (first.directory / name).read_text() == "of the first"
        assert (second.directory / name).read_text() == "of the second"


def test_a_key_is_of_the_stage_its_code_and_what_it_is_made_of():
    code = ("longtail.thresholds",)
    keys = {
        stage_key("tune", code, {"a": 1}), stage_key("fit", code, {"a": 1}),
        stage_key("tune", ("longtail.calibration",), {"a": 1}), stage_key("tune", code, {"a": 2}),
    }  # fmt: skip

    assert len(keys) == 4
    assert stage_key("tune", code, {"a": 1, "b": 2}) == stage_key("tune", code, {"b": 2, "a": 1})


def test_the_time_of_a_stage_that_is_never_cached_is_noted_with_what_it_says(new_run):
    run = new_run()
    with timed(run, "judge") as more:
        more["looks"] = 3

    assert noted(run)["judge"].keys() == {"stage", "seconds", "cached", "looks"}
    assert cached(run, "judge") is False


# ── ingest and update ────────────────────────────────────────────────────────────────────────


@pytest.fixture
def export(tmp_path) -> str:
    return write_export(tmp_path / "export.jsonl", [*rows(0, 40), row(40, "a", text="")])


def test_a_hit_leaves_what_reading_leaves(new_run, export, shown, caplog):
    caplog.set_level(logging.INFO)
    first, second = new_run(), new_run()
    ingest_export.fn(first, export, DataSettings())
    shown.clear()
    caplog.clear()
    accepted = ingest_export.fn(second, export, DataSettings(as_of="2030-01-01T00:00:00Z"))

    assert (cached(first, "ingest"), cached(second, "ingest")) == (False, True)
    names = sorted(path.relative_to(first.directory) for path in first.directory.rglob("*"))
    assert names == sorted(
        path.relative_to(second.directory) for path in second.directory.rglob("*")
    )
    assert accepted == second.directory / "accepted.parquet"
    for name in ("accepted.parquet", "quarantine.parquet", "account.json"):
        assert (first.directory / name).read_bytes() == (second.directory / name).read_bytes()
    assert shown["desk-data-account"][0]["quarantined"] == 1
    assert "41 rows read = 40 accepted + 1 quarantined" in caplog.text


@pytest.mark.parametrize(
    ("given", "again"),
    [
        ({"export": "full", "max_deleted": 0.9, "min_label_support": 3, "add_parents": True}, True),
        ({"max_text_characters": 5_000}, False),
        ({"several_annotators": "union"}, False),
        ({"columns": {"source": None}}, False),
    ],
)
def test_only_settings_of_reading_make_it_read_again(new_run, export, given, again):
    ingest_export.fn(new_run(), export, DataSettings())
    run = new_run()
    ingest_export.fn(run, export, DataSettings.model_validate(given))

    assert cached(run, "ingest") is again


def test_content_counts_and_not_the_place(new_run, export, tmp_path):
    ingest_export.fn(new_run(), export, DataSettings())
    moved = write_export(tmp_path / "elsewhere" / "export.jsonl", [])
    Path(moved).write_bytes(Path(export).read_bytes())
    run = new_run()
    ingest_export.fn(run, moved, DataSettings())
    assert cached(run, "ingest") is True
    assert storage.read_json(run.directory / "account.json")["file"] == moved

    write_export(Path(export), rows(0, 41))
    run = new_run()
    ingest_export.fn(run, export, DataSettings())
    assert cached(run, "ingest") is False


def test_every_file_of_a_directory_counts(new_run, tmp_path):
    inbox = tmp_path / "inbox"
    write_export(inbox / "1.jsonl", rows(0, 20))
    runs = [new_run() for _ in range(4)]
    ingest_export.fn(runs[0], str(inbox), DataSettings())
    ingest_export.fn(runs[1], str(inbox), DataSettings())
    write_export(inbox / "2.jsonl", rows(20, 30))
    ingest_export.fn(runs[2], str(inbox), DataSettings())
    (inbox / "2.jsonl").rename(inbox / "3.jsonl")
    ingest_export.fn(runs[3], str(inbox), DataSettings())

    assert [cached(run, "ingest") for run in runs] == [False, True, False, False]


def test_a_taxonomy_counts_where_it_sets_rows_aside(new_run, export, tmp_path):
    taxonomy = tmp_path / "taxonomy.yaml"
    strict = DataSettings(taxonomy=str(taxonomy), unknown_labels="quarantine", max_quarantined=1)

    def read(settings: DataSettings, labels: str) -> bool:
        names = "".join(f"  {label}: {{}}\n" for label in labels)
        taxonomy.write_text(f"labels:\n{names}")
        run = new_run()
        ingest_export.fn(run, export, settings)
        return cached(run, "ingest")

    assert [read(strict, "abc"), read(strict, "abc"), read(strict, "ab")] == [False, True, False]
    lenient = DataSettings(taxonomy=str(taxonomy))
    assert [read(lenient, "abc"), read(lenient, "ab")] == [False, True]


def test_a_date_that_is_still_to_come_is_looked_at_every_time(new_run, tmp_path):
    later = (dt.datetime.now(dt.UTC) + dt.timedelta(days=30)).isoformat()
    path = write_export(tmp_path / "export.jsonl", [*rows(0, 30), row(30, "a", annotated_at=later)])
    runs = [new_run() for _ in range(4)]
    ingest_export.fn(runs[0], path, DataSettings())
    ingest_export.fn(runs[1], path, DataSettings())
    past = DataSettings(as_of=dt.datetime.now(dt.UTC) + dt.timedelta(days=60))
    ingest_export.fn(runs[2], path, past)
    ingest_export.fn(runs[3], path, past)

    assert [cached(run, "ingest") for run in runs] == [False, False, False, True]
    warned = [storage.read_json(run.directory / "account.json")["warnings"] for run in runs]
    assert [len(sentences) for sentences in warned] == [1, 1, 0, 0]


def test_an_export_that_is_refused_is_refused_again(new_run, tmp_path):
    path = write_export(tmp_path / "export.jsonl", [row(n, "a", text="") for n in range(9)])
    for run in (new_run(), new_run()):
        with pytest.raises(QuarantineError):
            ingest_export.fn(run, path, DataSettings())
        assert (run.directory / "quarantine.parquet").is_file()
    assert stage_cache(run).entries() == []


def test_the_store_takes_over_and_the_cache_stays_whole(new_run, export):
    versions = []
    for _ in range(3):
        run = new_run()
        accepted = ingest_export.fn(run, export, DataSettings())
        versions.append(
            update_dataset.fn(run, accepted, DataSettings(), merge_duplicates=True).version
        )
        assert not accepted.exists()
        assert noted(run)["update-data-set"]["new_version"] is (len(versions) == 1)
    assert versions == [1, 1, 1]
    assert cached(run, "ingest") is True


def test_results_that_hold_a_deleted_text_are_forgotten(new_run, tmp_path):
    full = DataSettings(export="full", max_deleted=1.0)
    for stop in (40, 39):
        run = new_run()
        path = write_export(tmp_path / "export.jsonl", rows(0, stop))
        accepted = ingest_export.fn(run, path, full)
        dataset = update_dataset.fn(run, accepted, full, merge_duplicates=True)
        kept = [entry.stage for entry in stage_cache(run).entries()]
        assert kept == (["ingest"] if stop == 40 else ["other"])
        split(run, dataset)
        run_stage(run, "other", "k", run.directory / "other", lambda _: None)
        assert len(stage_cache(run).entries()) == (3 if stop == 40 else 2)


# ── split ────────────────────────────────────────────────────────────────────────────────────


def add(run: RunHandle, given: list[dict], **options):
    table = pa.Table.from_pylist(
        [{**dict.fromkeys(ANNOTATIONS.names), **one} for one in given], schema=ANNOTATIONS
    )
    DatasetStore(run.model_store / "dataset").upsert(
        table, merge_duplicates=True, max_deleted=1.0, **options
    )
    return current_dataset.fn(run)


def split(run: RunHandle, dataset, split_settings: SplitSettings | None = None, **data):
    return split_dataset.fn(
        run, dataset, DataSettings(**data), split_settings or SplitSettings(), GroupSettings()
    )


def written(run: RunHandle) -> dict[str, bytes]:
    names = [*sorted(path.name for path in (run.directory / "splits").iterdir())]
    files = [run.directory / "splits" / name for name in names]
    files += [run.directory / name for name in ("label_space.json", "statistics.json")]
    return {path.name: path.read_bytes() for path in files}


def test_a_split_that_is_taken_over_is_what_splitting_again_makes(new_run, shown):
    first, forced, hit = new_run(), new_run(force=True), new_run()
    dataset = add(first, rows(0, 60))
    handles = [split(run, dataset) for run in (first, forced, hit)]

    assert [cached(run, "split") for run in (first, forced, hit)] == [False, False, True]
    assert written(hit) == written(forced)
    assert len({handle.fingerprint for handle in handles}) == 1
    assert handles[0].fingerprint is not None
    assert shown["desk-splits"] == [{"train": 36, "validation": 12, "test": 12}]
    known = storage.read_json(hit.directory / "splits" / "quality.json")["ledger"]
    assert (known["known"], known["new"], known["generation"]) == (60, 0, 1)


def test_new_texts_are_split_and_old_ones_stay(new_run):
    first, second, third = new_run(), new_run(), new_run()
    before = split(first, add(first, rows(0, 50)))
    after = split(second, add(second, rows(50, 60)))
    split(third, current_dataset.fn(third))

    assert (cached(second, "split"), cached(third, "split")) == (False, True)
    assert before.fingerprint != after.fingerprint
    for name in ("train", "validation", "test"):
        assert set(SplitData(before).ids(name)) <= set(SplitData(after).ids(name))
    assert len(SplitLedger(third.model_store / "ledger").read()) == 60


def test_the_ledger_is_told_of_a_text_that_left_though_the_split_is_taken_over(new_run):
    """Another run has deleted it since this run read the data set."""
    first, second, third = new_run(), new_run(), new_run()
    dataset = add(first, rows(0, 50))
    split(first, dataset)
    add(first, rows(0, 49), export="full")
    split(second, dataset)
    split(third, dataset)

    assert (cached(second, "split"), cached(third, "split")) == (True, True)
    entries = SplitLedger(first.model_store / "ledger").read()
    assert entries.generations == 2
    assert entries.lookup(["t048", "t049"]).deleted.tolist() == [False, True]


def test_the_ledger_that_a_split_was_made_with_must_stand(new_run):
    first, second = new_run(), new_run()
    dataset = add(first, rows(0, 50))
    split(first, dataset)
    ledger = SplitLedger(first.model_store / "ledger")
    more = pa.table({"id": ["elsewhere"], "split": ["test"]})
    present = [f"t{n:03}" for n in range(50)] + ["elsewhere"]
    ledger.extend(more, present, dataset="another run")
    split(second, dataset)
    assert cached(second, "split") is False

    third, forced = new_run(), new_run(force=True)
    split(third, dataset)
    split(forced, dataset)
    assert cached(third, "split") is True
    assert ledger.read().lookup(["elsewhere"]).deleted[0]  # it is not in the data set
    assert written(third) == written(forced)


def test_a_damaged_ledger_is_an_error_though_the_split_is_there(new_run):
    first, second = new_run(), new_run()
    dataset = add(first, rows(0, 50))
    split(first, dataset)
    entries = first.model_store / "ledger" / "generations" / "000000" / "entries.parquet"
    entries.write_bytes(entries.read_bytes() + b" ")

    with pytest.raises(Exception, match="content differs"):
        split(second, dataset)


@pytest.mark.parametrize(
    ("settings", "data", "again"),
    [
        (SplitSettings(leaks="keep"), {}, False),
        (None, {"min_label_support": 13}, False),
        (None, {"near_duplicate_similarity": 0.7}, False),
        (None, {"as_of": "2030-01-01T00:00:00Z"}, True),
        (None, {"max_quarantined": 0.5}, True),
    ],
)
def test_settings_of_the_split_make_it_split_again(new_run, settings, data, again):
    first, second = new_run(), new_run()
    dataset = add(first, rows(0, 60))
    split(first, dataset)
    split(second, dataset, settings, **data)

    assert cached(second, "split") is again


def test_a_taxonomy_that_renames_makes_it_split_again(new_run, tmp_path):
    taxonomy = tmp_path / "taxonomy.yaml"
    taxonomy.write_text("labels:\n  alpha: {aliases: [a]}\n  b: {}\n  c: {}\n")
    first, second, third = new_run(), new_run(), new_run()
    dataset = add(first, rows(0, 60))
    plain = split(first, dataset)
    renamed = split(second, dataset, taxonomy=str(taxonomy))
    split(third, dataset, taxonomy=str(taxonomy))

    assert (cached(second, "split"), cached(third, "split")) == (False, True)
    assert plain.fingerprint != renamed.fingerprint
    assert "alpha" in SplitData(renamed).space.names


# ── audit ────────────────────────────────────────────────────────────────────────────────────


def test_an_audit_is_taken_over_and_its_page_names_the_run(new_run, monkeypatch, shown):
    settings = AuditSettings(min_label_texts=5, folds=2)
    first, second, third = new_run(), new_run(), new_run()
    dataset = add(first, rows(0, 60))
    audit_dataset.fn(first, dataset, DataSettings(), settings)
    with monkeypatch.context() as patched:
        patched.setattr(tasks.audit, "run_audit", None)  # would fail
        shown.clear()
        page = audit_dataset.fn(second, dataset, DataSettings(), settings)
    assert str(second.directory) in shown["desk-audit"]
    audit_dataset.fn(third, dataset, DataSettings(), settings.model_copy(update={"folds": 3}))

    assert [cached(run, "audit") for run in (first, second, third)] == [False, True, False]
    assert page == second.directory / "audit.html"
    for name in ("audit.json", "worklist.json", "worklist.xml", "corrections.csv"):
        assert (first.directory / name).read_bytes() == (second.directory / name).read_bytes()


def test_where_texts_stand_counts_for_the_audit(new_run):
    settings = AuditSettings(label_errors=False)
    runs = [new_run() for _ in range(3)]
    dataset = add(runs[0], rows(0, 60))
    audit_dataset.fn(runs[0], dataset, DataSettings(), settings)
    split(runs[0], dataset)
    audit_dataset.fn(runs[1], dataset, DataSettings(), settings)
    audit_dataset.fn(runs[2], dataset, DataSettings(), settings)

    assert [cached(run, "audit") for run in runs] == [False, False, True]


def test_an_export_is_audited_without_a_trace_in_the_store(new_run, tmp_path):
    run = new_run(**NOTHING_KEPT.model_dump())
    accepted = ingest_export.fn(
        run, write_export(tmp_path / "e.jsonl", rows(0, 30)), DataSettings()
    )
    audit_export.fn(run, accepted, DataSettings(), AuditSettings(label_errors=False))

    assert cached(run, "audit") is False
    assert not run.store.exists()


# ── thresholds ───────────────────────────────────────────────────────────────────────────────


def arm_of(run: RunHandle, name: str, scores: np.ndarray) -> ArmHandle:
    data = SplitData(split(run, current_dataset.fn(run)))
    directory = run.directory / "arms" / name
    directory.mkdir(parents=True)
    predictions = Predictions(tuple(data.ids("validation")), data.space.names, scores)
    write_predictions(directory / "validation.parquet", predictions)
    return ArmHandle(arm=name, directory=directory, loss="db", seconds=0.0)


def test_thresholds_are_fitted_once_for_the_same_scores_and_policy(new_run, monkeypatch):
    runs = [new_run() for _ in range(4)]
    add(runs[0], rows(0, 60))
    scores = np.random.default_rng(0).random((12, 3)).astype(np.float32)
    arms = [arm_of(run, "linear", scores) for run in runs[:3]]
    arms.append(arm_of(runs[3], "linear", scores[::-1].copy()))
    fitted = []
    fit = tasks.tune.fit_thresholds
    monkeypatch.setattr(
        tasks.tune, "fit_thresholds", lambda *given: fitted.append(1) or fit(*given)
    )

    def tune(at: int, policy: str) -> bool:
        handle = split(runs[at], current_dataset.fn(runs[at]))
        tune_thresholds.fn(runs[at], handle, arms[at], ThresholdSettings(policy=policy))
        return cached(runs[at], "tune-linear")

    assert [tune(0, "global"), tune(1, "global"), tune(2, "group"), tune(3, "global")] == [
        False, True, False, False
    ]  # fmt: skip
    assert len(fitted) == 3
    assert read_thresholds(arms[0].directory) == read_thresholds(arms[1].directory)
