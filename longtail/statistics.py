"""Descriptive statistics of a multi-label data set: table 1 and figure 1, as JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from longtail.annotations.merge import normalise_text
from longtail.config import GROUPS, GroupSettings
from longtail.labels import LabelGroups, LabelSpace, group_labels, support

TOP_LABELS = 30
_EXAMPLES = 20
_QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "q99": 0.99}

Ints = NDArray[np.int64]


def describe(
    table: pa.Table, space: LabelSpace, groups: LabelGroups | None = None
) -> dict[str, Any]:
    """Statistics of a data set (docs/reference/splits.md says what each means).

    Args:
        table: columns id, text and labels; labels may be null.
        space: the label space; other labels do not count.
        groups: HEAD, MEDIUM and TAIL; by default the thirds of the labels by support here.

    Returns:
        JSON-able mapping. A mean over nothing is 0.
    """
    label_lists = [labels or [] for labels in table["labels"].to_pylist()]
    y = space.encode(label_lists)
    per_label = support(y)
    per_text = np.diff(y.indptr).astype(np.int64)
    of_group = groups or group_labels(per_label, GroupSettings())
    order = np.argsort(-per_label, kind="stable")
    return {
        "n_texts": y.shape[0],
        "n_labels": len(space),
        "n_positives": int(per_text.sum()),
        "cardinality": _mean(per_text),
        "density": _mean(per_text) / max(len(space), 1),
        "n_label_sets": len({tuple(sorted(set(labels))) for labels in label_lists}),
        "texts_without_labels": int((per_text == 0).sum()),
        "mean_texts_per_label": _mean(per_label),
        "median_texts_per_label": float(np.median(per_label)) if len(per_label) else 0.0,
        "min_texts_per_label": int(per_label.min()) if len(per_label) else 0,
        "max_texts_per_label": int(per_label.max(initial=0)),
        "imbalance": imbalance(y),
        "text_length": _text_length(table["text"]),
        "duplicates": duplicates(table),
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
    texts, ids = table["text"].to_pylist(), table["id"].to_pylist()
    rows: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(texts):
        rows[normalise_text(text)].append(row)
    repeated = [found for found in rows.values() if len(found) > 1]
    label_sets = [frozenset(labels or ()) for labels in table["labels"].to_pylist()]
    conflicts = [found for found in repeated if len({label_sets[row] for row in found}) > 1]
    listed = sorted(sorted(ids[row] for row in found) for found in conflicts)
    return {
        "exact": len(texts) - len(set(texts)),
        "normalised": len(texts) - len(rows),
        "in_agreement": len(repeated) - len(conflicts),
        "in_conflict": len(conflicts),
        "conflicts": [names[:_EXAMPLES] for names in listed[:_EXAMPLES]],
    }


def _text_length(texts: pa.ChunkedArray) -> dict[str, dict[str, float]]:
    characters = pc.utf8_length(texts).to_numpy()
    words = np.array([len(text.split()) for text in texts.to_pylist()], dtype=np.int64)
    return {"words": _summary(words), "characters": _summary(characters)}


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
