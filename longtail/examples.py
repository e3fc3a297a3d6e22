"""A handful of suggestions that show a model at its best and at its worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longtail.cuts import Known

EXAMPLES = "examples.json"
SOURCE_WORDS = {
    "encoder": "encoder",
    "bce": "BCE encoder",
    "linear": "words",
    "neighbours": "similar texts",
    "names": "meaning of the label's name",
    "name_words": "words of the label's name",
}
"""The sources of evidence as people read them."""


@dataclass(frozen=True)
class Example:
    """A text to show, and the suggestion that it is shown for.

    Attributes:
        row: of the text.
        label: column of the label.
        why: such as ``right, most confident``.
    """

    row: int
    label: int
    why: str


def pick_examples(
    probabilities: NDArray[np.float32],
    given: NDArray[np.bool_],
    y: NDArray[np.bool_],
    support: Sequence[int],
    known: Known = None,
) -> list[Example]:
    """The most and least confident right and wrong suggestions, and the rarest label's right one.

    At most five, each of another text; of equal ones the first. Cells that are not known take no
    part: nobody can say whether they are right.

    Args:
        probabilities: float32 (n, L).
        given: bool (n, L), which labels are suggested.
        y: labels, bool (n, L).
        support: training texts of each label, (L,).
        known: bool (n, L) or None.

    Example:
        >>> p = np.array([[0.9, 0.2], [0.6, 0.7]], dtype=np.float32)
        >>> y = np.array([[True, False], [False, True]])
        >>> for example in pick_examples(p, p > 0.5, y, (20, 3)):
        ...     print(example.row, example.label, example.why)
        0 0 right, most confident
        1 1 right, least confident
    """
    judged = given if known is None else given & known
    right, wrong = judged & y, judged & ~y
    rarity = np.broadcast_to(-np.asarray(support, dtype=np.float64), y.shape)
    asked: tuple[tuple[str, NDArray[np.bool_], NDArray[np.floating]], ...] = (
        ("right, most confident", right, probabilities),
        ("right, least confident", right, -probabilities),
        ("wrong, most confident", wrong, probabilities),
        ("wrong, least confident", wrong, -probabilities),
        ("right, rarest label", right, rarity),
    )
    found: list[Example] = []
    for why, cells, order in asked:
        free = cells.copy()
        free[[example.row for example in found]] = False
        rows, labels = np.nonzero(free)
        if len(rows):
            best = int(np.argmax(order[rows, labels]))
            found.append(Example(int(rows[best]), int(labels[best]), why))
    return found
