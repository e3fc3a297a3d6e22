"""What an export would change of the labels: against what is stored, and against the taxonomy.

docs/reference/taxonomy.md lists the kinds of findings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from longtail.label_likeness import Exchange, exchanges, likest, same_but_for_spelling
from longtail.taxonomy import Taxonomy
from longtail.taxonomy_scan import Scan, scan

Kind = Literal[
    "renamed", "new", "unlisted", "alike", "vanished", "retired", "early", "parents", "alias",
    "undescribed",
]  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """Something that an export says of a label.

    Attributes:
        kind: docs/reference/taxonomy.md says what each means.
        label: the name that it is about.
        attention: whether somebody should look at it before the export is taken in.
        rows: rows of the export concerned; for a vanished label, stored texts.
        detail: the sentence for people.
        other: another label that has to do with it.
        first: positions of the first rows of the export, for a new name.
    """

    kind: Kind
    label: str
    attention: bool
    rows: int
    detail: str
    other: str | None = None
    first: tuple[int, ...] = ()


@dataclass(frozen=True)
class TaxonomyCheck:
    """What was found.

    Attributes:
        rows: rows of the export.
        unusable: those that it skips, or that cannot be read.
        labels: distinct names in it.
        absent: stored labels that are not in it.
        findings: what needs attention first, then by kind.
    """

    rows: int
    unusable: int
    labels: int
    absent: int
    findings: tuple[Finding, ...]

    @property
    def attention(self) -> int:
        """Findings that somebody should look at."""
        return sum(finding.attention for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {**asdict(self), "attention": self.attention}


def check_export(
    batches: Iterable[pa.Table],
    *,
    stored: pa.Table | None = None,
    taxonomy: Taxonomy | None = None,
    as_of: datetime,
    full: bool = False,
    quarantines: bool = False,
    add_parents: bool = False,
) -> TaxonomyCheck:
    """Compare an export's labels with the data set and the taxonomy; the export is read once.

    Args:
        batches: tables of the schema :data:`longtail.annotations.schema.RAW`.
        stored: columns id and labels of the data set, ids unique; None: there is none.
        taxonomy: None: there is none.
        as_of: the present moment, for what is retired.
        full: whether the export holds everything, so that a label that is not in it has vanished.
        quarantines: whether rows with names that the taxonomy does not know are set aside.
        add_parents: whether a run gives texts what their labels imply.
    """
    support = {} if stored is None else _support(stored)
    known: set[str] | None = {*support, *([] if taxonomy is None else taxonomy.canonical)}
    if stored is None and taxonomy is None:
        known = None  # every name would be new
    comparison = _Comparison(
        scan(batches, taxonomy, known), support, stored, taxonomy or _NOTHING_SAID,
        has_taxonomy=taxonomy is not None, as_of=as_of, full=full, quarantines=quarantines,
        add_parents=add_parents,
    )  # fmt: skip
    findings = sorted(comparison.findings(), key=lambda one: not one.attention)
    return TaxonomyCheck(
        rows=comparison.found.rows,
        unusable=comparison.found.unusable,
        labels=len(comparison.found.texts),
        absent=len(comparison.absent),
        findings=tuple(findings),
    )


def _support(stored: pa.Table) -> dict[str, int]:
    counts = pc.value_counts(pc.list_flatten(stored["labels"])).to_pylist()
    return {count["values"]: count["counts"] for count in counts}


_GIVE_SINCE = "; if it is new, give it a since, so that earlier texts do not count as lacking it"
_NOTHING_SAID = Taxonomy.model_construct(labels={})


@dataclass(frozen=True)
class _Comparison:
    found: Scan
    support: Mapping[str, int]
    stored: pa.Table | None
    taxonomy: Taxonomy
    has_taxonomy: bool
    as_of: datetime
    full: bool
    quarantines: bool
    add_parents: bool

    def findings(self) -> Iterator[Finding]:
        """Everything, by kind; labels with more rows first."""
        yield from self._new()
        yield from self._unlisted()
        yield from self._alike()
        if self.full:
            yield from self._vanished()
        yield from self._outside_its_dates()
        yield from self._parents()
        yield from self._aliases()
        yield from self._undescribed()

    @cached_property
    def fresh(self) -> list[str]:
        """Names that neither the data set nor the taxonomy knows, the most frequent first."""
        if not self.has_taxonomy and self.stored is None:
            return []
        known = {*self.support, *self.taxonomy.canonical}
        return self._by_rows(name for name in self.found.texts if name not in known)

    @cached_property
    def absent(self) -> list[str]:
        """Stored labels that do not occur, by today's name, the most frequent first."""
        canonical = self.taxonomy.canonical
        given = {canonical.get(name, name) for name in self.found.texts}
        retired = self.taxonomy.retired(self.as_of)
        gone = {
            name for name in self.support
            if (today := canonical.get(name, name)) not in given and today not in retired
        }  # fmt: skip
        return sorted(gone, key=lambda name: (-self.support[name], name))

    def _by_rows(self, names: Iterable[str]) -> list[str]:
        return sorted(names, key=lambda name: (-self.found.texts[name], name))

    @cached_property
    def alike(self) -> Mapping[str, str]:
        """New names that are like a known one, with that."""
        return likest(self.fresh, {*self.support, *self.taxonomy.labels})

    @cached_property
    def exchanged(self) -> Mapping[str, Exchange]:
        """New names that took the place of a stored one."""
        if self.stored is None:
            return {}
        return exchanges(self.found.with_new, self.stored, self.fresh, self.taxonomy.canonical)

    @cached_property
    def renamed(self) -> Mapping[str, str]:
        """New names that are probably another name of a known label; texts before spelling."""
        by_texts = {name: evidence.old for name, evidence in self.exchanged.items()}
        return {**self.alike, **by_texts}

    def _new(self) -> Iterator[Finding]:
        for name in self.fresh:
            other = self.renamed.get(name)
            if other is None:
                yield self._finding("new", name, f"not known yet{self._fate()}{_GIVE_SINCE}")
                continue
            said = "; ".join(self._evidence(name, other))
            detail = f"probably what was called {other!r}: {said}{self._fate()}"
            yield self._finding("renamed", name, detail, other)

    def _evidence(self, name: str, other: str) -> Iterator[str]:
        if self.alike.get(name) == other:
            yield "the names are alike"
        if found := self.exchanged.get(name):
            yield (
                f"of the {found.compared} stored texts that now have it, {found.texts} had the "
                "other and lost it"
            )
        if still := self.found.texts[other]:
            yield f"but {_rows(still)} still with the other"

    def _fate(self) -> str:
        if not self.has_taxonomy:
            return ""
        what = "its rows would be set aside" if self.quarantines else "it would be taken"
        return f"; the taxonomy does not name it, so {what}"

    def _unlisted(self) -> Iterator[Finding]:
        if not self.has_taxonomy:
            return
        known = self.taxonomy.canonical
        for name in self._by_rows(n for n in self.support if n in self.found.texts):
            if name not in known:
                yield self._finding(
                    "unlisted", name, f"in the data set, but not in the taxonomy{self._fate()}"
                )

    def _alike(self) -> Iterator[Finding]:
        """Names of this export that are the same but for their spelling."""
        names = {self.taxonomy.canonical.get(name, name) for name in self.found.texts}
        for alike in same_but_for_spelling(names):
            first, *others = sorted(alike, key=lambda name: (-self.found.texts[name], name))
            for name in others:
                if self.renamed.get(name) != first and self.renamed.get(first) != name:
                    yield self._finding(
                        "alike", name, f"differs from {first!r} in its spelling alone", first
                    )

    def _vanished(self) -> Iterator[Finding]:
        for name in self.absent:
            if name not in self.renamed.values():
                texts = self.support[name]
                yield Finding(
                    "vanished", name, attention=True, rows=texts,
                    detail="the data set has it, this full export does not",
                )  # fmt: skip

    def _outside_its_dates(self) -> Iterator[Finding]:
        retired = self.taxonomy.retired(self.as_of)
        for name in self._by_rows(self.taxonomy.labels):
            entry, late = self.taxonomy.labels[name], self.found.late[name]
            if name in retired and self._given(name):
                yield Finding(
                    "retired", name, attention=late > 0, rows=self._given(name),
                    detail=f"retired since {entry.until:%Y-%m-%d}, so it is dropped; "
                    f"{_rows(late)} from later or without a date",
                )  # fmt: skip
            if early := self.found.early[name]:
                yield Finding(
                    "early", name, attention=True, rows=early,
                    detail=f"{_rows(early)} from before its since, {entry.since:%Y-%m-%d}: is that "
                    "date right?",
                )  # fmt: skip

    def _given(self, label: str) -> int:
        names = (label, *self.taxonomy.labels[label].aliases)
        return sum(self.found.texts[name] for name in set(names))

    def _parents(self) -> Iterator[Finding]:
        what = "it is added" if self.add_parents else "data.add_parents would add it"
        for (name, above), rows in sorted(self.found.lacking.items(), key=lambda one: -one[1]):
            yield Finding(
                "parents", name, attention=not self.add_parents, rows=rows, other=above,
                detail=f"{_rows(rows)} without {above!r}, which it implies; {what}",
            )  # fmt: skip

    def _aliases(self) -> Iterator[Finding]:
        for name in self._by_rows(self.found.texts):
            today = self.taxonomy.canonical.get(name, name)
            if today != name:
                yield self._finding("alias", name, f"read as {today!r}", today, attention=False)

    def _undescribed(self) -> Iterator[Finding]:
        for name in self._by_rows(self.taxonomy.labels):
            if self._given(name) and not (self.taxonomy.labels[name].description or "").strip():
                yield Finding(
                    "undescribed", name, attention=False, rows=self._given(name),
                    detail="the taxonomy does not say what it means",
                )  # fmt: skip

    def _finding(
        self, kind: Kind, name: str, detail: str, other: str | None = None, attention: bool = True
    ) -> Finding:
        return Finding(
            kind=kind, label=name, attention=attention, rows=self.found.texts[name],
            detail=detail, other=other, first=tuple(self.found.first.get(name, ())),
        )  # fmt: skip


def _rows(count: int) -> str:
    return f"{count:,} row" + "s" * (count != 1)
