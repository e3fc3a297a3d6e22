"""The taxonomy: what each label means, what it was called, and since when it can be given.

docs/reference/taxonomy.md shows a file and says what each part of it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from longtail.annotations.fields import read_date
from longtail.annotations.schema import MAX_LABEL_CHARACTERS
from longtail.errors import ConfigError
from longtail.label_view import Viewed, rows_of_items, view_labels
from longtail.storage import fingerprint
from longtail.yaml_files import read_yaml

_PROBLEMS_SHOWN = 10


def _moment(value: object) -> datetime | None:
    moment, problem = read_date(value)
    if problem or (value is not None and moment is None):
        raise ValueError(problem or "nothing was found, a date is expected")
    return moment


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text for YAML; put the name in quotes")  # noqa: TRY004
    if value != value.strip() or not value:
        raise ValueError(f"{value!r} is empty or has white space around it; annotations never do")
    if len(value) > MAX_LABEL_CHARACTERS:
        raise ValueError(f"{value[:40]!r}… is longer than {MAX_LABEL_CHARACTERS} characters")
    return value


Moment = Annotated[datetime | None, BeforeValidator(_moment)]
Name = Annotated[str, BeforeValidator(_name)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelEntry(_Part):
    """What the taxonomy says of one label.

    Attributes:
        description: what the label means, for annotators.
        aliases: other names of it in annotations, such as earlier ones.
        since: from when on annotators could give it; None: always.
        until: when it was retired; None: never.
        parents: labels that it implies.
    """

    description: str | None = None
    aliases: tuple[Name, ...] = ()
    since: Moment = None
    until: Moment = None
    parents: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _ends_after_it_began(self) -> LabelEntry:
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise ValueError(
                f"until {self.until:%Y-%m-%d} is not after since {self.since:%Y-%m-%d}"
            )
        return self


class Taxonomy(_Part):
    """All labels that annotators may give, with what is to be known of each.

    Attributes:
        labels: what is said of each label, by its name of today.
    """

    labels: dict[Name, LabelEntry] = Field(min_length=1)

    @field_validator("labels", mode="before")
    @classmethod
    def _nothing_said_is_fine(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {name: {} if entry is None else entry for name, entry in given.items()}

    @model_validator(mode="after")
    def _hangs_together(self) -> Taxonomy:
        problems = [*_alias_problems(self.labels), *_parent_problems(self.labels)]
        if problems:
            raise ValueError("; ".join(_first(problems)))
        return self

    @cached_property
    def canonical(self) -> dict[str, str]:
        """Today's name of every name there is or was, labels and aliases."""
        names = {name: name for name in self.labels}
        for name, entry in self.labels.items():
            names.update(dict.fromkeys(entry.aliases, name))
        return names

    @cached_property
    def ancestors(self) -> dict[str, tuple[str, ...]]:
        """Of each label that has parents, all that it implies, sorted."""
        found: dict[str, set[str]] = {}
        for name in _parents_first(self.labels):
            parents = self.labels[name].parents
            found[name] = set(parents).union(*(found[parent] for parent in parents))
        return {name: tuple(sorted(above)) for name, above in found.items() if above}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the content; the order of labels, aliases and parents does not matter."""
        return fingerprint(
            {
                name: {
                    **entry.model_dump(mode="json"),
                    "aliases": sorted(set(entry.aliases)),
                    "parents": sorted(set(entry.parents)),
                }
                for name, entry in self.labels.items()
            }
        )

    def retired(self, as_of: datetime) -> frozenset[str]:
        """Labels whose ``until`` has come."""
        now = _aware(as_of)
        return frozenset(
            name for name, entry in self.labels.items() if entry.until and entry.until <= now
        )

    def since(self, labels: Iterable[str]) -> tuple[datetime | None, ...]:
        """From when on each label could be given; None: always, or the label is not named here."""
        entries = (self.labels.get(name) for name in labels)
        return tuple(None if entry is None else entry.since for entry in entries)

    def rows_with_unknown(self, labels: pa.ChunkedArray) -> list[tuple[int, tuple[str, ...]]]:
        """Rows with names that the taxonomy does not know, ascending, each with those names.

        Args:
            labels: list<string>; null rows have no names.
        """
        known = pa.array(list(self.canonical), pa.string())
        found: dict[int, list[str]] = {}
        start = 0
        for chunk in labels.chunks:
            flat = pc.list_flatten(chunk)
            strange = pc.invert(pc.is_in(flat, known))
            rows = rows_of_items(chunk)[strange.to_numpy(zero_copy_only=False)] + start
            for row, name in zip(rows.tolist(), flat.filter(strange).to_pylist(), strict=True):
                found.setdefault(row, []).append(name)
            start += len(chunk)
        return [(row, tuple(names)) for row, names in found.items()]

    def apply(self, table: pa.Table, *, as_of: datetime, add_parents: bool) -> Viewed:
        """A table of annotations under today's names; the table that was given stays as it is.

        Aliases become today's names, parents are added where that is asked for, and retired labels
        drop out. A text that had retired labels alone stays, as a text without labels: whoever
        annotated it saw none of the others.

        Args:
            table: with a column ``labels``, list<string>, which may be null.
            as_of: the present moment; without a time zone it is taken for UTC.
            add_parents: whether to give each text all that its labels imply.
        """
        labels, changes = view_labels(
            table["labels"],
            canonical=self.canonical,
            ancestors=self.ancestors if add_parents else {},
            retired=self.retired(as_of),
        )
        place = table.schema.get_field_index("labels")
        viewed = table.set_column(place, table.schema.field(place), labels)
        return Viewed(table=viewed, **changes)


def load_taxonomy(path: str | Path) -> Taxonomy:
    """Read ``taxonomy.yaml``.

    Raises:
        ConfigError: it cannot be read, or does not hang together; names file, label and field.
    """
    content = read_yaml(path)
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(
            f"{path}: expected a section 'labels' with what is said of each label; "
            "docs/reference/taxonomy.md shows one"
        )
    try:
        return Taxonomy.model_validate(content)
    except ValidationError as error:
        said = dict.fromkeys(_said(problem) for problem in error.errors(include_url=False))
        raise ConfigError(f"{path}: {'; '.join(_first(list(said)))}") from error


def _said(problem: Any) -> str:
    """One of pydantic's findings as a sentence that names the label and the field."""
    location = [str(part) for part in problem["loc"] if part != "[key]"]
    where = ""
    if location[:1] == ["labels"] and len(location) > 1:
        where = ": ".join([f"label {location[1]!r}", *location[2:3]]) + ": "
    elif location:
        where = f"{location[0]}: "
    if problem["type"] == "extra_forbidden":
        known = LabelEntry.model_fields if len(location) > 1 else Taxonomy.model_fields
        return f"{where}no such key; there are {', '.join(known)}"
    if problem["type"] == "value_error":
        return where + str(problem["msg"]).removeprefix("Value error, ")
    return f"{where}{problem['msg']}, found {problem['input']!r:.80}"


def _first(problems: Sequence[str]) -> list[str]:
    more = len(problems) - _PROBLEMS_SHOWN
    return [*problems[:_PROBLEMS_SHOWN], *([f"and {more} more"] if more > 0 else [])]


def _alias_problems(labels: Mapping[str, LabelEntry]) -> Iterable[str]:
    owner: dict[str, str] = {}
    for name, entry in labels.items():
        for alias in dict.fromkeys(entry.aliases):
            if alias in labels:
                yield f"label {name!r}: its alias {alias!r} is a label itself; remove one of them"
            elif alias in owner:
                yield (
                    f"label {name!r}: its alias {alias!r} is also one of {owner[alias]!r}; "
                    "a name can stand for one label only"
                )
            owner.setdefault(alias, name)


def _parent_problems(labels: Mapping[str, LabelEntry]) -> Iterable[str]:
    owner = {alias: name for name, entry in labels.items() for alias in entry.aliases}
    strange = False
    for name, entry in labels.items():
        for parent in entry.parents:
            if parent not in labels:
                strange = True
                hint = f", but an alias of {owner[parent]!r}" if parent in owner else ""
                yield f"label {name!r}: its parent {parent!r} is no label here{hint}"
    if not strange and (cycle := _cycle(labels)):
        yield f"label {cycle[0]!r}: it is its own parent, by way of {' → '.join(cycle)}"


def _parents_first(labels: Mapping[str, LabelEntry]) -> list[str]:
    """The labels, each after its parents; those in or below a cycle are left out."""
    children: dict[str, list[str]] = {name: [] for name in labels}
    waits_for = {name: len(set(entry.parents)) for name, entry in labels.items()}
    for name, entry in labels.items():
        for parent in set(entry.parents):
            children[parent].append(name)
    order = [name for name, count in waits_for.items() if not count]
    for name in order:  # grows while it is walked
        for child in children[name]:
            waits_for[child] -= 1
            if not waits_for[child]:
                order.append(child)
    return order


def _cycle(labels: Mapping[str, LabelEntry]) -> list[str]:
    """The labels along one cycle of parents, the first once more at the end; else nothing."""
    left = set(labels).difference(_parents_first(labels))
    if not left:
        return []
    path = [min(left)]
    while path[-1] not in path[:-1]:
        path.append(min(parent for parent in labels[path[-1]].parents if parent in left))
    return path[path.index(path[-1]) :]


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
