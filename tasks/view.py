"""The stored annotations as this run sees them: today's names, accepted corrections."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from longtail.audit.corrections import apply_corrections, read_corrections
from longtail.config import DataSettings
from longtail.errors import DataError
from longtail.known import Ints, Since, known_texts
from longtail.labels import LabelSpace, support
from longtail.taxonomy import Taxonomy, load_taxonomy

logger = logging.getLogger(__name__)
_SHOWN = 10


@dataclass(frozen=True)
class View:
    """What a run learns from.

    Attributes:
        table: the annotations, as :data:`longtail.annotations.schema.ANNOTATIONS`.
        taxonomy: what renamed them; None where there is none.
        about: JSON: what was changed for this run.
    """

    table: pa.Table
    taxonomy: Taxonomy | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def since(self, space: LabelSpace) -> Since:
        """From when on each label of a space could be given; None: always."""
        return (None,) * len(space) if self.taxonomy is None else self.taxonomy.since(space.names)


def view_annotations(stored: pa.Table, data: DataSettings) -> View:
    """The annotations under today's names, with the corrections that a person has accepted.

    Corrections come last: the audit proposes them on the annotations as they are viewed.

    Args:
        stored: the annotations as they were given; they stay as they are.
        data: names the taxonomy and the list of corrections; ``as_of`` is the present moment, by
            default the clock's.

    Raises:
        ConfigError: the taxonomy cannot be read, or does not hang together.
        DataError: the list of corrections cannot be read, or contradicts itself.
    """
    view = View(stored)
    if data.taxonomy is not None:
        view = _renamed(stored, data.taxonomy, data)
    if data.corrections is not None:
        view = _corrected(view, data.corrections, data.as_of or datetime.now(UTC))
    return view


def _renamed(stored: pa.Table, path: str, data: DataSettings) -> View:
    """Aliases renamed, retired labels dropped, parents added, as the taxonomy says."""
    taxonomy = load_taxonomy(path)
    now = data.as_of or datetime.now(UTC)
    viewed = taxonomy.apply(stored, as_of=now, add_parents=data.add_parents)
    counts = viewed.to_json()
    logger.info(
        "taxonomy: %s", ", ".join(f"{name} {_total(count)}" for name, count in counts.items())
    )
    about = {"fingerprint": taxonomy.fingerprint, "labels": len(taxonomy.labels), **counts}
    return View(viewed.table, taxonomy, {"taxonomy": about})


def _corrected(view: View, path: str, now: datetime) -> View:
    """The list may be older than the taxonomy: its labels get today's names, too."""
    accepted = read_corrections(path).accepted
    if view.taxonomy is not None:
        names, retired = view.taxonomy.canonical, view.taxonomy.retired(now)
        renamed = (replace(one, label=names.get(one.label, one.label)) for one in accepted)
        accepted = tuple(one for one in renamed if one.label not in retired)
    table, counts = apply_corrections(view.table, accepted)
    logger.info(
        "%s: %d of %d accepted corrections applied to %d texts; skipped: %d whose text changed, %d "
        "whose text is gone, %d that are already so",
        path, counts.applied, counts.accepted, counts.texts,
        counts.text_changed, counts.text_gone, counts.already_so,
    )  # fmt: skip
    about = {**view.about, "corrections": counts.as_json()}
    return replace(view, table=table, about=about)


@dataclass(frozen=True)
class Taught:
    """The labels that a training set can teach.

    Attributes:
        space: the labels.
        since: from when on each could be given; None: always.
        left_out: labels of which no training text is known not to have them.
    """

    space: LabelSpace
    since: Since
    left_out: tuple[str, ...] = ()

    def known_texts(self, table: pa.Table) -> Ints | None:
        """The texts of which each label is known, shape (labels,); None: all of them."""
        if not any(self.since):
            return None
        y = self.space.encode(table["labels"])
        return known_texts(table["annotated_at"], self.since, y)


def teachable(train: pa.Table, space: LabelSpace, since: Since) -> Taught:
    """Leave out the labels that every known training text has.

    Such a label teaches nothing but "always". It is what comes of a ``since`` and of texts without
    dates, whose cells are known only where they have the label.

    Args:
        train: columns labels and annotated_at.
        space: L labels.
        since: from when on each could be given, (L,).

    Raises:
        DataError: no label is left.
    """
    if not any(since):
        return Taught(space, since)
    y = space.encode(train["labels"])
    known = known_texts(train["annotated_at"], since, y)
    stays = np.array([moment is None for moment in since]) | (known > support(y))
    names = np.array(space.names, dtype=object)
    left = tuple(names[~stays].tolist())
    if left:
        logger.warning(
            "%d labels are left out, no training text is known not to have them: %s%s; see to it "
            "that texts have their dates (data.columns.annotated_at)",
            len(left), ", ".join(left[:_SHOWN]), " …" * (len(left) > _SHOWN),
        )  # fmt: skip
    if not stays.any():
        raise DataError(
            "no training text is known to lack any label: the taxonomy says of every label since "
            "when it exists, and the texts are older or have no date; check "
            "data.columns.annotated_at and the since dates"
        )
    kept = tuple(moment for moment, stayed in zip(since, stays, strict=True) if stayed)
    return Taught(LabelSpace(tuple(names[stays].tolist())), kept, left)


def _total(count: Any) -> int:
    return sum(count.values()) if isinstance(count, Mapping) else int(count)
