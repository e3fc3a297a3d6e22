"""Whether there is enough to train on, and what is too rare to be learned."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from longtail.content import distinct_labels
from longtail.errors import DataError
from longtail.labels import label_sets

MIN_LABELS = 2
MIN_LABELLED_TEXTS = 30


def check_trainable(table: pa.Table) -> None:
    """Check that a data set is enough to train on; a weekly export alone need not be.

    Raises:
        DataError: fewer than two labels, or fewer than thirty texts with a label.
    """
    labels = distinct_labels(table)
    n_labelled = pc.sum(pc.greater(pc.list_value_length(table["labels"]), 0)).as_py() or 0
    if len(labels) == 0:
        raise DataError(
            f"none of the {table.num_rows} texts has a label; label some of them, or check "
            "data.columns.labels and data.label_separator"
        )
    if len(labels) < MIN_LABELS:
        raise DataError(
            f"all {n_labelled} labelled texts have the same one label, {labels[0].as_py()!r}; at "
            f"least {MIN_LABELS} different labels are needed. Check data.columns.labels and "
            "data.label_separator, or lower data.min_label_support"
        )
    if n_labelled < MIN_LABELLED_TEXTS:
        raise DataError(
            f"only {n_labelled} texts have a label, at least {MIN_LABELLED_TEXTS} are needed to "
            "train, tune and test; label more texts"
        )


def drop_rare_labels(table: pa.Table, min_support: int) -> tuple[pa.Table, tuple[str, ...], int]:
    """Leave out labels with too few texts.

    Args:
        table: schema ANNOTATIONS.
        min_support: fewest texts of a label that stays.

    Returns:
        The table without those labels and without the texts that had no other label; the names of
        the dropped labels, sorted; how many texts were left out. Texts that never had a label
        stay.
    """
    counts = pc.value_counts(pc.list_flatten(table["labels"]))
    names, support = (pc.struct_field(counts, part) for part in ("values", "counts"))
    is_rare = pc.less(support, min_support)
    dropped = tuple(sorted(names.filter(is_rare).to_pylist()))
    if not dropped:
        return table, (), 0
    labels = label_sets(table["labels"], names.filter(pc.invert(is_rare)))
    place = table.schema.get_field_index("labels")
    had, have = (pc.list_value_length(lists).fill_null(0) for lists in (table["labels"], labels))
    stays = pc.or_(pc.greater(have, 0), pc.equal(had, 0))
    reduced = table.set_column(place, table.schema.field(place), labels).filter(stays)
    return reduced, dropped, table.num_rows - reduced.num_rows
