"""A whole comparison on the real engine: it goes on where it was killed, and can be divided."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import pytest

import flows.compare
from flows.cli import main
from flows.command import command_of
from flows.config import CompareConfig, load_config
from longtail import storage
from longtail.errors import ConfigError
from longtail.tiny import write_tiny_encoder

FIXTURES = Path(__file__).parents[1] / "fixtures"
EXPORTS = {"desk": FIXTURES / "tickets.jsonl", "shop": FIXTURES / "tickets_week2.jsonl"}


def compare(out, encoder, *more, losses="bce,db-soft"):
    data = [part for name, path in EXPORTS.items() for part in ("--data", f"{name}={path}")]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main([
            "compare", *data, "--losses", losses, "--seeds", "0,1", "--out", str(out),
            "--set", f"encoder.source={encoder}", "--set", "training.epochs=1",
            "--set", "training.max_length=24", "--set", "training.trainable_layers=all", *more,
        ])  # fmt: skip
    return code, said.getvalue()


def cells(out):
    """Every trained cell with the time of its manifest."""
    found = out.glob("data/*/cells/*/manifest.json")
    return {str(path.parent.relative_to(out)): path.stat().st_mtime_ns for path in found}


def numbers(out):
    """The leaderboard without what a second training takes in seconds."""
    rows = storage.read_json(out / "leaderboard.json")["rows"]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def candidates(out):
    """The leaderboard's candidates, without seconds."""
    found = storage.read_json(out / "leaderboard.json")["candidates"]
    rows = [row for one in found.values() for row in one["ladder"]]
    rows += [held["opponent"] for one in found.values() for held in one["against"]]
    for row in rows:
        del row["seconds"]
    return found


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    texts = [json.loads(line)["text"] for line in EXPORTS["desk"].read_text().splitlines()]
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny"), texts, hidden_size=32)


@pytest.fixture(scope="module")
def done(prefect_harness, tmp_path_factory, encoder):
    out = tmp_path_factory.mktemp("comparison") / "all"
    code, said = compare(out, encoder)
    assert code == 0
    assert f"Leaderboard: {out / 'leaderboard.html'}" in said
    return out


@pytest.fixture
def copy(done, tmp_path):
    return shutil.copytree(done, tmp_path / "comparison")


# ── what comes out ───────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_every_loss_and_seed_is_trained_on_every_data_set(done):
    names = [re.sub("-[0-9a-f]{12}$", "", name) for name in cells(done)]
    assert sorted(names) == [
        f"data/{data}/cells/{loss}-seed{seed}"
        for data in EXPORTS for loss in ("bce", "db-soft") for seed in (0, 1)
    ]  # fmt: skip


@pytest.mark.slow
def test_the_leaderboard_has_every_setting_and_the_linear_arm(done):
    board = storage.read_json(done / "leaderboard.json")

    settings = {(row["data"], row["fused"], row["loss"]) for row in board["rows"]}
    assert settings == {(data, fused, loss) for data in EXPORTS for fused in (False, True)
                        for loss in ("bce", "db-soft", "linear")}  # fmt: skip
    for row in board["rows"]:
        assert row["seeds"] == ([] if row["loss"] == "linear" else [0, 1])
        assert (row["gain"] is None) == (row["loss"] == "bce")
        assert 0 <= row["mean"]["micro_f1"] <= 1
        assert row["fused"] or row["fusion_weight"] == 0
    linear = {row["fused"]: row for row in board["rows"]
              if (row["data"], row["loss"]) == ("desk", "linear")}  # fmt: skip
    assert linear[True]["mean"] == linear[False]["mean"]
    assert linear[True]["gain"] != linear[False]["gain"]  # over BCE fused, and alone
    assert [one["name"] for one in board["data"]] == list(EXPORTS)


@pytest.mark.slow
def test_the_candidate_of_every_seed_has_its_ladder_and_a_verdict(done):
    board = storage.read_json(done / "leaderboard.json")

    assert list(board["candidates"]) == list(EXPORTS)
    for name, found in board["candidates"].items():
        assert (found["loss"], found["seeds"]) == ("db-soft", [0, 1])
        assert [one["key"] for one in found["against"]] == ["bce", "fused_bce", "matched", "linear"]
        assert [one["seed"] for one in found["verdicts"]] == [0, 1]
        rows = {row["loss"]: row for row in board["rows"]
                if row["data"] == name and not row["fused"]}  # fmt: skip
        ladder = {row["key"]: row for row in found["ladder"]}
        assert ladder["bce"]["values"] == rows["bce"]["values"]
        assert ladder["encoder"]["values"] == rows["db-soft"]["values"]
        assert (ladder["bce_half"]["gain"], *ladder["bce_half"]["change"]) == (None,)


@pytest.mark.slow
def test_the_first_sum_of_the_ladder_is_the_loss_fused_with_the_linear_arm(done):
    board = storage.read_json(done / "leaderboard.json")
    fused = {row["data"]: row for row in board["rows"]
             if row["fused"] and row["loss"] == "db-soft"}  # fmt: skip

    steps = {row["key"]: row for row in board["candidates"]["desk"]["ladder"]}
    assert steps["linear"]["values"] == fused["desk"]["values"]
    assert [key for key in steps if key not in ("bce_half", "bce", "encoder")] == [
        "linear", "neighbours", "names", "both_encoders", "candidate",
    ]  # fmt: skip


@pytest.mark.slow
def test_what_a_cell_has_no_evidence_of_is_left_out_and_told(done):
    """All layers are trained, so nothing says what a label's name means."""
    (cell, *_) = (done / name / "cell.json" for name in cells(done))
    assert storage.read_json(cell)["evidence"] == ["encoder", "neighbours", "name_words"]

    note = "The source names is left out: the encoder has no frozen layers"
    assert note in (done / "results.md").read_text()
    assert note in (done / "leaderboard.html").read_text()


@pytest.mark.slow
def test_page_and_markdown_are_written_without_a_path(done):
    for name in ("leaderboard.html", "results.md"):
        page = (done / name).read_text()
        assert "longtail compare" in page
        assert str(done) not in page
        assert str(FIXTURES) not in page
    assert (done / "results" / "desk.svg").is_file()
    assert "--losses bce,db-soft" in (done / "results.md").read_text()


# ── going on ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_what_is_there_is_not_trained_again(copy, encoder):
    before = cells(copy)
    (copy / "leaderboard.json").unlink()

    assert compare(copy, encoder, "--set", "policies=[global]")[0] == 0
    assert cells(copy) == before
    assert {row["policy"] for row in numbers(copy)} == {"global"}


@pytest.mark.slow
def test_only_a_missing_and_a_damaged_cell_are_trained_again(done, copy, encoder):
    before = cells(copy)
    missing, damaged = min(before), max(before)
    shutil.rmtree(copy / missing)
    (copy / damaged / "test_encoder.parquet").write_bytes(b"half of")

    assert compare(copy, encoder)[0] == 0
    after = cells(copy)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {missing, damaged}
    assert numbers(copy) == numbers(done)


@pytest.mark.slow
def test_a_candidate_that_a_kill_left_half_is_made_again(done, copy, encoder):
    def stamps():
        return {path.parent: path.stat().st_mtime_ns
                for path in copy.glob("data/*/combined/*/manifest.json")}  # fmt: skip

    before = stamps()
    assert len(before) == 4
    damaged = min(before)
    (damaged / "matched" / "test.parquet").unlink()
    (copy / "leaderboard.json").unlink()

    assert compare(copy, encoder)[0] == 0
    after = stamps()
    assert {path for path in after if after[path] != before[path]} == {damaged}
    assert candidates(copy) == candidates(done)


@pytest.mark.slow
def test_without_the_default_loss_there_is_no_candidate(copy, encoder):
    assert compare(copy, encoder, losses="bce")[0] == 0

    assert storage.read_json(copy / "leaderboard.json")["candidates"] == {}
    assert "The candidate" not in (copy / "leaderboard.html").read_text()


@pytest.mark.slow
def test_two_shards_make_the_same_leaderboard_as_one(done, tmp_path, encoder):
    out = tmp_path / "shards"
    code, said = compare(out, encoder, "--shard", "1/2")
    assert (code, len(cells(out))) == (0, 4)
    assert "still to come" in said
    assert not (out / "leaderboard.json").exists()

    first = cells(out)
    code, said = compare(out, encoder, "--shard", "2/2")
    assert (code, len(cells(out))) == (0, 8)
    assert first.items() <= cells(out).items()
    assert "Leaderboard:" in said
    assert numbers(out) == numbers(done)
    assert candidates(out) == candidates(done)
    assert cells(out).keys() == cells(done).keys()  # their splits are the same, bit by bit


@pytest.mark.slow
def test_dask_workers_train_the_same_cells(done, copy, encoder):
    for name in cells(copy):
        if "bce-seed0" in name:
            shutil.rmtree(copy / name)
    (copy / "leaderboard.json").unlink()
    dask = ["--set", "runner.kind=dask", "--set", "runner.workers=2"]

    assert compare(copy, encoder, *dask)[0] == 0
    assert cells(copy).keys() == cells(done).keys()
    assert numbers(copy) == numbers(done)
    assert "runner" not in (copy / "results.md").read_text()


@pytest.mark.slow
def test_another_export_of_the_same_name_leaves_nothing_of_the_old_one(copy, encoder, monkeypatch):
    monkeypatch.setitem(EXPORTS, "desk", EXPORTS["shop"])

    assert compare(copy, encoder)[0] == 0
    desk, shop = ({key: value for key, value in one.items() if key != "name"}
                  for one in storage.read_json(copy / "leaderboard.json")["data"])  # fmt: skip
    assert desk == shop


@pytest.mark.slow
def test_another_taxonomy_makes_another_data_set(tmp_path, monkeypatch):
    monkeypatch.setattr(flows.compare, "_fill", lambda *_: None)
    taxonomy = tmp_path / "taxonomy.yaml"
    config = CompareConfig(data={"desk": {"path": str(EXPORTS["desk"]), "taxonomy": str(taxonomy)}})

    def directory(content):
        taxonomy.write_text(content)
        return flows.compare._prepare(tmp_path, "desk", config.data["desk"], config).directory

    first = directory("labels: {tax: {since: 2026-03-01}}")
    assert directory("labels: {tax: {since: 2026-03-01}}  # the same") == first
    assert directory("labels: {tax: {since: 2026-03-02}}") != first


@pytest.mark.slow
def test_other_corrections_make_another_data_set(tmp_path, monkeypatch):
    monkeypatch.setattr(flows.compare, "_fill", lambda *_: None)
    listed = tmp_path / "corrections.csv"
    source = {"path": str(EXPORTS["desk"]), "corrections": str(listed)}
    config = CompareConfig(data={"desk": source})

    def directory(content):
        listed.write_text(content)
        return flows.compare._prepare(tmp_path, "desk", config.data["desk"], config).directory

    assert directory("id,accepted") == directory("id,accepted")
    assert directory("id,accepted\nT-1,yes") != directory("id,accepted")


def test_a_loss_that_diverges_does_not_keep_the_others_from_it(
    done, copy, encoder, monkeypatch, capsys
):
    train = flows.compare.train_cell
    for name in cells(copy):
        if "bce-seed0" in name or "db-soft-seed1" in name:
            shutil.rmtree(copy / name)

    def diverging(directory, *rest):
        if directory.name.startswith("bce-seed0"):
            raise ConfigError("the loss became NaN")
        return train(directory, *rest)

    monkeypatch.setattr(flows.compare, "train_cell", diverging)
    assert compare(copy, encoder)[0] == 2
    said = capsys.readouterr().err
    assert "2 of 8 cells could not be trained: bce with seed 0 on desk (the loss became" in said
    assert cells(copy).keys() == {name for name in cells(done) if "bce-seed0" not in name}


# ── what is refused ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--losses", "bce,dbb"], "losses: Input should be"),
        (["--losses", "bce,bce"], "losses: bce is there twice"),
        (["--losses", "bce,auto"], "auto chooses among losses"),
        (["--seeds", "0,0"], "seeds: 0 is there twice"),
        (["--seeds", "-1"], "seeds: Input should be greater than or equal to 0"),
        (["--set", "policies=[group,group]"], "policies: group is there twice"),
        (["--set", "fused=[]"], "fused: Tuple should have at least 1"),
        (["--data", "desk=other.csv"], "desk is named twice"),
        (["--data", "shop="], "expected NAME=FILE"),
        (["--data", "a.b=c.csv"], "expected NAME=FILE"),
        (["--data", "Shop=c.csv"], "'Shop' is not a name"),
        (["--set", "data.shop.min_label_support=3"], "shop has no export: name it with --data"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(more, said, capsys):
    assert main(["compare", "--data", f"desk={EXPORTS['desk']}", *more]) == 2
    assert said in capsys.readouterr().err


def test_without_data_there_is_nothing_to_compare(capsys):
    assert main(["compare"]) == 2
    assert "no data: name at least one export" in capsys.readouterr().err


@pytest.mark.parametrize("shard", ["3/2", "0/2", "1", "one/2"])
def test_a_shard_is_one_of_several(shard, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--shard", shard])
    assert ended.value.code == 2
    assert "--shard" in capsys.readouterr().err


# ── the command that makes it again ──────────────────────────────────────────────────────────


def test_the_command_names_what_is_not_the_default_and_no_path():
    config = CompareConfig.model_validate({
        "data": {"desk": {"path": "s3://bucket/private/desk 1.csv?key=secret",
                          "label_separator": "|", "taxonomy": "/home/someone/labels.yaml"}},
        "losses": ["bce"], "seeds": [7], "policies": ["global", "group"], "shard": 1, "shards": 2,
        "out": "/home/someone/comparison", "training": {"epochs": 8, "max_length": 64},
        "encoder": {"source": "/home/someone/encoder"},
    })  # fmt: skip

    assert command_of(config) == (
        "longtail compare \\\n  --data 'desk=desk 1.csv' \\\n  --losses bce \\\n  --seeds 7 \\\n"
        '  --set \'policies=["global", "group"]\' \\\n  --set encoder.source=encoder \\\n'
        "  --set training.max_length=64 \\\n  --set 'data.desk.label_separator=|' \\\n"
        "  --set data.desk.taxonomy=labels.yaml"
    )


def test_the_command_carries_a_loss_that_was_changed():
    losses = [{"name": "bce"}, {"name": "db", "options": {"focal_gamma": 1.0}},
              {"article": {"focal": {"gamma": 1}}}]  # fmt: skip
    config = CompareConfig.model_validate({"data": {"a": {"path": "a.csv"}}, "losses": losses})

    changed, = re.findall(r"--set '(losses=.*)'", command_of(config))  # fmt: skip
    again = load_config(None, [changed], {"data.a.path": "a.csv"}, CompareConfig)
    assert again.losses == config.losses


def test_the_page_on_compare_names_every_setting():
    page = (FIXTURES.parents[1] / "docs" / "reference" / "compare.md").read_text(encoding="utf-8")
    first_cells = "".join(re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE))

    assert set(re.findall(r"`(\w+)`", first_cells)) == set(CompareConfig.model_fields)
