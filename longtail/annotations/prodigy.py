"""Prodigy's exports (``db-out``): choice, and textcat with one label per line."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator, Mapping

from longtail.annotations.fields import describe
from longtail.annotations.objects import Parsed, keys_of, peek
from longtail.annotations.schema import Record
from longtail.annotations.tool_rows import (
    UNREAD,
    Request,
    broken,
    cells,
    repeated_key,
    require_keys,
    skipped,
    unreadable,
)

_ANSWERS = frozenset({"accept", "reject", "ignore"})
_HASHES = frozenset({"_input_hash", "_task_hash"})
_NOT_USED = "the answer is {}; only accepted ones count"
_ONLY_REJECTED = (
    "only rejected labels: that says which labels the text does not have, not that it has none"
)
_Key = tuple[object, object]


def is_task(value: Mapping[str, object]) -> bool:
    """Whether an object is an answered task of Prodigy's."""
    answer = value.get("answer")
    return isinstance(answer, str) and answer in _ANSWERS and not _HASHES.isdisjoint(value)


def task_records(again: Callable[[], Iterator[Parsed]], request: Request) -> Iterator[Record]:
    """Rows of Prodigy: one per line.

    The lines of textcat, one label each, are read twice: first for which labels were accepted of
    an input by an annotator, and then every line of that input carries all of them. So they are
    the same row several times, which the merge by id and annotator makes one.

    Args:
        again: the lines or items of the export from its beginning; called twice.
        request: what is asked for.

    Raises:
        DataError: no task has a wanted key.
    """
    peeked, _ = peek(again())
    wanted = request.looked_up("id", "annotator", "annotated_at")
    inner = (key for item in peeked for key in _meta(item.value or {}))
    require_keys(request, list(dict.fromkeys([*keys_of(peeked), *inner])), wanted)
    del peeked
    accepted = _accepted(again()) if request.labels_required else {}
    for item in again():
        yield _task(item, request, wanted, accepted)


def _meta(task: Mapping[str, object]) -> Mapping[str, object]:
    meta = task.get("meta")
    return meta if isinstance(meta, dict) else {}


def _is_choice(task: Mapping[str, object]) -> bool:
    return "accept" in task or "options" in task


def _key(task: Mapping[str, object]) -> _Key:
    """The input and the annotator of a line."""
    key = (task.get("_input_hash", task.get("id")), _annotator(task))
    return key if all(isinstance(part, str | int | None) for part in key) else (None, None)


def _annotator(task: Mapping[str, object]) -> object:
    return task.get("_annotator_id") or task.get("_session_id")


def _accepted(objects: Iterator[Parsed]) -> dict[_Key, dict[str, bool]]:
    """What an annotator said last of every label of an input that was put to them."""
    said: dict[_Key, dict[str, bool]] = {}
    names: dict[str, str] = {}
    for item in objects:
        task = item.value or {}
        label, answer = task.get("label"), task.get("answer")
        if isinstance(label, str) and answer in ("accept", "reject") and not _is_choice(task):
            own = said.setdefault(_key(task), {})
            own[names.setdefault(label, label)] = answer == "accept"
    return said


def _task(
    item: Parsed,
    request: Request,
    wanted: Mapping[str, str],
    accepted: Mapping[_Key, Mapping[str, bool]],
) -> Record:
    task = item.value
    if task is None:
        return unreadable(item)
    if why := repeated_key(task, _meta(task)):
        return broken(item.raw, why)
    values = _values(task, request, wanted)
    if not request.labels_required:
        return Record(UNREAD, values, item.raw)
    answer = task.get("answer")
    choice = _is_choice(task)
    if answer != "accept" and (choice or answer != "reject"):
        return skipped(values, item.raw, _NOT_USED.format(describe(answer)))
    if choice:
        return Record(UNREAD, {**values, "labels": _choices(task)}, item.raw)
    return _folded(item, values, task, accepted)


def _values(
    task: Mapping[str, object], request: Request, wanted: Mapping[str, str]
) -> dict[str, object]:
    values = cells([task, _meta(task)], wanted)
    if "id" not in wanted:
        values["id"] = task.get("_input_hash", task.get("id"))
    if request.reads("annotator"):
        values["annotator"] = _annotator(task)
    if request.reads("annotated_at"):
        values["annotated_at"] = _moment(task.get("_timestamp"))
    return values


def _moment(stamp: object) -> object:
    """Seconds since 1970 as a date; anything else as it is."""
    if isinstance(stamp, bool) or not isinstance(stamp, int | float) or not math.isfinite(stamp):
        return stamp
    try:
        return dt.datetime.fromtimestamp(stamp, dt.UTC)
    except (OverflowError, OSError, ValueError):
        return stamp


def _choices(task: Mapping[str, object]) -> object:
    """The accepted options; one that is numbered goes by its text."""
    accept = task.get("accept", [])
    if not isinstance(accept, list):
        return accept
    options = task.get("options")
    texts = {
        option["id"]: option.get("text")
        for option in (options if isinstance(options, list) else [])
        if isinstance(option, dict) and isinstance(option.get("id"), int)
    }
    return [_choice(chosen, texts) for chosen in accept]


def _choice(chosen: object, texts: Mapping[int, object]) -> object:
    if isinstance(chosen, bool) or not isinstance(chosen, int):
        return chosen
    text = texts.get(chosen)
    return text if isinstance(text, str) and text.strip() else str(chosen)


def _folded(
    item: Parsed,
    values: Mapping[str, object],
    task: Mapping[str, object],
    accepted: Mapping[_Key, Mapping[str, bool]],
) -> Record:
    """A line of textcat with all labels that its annotator accepted of its input."""
    label = task.get("label")
    if not isinstance(label, str):
        return broken(item.raw, "a task with neither options nor a label; is it of textcat?")
    key = _key(task)
    if key[0] is None:
        said: Mapping[str, bool] = {label: task.get("answer") == "accept"}
    else:
        said = accepted.get(key, {})
    labels = [name for name, yes in said.items() if yes]
    if not labels:
        return skipped(values, item.raw, _ONLY_REJECTED)
    return Record(UNREAD, {**values, "labels": labels}, item.raw)
