"""Confident learning: the counts of the papers' equations, and planted errors found first."""

import numpy as np
import pytest
import scipy.sparse as sp
from audit_case import tickets, with_labels
from hypothesis import given
from hypothesis import strategies as st

from longtail.audit.label_errors import (
    EMA_WEIGHT,
    calibrate,
    confident_joint,
    held_out_decisions,
    suspects,
    text_scores,
)
from longtail.audit.label_search import MAX_CELLS, sampled, search_label_errors
from longtail.config import AuditSettings
from longtail.labels import LabelSpace

SETTINGS = AuditSettings(min_label_texts=20, folds=3)


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


def cells(*given: int) -> sp.csr_array:
    return sp.csr_array(np.array(given, dtype=bool)[:, None])


def test_the_joint_is_that_of_the_definition():
    probabilities = column(0.9, 0.8, 0.1, 0.2, 0.1, 0.95)
    given_labels = cells(1, 1, 1, 0, 0, 0)

    joint = confident_joint(probabilities, given_labels)

    # thresholds: mean of 0.8, 0.9 and 0.05 without; of 0.9, 0.8 and 0.1 with
    assert joint.thresholds[0] == pytest.approx([1.75 / 3, 0.6])
    assert joint.counts[0].tolist() == [[2, 1], [1, 2]]


def test_suspects_are_the_off_diagonal_lowest_self_confidence_first():
    probabilities = column(0.9, 0.8, 0.1, 0.2, 0.1, 0.95)
    given_labels = cells(1, 1, 1, 0, 0, 0)

    found = suspects(probabilities, given_labels, confident_joint(probabilities, given_labels))

    assert found.rows.tolist() == [5, 2]
    assert found.given.tolist() == [False, True]
    assert found.confidence == pytest.approx([0.05, 0.1])


def test_a_label_that_the_model_cannot_learn_makes_nobody_suspect():
    probabilities = np.full((50, 1), 0.02, dtype=np.float32)
    given_labels = cells(*([1] + [0] * 49))

    found = suspects(probabilities, given_labels, confident_joint(probabilities, given_labels))

    assert not found.given.size or found.given.all()


def test_unknown_cells_are_neither_counted_nor_suspected():
    probabilities = column(0.9, 0.8, 0.1, 0.2, 0.1, 0.95)
    given_labels = cells(1, 1, 1, 0, 0, 0)
    known = np.ones((6, 1), dtype=bool)
    known[5] = False

    joint = confident_joint(probabilities, given_labels, known)

    assert joint.thresholds[0] == pytest.approx([0.85, 0.6])
    assert joint.counts[0].tolist() == [[1, 0], [1, 2]]
    assert 5 not in suspects(probabilities, given_labels, joint, known).rows


def test_the_text_score_is_the_moving_average_from_the_best_label_to_the_worst():
    probabilities = np.array([[0.9, 0.2, 0.4]], dtype=np.float32)
    given_labels = sp.csr_array(np.array([[True, False, True]]))

    expected = 0.9
    for confidence in (0.8, 0.4):
        expected = EMA_WEIGHT * confidence + (1 - EMA_WEIGHT) * expected
    assert text_scores(probabilities, given_labels) == pytest.approx([expected])


@given(st.integers(0, 1000))
def test_calibrated_probabilities_keep_the_order_and_the_mean(seed):
    rng = np.random.default_rng(seed)
    decisions = rng.normal(size=(300, 2)).astype(np.float32)
    given_labels = sp.csr_array(rng.random((300, 2)) < 1 / (1 + np.exp(-3 * decisions + 1)))

    probabilities = calibrate(decisions, given_labels)

    order = np.argsort(decisions.ravel(), kind="stable")
    assert (np.diff(probabilities.ravel()[order]) >= 0).all()
    assert probabilities.mean() == pytest.approx(given_labels.toarray().mean(), abs=0.02)
    assert ((probabilities > 0) & (probabilities < 1)).all()


@pytest.mark.parametrize("value", [True, False])
def test_cells_of_one_kind_alone_can_be_calibrated(value):
    given_labels = sp.csr_array(np.full((30, 2), value))

    probabilities = calibrate(np.zeros((30, 2), dtype=np.float32), given_labels)

    assert np.isfinite(probabilities).all()
    assert ((probabilities > 0.5) == value).all()


def test_no_text_is_judged_by_a_model_that_has_seen_its_unit():
    table = tickets(90)
    texts = table["text"].to_pylist()
    space = LabelSpace.of(table["labels"])
    y = space.encode(table["labels"]).toarray()
    twin = 30
    texts[0] = texts[twin] = "unheard umbrella umbrella unheard"
    y[[0, twin]] = [True, False, False, False]
    units = np.arange(90)
    units[twin] = 0

    alone, bound = (
        held_out_decisions(
            texts, sp.csr_array(y), ids=table["id"].to_pylist(), units=given, folds=2
        )
        for given in (np.arange(90) % 89, units)
    )

    assert alone.shape == bound.shape == (90, 4)
    assert bound[0, 0] == bound[twin, 0]  # nothing but the intercept: the words were never seen


def planted():
    """Tickets with two labels wrong and two missing, and where."""
    table = tickets()
    wrong = {}
    for row in (0, 2):
        (label,) = table["labels"][row].as_py()
        other = "printing" if label != "printing" else "login"
        table = with_labels(table, row, [label, other])
        wrong[(f"t{row:04d}", other)] = "remove"
    for row in (1, 3, 5, 7):
        labels = table["labels"][row].as_py()
        if len(labels) == 2 and len(wrong) < 4:
            table = with_labels(table, row, labels[:1])
            wrong[(f"t{row:04d}", labels[1])] = "add"
    return table, wrong


def search(table, settings=SETTINGS, **more):
    space = LabelSpace.of(table["labels"])
    return search_label_errors(
        table["text"].to_pylist(), space.encode(table["labels"]), space,
        ids=table["id"].to_pylist(), units=np.arange(table.num_rows), settings=settings, **more,
    )  # fmt: skip


def test_planted_errors_are_listed_before_anything_else():
    table, wrong = planted()

    found = search(table)

    first = {(one.id, one.label): one.action for one in found.candidates[: len(wrong)]}
    assert len(wrong) == 4
    assert first == wrong
    assert found.wrong >= 2
    assert found.missing >= 2
    assert {name for name, _ in found.worst_texts[:4]} == {name for name, _ in wrong}
    assert {one["label"] for one in found.per_label} <= set(found.labels)


def test_the_section_is_json_with_the_counts_of_all():
    section = search(planted()[0]).as_json()

    assert section["texts"] == 240
    assert section["labels"] == 4
    assert len(section["listed"]) <= MAX_CELLS
    assert section["wrong"] + section["missing"] == len(section["listed"])


def test_rare_labels_are_left_out_and_named():
    table = with_labels(tickets(), 0, ["once"])

    found = search(table)

    assert "once" in found.excluded
    assert all(one.label != "once" for one in found.candidates)


def test_with_rare_labels_alone_nothing_is_searched():
    assert search(tickets(30), AuditSettings(min_label_texts=50)) is None


def test_the_search_is_the_same_in_any_order_of_rows():
    table, _ = planted()
    shuffled = table.take(np.random.default_rng(0).permutation(table.num_rows))

    first, second = search(table), search(shuffled)

    assert {(one.id, one.label) for one in first.candidates[:4]} == {
        (one.id, one.label) for one in second.candidates[:4]
    }


def test_at_most_so_many_texts_are_searched_whatever_their_order():
    ids = [f"t{number}" for number in range(1000)]
    backwards = ids[::-1]

    assert {ids[row] for row in sampled(ids, 100)} == {
        backwards[row] for row in sampled(backwards, 100)
    }
    assert len(sampled(ids, 100)) == 100
    assert sampled(ids, 1000).tolist() == list(range(1000))
    assert search(tickets(), AuditSettings(max_texts=150, folds=3)).texts == 150
