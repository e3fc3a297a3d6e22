"""``longtail taxonomy``: what it prints and writes, and its exit codes."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from flows.cli import main
from longtail.annotations.schema import ANNOTATIONS
from longtail.dataset import DatasetStore
from longtail.taxonomy import load_taxonomy


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LONGTAIL_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def export(tmp_path):
    def written(*labels, name="tickets_2026-11-22.jsonl"):
        lines = [{"id": f"t{n}", "text": f"text {n}", "labels": names}
                 for n, names in enumerate(labels, 1)]  # fmt: skip
        (tmp_path / name).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return name

    return written


@pytest.fixture
def taxonomy(tmp_path):
    (tmp_path / "taxonomy.yaml").write_text(
        "labels:\n  tax: {description: said}\n  vat: {description: said, aliases: [VAT]}\n"
    )
    return "taxonomy.yaml"


def store(tmp_path, *labels, name="tickets"):
    table = pa.Table.from_pylist(
        [{"id": f"t{n}", "text": f"text {n}", "labels": names}
         for n, names in enumerate(labels, 1)],
        schema=ANNOTATIONS,
    )  # fmt: skip
    DatasetStore(tmp_path / "store" / name / "dataset").upsert(table, merge_duplicates=False)


def test_where_nothing_needs_attention_it_ends_with_zero(export, taxonomy, capsys):
    code = main(["taxonomy", "check", "--data", export(["tax"], ["VAT"]), "--taxonomy", taxonomy])
    said = capsys.readouterr().out
    assert code == 0
    assert "alias" in said
    assert "read as 'vat'" in said
    assert "compared with taxonomy.yaml; nothing needs attention." in said


def test_what_needs_attention_is_printed_and_written_and_ends_with_three(
    export, taxonomy, tmp_path, capsys
):
    store(tmp_path, ["tax"], ["fax"])
    code = main(
        ["taxonomy", "check", "--data", export(["tax", "[red]new[/red]"], ["Tax"]),
         "--taxonomy", taxonomy, "--json", "found.json", "--set", "data.export=full"]
    )  # fmt: skip
    said = capsys.readouterr().out
    assert code == 3
    assert "[red]new[/red]" in said
    assert "(first in row 1)" in said
    assert "compared with the data set tickets and taxonomy.yaml; needing attention: 3." in said
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["file"] == "tickets_2026-11-22.jsonl"
    assert {(one["kind"], one["label"]) for one in written["findings"]} == {
        ("new", "[red]new[/red]"), ("renamed", "Tax"), ("vanished", "fax"),
    }  # fmt: skip


def test_a_delta_says_how_many_stored_labels_do_not_occur(export, tmp_path, capsys):
    store(tmp_path, ["tax"], ["fax"])
    assert main(["taxonomy", "check", "--data", export(["tax"])]) == 0
    assert "1 stored labels do not occur, of which a delta export says nothing" in (
        capsys.readouterr().out
    )


def test_with_nothing_to_compare_with_it_says_so(export, capsys):
    assert main(["taxonomy", "check", "--data", export(["tax"])]) == 0
    assert "compared with nothing" in capsys.readouterr().out


def test_nothing_is_stored(export, taxonomy, tmp_path):
    main(["taxonomy", "check", "--data", export(["tax"]), "--taxonomy", taxonomy])
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "No data: name an export with --data FILE."),
        (["--data", "EXPORT", "--name", "other"], "no data set of the name 'other'"),
        (["--data", "EXPORT", "--taxonomy", "absent.yaml"], "absent.yaml: cannot be read"),
        (["--data", "EXPORT", "--set", "data.taxnomy=x"], "no such setting"),
    ],
)
def test_bad_usage_ends_with_two_and_a_sentence(arguments, said, export, capsys):
    path = export(["tax"])
    given = [path if part == "EXPORT" else part for part in arguments]
    assert main(["taxonomy", "check", *given]) == 2
    assert said in capsys.readouterr().err


def test_an_export_that_cannot_be_read_ends_with_one(tmp_path, capsys):
    (tmp_path / "empty.csv").write_text("")
    assert main(["taxonomy", "check", "--data", "empty.csv"]) == 1
    assert "empty.csv" in capsys.readouterr().err


def test_a_first_taxonomy_is_written_once(export, tmp_path, capsys):
    path = export(["tax", "vat"], ["tax"], [])
    assert main(["taxonomy", "init", "--data", path]) == 0
    assert "2 labels of 3 rows" in capsys.readouterr().out
    assert list(load_taxonomy(tmp_path / "taxonomy.yaml").labels) == ["tax", "vat"]
    assert main(["taxonomy", "init", "--data", path]) == 2
    assert "is not overwritten" in capsys.readouterr().err
    assert main(["taxonomy", "init", "--data", path, "--out", "other.yaml"]) == 0


@pytest.mark.parametrize("action", [["check"], ["init"], []])
def test_help_says_what_the_exit_codes_mean(action, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["taxonomy", *action, "--help"])
    assert ended.value.code == 0
    assert "exit codes: 0 nothing needs attention" in capsys.readouterr().out
