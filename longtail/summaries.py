"""The metrics of one arm gathered by slice: overall, per label group, and the article's table 2.

The keys are those of ``metrics.json``. A slice without labels has no metrics: NaN here, null there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from longtail import metrics
from longtail.metrics import Bools, Counts, Floats, Scores

Values = dict[str, float]

OVERALL = (
    "micro_precision", "micro_recall", "micro_f1", "macro_precision", "macro_recall", "macro_f1",
    "weighted_f1", "samples_f1", "hamming_loss", "label_coverage", "label_coverage_all",
    "label_coverage_two", "recognised_labels", "labels_with_positives",
    "micro_average_precision", "macro_average_precision",
    "precision_at_1", "precision_at_3", "precision_at_5", "recall_at_5", "ndcg_at_5",
)  # fmt: skip
_PER_LABEL = (metrics.precision, metrics.recall, metrics.f1)


def overall_values(y: Bools, decided: Bools, scores: Scores, known: Bools | None) -> Values:
    """Every metric of :data:`OVERALL` for some texts.

    Args:
        y: known positives, shape (texts, labels).
        decided: given labels in known cells, same shape.
        scores: finite probabilities, same shape.
        known: cells whose truth is known; None for all.
    """
    counts = metrics.label_counts(y, decided)
    cells = y.size if known is None else int(np.count_nonzero(known))
    found = int(np.count_nonzero(metrics.recognised(counts)))
    precisions = metrics.average_precision(y, scores, known)
    at = metrics.ranking_at(y, scores, (1, 3, 5), known)
    with_positives = ~np.isnan(precisions)
    values = (
        *_micro(counts),
        *(_mean(per_label(counts)) for per_label in _PER_LABEL),
        metrics.weighted_f1(counts),
        _mean(metrics.f1(metrics.text_counts(y, decided))),
        metrics.hamming_loss(counts, cells),
        metrics.label_coverage(counts),
        float(metrics.divide(np.asarray(found), np.asarray(len(counts)))),
        metrics.label_coverage(counts, true_positives=2),
        found,
        int(np.count_nonzero(with_positives)),
        metrics.micro_average_precision(y, scores, known),
        _mean(precisions[with_positives]),
        *(at[k].precision for k in (1, 3, 5)),
        at[5].recall,
        at[5].ndcg,
    )
    return dict(zip(OVERALL, values, strict=True))


def group_values(counts: Counts, is_finite: bool) -> Values:
    """Metrics within a group of labels; micro within the group.

    Args:
        counts: of the group's labels, shape (labels, 3).
        is_finite: whether the arm's probabilities were finite; if not, every metric is NaN.
    """
    micro = _micro(counts) if is_finite and len(counts) else (float("nan"),) * 3
    defined = is_finite and len(counts) > 0
    return {
        "micro_precision": micro[0],
        "micro_recall": micro[1],
        "micro_f1": micro[2],
        "macro_f1": _mean(metrics.f1(counts)) if defined else float("nan"),
        "label_coverage": metrics.label_coverage(counts) if defined else float("nan"),
        "labels": len(counts),
        "test_positives": int(_positives(counts).sum()),
    }


def table2_values(
    counts: Counts, by_group: Mapping[str, NDArray[np.int64]], zero: Bools, is_finite: bool
) -> dict[str, Values]:
    """The article's table 2: the groups without the labels the arm never recognises, and those.

    Args:
        counts: per label, shape (labels, 3).
        by_group: label columns of each group.
        zero: shape (labels,); labels with test positives whose F1 is 0 for this arm.
        is_finite: whether the arm's probabilities were finite.
    """
    rows = {}
    for name, columns in by_group.items():
        left = counts[columns[~zero[columns]]]
        rows[name] = {**group_values(left, is_finite), "mean_test_support": _mean_support(left)}
    out = counts[zero]
    rows["ZERO"] = {
        "labels": len(out),
        "test_positives": int(_positives(out).sum()),
        "mean_test_support": _mean_support(out),
    }
    return rows


def _positives(counts: Counts) -> Counts:
    positives: Counts = counts[:, 0] + counts[:, 2]
    return positives


def _mean_support(counts: Counts) -> float:
    return float(_positives(counts).mean()) if len(counts) else float("nan")


def _micro(counts: Counts) -> tuple[float, float, float]:
    total = counts.sum(axis=0)
    return tuple(float(metric(total)) for metric in _PER_LABEL)  # type: ignore[return-value]


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0
