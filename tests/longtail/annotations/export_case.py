"""Hand-made exports in the formats that the annotation tools document, and reading them."""

from __future__ import annotations

import io
import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq

from longtail.annotations.readers import read_annotations
from longtail.config import ColumnSettings, DataSettings

FIELDS = ("id", "text", "labels", "annotator")


def choice(*labels, tag="topic"):
    value = {"choices": list(labels)}
    return {"from_name": tag, "to_name": "text", "type": "choices", "value": value, "id": "x1"}


def annotation(number, *labels, by=7, **more):
    about = {"created_at": "2026-01-01T10:00:00.5Z", "updated_at": "2026-01-02T10:00:00.5Z"}
    result = [choice(*labels)] if labels else []
    return {"id": number, "completed_by": by, "result": result, "was_cancelled": False,
            "ground_truth": False, "lead_time": 3.2, **about, **more}  # fmt: skip


def task(number, text, *annotations, **more):
    return {"id": number, "data": {"text": text}, "annotations": list(annotations), "drafts": [],
            "predictions": [{"result": [choice("guess")], "model_version": "m"}],
            "project": 1, **more}  # fmt: skip


LABEL_STUDIO = [
    task(1, "one", annotation(11, "a", "b")),
    task(2, "two", annotation(21, "a"), annotation(22, by={"id": 8, "email": "eva@x.org"})),
    task(3, "three", annotation(31, "b", was_cancelled=True)),
    task(4, "four"),
]


def min_row(number, text, **more):
    return {"text": text, "id": number, **more, "annotator": 7, "annotation_id": number * 10,
            "created_at": "2026-01-01T10:00:00Z", "updated_at": "2026-01-02T10:00:00Z",
            "lead_time": 2.5}  # fmt: skip


LABEL_STUDIO_MIN = [
    min_row(1, "one", topic="a"),
    min_row(2, "two", topic={"choices": ["a", "b"]}),
    min_row(3, "three"),
    {**min_row(4, "four"), "annotation_id": None, "annotator": {}},
]

LABEL_STUDIO_CSV = (
    "text,id,topic,annotator,annotation_id,created_at,updated_at,lead_time\n"
    "one,1,a,7,10,2026-01-01T10:00:00Z,2026-01-02T10:00:00Z,2.5\n"
    'two,2,"{""choices"": [""a"", ""b""]}",7,20,,2026-01-02T10:00:00Z,2.5\n'
    'three,3,"[""c"", ""d""]",7,30,,,1\n'
    "four,4,,7,40,,,1\n"
    "five,5,,,,,,\n"
)

DOCCANO = [
    {"id": 1, "text": "one", "label": ["a", "b"], "Comments": []},
    {"id": 2, "text": "two", "label": [], "Comments": ["unsure"]},
    {"id": 3, "text": "three", "label": ["b"], "group": "g"},
]
DOCCANO_CSV = "id,text,label,Comments\n1,one,a#b,\n2,two,,unsure\n3,three,b,\n"


def argilla_flat(number, text, *responses):
    columns = list(zip(*responses, strict=True)) or [None, None, None]
    return {
        "id": f"r{number}", "status": "pending", "_server_id": f"s{number}", "text": text,
        "topic.responses": columns[0] and list(columns[0]),
        "topic.responses.users": columns[1] and list(columns[1]),
        "topic.responses.status": columns[2] and list(columns[2]),
        "topic.suggestion": ["guess"], "topic.suggestion.score": None,
        "topic.suggestion.agent": "model",
    }  # fmt: skip


ARGILLA = [
    argilla_flat(1, "one", (["a", "b"], "u1", "submitted"), (["a"], "u2", "submitted")),
    argilla_flat(2, "two", ([], "u1", "submitted"), (["b"], "u2", "discarded")),
    argilla_flat(3, "three", (["b"], "u1", "draft")),
    argilla_flat(4, "four"),
]

ARGILLA_NESTED = [
    {"id": "r1", "fields": {"text": "one"}, "metadata": {"group": "g"}, "vectors": {},
     "suggestions": {"topic": {"value": ["guess"], "score": None, "agent": None}},
     "responses": {"topic": [{"value": ["a"], "user_id": "u1", "status": "submitted"},
                             {"value": ["b"], "user_id": "u2", "status": "draft"}]},
     "status": "pending", "_server_id": "s1"},
    {"id": "r2", "fields": {"text": "two"}, "metadata": {}, "suggestions": {},
     "responses": {"topic": [{"value": ["b"], "user_id": "u1"}]}, "status": "completed"},
    {"id": "r3", "fields": {"text": "three"}, "metadata": {}, "suggestions": {},
     "responses": {"topic": [{"value": ["b"], "user_id": "u1"}]}, "status": "pending"},
    {"id": "r4", "fields": {"text": "four"}, "metadata": {}, "suggestions": {}, "responses": {}},
]  # fmt: skip

OPTIONS = [{"id": "a", "text": "A"}, {"id": "b", "text": "B"}]


def prodigy(number, text, answer, **more):
    return {"text": text, "_input_hash": number, "_task_hash": 5, "_view_id": "choice",
            "answer": answer, "_timestamp": 1_767_225_600, "_annotator_id": "set-ann",
            "_session_id": "set-ann", **more}  # fmt: skip


PRODIGY = [
    prodigy(1, "one", "accept", options=OPTIONS, accept=["a", "b"]),
    prodigy(2, "two", "accept", options=OPTIONS, accept=[]),
    prodigy(3, "three", "reject", options=OPTIONS, accept=["a"]),
    prodigy(4, "four", "ignore", options=OPTIONS, accept=[]),
]
PRODIGY_TEACH = [
    prodigy(1, "one", "accept", label="a", score=0.6),
    prodigy(2, "two", "reject", label="a"),
    prodigy(1, "one", "reject", label="b"),
    prodigy(1, "one", "accept", label="c"),
    prodigy(3, "three", "ignore", label="a"),
    prodigy(1, "one", "accept", label="b", _annotator_id="set-bob"),
]


def as_lines(objects):
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in objects).encode()


def as_array(objects, indent=None):
    return json.dumps(objects, indent=indent, ensure_ascii=False).encode()


def as_parquet(objects):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(objects), sink)
    return sink.getvalue()


def as_zip(files, compression=zipfile.ZIP_DEFLATED):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return sink.getvalue()


EXPORTS = {
    "label-studio.json": as_array(LABEL_STUDIO, indent=1),
    "label-studio-min.json": as_array(LABEL_STUDIO_MIN),
    "label-studio.csv": LABEL_STUDIO_CSV.encode(),
    "label-studio.tsv": b"text\tid\ttopic\tannotator\tannotation_id\tlead_time\nt\t1\ta\t7\t1\t2\n",
    "doccano.jsonl": as_lines(DOCCANO),
    "doccano.json": as_array(DOCCANO),
    "doccano.csv": DOCCANO_CSV.encode(),
    "doccano.zip": as_zip({"ann.jsonl": as_lines(DOCCANO), "bob.csv": DOCCANO_CSV}),
    "argilla.json": as_array(ARGILLA),
    "argilla-nested.json": as_array(ARGILLA_NESTED),
    "argilla.parquet": as_parquet(ARGILLA),
    "prodigy.jsonl": as_lines(PRODIGY),
    "prodigy-teach.jsonl": as_lines(PRODIGY_TEACH),
    "prodigy.json": as_array(PRODIGY),
}
"""One small export of every kind; the name begins with the tool."""


def tool_of_name(name):
    return "label-studio" if name.startswith("label-studio") else name.split("-")[0].split(".")[0]


def read(folder, data, name="export", labels_required=True, columns=None, **options):
    path = folder / name
    path.write_bytes(data)
    settings = DataSettings(columns=ColumnSettings(**(columns or {})), **options)
    return pa.concat_tables(
        read_annotations(path, settings, labels_required=labels_required)
    ).to_pylist()


def used(rows, fields=FIELDS):
    """The rows that are to be used, as tuples."""
    return [
        tuple(row[field] for field in fields)
        for row in rows
        if row["skipped"] is None and not row["problems"]
    ]


def reasons(rows):
    """Why rows are skipped, by id."""
    return [(row["id"], row["skipped"]) for row in rows if row["skipped"] is not None]
