"""Coverage-guided fuzzing of the readers of annotation exports.

    make fuzz                        60 seconds
    make fuzz ARGS="--seconds 600"   ten minutes
    make fuzz ARGS="build/fuzz/crash-..."   that input once more

The first finding (anything raised but a DataError, a row of no kind or of two, more than 20 seconds
or 2 GB for 4 KB of input) ends the run with an exit code other than 0 and leaves the input under
build/fuzz. The corpus of build/fuzz/corpus grows from run to run.
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "longtail" / "annotations")]

with atheris.instrument_imports(include=["longtail.annotations"]):
    from export_case import EXPORTS, tool_of_name
    from reading_case import count_rows

    from longtail.annotations import json_array

FORMATS = ("auto", "csv", "jsonl", "label-studio", "doccano", "argilla", "prodigy")
COLUMNS = ({}, {"labels": "topic"}, {"labels": "label"}, {"id": "text", "annotator": None})
MEMBERS = ("ann.jsonl", "bob.csv", "all.json")
TOKENS = (
    "annotations", "completions", "data", "result", "value", "choices", "taxonomy", "from_name",
    "was_cancelled", "completed_by", "annotation_id", "annotator", "lead_time", "id", "text",
    "label", "labels", "Comments", "fields", "responses", "topic.responses.status", "submitted",
    "_input_hash", "_session_id", "_timestamp", "accept", "reject", "ignore", "answer", "options",
)  # fmt: skip
SIGNS = ('"', '""', "{}", "[]", "[{", "}]", "\\", r"\ud800", "NaN", "null", "#", ",")
OUT = ROOT / "build" / "fuzz"


def one_input(data: bytes) -> None:
    """Read an input; its first two bytes say how."""
    if len(data) < 2:
        return
    named = FORMATS[data[0] % len(FORMATS)]
    options, packed, small = data[1] % 8, data[1] // 8 % 4, data[1] // 32 % 2
    json_array._CHUNK = 3 if small else 1 << 16  # so that items are cut at any place
    content = data[2:]
    if packed:
        content = archive_of(MEMBERS[packed - 1], content)
    if content.startswith(b"PAR1"):
        return  # Arrow's own parser in C++, of which no coverage is seen
    count_rows(content, format=named, columns=COLUMNS[options % 4], labels_required=options < 4)


def archive_of(name: str, content: bytes) -> bytes:
    """An archive with one member, so that mutations reach what is in it."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(name, content)
    return sink.getvalue()


def write_corpus(folder: Path) -> None:
    """One input of every kind of export to begin with."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in EXPORTS.items():
        if not name.endswith(".parquet"):
            named = FORMATS.index(tool_of_name(name))
            for how in (bytes([0, 0]), bytes([named, 1])):
                (folder / f"{name}-{how[0]}").write_bytes(how + content)
    for packed, name in ((8, "doccano.jsonl"), (16, "doccano.csv"), (24, "doccano.json")):
        (folder / f"packed-{name}").write_bytes(bytes([0, packed]) + EXPORTS[name])


def write_dictionary(path: Path) -> None:
    """Words that a mutation by single bytes would take long to find."""
    words = [f'"{token}"' for token in TOKENS] + list(SIGNS)
    escaped = (word.replace("\\", "\\\\").replace('"', '\\"') for word in words)
    path.write_text("".join(f'"{word}"\n' for word in escaped))


def main() -> None:
    """Fuzz for a while, or read one input again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("input", nargs="?", help="an input to read once more")
    arguments = parser.parse_args()
    corpus = OUT / "corpus"
    write_corpus(corpus)
    write_dictionary(OUT / "dictionary")
    flags = [f"-max_total_time={arguments.seconds}", "-max_len=4096", "-timeout=20",
             "-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={OUT}/",
             f"-dict={OUT / 'dictionary'}"]  # fmt: skip
    inputs = [arguments.input] if arguments.input else [str(corpus)]
    atheris.Setup([sys.argv[0], *flags, *inputs], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
