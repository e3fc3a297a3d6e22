"""What a user sees of a bad file: a sentence that says where, what and what to do."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from flows.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def engine(prefect_harness):
    """Prefect, with its handlers in place: it sets them at the first run, and caplog's go."""
    from prefect.logging.configuration import setup_logging

    setup_logging()


def row(name, text, *labels):
    return json.dumps({"id": name, "text": text, "labels": list(labels)})


def write(path, *lines):
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode()
                                for line in lines))  # fmt: skip
    return path


def workbook(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<?xml?>")
    return path


def many(*labels):
    return [row(f"t{i}", f"Ticket {i} about thing number {i * 7}", *labels) for i in range(30)]


def run(arguments, environment):
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *map(str, arguments)],
        capture_output=True, text=True, cwd=ROOT, env=environment, timeout=200, check=False,
    )  # fmt: skip


# ── files that cannot be read at all: nothing is started ─────────────────────────────────────

HOPELESS = {
    "missing": (lambda at: at / "absent.csv", ["absent.csv: no such file", "give the path"]),
    "directory": (lambda at: at, ["is a directory without a file to read"]),
    "empty": (lambda at: write(at / "x.csv", ""), ["x.csv: the file is empty", "finished?"]),
    "no labels column": (
        lambda at: write(at / "x.csv", "id,text,tags", "1,hello,a"),
        ["no column 'labels'", "'id', 'text', 'tags'", "data.columns.labels"],
    ),
    "utf-16": (
        lambda at: write(at / "x.csv", "id,text,labels\n1,hello,a".encode("utf-16")),
        ["UTF-16, not UTF-8", "iconv -f UTF-16 -t UTF-8"],
    ),
    "workbook": (lambda at: workbook(at / "x.csv"), ["Excel", "save the sheet"]),
    "json array": (lambda at: write(at / "x.json", '[{"id": "1"}]'), ["columns", "'text'"]),
}


@pytest.mark.parametrize("kind", HOPELESS)
def test_a_hopeless_file_is_refused_in_one_line(kind, tmp_path, capfd):
    make, said = HOPELESS[kind]
    code = main(["retrain", "--data", str(make(tmp_path)), "--store", str(tmp_path / "store")])
    out, err = capfd.readouterr()

    assert code == 1
    assert out == ""
    assert err.startswith("longtail: ")
    assert err.count("\n") == 1
    for words in said:
        assert words in err
    assert not (tmp_path / "store").exists()


NOT_HANGING_TOGETHER = {
    "taxonomy": ("labels: {a: {parents: [b]}}", 2, "label 'a': its parent 'b' is no label here"),
    "corrections": ("foo,bar", 1, "no column id, label, action, text_hash, accepted"),
}


@pytest.mark.parametrize("command", ["retrain", "audit"])
@pytest.mark.parametrize("setting", NOT_HANGING_TOGETHER)
def test_what_a_run_reads_beside_the_export_is_refused_first(setting, command, tmp_path, capfd):
    content, expected, said = NOT_HANGING_TOGETHER[setting]
    beside = write(tmp_path / "beside", content)
    export = write(tmp_path / "tickets.jsonl", *many("a", "b"))

    code = main([command, "--data", str(export), "--store", str(tmp_path / "store"),
                 "--set", f"data.{setting}={beside}"])  # fmt: skip
    out, err = capfd.readouterr()

    assert code == expected
    assert out == ""
    assert err.startswith(f"longtail: {beside}: {said}")
    assert not (tmp_path / "store").exists()


# ── files that turn out to be bad on the way ─────────────────────────────────────────────────

ON_THE_WAY = {
    "one label": (
        many("only"),
        1,
        ["'only'", "at least 2 different labels", "data.columns.labels"],
    ),
    "no label": (many(), 1, ["none of the 30 texts has a label", "data.label_separator"]),
    "too few texts": (
        [row("a", "Where is it?", "delivery"), row("b", "Money back", "refund")],
        1,
        ["only 2 texts have a label", "at least 30", "label more texts"],
    ),
    "torn rows": (
        [*many("a", "b")[:20], *['{"id": "x", "te'] * 5],
        1,
        ["5 of 25 rows (20.0%)", "in rows 21, 22, 23", "data.max_quarantined"],
    ),
    "labels as a string": (
        [json.dumps({"id": str(i), "text": f"Ticket {i}", "labels": "a|b"}) for i in range(9)],
        1,
        ["9 of 9 rows", "label_separator"],
    ),
    "no data set": (None, 2, ["no data set of the name 'nothing'", "--data FILE"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ON_THE_WAY)
def test_bad_data_ends_in_a_sentence_and_no_traceback(kind, engine, tmp_path, capsys, caplog):
    lines, expected, said = ON_THE_WAY[kind]
    file = write(tmp_path / "tickets.jsonl", *lines or [])
    asked = ["--data", str(file)] if lines else ["--name", "nothing"]

    code = main(["retrain", *asked, "--store", str(tmp_path / "store")])
    sentence = capsys.readouterr().err.partition("longtail: ")[2]

    assert code == expected
    for words in said:
        assert words in sentence
    assert "Finished in state Failed" in caplog.text
    for noise in ("Traceback", "exception", sentence.splitlines()[0]):
        assert noise not in caplog.text


@pytest.mark.slow
def test_too_many_bad_rows_end_the_flow_run_in_a_state_of_its_own(engine, tmp_path, capsys):
    from prefect.client.orchestration import get_client

    lines, _, (said, *_) = ON_THE_WAY["torn rows"]
    file = write(tmp_path / "torn.jsonl", *lines)
    assert main(["retrain", "--data", str(file), "--store", str(tmp_path / "store")]) == 1

    assert said in capsys.readouterr().err
    with get_client(sync_client=True) as client:
        runs = [run for run in client.read_flow_runs() if run.name == "retrain-torn"]
    assert [(run.state_name, run.state_type.value) for run in runs] == [("Quarantined", "FAILED")]
    assert said in runs[0].state.message


@pytest.mark.slow
def test_the_command_itself_says_it_in_a_sentence(tmp_path, environment):
    latin = [b"id,text,labels"] + [b'%d,"caf\xe9 %d","[""a"", ""b""]"' % (i, i) for i in range(9)]
    done = run(
        ["retrain", "--data", write(tmp_path / "latin.csv", *latin), "--store", tmp_path / "store"],
        environment,
    )

    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "latin.csv: 9 of 9 rows (100.0%) are bad" in done.stderr
    assert "line 2 is not UTF-8" in done.stderr
    assert "iconv -f WINDOWS-1252 -t UTF-8" in done.stderr
    (set_aside,) = (tmp_path / "store" / "latin" / "runs").glob("*/quarantine.parquet")
    assert set_aside.stat().st_size > 0
    assert not (tmp_path / "store" / "latin" / "dataset").exists()


# ── a store or an output that cannot be written to ───────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("where", ["--store", "--out"])
def test_a_directory_that_cannot_be_written_to_is_named(where, engine, tmp_path, tickets, capsys):
    file = write(tmp_path / "file", "not a directory")
    places = {"--store": tmp_path / "store", "--out": tmp_path / "run", where: file / "below"}
    command = [str(part) for place in places.items() for part in place]

    assert main(["retrain", "--data", str(tickets), *command]) == 1
    assert f"longtail: {file}" in capsys.readouterr().err
