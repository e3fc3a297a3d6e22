"""Implications are found where the share is high enough, with the bound that the number allows."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from longtail.audit.implied import as_json, find_implied, implied_candidates, wilson_lower
from longtail.labels import LabelSpace

SPACE = LabelSpace(("corn", "grain", "news"))


def matrix(missing: int = 1) -> sp.csr_array:
    """20 texts with corn, of which ``missing`` lack grain; 10 with grain alone; 70 with neither."""
    y = np.zeros((100, 3), dtype=bool)
    y[:20, 0] = y[: 20 - missing, 1] = True
    y[20:30, 1] = True
    return sp.csr_array(y)


def test_a_label_that_nearly_always_comes_with_another_implies_it():
    (found,) = find_implied(matrix(), SPACE, share=0.95, texts=10)

    assert (found.label, found.implies) == ("corn", "grain")
    assert (found.texts, found.both, found.missing) == (20, 19, (19,))
    assert found.share == pytest.approx(0.95)
    assert 0.7 < found.lower < found.share
    assert found.prevalence == pytest.approx(0.29)
    assert not found.mutual


def test_too_small_a_share_or_too_few_texts_imply_nothing():
    assert find_implied(matrix(2), SPACE, share=0.95, texts=10) == ()
    assert find_implied(matrix(), SPACE, share=0.95, texts=21) == ()


def test_a_label_that_nearly_all_texts_have_is_implied_by_nothing():
    y = matrix().toarray()
    y[:98, 2] = True

    found = find_implied(sp.csr_array(y), SPACE, share=0.95, texts=10)

    assert {one.implies for one in found} == {"grain"}


def test_labels_that_imply_each_other_say_so():
    y = matrix(0).toarray()
    y[20:30, 1] = False

    assert all(one.mutual for one in find_implied(sp.csr_array(y), SPACE, share=0.9, texts=5))


def test_only_texts_where_the_other_label_is_known_count():
    known = np.ones((100, 3), dtype=bool)
    known[19, 1] = False

    (found,) = find_implied(matrix(), SPACE, share=0.95, texts=10, known=known)

    assert (found.texts, found.both, found.missing) == (19, 19, ())


def test_a_parent_of_the_taxonomy_is_implied_whatever_the_share():
    found = find_implied(matrix(15), SPACE, share=0.95, texts=10, parents={"corn": ("grain",)})
    ids = [f"t{row}" for row in range(100)]

    assert [(one.source, len(one.missing)) for one in found] == [("taxonomy", 15)]
    assert {(one.kind, one.score) for one in implied_candidates(found, ids)} == {("taxonomy", 1.0)}


def test_a_parent_that_no_text_has_is_left_alone():
    assert find_implied(matrix(15), SPACE, share=0.95, texts=10, parents={"corn": ("x",)}) == ()


def test_what_breaks_an_implication_is_proposed_at_its_lower_bound():
    ids = [f"t{row}" for row in range(100)]
    found = find_implied(matrix(), SPACE, share=0.95, texts=10)

    (one,) = implied_candidates(found, ids)

    assert (one.id, one.label, one.action, one.score) == ("t19", "grain", "add", found[0].lower)
    assert as_json(found, ids, 5)["listed"][0]["missing_ids"] == ["t19"]


@given(st.integers(1, 500), st.data())
def test_the_bound_lies_below_the_share_and_nears_it_with_the_number(n, data):
    hits = data.draw(st.integers(0, n))

    bound = float(wilson_lower(hits, n))

    assert 0 <= bound <= hits / n + 1e-12
    assert bound <= float(wilson_lower(hits * 100, n * 100)) + 1e-12


def test_the_bound_is_wilsons():
    # one-sided 95 %: 0.9848 for 14 of 14 would be wrong; n / (n + z²) is what the formula gives
    assert float(wilson_lower(14, 14)) == pytest.approx(14 / (14 + 1.6448536**2))
    assert float(wilson_lower(0, 0)) == 0
