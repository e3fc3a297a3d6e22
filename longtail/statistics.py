"""Descriptive statistics of a multi-label data set: table 1 and figure 1, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.config import GROUPS, GroupSettings
from longtail.hash_tables import number_distinct, repeated, same_hashes
from longtail.hashing import Hashes, wide_hash
from longtail.labels import LabelGroups, LabelSpace, group_labels, support
from longtail.normalisation import normalised
from longtail.row_groups import batches_of

TOP_LABELS = 30
_EXAMPLES = 20
_QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "q99": 0.99}

Ints = NDArray[np.int64]


def describe(
    table: pa.Table,
    space: LabelSpace,
    groups: LabelGroups | None = None,
    known: Ints | None = None,
) -> dict[str, Any]:
    """Statistics of a data set (docs/reference/splits.md says what each means).

    Args:
        table: columns id, text and labels; labels may be null.
        space: the label space; other labels do not count.
        groups: HEAD, MEDIUM and TAIL; by default the thirds of the labels by support here.
        known: texts of which it is known whether they have each label, shape (labels,); by
            default all of them.

    Returns:
        JSON-able mapping. A mean over nothing is 0.
    """
    y = space.encode(table["labels"])
    label_sets = _label_set_hashes(table["labels"])
    texts = _read_texts(table["text"])
    per_label = support(y)
    per_text = np.diff(y.indptr).astype(np.int64)
    of_group = groups or group_labels(per_label, GroupSettings())
    order = np.argsort(-per_label, kind="stable")
    texts_known = np.full(len(space), y.shape[0], dtype=np.int64) if known is None else known
    return {
        "n_texts": y.shape[0],
        "n_labels": len(space),
        "n_positives": int(per_text.sum()),
        "cardinality": _mean(per_text),
        "density": float(per_text.sum()) / max(int(texts_known.sum()), 1),
        "unknown_cells": y.shape[0] * len(space) - int(texts_known.sum()),
        "known_texts": {
            space.names[at]: int(texts_known[at])
            for at in np.flatnonzero(texts_known < y.shape[0]).tolist()
        },
        "n_label_sets": number_distinct(label_sets)[1],
        "texts_without_labels": int((per_text == 0).sum()),
        "mean_texts_per_label": _mean(per_label),
        "median_texts_per_label": float(np.median(per_label)) if len(per_label) else 0.0,
        "min_texts_per_label": int(per_label.min()) if len(per_label) else 0,
        "max_texts_per_label": int(per_label.max(initial=0)),
        "imbalance": imbalance(y),
        "text_length": {
            "words": _summary(texts.words),
            "characters": _summary(texts.characters),
        },
        "duplicates": _duplicates(table, texts.normalised, label_sets),
        "support": [[space.names[at], int(per_label[at])] for at in order.tolist()],
        "texts_by_number_of_labels": np.bincount(per_text, minlength=1).tolist(),
        "co_occurrence": {
            "labels": [space.names[at] for at in order[:TOP_LABELS].tolist()],
            "texts": co_occurrence(y, order[:TOP_LABELS]).tolist(),
            "share_with_group": group_co_occurrence(y, of_group),
        },
    }


def imbalance(y: sp.csr_array) -> dict[str, float]:
    """How unequal the labels' supports are, and how often unequal labels meet.

    ``mean_irlbl`` and ``max_irlbl``: IRLbl of a label is the largest support over its own (Charte,
    Rivera, del Jesus and Herrera 2015, "Addressing imbalance in multilabel classification",
    eq. 1–2); labels without texts do not count. ``scumble``: one minus the geometric over the
    arithmetic mean of a text's IRLbl, averaged over all texts; 0 where labels of one support meet,
    towards 1 where the rare stand beside the common (Charte et al. 2014, "Concurrence among
    imbalanced labels", eq. 3).

    Args:
        y: boolean CSR of shape (texts, labels).
    """
    per_label = support(y)
    present = per_label > 0
    if not present.any():
        return {"mean_irlbl": 0.0, "max_irlbl": 0.0, "scumble": 0.0}
    ratio = per_label.max() / np.maximum(per_label, 1)
    counts = np.maximum(np.diff(y.indptr), 1)
    owner = np.repeat(np.arange(y.shape[0]), np.diff(y.indptr))
    values = ratio[y.indices]
    arithmetic = np.bincount(owner, weights=values, minlength=y.shape[0]) / counts
    logs = np.bincount(owner, weights=np.log(values), minlength=y.shape[0]) / counts
    labelled = arithmetic > 0
    per_text = np.zeros(y.shape[0])
    per_text[labelled] = 1 - np.exp(logs[labelled]) / arithmetic[labelled]
    return {
        "mean_irlbl": float(ratio[present].mean()),
        "max_irlbl": float(ratio[present].max()),
        "scumble": max(float(per_text.mean()), 0.0),
    }


def co_occurrence(y: sp.csr_array, columns: Ints) -> Ints:
    """Texts that have both labels, for the chosen labels; the diagonal is their support.

    Args:
        y: boolean CSR of shape (texts, labels).
        columns: labels, shape (k,).

    Returns:
        Symmetric array of shape (k, k).
    """
    chosen = sp.csr_array(y.astype(np.int64).tocsc()[:, columns])
    both: Ints = (chosen.T @ chosen).toarray()
    return both


def group_co_occurrence(y: sp.csr_array, groups: LabelGroups) -> dict[str, dict[str, float | None]]:
    """Of the texts with a label of one group, the share that has another label of the other.

    Args:
        y: boolean CSR of shape (texts, labels).
        groups: group of each label.

    Returns:
        ``shares["TAIL"]["HEAD"]``: of the texts with a TAIL label, how many also have a HEAD
        label; ``shares["TAIL"]["TAIL"]``: how many have two. None where no text has the first.
    """
    member = np.zeros((y.shape[1], len(GROUPS)), dtype=np.int64)
    for place, group in enumerate(GROUPS):
        member[groups.columns(group), place] = 1
    per_text = y.astype(np.int64) @ member
    shares: dict[str, dict[str, float | None]] = {}
    for place, group in enumerate(GROUPS):
        having = per_text[per_text[:, place] > 0]
        needed = np.array([2 if other == place else 1 for other in range(len(GROUPS))])
        shares[group] = {
            name: float((having[:, other] >= needed[other]).mean()) if len(having) else None
            for other, name in enumerate(GROUPS)
        }
    return shares


def duplicates(table: pa.Table) -> dict[str, Any]:
    """Texts that repeat others, and those whose labels then differ.

    ``exact`` and ``normalised`` count the texts beyond the first of each kind; normalised is up to
    Unicode form, case and white space. ``in_agreement`` and ``in_conflict`` count the sets of
    normalised duplicates; ``conflicts`` lists ids of some of those with different labels.
    """
    normalised_texts = _read_texts(table["text"]).normalised
    return _duplicates(table, normalised_texts, _label_set_hashes(table["labels"]))


def _duplicates(table: pa.Table, normalised_texts: Hashes, label_sets: Hashes) -> dict[str, Any]:
    rows = np.flatnonzero(repeated(normalised_texts))
    texts, n_texts = number_distinct(normalised_texts[rows])
    exact, n_exact = number_distinct(wide_hash(_at(table["text"], rows)))
    # With another label set than the first text of its kind has.
    first = np.empty(n_texts, dtype=np.int64)
    first[texts[::-1]] = rows[::-1]
    differs = ~same_hashes(label_sets[rows], label_sets[first[texts]])
    in_conflict = np.zeros(n_texts, dtype=bool)
    in_conflict[texts[differs]] = True
    n_conflicts = int(in_conflict.sum())
    return {
        "exact": len(exact) - n_exact,
        "normalised": len(rows) - n_texts,
        "in_agreement": n_texts - n_conflicts,
        "in_conflict": n_conflicts,
        "conflicts": _examples(_at(table["id"], rows), texts, in_conflict),
    }


def _examples(ids: pa.Array, texts: Ints, in_conflict: NDArray[np.bool_]) -> list[list[str]]:
    """The ids of the first conflicts by their smallest id, sorted."""
    chosen = in_conflict[texts]
    ids, texts = ids.filter(pa.array(chosen)), texts[chosen]
    order = pc.sort_indices(ids).to_numpy()
    found: dict[int, list[int]] = {}
    for row in order.tolist():
        text = int(texts[row])
        if text in found or len(found) < _EXAMPLES:
            found.setdefault(text, []).append(row)
    return [ids.take(pa.array(rows[:_EXAMPLES])).to_pylist() for rows in found.values()]


@dataclass(frozen=True)
class _Texts:
    """What is asked of each text: words, characters and the hash of its normalised form."""

    words: Ints
    characters: Ints
    normalised: Hashes


def _read_texts(column: pa.ChunkedArray) -> _Texts:
    """Read the texts some megabytes at a time."""
    words, characters = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    hashes = [np.empty((0, 2), np.uint64)]
    for batch in batches_of(pa.table({"text": column})):
        texts = batch["text"]
        shown = normalised(texts)
        spaces = pc.count_substring(shown, " ").to_numpy()
        counts = spaces.astype(np.int64) + (pc.binary_length(shown).to_numpy() > 0)
        # The normal form of some signs holds a space, so that it has more words than the text.
        other = np.flatnonzero(~pc.string_is_ascii(texts).to_numpy())
        found = [len(text.split()) for text in _at(texts, other).to_pylist()]
        counts[other] = np.array(found, dtype=np.int64)
        words.append(counts)
        characters.append(pc.utf8_length(texts).to_numpy().astype(np.int64))
        hashes.append(wide_hash(shown))
    return _Texts(np.concatenate(words), np.concatenate(characters), np.concatenate(hashes))


def _label_set_hashes(column: pa.ChunkedArray) -> Hashes:
    """A hash of each text's set of labels, none and null being alike; shape (n, 2).

    The sum of the labels' own hashes, which are random numbers of 128 bits: two different sets
    share it no more often than they would share one of their own.
    """
    space = LabelSpace.of(column)
    y = space.encode(column)
    ends = np.zeros((y.nnz + 1, 2), dtype=np.uint64)
    np.cumsum(wide_hash(space.names)[y.indices], axis=0, out=ends[1:])
    sums: Hashes = ends[y.indptr[1:]] - ends[y.indptr[:-1]]
    return sums


def _at(column: pa.ChunkedArray, rows: Ints) -> pa.Array:
    """Some rows of a column of strings."""
    return column.cast(pa.large_string()).take(pa.array(rows)).combine_chunks()


def _summary(values: NDArray[np.integer]) -> dict[str, float]:
    if not len(values):
        return {}
    quantiles = np.quantile(values, list(_QUANTILES.values()))
    return {
        "mean": float(values.mean()),
        "min": int(values.min()),
        **dict(zip(_QUANTILES, quantiles.tolist(), strict=True)),
        "max": int(values.max()),
    }


def _mean(values: Sequence[int] | Ints) -> float:
    return float(np.mean(values)) if len(values) else 0.0
