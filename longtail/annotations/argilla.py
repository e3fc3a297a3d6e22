"""Argilla 2's exports: records as JSON, flattened or nested, and Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from longtail.annotations.fields import describe
from longtail.annotations.objects import Parsed, as_object, peek
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
from longtail.errors import DataError

_RESPONSES, _USERS, _STATUS = ".responses", ".responses.users", ".responses.status"
_ENDS = (_RESPONSES, _USERS, _STATUS, ".suggestion", ".suggestion.agent", ".suggestion.score")
_SUBMITTED = "submitted"
_NO_RESPONSE = "no response: nobody has answered the question"
_NOT_SUBMITTED = "the response is {}; only submitted ones count"
_NO_STATUS = "no status, and the record is {}; export with to_list(flatten=True), which has them"
_BATCH_ROWS = 256


def is_record(value: Mapping[str, object]) -> bool:
    """Whether an object is a record of Argilla's, flattened or nested."""
    return are_columns(value) or is_nested(value)


def is_nested(value: Mapping[str, object]) -> bool:
    """Whether an object is a record that keeps fields and responses apart."""
    return isinstance(value.get("fields"), dict) and isinstance(value.get("responses"), dict | list)


def are_columns(names: Iterable[str]) -> bool:
    """Whether these are the columns of flattened records."""
    return any(name.endswith(_ENDS) for name in names)


def parquet_objects(handle: IO[bytes], file: str) -> Iterator[Parsed]:
    """The rows of a Parquet file as objects.

    Raises:
        DataError: the file is damaged.
    """
    position = 0
    try:
        for batch in pq.ParquetFile(handle).iter_batches(_BATCH_ROWS):
            for row in range(batch.num_rows):
                position += 1
                yield _row(position, batch.slice(row, 1))
    except (pa.ArrowException, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"{file}: the Parquet file is damaged or was cut off after row {position} ({first}); "
            "export it again"
        ) from error


def _row(position: int, row: pa.RecordBatch) -> Parsed:
    try:
        value = row.to_pylist()[0]
    except (ValueError, OverflowError, KeyError) as error:
        return Parsed(position, None, repr(row)[:1000], f"a value cannot be read ({error})")
    return as_object(position, value, None, raw=as_json(value, ""))


def record_records(objects: Iterator[Parsed], request: Request) -> Iterator[Record]:
    """Rows of Argilla: one per response to the question, one per record that has none.

    Raises:
        DataError: no record has a wanted key, or which question holds the labels cannot be told.
    """
    peeked, objects = peek(objects)
    wanted = request.looked_up("annotator")
    found = {key: None for item in peeked for place in _places(item.value or {}) for key in place}
    require_keys(request, list(found), wanted)
    question = None
    if request.labels_required:
        question = choose_key(request, _questions(peeked), "question")
    del peeked
    for item in objects:
        yield from _record(item, request, wanted, question)


def _places(record: Mapping[str, object]) -> list[Mapping[str, object]]:
    """Where the fields and the metadata of a record stand."""
    inner = (record.get(key) for key in ("fields", "metadata"))
    return [record, *(place for place in inner if isinstance(place, dict))]


def _questions(peeked: Iterable[Parsed]) -> list[str]:
    """The questions whose responses are names or lists of names."""
    names: dict[str, bool] = {}
    for item in peeked:
        for name, values in _answers(item.value or {}):
            told = [value for value in values if value is not None]
            good = all(_may_be_labels(value) for value in told)
            names[name] = names.get(name, True) and good
    return [name for name, good in names.items() if good]


def _may_be_labels(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(part, str) for part in value)
    return isinstance(value, str)


def _answers(record: Mapping[str, object]) -> Iterator[tuple[str, list[object]]]:
    for key, value in record.items():
        if key.endswith(_RESPONSES):
            yield key.removesuffix(_RESPONSES), value if isinstance(value, list) else []
    nested = record.get("responses")
    if isinstance(nested, dict):
        for name, answers in nested.items():
            yield (
                name,
                [_part(answer, "value") for answer in answers or []]
                if isinstance(answers, list)
                else [],
            )
    for answer in nested if isinstance(nested, list) else []:
        if isinstance(name := _part(answer, "question_name"), str):
            yield name, [_part(answer, "value")]


def _part(answer: object, key: str) -> object:
    return answer.get(key) if isinstance(answer, dict) else None


def _record(
    item: Parsed, request: Request, wanted: Mapping[str, str], question: str | None
) -> Iterator[Record]:
    record = item.value
    if record is None:
        yield unreadable(item)
        return
    values = cells(_places(record), wanted)
    if not request.labels_required:
        yield Record(UNREAD, values, item.raw)
        return
    responses, why = _responses(record, question)
    why = why or repeated_key(*_places(record)) or too_many(item.raw, len(responses))
    if why:
        yield broken(item.raw, why)
    elif not responses:
        yield skipped(values, item.raw, _NO_RESPONSE)
    for value, user, status in [] if why else responses:
        row = dict(values)
        if request.reads("annotator"):
            row["annotator"] = user
        if status == _SUBMITTED:
            labels = [value] if isinstance(value, str) else value
            yield Record(UNREAD, {**row, "labels": labels}, item.raw)
        else:
            yield skipped(row, item.raw, _unused(status, record))


def _unused(status: object, record: Mapping[str, object]) -> str:
    if status is None:
        return _NO_STATUS.format(describe(record.get("status")))
    return _NOT_SUBMITTED.format(describe(status))


def _responses(
    record: Mapping[str, object], question: str | None
) -> tuple[list[tuple[object, object, object]], str | None]:
    """The question's responses as (value, user, status), and what is wrong with them."""
    if question is None:
        return [], None
    if question + _RESPONSES in record:
        return _flat(record, question)
    nested = record.get("responses")
    answers = nested.get(question) if isinstance(nested, dict) else nested
    if isinstance(nested, list):
        answers = [part for part in nested if _part(part, "question_name") == question]
    if answers is None:
        return [], None
    if not isinstance(answers, list) or not all(isinstance(part, dict) for part in answers):
        return [], f"the responses to {question[:40]!r} are not a list of objects"
    if why := repeated_key(*answers):
        return [], why
    # Some versions leave the status out of nested responses; a record is completed when it has
    # as many submitted ones as it needs.
    otherwise = _SUBMITTED if record.get("status") == "completed" else None
    return [
        (part.get("value"), part.get("user_id"), part.get("status") or otherwise)
        for part in answers
    ], None


def _flat(
    record: Mapping[str, object], question: str
) -> tuple[list[tuple[object, object, object]], str | None]:
    columns = [record.get(question + end) for end in (_RESPONSES, _USERS, _STATUS)]
    values = columns[0] if isinstance(columns[0], list) else []
    users, statuses = (
        column if isinstance(column, list) else [None] * len(values) for column in columns[1:]
    )
    if columns[0] is not None and not isinstance(columns[0], list):
        return [], f"the responses to {question[:40]!r} are not a list"
    if not len(values) == len(users) == len(statuses):
        return [], (
            f"{len(values)} responses to {question[:40]!r}, but {len(users)} users and "
            f"{len(statuses)} statuses"
        )
    return list(zip(values, users, statuses, strict=True)), None
