"""What annotation tools export goes through contract and merge, and every row is accounted for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_contracts.ingest import QuarantineError, ingest
from longtail.config import DataSettings
from longtail.errors import DataError

sys.path.append(str(Path(__file__).parents[1] / "longtail" / "annotations"))
from export_case import EXPORTS, PRODIGY_TEACH, as_lines

COUNTS = {
    # accepted, quarantined, merged, skipped
    "label-studio.json": (2, 0, 1, 2),
    "label-studio-min.json": (3, 0, 0, 1),
    "label-studio.csv": (4, 0, 0, 1),
    "label-studio.tsv": (1, 0, 0, 0),
    "doccano.jsonl": (2, 0, 0, 1),
    "doccano.json": (2, 0, 0, 1),
    "doccano.csv": (2, 0, 0, 1),
    "argilla-nested.json": (2, 0, 0, 3),
    "prodigy.jsonl": (2, 0, 0, 2),
    "prodigy.json": (2, 0, 0, 2),
}


def taken(folder, name, data, **options):
    path = folder / name
    path.write_bytes(data)
    out = folder / "out"
    out.mkdir()
    return ingest(path, DataSettings(max_quarantined=1.0, **options), out)


@pytest.mark.parametrize("name", COUNTS)
def test_the_account_of_a_tools_export_balances(tmp_path, name):
    account = taken(tmp_path, name, EXPORTS[name], several_annotators="union").account
    account.check()
    counts = (account.accepted, account.quarantined, account.merged, account.skipped)
    assert counts == COUNTS[name]


@pytest.mark.parametrize("name", ["argilla.json", "argilla.parquet", "doccano.zip"])
def test_several_annotators_without_dates_need_a_policy(tmp_path, name):
    # The CSV of the archive does not have the metadata that its JSON Lines have.
    columns = {"group": None}
    done = taken(tmp_path, name, EXPORTS[name], several_annotators="union", columns=columns)
    done.account.check()
    assert (done.account.accepted, done.account.quarantined) == (2, 0)
    labels = pq.read_table(done.accepted)["labels"].to_pylist()
    assert labels[0] == ["a", "b"]
    voices = pq.read_table(done.voices)
    assert voices.num_rows >= 2


def test_lines_of_one_label_become_one_text_per_annotator(tmp_path):
    data = as_lines(PRODIGY_TEACH)
    done = taken(tmp_path, "t.jsonl", data, several_annotators="union")
    account = done.account
    account.check()
    assert (account.rows_read, account.accepted, account.merged, account.skipped) == (6, 1, 3, 2)
    assert pq.read_table(done.accepted)["labels"].to_pylist() == [["a", "b", "c"]]
    voices = pq.read_table(done.voices).to_pylist()
    said = {row["annotator"]: row["labels"] for row in voices}
    assert said == {"set-ann": ["a", "c"], "set-bob": ["b"]}


def test_an_export_of_which_nothing_counts_is_refused(tmp_path):
    lines = [json.dumps({"id": n, "text": "t", "label": []}) for n in range(3)]
    with pytest.raises((DataError, QuarantineError)):
        taken(tmp_path, "d.jsonl", "\n".join(lines).encode())
