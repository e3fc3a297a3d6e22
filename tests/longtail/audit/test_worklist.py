"""The work list is what Label Studio imports, and its export comes back under our ids."""

import json
from xml.etree import ElementTree as ET

import pyarrow as pa

from longtail.annotations.readers import read_annotations
from longtail.audit.candidates import Candidate, likeliest_first
from longtail.audit.worklist import CHOICES, ID_KEY, TEXT, labelling_config, work_list
from longtail.config import ColumnSettings, DataSettings

TEXTS = {"a": "the printer jams", "b/2": "refund please"}
LABELS = {"a": ["printing"], "b/2": ["billing", "news"]}
CANDIDATES = [
    Candidate("a", "urgent", "add", "label error", 0.9, "why"),
    Candidate("b/2", "news", "remove", "label error", 0.8, "why not"),
    Candidate("b/2", "billing", "remove", "conflict", 0.5, "they are even"),
]


def test_a_task_has_what_the_import_format_asks_for():
    first, second = work_list(CANDIDATES, TEXTS, LABELS)

    assert first["data"][TEXT] == TEXTS["a"]
    assert first["data"][ID_KEY] == "a"
    (prediction,) = first["predictions"]
    assert prediction["score"] == 0.9
    (result,) = prediction["result"]
    assert (result["type"], result["from_name"], result["to_name"]) == ("choices", CHOICES, TEXT)
    assert result["value"] == {"choices": ["printing", "urgent"]}
    # what could as well be the other way is told, but not done
    assert second["predictions"][0]["result"][0]["value"] == {"choices": ["billing"]}
    assert [one["label"] for one in second["meta"]["found"]] == ["news", "billing"]
    assert "they are even" in second["data"]["reason"]
    assert json.loads(json.dumps([first, second])) == [first, second]


def test_of_two_finders_that_contradict_each_other_the_surest_has_its_way():
    found = [
        Candidate("a", "urgent", "add", "implied", 0.97, "nearly always so"),
        Candidate("a", "urgent", "remove", "conflict", 0.67, "two of three rows lack it"),
    ]

    (task,) = work_list(found, TEXTS, LABELS)

    assert task["predictions"][0]["result"][0]["value"] == {"choices": ["printing", "urgent"]}


def test_the_labelling_configuration_fits_the_tasks():
    hostile = ["a<b", 'quote"d', "it's & more"]

    view = ET.fromstring(labelling_config(hostile))

    (choices,) = view.iter("Choices")
    assert choices.attrib == {"name": CHOICES, "toName": TEXT, "choice": "multiple"}
    assert [one.attrib["value"] for one in choices] == hostile
    shown = {one.attrib["name"]: one.attrib["value"] for one in view.iter("Text")}
    assert shown[TEXT] == f"${TEXT}"
    (task, _) = work_list(CANDIDATES, TEXTS, LABELS)
    assert {name.removeprefix("$") for name in shown.values()} <= set(task["data"])


def test_the_export_of_the_imported_list_comes_back_under_our_ids(tmp_path):
    tasks = work_list(CANDIDATES, TEXTS, LABELS)
    for number, task in enumerate(tasks, start=101):
        (prediction,) = task.pop("predictions")
        task["id"] = number
        task["annotations"] = [
            {"id": number, "completed_by": 1, "was_cancelled": False,
             "result": prediction["result"], "created_at": "2024-05-01T10:00:00Z"}
        ]  # fmt: skip
    path = tmp_path / "project-1.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    settings = DataSettings(columns=ColumnSettings(id=ID_KEY))

    table = pa.concat_tables(list(read_annotations(path, settings)))

    assert dict(zip(table["id"].to_pylist(), table["labels"].to_pylist(), strict=True)) == {
        "a": ["printing", "urgent"],
        "b/2": ["billing"],
    }
    assert table["text"].to_pylist() == list(TEXTS.values())


def test_of_one_cell_the_surest_reason_stays():
    twice = [
        Candidate("a", "x", "add", "implied", 0.7, "rule"),
        Candidate("a", "x", "add", "label error", 0.9, "model"),
        Candidate("a", "x", "remove", "conflict", 0.5, "other way"),
        Candidate("0", "x", "add", "implied", 0.9, "tie"),
    ]

    found = likeliest_first(twice)

    assert [(one.id, one.kind) for one in found] == [
        ("0", "implied"), ("a", "label error"), ("a", "conflict"),
    ]  # fmt: skip
