"""Label Studio's exports: JSON (tasks), JSON-MIN, CSV and TSV (one row per annotation)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from longtail.annotations.objects import Parsed, keys_of, parse_json, peek
from longtail.annotations.schema import Record
from longtail.annotations.tool_rows import (
    UNREAD,
    Request,
    as_json,
    broken,
    cells,
    choose_key,
    repeated_key,
    require_keys,
    skipped,
    too_many,
    unreadable,
)

MIN_KEYS = frozenset({"annotation_id", "annotator", "created_at", "lead_time", "updated_at"})
_CHOICES, _TAXONOMY = "choices", "taxonomy"
_NOT_CHOICES = frozenset({*MIN_KEYS, "id", "agreement", "history", "was_cancelled"})
_NOT_ANNOTATED = "not annotated"
_CANCELLED = "cancelled: the annotator skipped the task"


def is_task(value: Mapping[str, object]) -> bool:
    """Whether an object is a task of the JSON export."""
    return isinstance(value.get("data"), dict) and annotations_key(value) is not None


def annotations_key(value: Mapping[str, object]) -> str | None:
    """Where a task keeps its annotations; old versions called them completions."""
    return next((key for key in ("annotations", "completions") if key in value), None)


def task_records(objects: Iterator[Parsed], request: Request) -> Iterator[Record]:
    """Rows of the JSON export: one per annotation, one per task that has none.

    Raises:
        DataError: no task has a wanted key in its data, or which tag holds the labels cannot be
            told.
    """
    peeked, objects = peek(objects)
    wanted = request.looked_up("id", "annotator", "annotated_at")
    data = (item.value.get("data") for item in peeked if item.value)
    found = {key: None for keys in data if isinstance(keys, dict) for key in keys}
    require_keys(request, list(found), wanted)
    tag = choose_key(request, _tags(peeked), "choices tag") if request.labels_required else None
    del peeked
    for item in objects:
        yield from _task(item, request, wanted, tag)


def _tags(peeked: Iterable[Parsed]) -> list[str]:
    """The names of the tags whose results are choices."""
    names: dict[str, None] = {}
    for item in peeked:
        for annotation in _annotations(item.value or {}):
            for result in _results(annotation):
                name = result.get("from_name")
                if isinstance(name, str) and _chosen(result.get("value")) is not None:
                    names[name] = None
    return list(names)


def _annotations(task: Mapping[str, object]) -> list[object]:
    found = task.get(annotations_key(task) or "")
    return found if isinstance(found, list) else []


def _results(annotation: object) -> list[dict[str, object]]:
    found = annotation.get("result") if isinstance(annotation, dict) else None
    return (
        [result for result in found if isinstance(result, dict)] if isinstance(found, list) else []
    )


def _task(
    item: Parsed, request: Request, wanted: Mapping[str, str], tag: str | None
) -> Iterator[Record]:
    task = item.value
    if task is None:
        yield unreadable(item)
        return
    data = task.get("data")
    if not isinstance(data, dict):
        yield broken(item.raw, "a task without data; export as JSON from Label Studio")
        return
    values = cells([data], wanted)
    if "id" not in wanted:
        values["id"] = task.get("id")
    if not request.labels_required:
        yield Record(UNREAD, values, item.raw)
        return
    said = task.get(annotations_key(task) or "")
    why = repeated_key(task, data)
    if why is None and not isinstance(said, list):
        why = "a task whose annotations are not a list"
    said = said if isinstance(said, list) else []
    if why := why or too_many(item.raw, len(said)):
        yield broken(item.raw, why)
    elif not said:
        yield skipped(values, item.raw, _NOT_ANNOTATED)
    for annotation in [] if why else said:
        alone = {**task, annotations_key(task) or "": [annotation]}
        raw = item.raw if len(said) == 1 else as_json(alone, item.raw)
        yield _annotation(annotation, request, values, raw, tag)


def _annotation(
    annotation: object, request: Request, task: Mapping[str, object], raw: str, tag: str | None
) -> Record:
    if not isinstance(annotation, dict):
        return broken(raw, "an annotation that is not an object")
    if why := repeated_key(annotation):
        return broken(raw, why)
    values = {**task, **_about(annotation, request, annotation.get("completed_by"))}
    if annotation.get("was_cancelled") or annotation.get("skipped"):
        return skipped(values, raw, _CANCELLED)
    labels, why = _labels(annotation.get("result"), tag)
    return broken(raw, why) if why else Record(UNREAD, {**values, "labels": labels}, raw)


def _labels(results: object, tag: str | None) -> tuple[list[object], str | None]:
    """What was chosen with a tag, and what is wrong with the results."""
    if not isinstance(results, list):
        return [], "an annotation whose result is not a list"
    labels: list[object] = []
    for result in results:
        if not isinstance(result, dict):
            return [], "a result of an annotation that is not an object"
        if result.get("from_name") == tag:
            if why := repeated_key(result, result.get("value")):
                return [], why
            labels += _chosen(result.get("value")) or []
    return labels, None


def _about(said: Mapping[str, object], request: Request, annotator: object) -> dict[str, object]:
    """Who annotated and when, where it is not read from a key of the user's."""
    about: dict[str, object] = {}
    if request.reads("annotator"):
        about["annotator"] = _who(annotator)
    if request.reads("annotated_at"):
        about["annotated_at"] = said.get("updated_at") or said.get("created_at")
    return about


def _who(annotator: object) -> object:
    if not isinstance(annotator, dict):
        return annotator
    names = (annotator.get(key) for key in ("email", "username", "id"))
    return next((name for name in names if name not in (None, "")), None)


def min_records(objects: Iterator[Parsed], request: Request) -> Iterator[Record]:
    """Rows of JSON-MIN, CSV and TSV: one per annotation, one per task that has none.

    Raises:
        DataError: no row has a wanted key, or which key holds the labels cannot be told.
    """
    peeked, objects = peek(objects)
    wanted = request.looked_up("annotator", "annotated_at")
    keys = keys_of(peeked)
    require_keys(request, keys, wanted)
    key = None
    if request.labels_required:
        key = choose_key(request, _candidates(peeked, keys, request, wanted), "key")
    del peeked
    has_annotation = "annotation_id" in keys
    for item in objects:
        yield _min_record(item, request, wanted, key, has_annotation=has_annotation)


def _candidates(
    peeked: Iterable[Parsed], keys: Iterable[str], request: Request, wanted: Mapping[str, str]
) -> list[str]:
    """The keys that may hold choices: those that surely do, else all that hold strings."""
    if request.columns.labels in keys:
        return [request.columns.labels]
    taken = _NOT_CHOICES | set(wanted.values())
    sure: dict[str, None] = {}
    perhaps: dict[str, None] = {}
    for item in peeked:
        for key, value in (item.value or {}).items():
            if key not in taken and _chosen(cell := _unpacked(value)):
                plain = isinstance(cell, str) or (isinstance(cell, list) and cell == _chosen(cell))
                (perhaps if plain else sure)[key] = None
    return list(sure or perhaps)


def _min_record(
    item: Parsed,
    request: Request,
    wanted: Mapping[str, str],
    key: str | None,
    *,
    has_annotation: bool,
) -> Record:
    row = item.value
    if row is None:
        return unreadable(item)
    if why := repeated_key(row):
        return broken(item.raw, why)
    values = {**cells([row], wanted), **_about(row, request, _unpacked(row.get("annotator")))}
    if not request.labels_required:
        return Record(UNREAD, values, item.raw)
    if has_annotation and row.get("annotation_id") in (None, ""):
        return skipped(values, item.raw, _NOT_ANNOTATED)
    if row.get("was_cancelled") in (True, "True", "true"):
        return skipped(values, item.raw, _CANCELLED)
    cell = _unpacked(row.get(key)) if key is not None else None
    labels = [] if cell in (None, "") else _chosen(cell)
    return Record(UNREAD, {**values, "labels": cell if labels is None else labels}, item.raw)


def _unpacked(cell: object) -> object:
    """A cell of CSV that holds JSON, as what it holds; any other as it is."""
    if not (isinstance(cell, str) and cell.strip()[:1] in {"{", "["}):
        return cell
    value, why = parse_json(cell)
    return cell if why else value


def _chosen(value: object) -> list[object] | None:
    """The choices in a result's value or in a cell of JSON-MIN; None when it holds none."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        parts = [None if isinstance(part, list) else _chosen(part) for part in value]
        return None if None in parts else [label for part in parts for label in part or []]
    if not isinstance(value, dict):
        return None
    if _CHOICES in value:
        choices = value[_CHOICES]
        return list(choices) if isinstance(choices, list) else [choices]
    if _TAXONOMY in value:
        paths = value[_TAXONOMY]
        return [_path(path) for path in paths] if isinstance(paths, list) else [paths]
    return None


def _path(path: object) -> object:
    """A node of a taxonomy by its whole path: leaves of one name may stand under two parents."""
    if isinstance(path, list) and path and all(isinstance(part, str) for part in path):
        return "/".join(path)
    return path
