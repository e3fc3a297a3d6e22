"""Which suggestions the report shows."""

import numpy as np

from longtail.examples import pick_examples

SUPPORT = (90, 40, 3)


def picked(probabilities, y, known=None, cut=0.5):
    scores = np.array(probabilities, dtype=np.float32)
    examples = pick_examples(scores, scores > cut, np.array(y, dtype=bool), SUPPORT, known)
    return [(example.row, example.label, example.why) for example in examples]


def test_best_and_worst_right_and_wrong_and_the_rarest_label():
    scores = [[0.9, 0.1, 0.1], [0.6, 0.1, 0.1], [0.1, 0.95, 0.1], [0.1, 0.55, 0.1],
              [0.8, 0.1, 0.7], [0.7, 0.1, 0.1]]  # fmt: skip
    y = [[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 1], [1, 1, 0]]

    assert picked(scores, y) == [
        (0, 0, "right, most confident"),
        (1, 0, "right, least confident"),
        (2, 1, "wrong, most confident"),
        (3, 1, "wrong, least confident"),
        (4, 2, "right, rarest label"),
    ]


def test_a_text_is_shown_once():
    assert picked([[0.9, 0.8, 0.6], [0.7, 0.1, 0.1]], [[1, 0, 1], [1, 0, 0]]) == [
        (0, 0, "right, most confident"),
        (1, 0, "right, least confident"),
    ]


def test_of_equal_ones_the_first():
    assert picked([[0.7, 0.7, 0.1]] * 3, [[1, 1, 0]] * 3) == [
        (0, 0, "right, most confident"),
        (1, 0, "right, least confident"),
        (2, 1, "right, rarest label"),
    ]


def test_what_is_not_known_is_neither_right_nor_wrong():
    known = np.array([[False, True, True]])
    assert picked([[0.9, 0.1, 0.1]], [[0, 0, 0]], known) == []
    assert picked([[0.9, 0.8, 0.1]], [[0, 0, 0]], known) == [(0, 1, "wrong, most confident")]


def test_nothing_is_suggested():
    assert picked([[0.1, 0.2, 0.3]], [[1, 0, 0]]) == []
    assert picked(np.zeros((0, 3)), np.zeros((0, 3))) == []
